"""Text in CSV files that a spreadsheet would run (host): an apostrophe before it, which `plain_cell` takes away.

A cell that begins with one of `= + - @`, a tab or a line break is a formula: `=HYPERLINK(…)`, `=cmd|'/c calc'!A1`
(https://owasp.org/www-community/attacks/CSV_Injection). A cell may also begin after a comma or semicolon inside of a
text, if the spreadsheet divides lines otherwise. So may a line of JSON, which has escapes of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_BEGIN = r"(?:^|(?<=[;,|\t\r\n]))"
_RUNS = r"(?='* *[=+\-@\t\r\n＝＋－＠])"
_RUN = re.compile(_BEGIN + _RUNS)
_QUOTED = re.compile(_BEGIN + "'" + _RUNS)
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"')
_JSON_RUNS = re.compile(r"""[=@]|(?<=[",;| '])[+-]""")


def safe_cell(text: str) -> str:
    """Return `text` with an apostrophe wherever a spreadsheet would begin to run it."""
    return _RUN.sub("'", text)


def plain_cell(text: str) -> str:
    """Return the text that `safe_cell` made `text` of."""
    return _QUOTED.sub("", text)


def safe_json(text: str) -> str:
    """Return the same JSON, in ASCII as `json.dumps` writes it, with no text that a spreadsheet would run."""
    return _JSON_TEXT.sub(lambda word: _JSON_RUNS.sub(_escaped, word[0]), text)


def _escaped(sign: re.Match[str]) -> str:
    return f"\\u{ord(sign[0]):04x}"


def safe_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a frame whose texts are safe cells."""
    return frame.map(lambda cell: safe_cell(cell) if isinstance(cell, str) else cell)
