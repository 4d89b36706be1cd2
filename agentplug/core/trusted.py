"""Plugins that the user trusts to run in the host itself (host): no worker and no limits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from agentplug.contract.record import SourceInfo
from agentplug.contract.text import printable
from agentplug.errors import ContractError


class TrustedPlugin:
    """The user's own object with the methods of a `SandboxedPlugin`. Nothing confines or measures it."""

    trusted = True

    def __init__(self, plugin: Any, config: Mapping[str, Any] | None = None) -> None:
        self.name, self.version = _name_and_version(plugin)
        self.state = "new"
        self._plugin = plugin
        self._config = dict(config or {})

    async def initialize(self, config: Mapping[str, Any] | None = None) -> None:
        """Call the object's `initialize` in the host."""
        result = self._plugin.initialize(dict(config) if config is not None else self._config)
        if inspect.isawaitable(result):
            await result
        self.state = "ready"

    async def process(self, input_data: Any) -> Any:
        """Call the object in the host. Its exceptions pass unchanged."""
        result = self._plugin.process(input_data)
        return await result if inspect.isawaitable(result) else result

    @property
    def hooks(self) -> dict[str, str]:
        """The hook points that the plugin asks for, with the kind of each."""
        hooks = getattr(self._plugin, "hooks", None)
        return {str(point): str(kind) for point, kind in hooks.items()} if isinstance(hooks, Mapping) else {}

    async def on_message(self, point: str, message: Mapping[str, Any]) -> Any:
        """Call the object's own `on_message` in the host. Its exceptions pass unchanged."""
        result = self._plugin.on_message(point, message)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """Call the object's `shutdown`, if it has one."""
        self.state = "closed"
        shutdown = getattr(self._plugin, "shutdown", None)
        if callable(shutdown):
            result = shutdown()
            if inspect.isawaitable(result):
                await result

    def __repr__(self) -> str:
        return (
            f"<TrustedPlugin {printable(self.name, 80)} {printable(self.version, 40)}: runs in the host, unconfined>"
        )

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugin_card

        return plugin_card(SourceInfo("", "object", "", self.name, self.version), state=self.state, trusted=True)


def _name_and_version(plugin: Any) -> tuple[str, str]:
    name, version = getattr(plugin, "name", None), getattr(plugin, "version", None)
    missing = [m for m in ("initialize", "process") if not callable(getattr(plugin, m, None))]
    if not isinstance(name, str) or not name:
        missing.append("name (text)")
    if not isinstance(version, str):
        missing.append("version (text)")
    if missing or isinstance(plugin, type):
        what = "a class; pass an instance" if isinstance(plugin, type) else f"missing: {', '.join(missing)}"
        raise ContractError(f"{printable(type(plugin).__name__, 100)} isn't an agent plugin: {what}")
    return str(name), str(version)
