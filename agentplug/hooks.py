"""Hook points and the callbacks of the host's own that are registered at them (host).

Callbacks may be plain functions or coroutines. They run in the order of registration; each gets the value as those
before left it, and may return a replacement (None keeps it). One that raises doesn't silence the others.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from agentplug.contract.plugin import HOOK_POINTS
from agentplug.contract.text import printable
from agentplug.errors import ContractError, UnknownHook


class HookHandle:
    """One registered callback. `remove()` takes it off again (once is enough)."""

    def __init__(self, table: HookTable, point: str, callback: Callable[..., Any]) -> None:
        self.point = point
        self.callback = callback
        self._table = table

    def remove(self) -> None:
        """Take the callback off its point."""
        self._table.remove(self)

    def __repr__(self) -> str:
        return f"<HookHandle at {self.point}>"


class HookTable:
    """The callbacks of one manager."""

    def __init__(self) -> None:
        self._handles: dict[str, list[HookHandle]] = {point: [] for point in HOOK_POINTS}

    def register(self, point: str, callback: Callable[..., Any]) -> HookHandle:
        """Add `callback` at `point`. Raises `UnknownHook`, and `ContractError` for what can't be called."""
        handles = self._at(point)
        if not callable(callback):
            raise ContractError(f"The callback for {point} is a {type(callback).__name__}; pass a function")
        handle = HookHandle(self, point, callback)
        handles.append(handle)
        return handle

    def remove(self, handle: HookHandle) -> None:
        """Take one callback off; nothing happens if it is gone already."""
        handles = self._handles[handle.point]
        if handle in handles:
            handles.remove(handle)

    async def run(self, point: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
        """Call all of them: the first argument as it is in the end, and what each returned.

        Raises an `ExceptionGroup` of what callbacks raised, after all have run.
        """
        results: list[Any] = []
        errors: list[Exception] = []
        for handle in list(self._at(point)):
            try:
                result = handle.callback(*args, **kwargs)
                if inspect.isawaitable(result):
                    result = await result
            except Exception as error:
                errors.append(error)
                continue
            results.append(result)
            if result is not None and args:
                args = (result, *args[1:])
        if errors:
            count = len(errors) + len(results)
            raise ExceptionGroup(f"{len(errors)} of {count} hooks at {point} failed; the others ran", errors)
        return (args[0] if args else None), results

    def _at(self, point: object) -> list[HookHandle]:
        handles = self._handles.get(point) if isinstance(point, str) else None
        if handles is not None:
            return handles
        error = UnknownHook(f"Unknown hook: {printable(str(point), 100)}")
        near = difflib.get_close_matches(str(point)[:100], HOOK_POINTS, 1)
        error.add_note(f"Did you mean {near[0]!r}?" if near else f"The hooks are {', '.join(HOOK_POINTS)}.")
        raise error
