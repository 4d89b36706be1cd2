"""The host's callbacks at hook points (host).

Callbacks may be plain functions or coroutine functions, and run in the order of registration. `run_hooks` passes each
the value that the one before left, and the callback may return a replacement (None keeps the value). If one raises,
the others still run. At the agent points callbacks are also hooks with a kind, which `dispatch` calls.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Callable
from typing import Any

from agentplug.contract.grants import HOOK_KINDS, Grant
from agentplug.contract.plugin import AGENT_POINTS, HOOK_POINTS
from agentplug.contract.text import printable
from agentplug.errors import ContractError, UnknownHook
from agentplug.manager.hooks.hook import Hook, callback_call
from agentplug.manager.hooks.observers import ObserverQueue


class HookHandle:
    """One registered callback. `hook` is the hook that `dispatch` calls, None at a point that isn't an agent's."""

    def __init__(self, table: HookTable, point: str, callback: Callable[..., Any], hook: Hook | None) -> None:
        self.point = point
        self.callback = callback
        self.hook = hook
        self._table = table

    def remove(self) -> None:
        """Unregister the callback; once is enough."""
        self._table.remove(self)

    def __repr__(self) -> str:
        return f"<HookHandle at {self.point}>"


class HookTable:
    """The callbacks of one manager."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._handles: dict[str, list[HookHandle]] = {point: [] for point in HOOK_POINTS}

    def number(self) -> int:
        """Return the next number in the order of registration, which callbacks share with plugins."""
        return next(self._numbers)

    def register(
        self, point: str, callback: Callable[..., Any], kind: str | None = None, *, fail_open: bool = False
    ) -> HookHandle:
        """Add `callback` at `point`, by default as an observer. Raises `UnknownHook`, and `ContractError` for an
        unknown kind, or a `callback` that can't be called.
        """
        handles = self._at(point)
        if not callable(callback):
            raise ContractError(f"The callback for {point} is a {type(callback).__name__}; pass a function")
        hook = None
        if point in AGENT_POINTS:
            hook = self._hook(point, callback, kind or "observe", fail_open)
        elif kind is not None:
            raise ContractError(f"kind={kind!r}: callbacks at {point} have none; what they return replaces the data")
        handle = HookHandle(self, point, callback, hook)
        handles.append(handle)
        return handle

    def _hook(self, point: str, callback: Callable[..., Any], kind: str, fail_open: bool) -> Hook:
        if kind not in HOOK_KINDS:
            raise ContractError(f"kind={printable(repr(kind), 100)}: the kinds are {', '.join(HOOK_KINDS)}")
        name = getattr(callback, "__qualname__", type(callback).__name__)
        grant = Grant(kind, fail_open or kind == "observe", True)
        return Hook(name, point, grant, self.number(), callback_call(callback, kind), ObserverQueue(), "host")

    def hooks(self, point: str | None = None) -> list[Hook]:
        """List the hooks that `dispatch` calls at `point`, or at all points, in order."""
        at = AGENT_POINTS if point is None else (point,)
        return [handle.hook for name in at for handle in self._handles[name] if handle.hook is not None]

    def remove(self, handle: HookHandle) -> None:
        """Unregister one callback; do nothing if that was done before."""
        handles = self._handles[handle.point]
        if handle in handles:
            handles.remove(handle)

    async def run(self, point: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
        """Call all callbacks; return the final first argument, and what each callback returned.

        Raises an `ExceptionGroup` of the callbacks' errors, after all have run.
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
