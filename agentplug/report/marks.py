"""The colour, icon and hatch of each verdict, plugin state and barrier status (host).

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which differ for people with most kinds of
colour blindness. Icons, hatches and words say the same for greyscale and for screen readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """A colour, a one-character icon, a matplotlib hatch and a matplotlib marker."""

    color: str
    icon: str
    hatch: str = ""
    marker: str = "o"


LIMIT_COLOR = "#D55E00"
MEMORY_COLOR = "#0072B2"
CPU_COLOR = "#009E73"
WALL_COLOR = "#56B4E9"
SERIES = (
    ("#0072B2", "-"),
    ("#E69F00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", (0, (5, 1, 1, 1, 1, 1))),
    ("#8C8C8C", (0, (1, 3))),
)
"""Colours and line styles of plugins that share Axes, in this order."""
_GREY = "#8C8C8C"

VERDICTS: dict[str, Mark] = {
    "completed": Mark("#009E73", "✓"),
    "failed": Mark("#E69F00", "✗", "..", "X"),
    "limited": Mark("#D55E00", "■", "////", "s"),
    "died": Mark("#CC79A7", "†", "xx", "P"),
    "broken": Mark("#0072B2", "≠", "\\\\\\\\", "D"),
    "stopped": Mark(_GREY, "□", "--", "v"),
}

STATES: dict[str, Mark] = {
    "new": Mark(_GREY, "○"),
    "ready": Mark("#009E73", "●"),
    "busy": Mark("#56B4E9", "◑"),
    "failed": Mark("#E69F00", "✗"),
    "quarantined": Mark("#D55E00", "■"),
    "closed": Mark(_GREY, "□"),
}

_STATUSES = {"enforced": Mark("#009E73", "✓"), "partial": Mark("#E69F00", "◐"), "unavailable": Mark("#D55E00", "✗")}


def verdict_mark(kind: str) -> Mark:
    """Return the mark of a verdict's kind; grey for an unknown one."""
    return VERDICTS.get(kind, Mark(_GREY, "?"))


def state_mark(state: str) -> Mark:
    """Return the mark of a plugin's state; grey for an unknown one."""
    return STATES.get(state, Mark(_GREY, "?"))


def barrier_mark(row: Mapping[str, Any]) -> Mark:
    """Return the mark of a barrier's `status`, grey if it loses no promise (an extra layer).

    An unknown status counts as missing, so that a gap is never green.
    """
    status = str(row.get("status", ""))
    mark = _STATUSES.get(status, _STATUSES["unavailable"])
    return mark if status == "enforced" or is_gap(row) else mark._replace(color=_GREY)


def is_gap(row: Mapping[str, Any]) -> bool:
    """True if a promise isn't enforced, by the row's `lost` promises, or by its status if it has no `lost`."""
    lost = row.get("lost")
    return bool(lost) if lost is not None else row.get("status") != "enforced"
