"""What observers have still to see (host): a bounded queue for each, and one task that works it off.

Whoever puts something in never waits. What doesn't fit is dropped, and counted. A plugin's queue is worked off on a
loop of ours, in another thread, so that its calls take nothing of the agent's loop; a callback's on the loop that it
was put in from, since it may be bound to that one.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

MAX_WAITING = 1_000
MAX_WAITING_BYTES = 1 << 26


class ObserverQueue:
    """Messages for one observer, in order. `loop` gives the loop to work on; None: the one that is running."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._new_loop = loop
        self._lock = threading.Lock()
        self._queue: deque[tuple[Any, Callable[[], Awaitable[None]], int]] = deque()
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # where a task works, if one does
        self._task: asyncio.Task[None] | None = None
        self._empty: list[Future[None]] = []

    def put(self, owner: object, work: Callable[[], Awaitable[None]], size_bytes: int) -> bool:
        """Have `work` awaited in its turn; False if there is no room. `work` mustn't raise."""
        with self._lock:
            if len(self._queue) >= MAX_WAITING or self._bytes + size_bytes > MAX_WAITING_BYTES:
                return False
            self._queue.append((owner, work, size_bytes))
            self._bytes += size_bytes
            begin = self._begins()
        if begin is not None:
            self._start(begin)
        return True

    def waiting(self, owner: object) -> int:
        """How many of `owner`'s wait."""
        with self._lock:
            return sum(1 for other, _, _ in self._queue if other is owner)

    async def drain(self) -> None:
        """Wait until there is nothing left."""
        done: Future[None] = Future()
        with self._lock:
            if not self._queue and self._loop is None:
                return
            self._empty.append(done)
            begin = self._begins()
        if begin is not None:
            self._start(begin)
        await asyncio.wrap_future(done)

    def _begins(self) -> asyncio.AbstractEventLoop | None:
        """The loop to start a task on, unless one is at work already. With the lock held."""
        at_work = self._loop
        if at_work is not None and not at_work.is_closed() and at_work.is_running():
            return None
        # None works, or it did so on a loop that stands still or is gone: another takes over.
        self._task = None
        self._loop = self._new_loop() if self._new_loop is not None else asyncio.get_running_loop()
        return self._loop

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        def start() -> None:
            if self._loop is loop and self._task is None:
                self._task = loop.create_task(self._work())

        if self._new_loop is None:
            start()
        else:
            loop.call_soon_threadsafe(start, context=contextvars.Context())  # whoever came first isn't all of them

    async def _work(self) -> None:
        me = asyncio.current_task()
        item = None
        try:
            while True:
                with self._lock:
                    if self._task is not me:
                        return  # somebody took over
                    if not self._queue:
                        self._rest()
                        return
                    item = self._queue.popleft()
                    self._bytes -= item[2]
                await item[1]()
                item = None
        except BaseException:  # cancelled, as its loop ends: what is left waits for the next, this one first
            with self._lock:
                if item is not None:
                    self._queue.appendleft(item)
                    self._bytes += item[2]
                if self._task is me:
                    self._rest()
            raise

    def _rest(self) -> None:
        self._loop = self._task = None
        for future in self._empty:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        self._empty.clear()
