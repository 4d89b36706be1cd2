"""One hook at one point (host), be it a callback of the host's own or a plugin's: what it may, how it is asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from agentplug.contract.grants import Grant
from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.manager.hooks.breaker import Breaker
from agentplug.manager.hooks.observers import ObserverQueue
from agentplug.manager.hooks.records import FINE, Dispatch, HookRecord


class Answer(NamedTuple):
    """What a hook returned; or `failure`, the outcome to record in place of one, and why."""

    value: Any = None
    failure: str = ""
    reason: str = ""


class Sent:
    """A message on its way to hooks: what each may see of it is made once, for all who may see the same."""

    def __init__(self, message: AgentMessage, dispatch: Dispatch | None = None) -> None:
        self.message = message
        self.dispatch = dispatch  # for observers: what became of it
        self._shown: dict[bool, dict[str, Any]] = {}
        self._encoded: dict[bool, Any] = {}

    def shown(self, native: bool) -> dict[str, Any]:
        """As a plain dict, for plugins; it shares its members with the message, so it is to be copied or encoded."""
        if native not in self._shown:
            self._shown[native] = (self.dispatch or self.message).view(native=native)
        return self._shown[native]

    def encoded(self, native: bool, encode: Callable[[str, dict[str, Any]], Any]) -> Any:
        """As `encode` makes it for a worker."""
        if native not in self._encoded:
            self._encoded[native] = encode(self.message.point, self.shown(native))
        return self._encoded[native]


class Hook:
    """`call` asks it, and never raises for what a plugin did. `order` counts registrations; ties can't be."""

    def __init__(
        self,
        name: str,
        point: str,
        grant: Grant,
        order: int,
        call: Callable[[Sent], Coroutine[Any, Any, Answer]],
        queue: ObserverQueue,
        by: str = "plugin",
    ) -> None:
        self.name = printable(name, 100)
        self.point = point
        self.kind, self.fail_open, self.native = grant
        self.order = order
        self.call = call
        self.queue = queue
        self.by = by
        self.breaker = Breaker()
        self.outcomes: dict[str, int] = {}
        self.spent_s = 0.0

    def record(self, outcome: str, duration_s: float = 0.0, reason: str = "", changed: bool = False) -> HookRecord:
        """Note one outcome, and give it as a record."""
        counted = outcome.partition(":")[0]  # what follows may be a plugin's word, and there is no end to those
        self.outcomes[counted] = self.outcomes.get(counted, 0) + 1
        self.spent_s += duration_s
        return HookRecord(self.name, self.point, self.kind, outcome, duration_s, changed, reason, self.by)

    def row(self) -> dict[str, Any]:
        """What it has done so far, for a table."""
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
    """How a callback of the host's own is asked: with a copy of the message, so that it can't change the original.

    An observer that takes two arguments gets the `Dispatch` as the second, a copy too.
    """
    both = kind == "observe" and _takes_two(callback)

    async def call(sent: Sent) -> Answer:
        message = sent.message.copy()
        became = sent.dispatch.copy() if both and sent.dispatch is not None else None
        value = callback(message, became) if both else callback(message)
        return Answer(await value if inspect.isawaitable(value) else value)

    return call


def _takes_two(callback: Callable[..., Any]) -> bool:
    try:
        inspect.signature(callback).bind(None, None)
    except (TypeError, ValueError):
        return False
    return True
