"""Check the shape of a TOML text from somebody else in one pass, before a parser takes long for it (host).

The time of `tomllib` grows with the square of a key's parts: a key of 30,000 parts (60 KB) takes it ten seconds and
gigabytes. `tomlkit`, which reads a lock's comments, takes long for keys with dots of any length.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"{3,5}'
    r"|'''(?:[^']|'(?!''))*+'{3,5}"
    r"|(?P<open_text>\"\"\"|''')"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*+'"
    r"|(?P<open_line>[\"'])"
    r"|\#[^\n]*+"
    r"|(?P<mark>[\[{\]}.,=\n])",
    re.DOTALL,
)
_MOST_PARTS, _MOST_DEPTH = 8, 16
_MOST_TEXT = 1 << 16


class OddShape(ValueError):
    """A text whose shape is out of bounds, in `line`."""

    def __init__(self, line: int, fact: str) -> None:
        super().__init__(fact)
        self.line = line


def check_shape(text: str, most_entries: int, *, dotted: bool = True) -> None:
    """Raise `OddShape` for too many entries or lines, for long keys and deep values; unless `dotted`, for `a.b = 1`.

    An entry is a key with its value, a table, or an item of an array. Stops at a text without an end, as parsers do.
    """
    if (lines := text.count("\n")) > (most := 4 * most_entries):
        raise OddShape(1, f"it has {lines:,} lines, and at most {most:,} are read")
    entries = depth = dots = 0
    for token in _TOKEN.finditer(text):
        mark = token["mark"]
        if mark is None:
            if token.lastgroup is not None:
                return
            if (size := token.end() - token.start()) > _MOST_TEXT:
                raise _odd(text, token, f"it has a text of {size:,} characters, and at most {_MOST_TEXT:,} are read")
            continue
        if mark == ".":
            dots += 1
            if dots == _MOST_PARTS:
                parts = text[token.start() :].partition("\n")[0].count(".") + dots
                raise _odd(text, token, f"it has a key of {parts:,} parts, and at most {_MOST_PARTS} are read")
            continue
        if mark == "=":
            if dots and not dotted:
                raise _odd(
                    text, token, "it has a key with a dot; write the last part below the [table] of the others"
                )
        elif mark in "[{":
            depth += 1
            if depth > _MOST_DEPTH:
                raise _odd(text, token, f"it has values nested more than {_MOST_DEPTH} deep, the most that is read")
        elif mark in "]}":
            depth = max(0, depth - 1)
        dots = 0
        entries += mark in "=,["
        if entries > most_entries:
            raise _odd(text, token, f"it has more than {most_entries:,} entries, the most that are read")


def _odd(text: str, token: re.Match[str], fact: str) -> OddShape:
    return OddShape(text.count("\n", 0, token.start()) + 1, fact)
