"""A fair lock: one task at a time uses a plugin's worker (host).

Tasks of several threads and event loops wait for it. A wait that could never end, because the waiter's own thread
blocks the loop of a task ahead of it, is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any


class BlockedLoop:
    """The loop that is blocked while its own thread waits in `wait_for`; None after the wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop

    def end(self) -> None:
        """Forget the loop: its thread no longer waits."""
        self.loop = None


blocked_loop: contextvars.ContextVar[BlockedLoop | None] = contextvars.ContextVar("blocked_loop", default=None)


class WaitsForItself(RuntimeError):
    """The wait would never end: the waiter blocks the loop that would have to run for it."""


class Turn:
    """A lock that serves its waiters in the order they came, across threads and event loops.

    Its holder is a task. A task whose loop is closed can never release it, so the next task takes it over.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # collecting an abandoned task may reenter here
        self._holder: asyncio.Task[Any] | None = None
        self._waiting: deque[tuple[Future[None], asyncio.Task[Any]]] = deque()

    @property
    def is_free(self) -> bool:
        """True if no task holds the lock."""
        return self._holder is None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._holder is None or self._holder.get_loop().is_closed():
                self._holder = task
                return
            blocked = blocked_loop.get()
            if blocked is not None and self._needs(blocked.loop):
                raise WaitsForItself(
                    "This would wait for ever: calls of the same plugin are under way in the event loop that runs "
                    "here, which can't go on while it is waited on. Await run(x) instead, or await those calls first"
                )
            ticket: Future[None] = Future()
            self._waiting.append((ticket, task))
        try:
            await asyncio.wrap_future(ticket)
        except asyncio.CancelledError:
            with self._lock:  # else `_pass_on` may be half-way through
                ours = ticket.done() and not ticket.cancelled()
            if ours:
                self._pass_on(task)
            raise

    def _needs(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Return true if the holder, or a task that waits already, can release the lock only if `loop` runs."""
        tasks = [self._holder, *(task for _, task in self._waiting)]
        return loop is not None and any(task is not None and task.get_loop() is loop for task in tasks)

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs: the task was abandoned and is being collected
            self._pass_on(asyncio.current_task())

    def _pass_on(self, task: asyncio.Task[Any] | None) -> None:
        with self._lock:
            if self._holder is not task:
                return  # another task took it over
            self._holder = None
            while self._waiting and self._holder is None:
                ticket, waiter = self._waiting.popleft()
                if not waiter.get_loop().is_closed() and ticket.set_running_or_notify_cancel():
                    self._holder = waiter
                    ticket.set_result(None)
