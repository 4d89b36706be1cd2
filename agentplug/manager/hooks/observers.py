"""Queues of messages for observers (host): one bounded queue for each, and one task that empties it.

`put` never waits; a message that doesn't fit is dropped and counted. A plugin's queue is emptied on this package's
own loop in another thread, so that its calls don't slow down the agent's loop; a callback's queue on the loop that
`put` was called on, since the callback may be bound to that loop.
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
    """A queue for one observer, in order. `loop` returns the loop to work on; None means the running one."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._new_loop = loop
        self._lock = threading.Lock()
        self._queue: deque[tuple[Any, Callable[[], Awaitable[None]], int]] = deque()
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop of the task, if there is one
        self._task: asyncio.Task[None] | None = None
        self._empty: list[Future[None]] = []

    def put(self, owner: object, work: Callable[[], Awaitable[None]], size_bytes: int) -> bool:
        """Queue `work` to be awaited in its turn; return False if there is no room. `work` mustn't raise."""
        with self._lock:
            if len(self._queue) >= MAX_WAITING or self._bytes + size_bytes > MAX_WAITING_BYTES:
                return False
            self._queue.append((owner, work, size_bytes))
            self._bytes += size_bytes
            begin = self._loop_to_start()
        if begin is not None:
            self._start(begin)
        return True

    def waiting(self, owner: object) -> int:
        """Count the messages of `owner` that wait."""
        with self._lock:
            return sum(1 for other, _, _ in self._queue if other is owner)

    async def drain(self) -> None:
        """Wait until the queue is empty."""
        done: Future[None] = Future()
        with self._lock:
            if not self._queue and self._loop is None:
                return
            self._empty.append(done)
            begin = self._loop_to_start()
        if begin is not None:
            self._start(begin)
        await asyncio.wrap_future(done)

    def _loop_to_start(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop to start a task on, or None if a task works already. The caller holds the lock."""
        current = self._loop
        if current is not None and not current.is_closed() and current.is_running():
            return None
        # There is no task, or its loop stopped or was closed: start another.
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
            # In an empty context, since the task serves all callers and not only this one.
            loop.call_soon_threadsafe(start, context=contextvars.Context())

    async def _work(self) -> None:
        me = asyncio.current_task()
        item = None
        try:
            while True:
                with self._lock:
                    if self._task is not me:
                        return  # another task took over
                    if not self._queue:
                        self._finish()
                        return
                    item = self._queue.popleft()
                    self._bytes -= item[2]
                await item[1]()
                item = None
        except BaseException:  # cancelled, as its loop ends: leave the rest, this item first, to the next task
            with self._lock:
                if item is not None:
                    self._queue.appendleft(item)
                    self._bytes += item[2]
                if self._task is me:
                    self._finish()
            raise

    def _finish(self) -> None:
        self._loop = self._task = None
        for future in self._empty:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        self._empty.clear()
