"""A learned policy as a card and as a frame (host)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentplug.contract.learned import Learned
from agentplug.report.html import QUIET, card, code, esc, line, table
from agentplug.report.marks import WALL_COLOR

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 60


def learned_card(learned: Learned) -> str:
    """A row for each right with its reason; below, what was tried and isn't granted, and what isn't known."""
    rows = [[f"<b>{esc(right.field)}</b>", code(right.value), esc(right.reason)] for right in learned.rights]
    rows += [
        [f'<span style="{QUIET}">not granted: {esc(right.field)}</span>', code(right.value), esc(right.reason)]
        for right in learned.refused[:_MOST_ROWS]
    ]
    return card(
        WALL_COLOR,
        line("<b>Learned policy</b>: print it for its source, take its <code>policy</code> to use it"),
        table(["field", "value", "reason"], rows),
        *(line(f"note: {esc(note)}", QUIET) for note in learned.notes),
    )


def learned_frame(learned: Learned) -> pd.DataFrame:
    """One row a right: `field`, `value`, `granted`, `reason`."""
    import pandas as pd

    rows = [(right.field, right.value, True, right.reason) for right in learned.rights]
    rows += [(right.field, right.value, False, right.reason) for right in learned.refused]
    return pd.DataFrame(rows, columns=["field", "value", "granted", "reason"]).astype({"granted": bool})
