"""The part of a worker that its checks and its listener may use (host).

Both use it with its lock held. They write none of its attributes; they call its methods.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from agentplug.contract.events import Event
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.limits import Finding
from agentplug.core.host.process import Process


class Supervised(Protocol):
    """A worker. `exchange` is the current one; `last` began most recently and may be done. See `Worker`."""

    @property
    def lock(self) -> AbstractContextManager[Any]: ...
    @property
    def process(self) -> Process: ...
    @property
    def exchange(self) -> Exchange | None: ...
    @property
    def last(self) -> Exchange | None: ...
    def pump(self) -> bool: ...
    def kill(self, reason: str) -> None: ...
    def exceed(self, exchange: Exchange, finding: Finding) -> None: ...
    def lose(self, event: Event) -> None: ...
    def report(self, event: Event) -> None: ...
