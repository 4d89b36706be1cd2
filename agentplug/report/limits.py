"""The limits of earlier calls, from a trace's `attrs` (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_US = 1 << 52
"""Beyond the year 2100, and small enough for a timestamp of nanoseconds."""


def earlier_limits(attrs: Mapping[Any, Any]) -> Mapping[str, Sequence[tuple[int, Mapping[str, Any]]]]:
    """Read `earlier_limits` of a frame's `attrs`; return nothing if somebody changed its form."""
    try:
        plugins = attrs.get("earlier_limits") or {}
        limits = {str(name): [(int(us), dict(of)) for us, of in changes] for name, changes in plugins.items()}
    except (AttributeError, OverflowError, TypeError, ValueError):
        return {}
    in_time = all(abs(us) < _MOST_US for changes in limits.values() for us, _ in changes)
    return limits if in_time else {}
