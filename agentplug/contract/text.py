"""Text from a plugin, made safe for terminals, logs and messages (host and worker).

Control characters, terminal escapes, bidirectional overrides, zero-width characters and lone surrogates become
visible `\\x..` and `\\u....` escapes; so does TeX in tables, which a notebook's MathJax would typeset. `report.html`
escapes HTML.
"""

from __future__ import annotations

import re

_INVISIBLE = (
    r"\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064"
    r"\u2066-\u206f\ud800-\uf8ff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
"""The categories Cc, Cf, Cs, Co, Zl and Zp of Unicode, but for the first controls. A pattern finds them in a
tenth of the time that it takes to look each character's category up."""
_HIDDEN = re.compile(rf"[\x00-\x1f{_INVISIBLE}]")
_HIDDEN_IN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f{_INVISIBLE}]")
_TEX = re.compile(r"\\(?=[()\[\]]|(?:begin|end|ref|eqref)\b)")


def printable(text: str, most: int = 2_000, *, lines: bool = False) -> str:
    """Return `text` cut to `most` characters, with every character escaped that could steer a display.

    Newlines and tabs are escaped too, unless `lines` is true.
    """
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most} characters more)"
    return (_HIDDEN_IN_LINES if lines else _HIDDEN).sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def no_formula(text: str) -> str:
    """Return `text` with the beginnings of TeX escaped: `\\(`, `\\[`, `\\begin`, and two or more dollar signs.

    For tables, which pandas shows: it escapes HTML, and MathJax reads what is between dollar signs in any cell.
    """
    if text.count("$") > 1:
        text = text.replace("$", r"\x24")
    return _TEX.sub(r"\\x5c", text) if "\\" in text else text


def is_utf8(text: str) -> bool:
    """True if `text` has a UTF-8 form: a file name or variable that is no UTF-8 holds lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
