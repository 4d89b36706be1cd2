"""A time limit that costs nothing if a coroutine never waits (host)."""

from __future__ import annotations

import asyncio
import types
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
        return cast(T, await _rest(coroutine, waits_for, limit))


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waits_for: Any, limit: asyncio.Timeout) -> Generator[Any, Any, Any]:
    """Run the rest of a coroutine that has started, and waits for `waits_for`."""
    cancelled = _cancelled()
    while True:
        thrown = None
        try:
            got = yield waits_for
        except BaseException as error:  # a cancellation, which the coroutine must see
            thrown = error
        try:
            only_limit = thrown is not None and limit.expired() and _cancelled() == cancelled + 1
            has_result = isinstance(waits_for, asyncio.Future) and waits_for.done() and not waits_for.cancelled()
            if only_limit and has_result:
                coroutine.send(None)  # if the coroutine waits once more, it is too late
            waits_for = coroutine.send(got) if thrown is None else coroutine.throw(thrown)
        except StopIteration as done:
            return done.value


def _cancelled() -> int:
    """Count the pending cancellations of the current task."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
