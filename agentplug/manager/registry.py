"""The part of `PluginManager` that takes messages to hooks, its plugins' and callbacks (host)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.core.host.conversation import wait_for
from agentplug.errors import ContractError
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.hooks import Dispatch, Dispatcher, Hook, HookHandle, HookTable
from agentplug.manager.registration import Registration

if TYPE_CHECKING:
    import pandas as pd


class Dispatching(ABC):
    """Holds what is registered: plugins by name, in the order in which they are called, and callbacks."""

    def __init__(self) -> None:
        self._registered: dict[str, Registration] = {}
        self._hooks = HookTable()
        self._dispatcher = Dispatcher()

    @property
    @abstractmethod
    def audit(self) -> AuditLog | None:
        """The audit log that dispatches are written to, if there is one."""

    def register_hook(
        self, point: str, callback: Callable[..., Any], kind: str | None = None, *, fail_open: bool = False
    ) -> HookHandle:
        """Call `callback`, a function or a coroutine function, at `point`.

        At an agent point it is asked by `dispatch`, with a copy of the message. `kind`: `observe` (the default; it
        may take the `Dispatch` as a second argument), `transform` or `veto`, which return what a plugin's
        `on_message` may, or a message with other parts. A transform or veto that fails denies the message, unless
        `fail_open`. A coroutine has 5 seconds; a plain function can't be interrupted and holds up the loop that it is
        called on, an agent's own: for what takes long, `await asyncio.to_thread(...)` in a coroutine.

        Raises `UnknownHook`, and `ContractError` for another kind.
        """
        return self._hooks.register(point, callback, kind, fail_open=fail_open)

    async def run_hooks(self, point: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Run the callbacks at `point`: what each returned, in order.

        A value other than None replaces the first argument for those that follow. Raises `UnknownHook`, and an
        `ExceptionGroup` of what callbacks raised once all have run.
        """
        return (await self._hooks.run(point, args, kwargs))[1]

    async def dispatch(self, message: AgentMessage, *, evaluate_only: bool = False) -> Dispatch:
        """Take a message to the hooks at its point: transforms, then vetoes, then observers, which it doesn't wait
        for.

        `dispatch(m).check()` is the message to go on with, or raises `HookDenied`. `evaluate_only` asks all hooks and
        enforces nothing. Never raises for what a hook did; raises the error of a plugin's initialization that nobody
        has seen: a veto that couldn't start doesn't count as none.
        """
        if not isinstance(message, AgentMessage):
            raise ContractError(f"a {type(message).__name__} can't be dispatched; make an AgentMessage of it")
        hooks = await self._hooks_at(message.point)
        self._dispatcher.tell = self.audit.record if self.audit is not None else None
        return await self._dispatcher.dispatch(message, hooks, evaluate_only=evaluate_only)

    def dispatch_sync(self, message: AgentMessage, *, evaluate_only: bool = False) -> Dispatch:
        """`dispatch`, for hooks of frameworks that are no coroutines; also works where a loop is running already."""
        return wait_for(self.dispatch(message, evaluate_only=evaluate_only))

    async def drain(self) -> None:
        """Wait until observers have seen all that was dispatched."""
        queues = {hook.queue for hook in self._hooks.hooks()} | {e.hooks.queue for e in self._registered.values()}
        await asyncio.gather(*(queue.drain() for queue in queues))

    def hooks_frame(self) -> pd.DataFrame:
        """One row a hook: whose, where, of which kind, whether it is granted, and what it did so far.

        `failed` counts calls without an answer, `dropped` what found an observer's queue full; `detail` says why what
        a plugin asks for isn't granted.
        """
        from agentplug.report.hooks import hooks_frame

        rows = [(hook.order, {**hook.row(), "granted": True, "detail": ""}) for hook in self._hooks.hooks()]
        for name, entry in self._settled().items():
            rows += [(entry.hooks.order, row) for row in entry.hooks.rows(name)]
        return hooks_frame(row for _, row in sorted(rows, key=lambda found: found[0]))

    # ------------------------------------------------------------------ inside

    async def _hooks_at(self, point: str) -> list[Hook]:
        """All hooks at `point`, in the order of registration."""
        found = self._hooks.hooks(point)
        for name, entry in list(self._registered.items()):
            if not entry.is_ready:
                failed = self._unseen_failure()
                if failed is not None:
                    raise failed
                if self._registered.get(name) is not entry:
                    continue  # it failed, and whoever registered it knows
                await entry
            hook = entry.hooks.at(point, name)
            if hook is not None:
                found.append(hook)
        found.sort(key=lambda hook: hook.order)
        return found

    def _settled(self) -> dict[str, Registration]:
        """The registrations, without those whose initialization failed and whose error was seen."""
        for name, entry in list(self._registered.items()):
            if entry.error_was_seen and entry.failure() is not None:
                del self._registered[name]
        return {name: entry for name, entry in self._registered.items() if entry.failure() is None}

    def _unseen_failure(self) -> BaseException | None:
        for name, entry in list(self._registered.items()):
            if entry.failure() is not None:
                del self._registered[name]
                if not entry.error_was_seen:
                    return entry.failure()
        return None
