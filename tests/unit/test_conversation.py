"""Waiting for our own loop from everywhere but from itself; and letting other tasks in."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentplug.core.host import conversation
from agentplug.core.host.conversation import our_loop, wait_for


def test_waiting_on_our_own_loop_is_refused_and_does_not_hang() -> None:
    """A callback that runs there gets an error with the remedy, where waiting would never end."""

    async def inside() -> None:
        wait_for(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="await run or close here"):
        asyncio.run_coroutine_threadsafe(inside(), our_loop()).result(10)


def test_each_loop_lets_its_own_others_in() -> None:
    """Two loops make quick calls: that one was just let turn is no reason to keep the other from its tasks."""

    async def turned() -> bool:
        others = asyncio.Event()
        asyncio.get_running_loop().call_soon(others.set)
        await conversation._let_others_in()
        return others.is_set()

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as another:
        assert one.submit(asyncio.run, turned()).result()
        assert another.submit(asyncio.run, turned()).result()
