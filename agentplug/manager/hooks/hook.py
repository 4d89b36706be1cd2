"""One hook at one point (host), a callback of the host or a plugin's: its rights, its call, its statistics."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from agentplug.contract.grants import Grant
from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.core.decoders import Share
from agentplug.manager.hooks.breaker import Breaker
from agentplug.manager.hooks.observers import ObserverQueue
from agentplug.manager.hooks.records import FINE, Dispatch, HookRecord


class Answer(NamedTuple):
    """A hook's return value; or `failure`, the outcome to record instead, and its reason."""

    value: Any = None
    failure: str = ""
    reason: str = ""


class Sent:
    """A message for several hooks: each view and each encoding of it is made once."""

    def __init__(self, message: AgentMessage, dispatch: Dispatch | None = None) -> None:
        self.message = message
        self.dispatch = dispatch  # for observers
        self._views: dict[bool, dict[str, Any]] = {}
        self._encoded: dict[bool, Any] = {}

    def view(self, native: bool) -> dict[str, Any]:
        """Return the message as a dict for plugins, which shares its members: copy or encode it."""
        if native not in self._views:
            self._views[native] = (self.dispatch or self.message).view(native=native)
        return self._views[native]

    def encoded(self, native: bool, encode: Callable[[str, dict[str, Any]], Any]) -> Any:
        """Return the message as `encode` encodes it for a worker."""
        if native not in self._encoded:
            self._encoded[native] = encode(self.message.point, self.view(native))
        return self._encoded[native]


class Hook:
    """A hook. `call` never raises for what a plugin did; `order` is the hook's unique number of registration.

    `share` is a confined plugin's share of the decoding threads, None for a hook of the host's own.
    """

    def __init__(
        self,
        name: str,
        point: str,
        grant: Grant,
        order: int,
        call: Callable[[Sent], Coroutine[Any, Any, Answer]],
        queue: ObserverQueue,
        by: str = "plugin",
        share: Share | None = None,
    ) -> None:
        self.name = printable(name, 100)
        self.point = point
        self.kind, self.fail_open, self.native = grant
        self.order = order
        self.call = call
        self.queue = queue
        self.by = by
        self.share = share
        self.breaker = Breaker()
        self.outcomes: dict[str, int] = {}
        self.spent_s = 0.0

    def record(self, outcome: str, duration_s: float = 0.0, reason: str = "", changed: bool = False) -> HookRecord:
        """Count one outcome, and return it as a record."""
        counted = outcome.partition(":")[0]  # the rest may be a plugin's text, of which there is no end
        self.outcomes[counted] = self.outcomes.get(counted, 0) + 1
        self.spent_s += duration_s
        return HookRecord(self.name, self.point, self.kind, outcome, duration_s, changed, reason, self.by)

    def row(self) -> dict[str, Any]:
        """Return the hook's statistics, for a table."""
        count = self.outcomes.get
        return {
            "hook": self.name,
            "point": self.point,
            "kind": self.kind,
            "by": self.by,
            "on_failure": "open" if self.fail_open else "closed",
            "native": self.native or self.by == "host",
            "calls": sum(
                n for outcome, n in self.outcomes.items() if outcome not in ("queued", "dropped", "skipped")
            ),
            "changed": count("changed", 0),
            "denied": count("denied", 0),
            "failed": sum(n for outcome, n in self.outcomes.items() if outcome not in FINE and outcome != "dropped"),
            "dropped": count("dropped", 0),
            "waiting": self.queue.waiting(self),
            "breaker": self.breaker.state,
            "spent_s": self.spent_s,
        }


def callback_call(callback: Callable[..., Any], kind: str) -> Callable[[Sent], Coroutine[Any, Any, Answer]]:
    """Make the call of a host's callback, with a copy of the message, so that it can't change the original.

    An observer that takes two arguments gets a copy of the `Dispatch` as the second.
    """
    both = kind == "observe" and _takes_two(callback)

    async def call(sent: Sent) -> Answer:
        message = sent.message.copy()
        dispatch = sent.dispatch.copy() if both and sent.dispatch is not None else None
        value = callback(message, dispatch) if both else callback(message)
        return Answer(await value if inspect.isawaitable(value) else value)

    return call


def _takes_two(callback: Callable[..., Any]) -> bool:
    try:
        inspect.signature(callback).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True
