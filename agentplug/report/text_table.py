"""`TextTable`: a DataFrame of texts that is shown whole, its long cells broken between words (host).

pandas cuts a text to 50 characters wherever it shows one. What is made of a `TextTable` is a plain DataFrame. Import
this module late: it imports pandas.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from agentplug.contract.text import printable
from agentplug.report.aligned import aligned
from agentplug.report.html import esc, pill, table
from agentplug.report.marks import barrier_mark

_MOST_ROWS = 200
_MOST_TEXT = 2_000


class TextTable(pd.DataFrame):
    """A DataFrame that shows every text in full, up to 200 rows."""

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def __repr__(self) -> str:
        if not 0 < len(self) <= _MOST_ROWS:
            return repr(pd.DataFrame(self))
        return aligned([{name: printable(cell, _MOST_TEXT) for name, cell in row.items()} for row in self._texts()])

    def _repr_html_(self) -> str | None:
        if not 0 < len(self) <= _MOST_ROWS:
            return pd.DataFrame(self)._repr_html_()  # type: ignore[operator,no-any-return]
        rows = self._texts()
        first = next(iter(rows[0]))
        return table(
            list(rows[0]), [[_cell(name, text, name == first, row) for name, text in row.items()] for row in rows]
        )

    def _texts(self) -> list[dict[str, str]]:
        names = [str(name) for name in self.columns]
        return [dict(zip(names, map(_text, row), strict=True)) for row in self.itertuples(index=False, name=None)]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:g}"
    return "" if value is None else str(value)


def _cell(name: str, text: str, is_first: bool, row: dict[str, str]) -> str:
    if name == "status" and text:
        return pill(barrier_mark(row), text)
    return f"<b>{esc(text)}</b>" if is_first else esc(text)
