"""The actions behind the buttons of a dashboard (host): stop the call, kill its worker, reload, quarantine."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

from IPython.core.getipython import get_ipython

from agentplug.contract.text import printable
from agentplug.core.host.conversation import our_loop
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.jupyter.dashboard.watch import Board, Row, session_manager
from agentplug.manager.manager import AnyPlugin, PluginManager

ACTIONS = {
    "stop": "Interrupt the call; its worker is killed if it doesn't end within a second",
    "kill": "Kill the worker, and the call with it; the next call gets a fresh one",
    "reload": "Load it anew, from what its source holds now; ends a quarantine",
    "quarantine": "Kill the worker and refuse every call until a reload",
}


class Actions:
    """Runs actions on the plugins of a board, and adds an event for each. `only` restricts the choice."""

    def __init__(self, board: Board, only: Sequence[str] | None = None) -> None:
        self._board = board
        self._only = tuple(ACTIONS) if only is None else tuple(only)

    def offered(self, row: Row) -> tuple[str, ...]:
        """Return the actions for the plugin in this row; none for one that runs in the host."""
        if row.trusted:
            return ()
        return tuple(name for name in self._only if name != "reload" or self._manager() is not None)

    def do(self, action: str, key: str) -> None:
        """Run `action` on the plugin of the row `key`; may block. Never raises for a plugin that is gone or idle."""
        plugin = self._board.plugins().get(key)
        name = key or (plugin._inside.name if isinstance(plugin, SandboxedPlugin) else "")
        if not isinstance(plugin, SandboxedPlugin):
            self._add_event(name, action, "it isn't there any more")
        elif plugin.state == "closed":
            self._add_event(name, action, "it is closed")
        elif action in ("stop", "kill"):
            if plugin.state != "busy":
                self._add_event(name, action, "it isn't busy")
            plugin._inside.stop("interrupt" if action == "stop" else "kill")
        elif action == "quarantine":
            plugin._inside.quarantine()
            self._add_event(name, action, "no more calls until a reload")
        else:
            self._reload(name, plugin)

    def _reload(self, name: str, plugin: SandboxedPlugin) -> None:
        manager = self._manager()
        if manager is None:
            self._add_event(name, "reload", "no manager knows it any more")
            return
        key = next(key for key, known in manager.plugins.items() if known is plugin)
        self._add_event(name, "reload", "begun")
        future = asyncio.run_coroutine_threadsafe(manager.reload(key), our_loop())
        future.add_done_callback(functools.partial(self._reloaded, name, key, plugin))

    def _reloaded(self, name: str, key: str, before: SandboxedPlugin, done: Future[AnyPlugin]) -> None:
        try:
            plugin = done.result()
        except (Exception, CancelledError) as error:
            self._add_event(name, "reload", f"failed: {type(error).__name__}: {printable(str(error), 200)}")
            return
        self._add_event(name, "reload", "done")
        if self._board.x is before and isinstance(plugin, SandboxedPlugin):
            self._board.x = plugin
        shell = get_ipython()
        if shell is not None and shell.user_ns.get(key) is before:
            shell.user_ns[key] = plugin  # as %reload_plugin does

    def _manager(self) -> PluginManager | None:
        """Return the manager that can reload the watched plugins, or None."""
        x = self._board.x
        if isinstance(x, PluginManager):
            return x
        manager = session_manager()
        return manager if manager is not None and any(plugin is x for plugin in manager.plugins.values()) else None

    def _add_event(self, name: str, action: str, what: str) -> None:
        self._board.events.add(time.time(), name, action, {"what": what})
