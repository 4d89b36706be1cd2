"""Tables of barriers, of a plugin and of the doctor, for terminals and for notebooks (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.report.html import esc, pill, table
from agentplug.report.marks import barrier_mark

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("barrier", "protects against", "status", "evidence", "remedy")


def barriers_table(
    rows: Sequence[Mapping[str, Any]],
    headings: Sequence[str] = ("barrier", "protects", "status", "detail"),
    most: int = 300,
) -> str:
    """Make a table as HTML, one row a barrier; the first word of a heading is the key in the rows."""
    cells = []
    for row in rows:
        barrier, protects, status, *others = (str(row.get(heading.split()[0], "")) for heading in headings)
        marked = [f"<b>{esc(barrier, most)}</b>", esc(protects, most), pill(barrier_mark(row), status)]
        cells.append(marked + [esc(other, most) for other in others])
    return table(headings, cells)


def diagnosis_rich(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Make the doctor's table for a terminal. Lines divide the rows, since narrow columns make them tall."""
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
