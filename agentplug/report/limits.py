"""The limits of earlier calls, as a trace's `attrs` tell of them (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_US = 1 << 52
"""Beyond the year 2100, and within what a timestamp of nanoseconds holds."""


def earlier_limits(attrs: Mapping[Any, Any]) -> Mapping[str, Sequence[tuple[int, Mapping[str, Any]]]]:
    """`earlier_limits` of a frame's `attrs`, which anybody may have changed: nothing if it isn't as we made it."""
    told = attrs.get("earlier_limits")
    try:
        found = {str(name): [(int(us), dict(of)) for us, of in changes] for name, changes in (told or {}).items()}
    except (AttributeError, OverflowError, TypeError, ValueError):
        return {}
    in_time = all(abs(us) < _MOST_US for changes in found.values() for us, _ in changes)
    return found if in_time else {}
