"""The contract of a plugin: the Protocol that the worker checks, and the hook points (host and worker)."""

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

AGENT_POINTS: tuple[str, ...] = HOOK_POINTS[2:]
"""The points at which an `AgentMessage` can be."""


@runtime_checkable
class AgentPlugin(Protocol):
    """A plugin: a name, a version, and two coroutines.

    Optional members: `hooks` (`{point: kind}`, the hook rights that the plugin asks for),
    `async on_message(point, message)` and `async shutdown()`. Plain functions in place of coroutines work too. `asks`
    (`{right: value}`, say `{"network": [443]}`) and `why` (`{right or point: reason}`) inform the person who pins the
    plugin: they must be literals, because they are read without running the code.

    `on_message` is called at the points and in the kinds that the plugin asked for and the policy granted. `message`
    is a dict, the fields of an `AgentMessage`; changing it has no effect. Its return value, by kind:

    - `transform`: None (no change), a list of parts, or the message with other `parts`. Anything else is an error.
    - `veto`: None or True (allow), False or `{"deny": "the reason"}` (deny). Anything else is an error.
    - `observe`: ignored. The message has one member more, `dispatch`: `allowed`, `reason`, `denied_by`,
      `evaluate_only`, and `original`, the parts as they were before transforms (None if unchanged).

    An error, a timeout or a death denies the message (`transform`, `veto`), or is only recorded (`observe`).
    """

    name: str
    version: str

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take the configuration. Called once, before the first `process`."""

    async def process(self, input_data: Any) -> Any:
        """Turn one input into one value."""
