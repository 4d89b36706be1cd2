"""A plugin on its way into a manager (host): its initialization has begun, and its error isn't lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from typing import Any

from agentplug.core.host.conversation import our_loop
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.trusted import TrustedPlugin
from agentplug.manager.plugin_hooks import PluginHooks

AnyPlugin = SandboxedPlugin | TrustedPlugin


class Registration:
    """A plugin whose initialization has begun. Await it for the plugin, or for the error."""

    def __init__(self, plugin: AnyPlugin, config: Any, hooks: PluginHooks) -> None:
        self.plugin = plugin
        self.config = config
        self.hooks = hooks
        self.error_was_seen = False
        self._is_ready = False  # once true it stays so
        self._future: concurrent.futures.Future[None] | asyncio.Task[None] = _finished()

    def begin(self, named: Callable[[], None], *, here: bool) -> None:
        """Start `initialize`, whether or not a loop is running. A trusted object stays on the user's own loop.

        `named` is called once the plugin has said its name.
        """
        if here:
            try:
                self._future = asyncio.get_running_loop().create_task(self._initialized(named))
                return
            except RuntimeError:
                pass
        self._future = asyncio.run_coroutine_threadsafe(self._initialized(named), our_loop())

    async def _initialized(self, named: Callable[[], None]) -> None:
        try:
            await self.plugin.initialize(self.config)
            named()
        except BaseException:
            await self.plugin.close()
            raise

    def __await__(self) -> Generator[Any, None, AnyPlugin]:
        future = self._future if isinstance(self._future, asyncio.Task) else asyncio.wrap_future(self._future)
        self.error_was_seen = True
        yield from asyncio.shield(future).__await__()
        return self.plugin

    @property
    def is_ready(self) -> bool:
        """Its initialization has ended, and well."""
        if not self._is_ready:
            self._is_ready = self._future.done() and self.failure() is None
        return self._is_ready

    def failure(self) -> BaseException | None:
        """The error of an initialization that has failed, else None."""
        if not self._future.done() or self._future.cancelled():
            return None
        return self._future.exception()

    def row(self, name: str) -> dict[str, str]:
        """What a list of plugins says of it."""
        plugin = self.plugin
        confined = isinstance(plugin, SandboxedPlugin)
        last = str(plugin.runs[-1].verdict) if isinstance(plugin, SandboxedPlugin) and plugin.runs else ""
        return {
            "name": name,
            "version": plugin.version,
            "state": plugin.state,
            "runs in": "a confined worker" if confined else "the host, trusted and unconfined",
            "hooks": self.hooks.summary(),
            "calls": str(plugin._inside.calls) if isinstance(plugin, SandboxedPlugin) else "",
            "last verdict": last,
        }


def _finished() -> concurrent.futures.Future[None]:
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    future.set_result(None)
    return future
