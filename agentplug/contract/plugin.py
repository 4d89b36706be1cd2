"""The contract of a plugin, as the worker checks it (host and worker)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

HOOK_POINTS: tuple[str, ...] = (
    "pre_process",
    "post_process",
    "agent_startup",
    "input",
    "pre_model_call",
    "post_model_call",
    "pre_tool_call",
    "post_tool_call",
    "output",
    "agent_shutdown",
)
"""The chapter's two points, then the eight agent points of AGENT-HOOKS 0.1."""


@runtime_checkable
class AgentPlugin(Protocol):
    """What a plugin is: a name, a version, and two coroutines.

    Optional members: `hooks` (`{point: kind}`, what it asks for), `async on_message(point, message)` and
    `async shutdown()`. Plain functions in place of coroutines work too.
    """

    name: str
    version: str

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take the configuration; called once before the first `process`."""

    async def process(self, input_data: Any) -> Any:
        """Turn one input into one value."""
