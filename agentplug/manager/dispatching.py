"""Send a message to the hooks at its point: the manager's callbacks and its plugins (host)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentplug.contract.messages.message import AgentMessage
from agentplug.core.host.conversation import wait_for
from agentplug.errors import ContractError
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.hooks import Dispatch, Dispatcher, Hook, HookTable
from agentplug.manager.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

_COUNTS = ("calls", "changed", "denied", "failed", "dropped", "waiting")
_NAMES = (
    "hook",
    "by",
    "point",
    "kind",
    "granted",
    "on_failure",
    "native",
    *_COUNTS,
    "breaker",
    "spent_s",
    "detail",
)


class Dispatching:
    """The hooks of a manager: the callbacks in `table`, and the plugins of `registry`. `audit` records dispatches."""

    def __init__(self, registry: Registry, audit: AuditLog | None) -> None:
        self._registry = registry
        self.table = HookTable()
        self.dispatcher = Dispatcher(audit.record if audit is not None else None)

    async def dispatch(self, message: AgentMessage, *, evaluate_only: bool = False) -> Dispatch:
        """Send a message to the hooks at its point: see `PluginManager.dispatch`."""
        if not isinstance(message, AgentMessage):
            raise ContractError(f"a {type(message).__name__} can't be dispatched; make an AgentMessage of it")
        hooks = await self._hooks_at(message.point)
        return await self.dispatcher.dispatch(message, hooks, evaluate_only=evaluate_only)

    def dispatch_sync(self, message: AgentMessage, *, evaluate_only: bool = False) -> Dispatch:
        """Dispatch and wait, for a framework's plain functions; this also works while a loop is running."""
        return wait_for(self.dispatch(message, evaluate_only=evaluate_only))

    async def drain(self) -> None:
        """Wait until observers have seen all messages."""
        entries = self._registry.entries.values()
        queues = {hook.queue for hook in self.table.hooks()} | {entry.hooks.queue for entry in entries}
        await asyncio.gather(*(queue.drain() for queue in queues))

    def hooks_frame(self) -> pd.DataFrame:
        """Return a table with one row a hook: see `PluginManager.hooks_frame`."""
        import pandas as pd

        from agentplug.report.frames import without_formulas
        from agentplug.report.text_table import TextTable

        rows = [(hook.order, {**hook.row(), "granted": True, "detail": ""}) for hook in self.table.hooks()]
        for name, entry in self._registry.settled().items():
            rows += [(entry.hooks.order, row) for row in entry.hooks.rows(name)]
        rows.sort(key=lambda ordered: ordered[0])
        filled = [{"native": False, "spent_s": 0.0, **dict.fromkeys(_COUNTS, 0), **row} for _, row in rows]
        types = {**dict.fromkeys(_COUNTS, "int64"), "spent_s": "float64", "granted": "bool", "native": "bool"}
        texts = dict.fromkeys(("on_failure", "breaker", "detail"), "")
        return without_formulas(TextTable(pd.DataFrame(filled, columns=list(_NAMES)).fillna(texts).astype(types)))

    async def _hooks_at(self, point: str) -> list[Hook]:
        """List all hooks at `point`, in the order of registration."""
        registry = self._registry
        hooks = self.table.hooks(point)
        for name, entry in list(registry.entries.items()):
            if not entry.is_ready:
                failure = registry.unseen_failure()
                if failure is not None:
                    raise failure
                if registry.entries.get(name) is not entry:
                    continue  # its initialization failed, and whoever registered it saw the error
                await entry
            hook = entry.hooks.at(point, name)
            if hook is not None:
                hooks.append(hook)
        hooks.sort(key=lambda hook: hook.order)
        return hooks
