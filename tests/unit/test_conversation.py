"""Waiting for our own loop from everywhere but from itself."""

from __future__ import annotations

import asyncio

import pytest

from agentplug.sandbox.conversation import our_loop, wait_for


def test_waiting_on_our_own_loop_is_refused_and_does_not_hang() -> None:
    """A callback that runs there gets an error with the remedy, where waiting would never end."""

    async def inside() -> None:
        wait_for(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="await run or close here"):
        asyncio.run_coroutine_threadsafe(inside(), our_loop()).result(10)
