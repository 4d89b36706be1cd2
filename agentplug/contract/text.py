"""Text from a plugin, made safe for terminals, logs and messages (host and worker).

Control characters, terminal escapes, bidirectional overrides, zero-width characters and lone surrogates become
visible `\\x..` and `\\u....` escapes; so does TeX in tables, which a notebook's MathJax would typeset. `report.html`
escapes HTML.
"""

from __future__ import annotations

import re
import unicodedata

_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_IN_LINES = re.compile(r"[^ -~\n\t]")
_TEX = re.compile(r"\\(?=[()\[\]]|(?:begin|end|ref|eqref)\b)")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def printable(text: str, most: int = 2_000, *, lines: bool = False) -> str:
    """Return `text` cut to `most` characters, with every character escaped that could steer a display.

    Newlines and tabs are escaped too, unless `lines` is true.
    """
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most} characters more)"
    return (_UNUSUAL_IN_LINES if lines else _UNUSUAL).sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    c = match[0]
    hidden = unicodedata.category(c) in _HIDDEN
    return c.encode("unicode_escape", "surrogatepass").decode("ascii") if hidden else c


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
