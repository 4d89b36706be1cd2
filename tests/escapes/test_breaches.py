"""What no attack of the zoo can show by itself. A test of what gets through is expected to fail: see `breaches`."""

from __future__ import annotations

import asyncio
import time

import pytest

from agentplug.core.sandboxed import SandboxedPlugin


@pytest.mark.need("landlock", "seccomp")
def test_a_row_of_quick_calls_leaves_the_loop_its_turns() -> None:
    """A plugin that answers within microseconds, called in a row, may not hold up what else runs in that loop."""

    async def row() -> float:
        longest_s = 0.0

        async def tick() -> None:
            nonlocal longest_s
            while True:
                began_s = time.monotonic()
                await asyncio.sleep(0.005)
                longest_s = max(longest_s, time.monotonic() - began_s)

        async with SandboxedPlugin("agentplug.plugins.word_count") as plugin:
            await plugin.run("a word")
            ticking = asyncio.create_task(tick())
            await asyncio.sleep(0.05)
            for _ in range(5000):
                await plugin.run("a word")
            await asyncio.sleep(0.05)
            ticking.cancel()
        return longest_s

    assert asyncio.run(row()) < 0.05
