"""Count refused calls (host): one event for each distinct call, up to a bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MOST = 500


class RefusedCalls:
    """Refused calls during one call, or between two. A repeated one adds to the count of its event."""

    def __init__(self, emit: Callable[[str, dict[str, Any]], None]) -> None:
        self._emit = emit
        self._details: dict[tuple[Any, ...], dict[str, Any]] = {}

    def add(self, kind: str, detail: dict[str, Any]) -> None:
        """Emit a refused call as an event, or count a repeated one."""
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
