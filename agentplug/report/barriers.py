"""The doctor's table of barriers, for terminals and for notebooks (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.report.html import esc, pill, table
from agentplug.report.marks import barrier_mark

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("barrier", "protects against", "status", "evidence", "remedy")


def diagnosis_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Make the table as HTML, one row a barrier."""
    cells = []
    for row in rows:
        barrier, protects, evidence, remedy = (
            esc(row.get(key, ""), 1_000) for key in ("barrier", "protects", "evidence", "remedy")
        )
        status = pill(barrier_mark(row), str(row.get("status", "")))
        cells.append([f"<b>{barrier}</b>", protects, status, evidence, remedy])
    return table(COLUMNS, cells)


def diagnosis_rich(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Make the table for a terminal, one row a barrier. Lines divide rows, since narrow columns make them tall."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = Table(box=box.HORIZONTALS, pad_edge=False, padding=(0, 1, 0, 0), show_lines=True)
    for name, share in zip(COLUMNS, (None, 3, None, 5, 3), strict=True):
        lines.add_column(name, ratio=share, no_wrap=share is None, overflow="fold")
    for row in rows:
        barrier, protects, status, evidence, remedy = (
            printable(str(row.get(key, "")), 1_000) for key in ("barrier", "protects", "status", "evidence", "remedy")
        )
        mark = barrier_mark(row)
        marked = Text(f"{mark.icon} {status}", style=f"bold {mark.color}")
        lines.add_row(Text(barrier), Text(protects), marked, Text(evidence), Text(remedy))
    return lines
