"""What one worker tries, heard and written down (host): with the call under way, or as an event between calls.

The worker's lock guards it. A worker that tries a great deal is heard only now and then: it waits, not the host.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentplug.contract.events import Event
from agentplug.core.host.exchange import Notes
from agentplug.core.host.watchdog import watchdog

if sys.platform == "linux":  # its binding loads there alone
    from agentplug.core.host.attempts.notify import Attempts

if TYPE_CHECKING:
    from agentplug.core.host.supervisor import Worker

_DEAF_NS = 10_000_000


class Hearing:
    """The listener of one worker, from its greeting on. `readable` says of a path that every plugin may read it."""

    def __init__(self, worker: Worker, fd: int, readable: Callable[[str], bool]) -> None:
        self.fd = fd
        self.notes: Notes | None = None  # what was tried since the last call
        self._worker = worker
        self._attempts = Attempts(fd, worker.policy, worker.scratch, readable, self._tell)
        self._deaf_until_ns = 0
        watchdog().listen(fd, self._answer)

    @property
    def deaf(self) -> bool:
        """What is tried has to wait until it listens again."""
        return self._deaf_until_ns != 0

    def wake(self, now_ns: int) -> None:
        """Listen again, if it has waited long enough."""
        if self._deaf_until_ns and now_ns > self._deaf_until_ns:
            self._deaf_until_ns = 0
            watchdog().listen(self.fd, self._answer)

    def close(self) -> None:
        """Let go of the listener. Its descriptor must no longer be listened to."""
        self._attempts.close()

    def _answer(self) -> None:
        worker = self._worker
        with worker.lock:
            if worker.attempts is not self:
                return
            if not self._attempts.answer():
                watchdog().ignore(self.fd)
            elif self._attempts.too_many:
                watchdog().ignore(self.fd)
                self._deaf_until_ns = time.perf_counter_ns() + _DEAF_NS
                worker.calm = None

    def _tell(self, kind: str, **detail: Any) -> None:
        exchange = self._worker.exchange
        if exchange is not None and not exchange.done:
            exchange.note(kind, detail)
            return
        if self.notes is None:
            self.notes = Notes(self._tell_event)
        self.notes.add(kind, detail)

    def _tell_event(self, kind: str, detail: dict[str, Any]) -> None:
        self._worker.tell_event(Event(0.0, kind, detail))
