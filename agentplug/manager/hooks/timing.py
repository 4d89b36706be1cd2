"""A time limit that costs nothing where nothing is waited for (host)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar, cast

T = TypeVar("T")


async def within(limit: asyncio.Timeout, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await `coroutine` under `limit`, which begins when it first waits: a plugin that answers at once never does.

    To begin and cancel a timer takes some 6 of the microseconds in which such a plugin is asked.

    A loop that was held up finds at once that the limit is over and that the answer has long been there: that counts
    as an answer, since it is the loop that was late.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    async with limit:
        return cast(T, await _Begun(coroutine, waits_for, limit))


class _Begun:
    """The rest of a coroutine that has begun, and waits for something."""

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
            except BaseException as error:  # a cancellation, for the coroutine to see
                thrown = error
            try:
                if thrown is not None and self._came_anyway(waits_for):
                    coroutine.send(None)  # it goes on; if it waits for more, that is too late
                waits_for = coroutine.send(got) if thrown is None else coroutine.throw(thrown)
            except StopIteration as done:
                return done.value

    def _came_anyway(self, waits_for: Any) -> bool:
        """Whether it was the limit that interrupted, and nobody else, though what is waited for is there."""
        if not self._limit.expired() or _cancelled() != self._cancelled + 1:
            return False
        return isinstance(waits_for, asyncio.Future) and waits_for.done() and not waits_for.cancelled()


def _cancelled() -> int:
    """How many cancellations of the current task aren't done with."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
