"""Plugins for the scenarios: each is loaded into a confined worker, and the host never imports this file."""

from __future__ import annotations

import os
from typing import Any

POINTS = (
    "agent_startup input pre_model_call post_model_call pre_tool_call post_tool_call output agent_shutdown".split()
)


class _Base:
    version = "1"

    async def initialize(self, config: Any) -> None:
        self.config = dict(config)

    async def process(self, input_data: Any) -> Any:
        return None


class RecorderPlugin(_Base):
    """Keeps what it is shown; `process` gives it back."""

    name = "recorder"
    hooks = dict.fromkeys(POINTS, "observe")

    async def initialize(self, config: Any) -> None:
        self.seen: list[Any] = []

    async def process(self, input_data: Any) -> Any:
        return self.seen

    async def on_message(self, point: str, message: Any) -> None:
        self.seen.append(message)


class DenierPlugin(_Base):
    """Denies wherever it is asked."""

    name = "denier"
    hooks = dict.fromkeys(POINTS, "veto")

    async def on_message(self, point: str, message: Any) -> Any:
        return {"deny": "not here"}


class ChangerPlugin(_Base):
    """Replaces words wherever they stand, in texts, arguments and results; without any it returns what it got."""

    name = "changer"
    hooks = dict.fromkeys(POINTS, "transform")

    async def on_message(self, point: str, message: Any) -> Any:
        return self._changed(message["parts"])

    def _changed(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._changed(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._changed(item) for item in value]
        if isinstance(value, str):
            for old, new in self.config.get("words", {}).items():
                value = value.replace(old, new)
        return value


class ShapesPlugin(_Base):
    """Takes the first part away and adds one; or does to it what nobody can carry."""

    name = "shapes"
    hooks = dict.fromkeys(POINTS, "transform")

    async def on_message(self, point: str, message: Any) -> Any:
        parts = [part for part in message["parts"] if part.get("role") != "system"]
        system = message["parts"][: len(message["parts"]) - len(parts)]
        if self.config.get("uncarried"):
            return [*system, {"type": "nothing of the kind", "role": "user"}, *parts[1:]]
        added = [{"type": "text", "content": "added", "role": "user"}]
        return [*system, *added, *(parts[1:] if len(parts) > 1 else parts)]


class CrashingVetoPlugin(_Base):
    """Its process ends where it is asked."""

    name = "crasher"
    hooks = dict.fromkeys(POINTS, "veto")

    async def on_message(self, point: str, message: Any) -> Any:
        os._exit(3)


class CrashingObserverPlugin(CrashingVetoPlugin):
    """The same, of which nobody waits for an answer."""

    hooks = dict.fromkeys(POINTS, "observe")


class HungryPlugin(_Base):
    """Takes more memory than it may have."""

    name = "hungry"
    hooks = dict.fromkeys(POINTS, "transform")

    async def on_message(self, point: str, message: Any) -> Any:
        return [bytes(1 << 30) for _ in range(8)]
