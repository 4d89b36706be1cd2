"""Listen to the refused calls of one worker (host): each is an event of the call under way, or between calls.

The worker's lock guards it. If there are very many, the listener pauses: the worker waits, not the host.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.core.host.refused_calls.counts import RefusedCalls
from agentplug.core.host.supervised import Supervised

if sys.platform == "linux":  # its binding loads there alone
    from agentplug.core.host.refused_calls.notify import Notifications

_PAUSE_NS = 10_000_000


class Listener:
    """A listener to one worker, from its greeting on. `on_pause` is called when it pauses."""

    def __init__(self, worker: Supervised, fd: int, policy: Policy, on_pause: Callable[[], None]) -> None:
        self._worker = worker
        self._fd = fd
        self._on_pause = on_pause
        self._notifications = Notifications(fd, policy, worker.process.scratch, self._tell)
        self._between_calls: RefusedCalls | None = None  # those since the last call
        self._paused_until_ns = 0
        self._closed = False
        self._dog = worker.process.dog
        self._dog.listen(fd, self._answer)

    def begin_call(self) -> None:
        """Begin a new count: of the refused calls that follow this call."""
        self._between_calls = None

    def stays_paused(self, now_ns: int) -> bool:
        """End the pause once it was long enough; true while it goes on, and refused calls wait."""
        if self._paused_until_ns and now_ns > self._paused_until_ns:
            self._paused_until_ns = 0
            self._dog.listen(self._fd, self._answer)
        return self._paused_until_ns != 0

    def dispose(self) -> None:
        """Listen no more, and let go of the descriptor."""
        self._dog.ignore(self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Let go of our copy, in a forked child of the host. The watchdog's epoll is the parent's."""
        self._closed = True
        self._notifications.close()

    def _answer(self) -> None:
        with self._worker.lock:
            if self._closed:
                return
            if not self._notifications.answer():
                self._dog.ignore(self._fd)
            elif self._notifications.too_many:
                self._dog.ignore(self._fd)
                self._paused_until_ns = time.perf_counter_ns() + _PAUSE_NS
                self._on_pause()

    def _tell(self, kind: str, **detail: Any) -> None:
        exchange = self._worker.exchange
        if exchange is not None and not exchange.done:
            exchange.emit_counted(kind, detail)
            return
        if self._between_calls is None:
            self._between_calls = RefusedCalls(self._tell_event)
        self._between_calls.add(kind, detail)

    def _tell_event(self, kind: str, detail: dict[str, Any]) -> None:
        self._worker.report(Event(0.0, kind, detail))
