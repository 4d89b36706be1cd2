"""A plugin that the user trusts to run in the host itself (host): no worker, no limits, and marked so everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from agentplug.contract.text import printable
from agentplug.errors import ContractError


class TrustedPlugin:
    """The user's own object behind the same surface as a sandboxed one. Nothing confines or measures it."""

    trusted = True

    def __init__(self, plugin: Any, config: Mapping[str, Any] | None = None) -> None:
        self.name, self.version = _checked(plugin)
        self.state = "new"
        self._plugin = plugin
        self._config = dict(config or {})

    async def initialize(self, config: Mapping[str, Any] | None = None) -> None:
        """Initialize the object, here in the host."""
        result = self._plugin.initialize(dict(config) if config is not None else self._config)
        if inspect.isawaitable(result):
            await result
        self.state = "ready"

    async def process(self, input_data: Any) -> Any:
        """Call the object, here in the host; what it raises comes through as it is."""
        result = self._plugin.process(input_data)
        return await result if inspect.isawaitable(result) else result

    @property
    def hooks(self) -> dict[str, str]:
        """The hook points it asks for, and of which kind."""
        hooks = getattr(self._plugin, "hooks", None)
        return {str(point): str(kind) for point, kind in hooks.items()} if isinstance(hooks, Mapping) else {}

    async def on_message(self, point: str, message: Mapping[str, Any]) -> Any:
        """Call the object's own `on_message`, here in the host; what it raises comes through as it is."""
        result = self._plugin.on_message(point, message)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """Let the object shut down, if it can."""
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


def _checked(plugin: Any) -> tuple[str, str]:
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
