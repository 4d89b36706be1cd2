"""How verdicts and barriers look everywhere: one colour, icon and hatch for each (host).

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which most kinds of colour blindness tell
apart; an icon, a hatch and a word say the same again for greyscale and for screen readers.
"""

from __future__ import annotations

from typing import NamedTuple


class Mark(NamedTuple):
    """A colour, a one-character icon, and a matplotlib hatch."""

    color: str
    icon: str
    hatch: str = ""


LIMIT_COLOR = "#D55E00"
MEMORY_COLOR = "#0072B2"
CPU_COLOR = "#009E73"
WALL_COLOR = "#56B4E9"
_GREY = "#8C8C8C"

VERDICTS: dict[str, Mark] = {
    "completed": Mark("#009E73", "✓"),
    "failed": Mark("#E69F00", "✗", ".."),
    "limited": Mark("#D55E00", "■", "////"),
    "died": Mark("#CC79A7", "†", "xx"),
    "broken": Mark("#0072B2", "≠", "\\\\\\\\"),
    "stopped": Mark(_GREY, "□", "--"),
}

_ENFORCED = Mark("#009E73", "✓")
_PARTIAL = Mark("#E69F00", "◐")
_MISSING = Mark("#D55E00", "✗")
_UNUSED = Mark(_GREY, "–")

_STATUS_WORDS: dict[str, Mark] = {
    "enforced": _ENFORCED,
    "full": _ENFORCED,
    "active": _ENFORCED,
    "ok": _ENFORCED,
    "partial": _PARTIAL,
    "granted": _UNUSED,
    "unused": _UNUSED,
    "unneeded": _UNUSED,
    "off": _UNUSED,
}


def verdict_mark(kind: str) -> Mark:
    """The mark of a verdict's kind; grey for an unknown one."""
    return VERDICTS.get(kind, Mark(_GREY, "?"))


def status_mark(status: str) -> Mark:
    """The mark of a barrier's status; a word not known counts as missing, so that a gap is never green."""
    return _STATUS_WORDS.get(status.strip().lower(), _MISSING)


def is_missing(status: str) -> bool:
    """Whether a barrier of this status isn't there, in full or in part."""
    return status_mark(status) in (_MISSING, _PARTIAL)
