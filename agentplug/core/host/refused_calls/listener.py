"""Listen to the refused calls of one worker (host): each is an event of the current call, or between calls.

The worker's lock guards the listener. If there are very many, it pauses, so that the worker waits and not the host.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.core.host.refused_calls.counts import RefusedCalls
from agentplug.core.host.shared_memory import SharedMemory
from agentplug.core.host.supervised import Supervised

if sys.platform == "linux":  # its binding loads there alone
    from agentplug.core.host.refused_calls.notify import Notifications

_PAUSE_NS, _SHARE = 10_000_000, 9  # at most a tenth of the watchdog's time


class Listener:
    """A listener to one worker, from the worker's greeting on. `on_pause` is called at each pause."""

    def __init__(
        self, worker: Supervised, fd: int, policy: Policy, on_pause: Callable[[], None], shared: SharedMemory
    ) -> None:
        self._worker = worker
        self._fd = fd
        self._on_pause = on_pause
        self._notifications = Notifications(fd, policy, worker.process, shared, self._emit)
        self._between_calls: RefusedCalls | None = None  # since the last call
        self._paused_until_ns = 0
        self._closed = False
        self._watchdog = worker.process.watchdog
        self._watchdog.listen(fd, self._answer)

    @property
    def asked_beyond(self) -> frozenset[str]:
        """The limits (`memory`, `disk`) beyond which a single request of the current call went, granted or not."""
        return frozenset(self._notifications.asked_beyond)

    def begin_call(self) -> None:
        """Begin a new count for the refused calls after this call."""
        self._between_calls = None
        self._notifications.asked_beyond.clear()

    def stays_paused(self, now_ns: int) -> bool:
        """End the pause if it is over; return true while it lasts and refused calls wait."""
        if self._paused_until_ns and now_ns > self._paused_until_ns:
            self._paused_until_ns = 0
            self._watchdog.listen(self._fd, self._answer)
        return self._paused_until_ns != 0

    def dispose(self) -> None:
        """Stop listening, and close the descriptor."""
        self._watchdog.ignore(self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Close our copy, in a forked child of the host. The watchdog's epoll is the parent's."""
        self._closed = True
        self._notifications.close()
        del self._notifications  # a circle that would keep the worker, and its policy's descriptors, for a while

    def _answer(self) -> None:
        with self._worker.lock:
            if self._closed:
                return
            if not self._notifications.answer():
                self._watchdog.ignore(self._fd)
            elif self._notifications.too_many:
                self._watchdog.ignore(self._fd)
                self._paused_until_ns = time.perf_counter_ns() + max(_PAUSE_NS, _SHARE * self._notifications.spent_ns)
                self._on_pause()

    def _emit(self, kind: str, **detail: Any) -> None:
        exchange = self._worker.exchange
        if exchange is not None and not exchange.done:
            exchange.emit_counted(kind, detail)
            return
        if self._between_calls is None:
            self._between_calls = RefusedCalls(self._emit_between_calls)
        self._between_calls.add(kind, detail)

    def _emit_between_calls(self, kind: str, detail: dict[str, Any]) -> None:
        self._worker.report(Event(0.0, kind, detail))
