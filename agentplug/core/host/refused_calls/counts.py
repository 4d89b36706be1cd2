"""Refused calls as events (host): each once, with its count, and so many and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MOST = 500


class RefusedCalls:
    """Refused calls during one call, or between two. One that comes again adds to the count of the first's event."""

    def __init__(self, emit: Callable[[str, dict[str, Any]], None]) -> None:
        self._emit = emit
        self._details: dict[tuple[Any, ...], dict[str, Any]] = {}

    def add(self, kind: str, detail: dict[str, Any]) -> None:
        """Emit it as an event, or count it."""
        key = (kind, *detail.values())
        if key not in self._details and len(self._details) >= _MOST:
            kind, detail = "dropped", {"what": "attempts"}
            key = (kind,)
        if (seen := self._details.get(key)) is not None:
            seen["count"] += 1
            return
        detail["count"] = 1
        self._details[key] = detail
        self._emit(kind, detail)
