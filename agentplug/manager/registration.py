"""A plugin and its initialization, which runs in the background and whose error isn't lost (host)."""

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
        self._is_ready = False
        self._future: concurrent.futures.Future[None] | asyncio.Task[None] = concurrent.futures.Future()
        self._future.set_result(None)

    def begin(self, on_success: Callable[[], None], *, here: bool) -> None:
        """Start `initialize`, with or without a running loop, and call `on_success` after it.

        `here` runs it on the user's loop if there is one, as trusted objects need.
        """
        if here:
            try:
                self._future = asyncio.get_running_loop().create_task(self._initialize(on_success))
                return
            except RuntimeError:
                pass
        self._future = asyncio.run_coroutine_threadsafe(self._initialize(on_success), our_loop())

    async def _initialize(self, on_success: Callable[[], None]) -> None:
        try:
            await self.plugin.initialize(self.config)
            on_success()
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
        """True if the initialization has succeeded."""
        if not self._is_ready:
            self._is_ready = self._future.done() and self.failure() is None
        return self._is_ready

    def failure(self) -> BaseException | None:
        """Return the error of a failed initialization, or None."""
        if not self._future.done() or self._future.cancelled():
            return None
        return self._future.exception()

    def row(self, name: str) -> dict[str, str]:
        """Return the plugin's row in a list of plugins."""
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
