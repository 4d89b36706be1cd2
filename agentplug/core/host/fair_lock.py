"""Who may use a plugin's worker, one task at a time (host).

A turn is waited for across threads and event loops. A wait that can never end, because the waiter's own thread holds
up the loop that would have to turn for it, is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any


class Standstill:
    """The loop that stands still because its own thread waits in `wait_for`; None again once it has waited."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop

    def end(self) -> None:
        """Forget the loop: its thread waits no more."""
        self.loop = None


standstill: contextvars.ContextVar[Standstill | None] = contextvars.ContextVar("standstill", default=None)


class WaitsForItself(RuntimeError):
    """Whoever waits holds up the very loop that would have to turn for the wait to end."""


class Turn:
    """A lock that serves its waiters in the order they came, across threads and event loops.

    It belongs to a task. If that task's loop is closed it will never give the turn back: the next who comes takes it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # letting go of an abandoned task may bring us back here
        self._holder: asyncio.Task[Any] | None = None
        self._waiting: deque[tuple[Future[None], asyncio.Task[Any]]] = deque()

    @property
    def is_free(self) -> bool:
        """Nobody has it."""
        return self._holder is None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            if self._holder is None or self._holder.get_loop().is_closed():
                self._holder = task
                return
            held_up = standstill.get()
            if held_up is not None and self._needs(held_up.loop):
                raise WaitsForItself(
                    "This would wait for ever: calls of the same plugin are under way in the event loop that runs "
                    "here, which can't go on while it is waited on. Await run(x) instead, or await those calls first"
                )
            ticket: Future[None] = Future()
            self._waiting.append((ticket, task))
        try:
            await asyncio.wrap_future(ticket)
        except asyncio.CancelledError:
            with self._lock:  # or `_pass_on` may be half-way through giving it to us
                ours = ticket.done() and not ticket.cancelled()
            if ours:
                self._pass_on(task)
            raise

    def _needs(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Somebody who has the turn, or gets it before whoever comes now, can't give it back unless `loop` turns."""
        tasks = [self._holder, *(task for _, task in self._waiting)]
        return loop is not None and any(task is not None and task.get_loop() is loop for task in tasks)

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs: an abandoned task is being collected
            self._pass_on(asyncio.current_task())

    def _pass_on(self, task: asyncio.Task[Any] | None) -> None:
        with self._lock:
            if self._holder is not task:
                return  # somebody took it over
            self._holder = None
            while self._waiting and self._holder is None:
                ticket, waiter = self._waiting.popleft()
                if not waiter.get_loop().is_closed() and ticket.set_running_or_notify_cancel():
                    self._holder = waiter
                    ticket.set_result(None)
