"""A time limit that costs nothing if a coroutine never waits (host)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar, cast

T = TypeVar("T")


async def within(limit: asyncio.Timeout, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine` under `limit`, which begins when the coroutine first waits.

    A plugin that answers at once never waits, and so saves the 6 microseconds of starting and cancelling a timer.

    After a delay, the loop may see the end of the limit and an answer at the same time. The answer counts, since the
    loop was late and not the plugin.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    async with limit:
        return cast(T, await _Rest(coroutine, waits_for, limit))


class _Rest:
    """The rest of a coroutine that has started, and waits for `waits_for`."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any, limit: asyncio.Timeout) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for
        self._limit = limit
        self._cancelled = _cancelled()

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for, coroutine = self._waits_for, self._coroutine
        while True:
            thrown = None
            try:
                got = yield waits_for
            except BaseException as error:  # a cancellation, which the coroutine must see
                thrown = error
            try:
                if thrown is not None and self._has_result(waits_for):
                    coroutine.send(None)  # if the coroutine waits once more, it is too late
                waits_for = coroutine.send(got) if thrown is None else coroutine.throw(thrown)
            except StopIteration as done:
                return done.value

    def _has_result(self, waits_for: Any) -> bool:
        """Return True if only the limit interrupted, and the result was there already."""
        if not self._limit.expired() or _cancelled() != self._cancelled + 1:
            return False
        return isinstance(waits_for, asyncio.Future) and waits_for.done() and not waits_for.cancelled()


def _cancelled() -> int:
    """Count the pending cancellations of the current task."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
