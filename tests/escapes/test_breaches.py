"""What no attack of the zoo can show by itself. A test of what gets through is expected to fail: see `breaches`."""

from __future__ import annotations

import asyncio

import pytest

from agentplug.core.sandboxed import SandboxedPlugin

CALLS, MOST_IN_A_ROW = 3_000, 300


@pytest.mark.need("landlock", "seccomp")
def test_a_row_of_quick_calls_leaves_the_loop_its_turns() -> None:
    """A plugin that answers within microseconds, called in a row, may not hold up what else runs in that loop.

    Counted in calls from one turn to the next, which a busy machine only makes fewer.
    """

    async def longest_row() -> int:
        rows = [0]

        async def turn() -> None:
            while True:
                rows.append(0)
                await asyncio.sleep(0)

        async with SandboxedPlugin("agentplug.plugins.word_count") as plugin:
            await plugin.run("a word")
            turning = asyncio.create_task(turn())
            for _ in range(CALLS):
                await plugin.run("a word")
                rows[-1] += 1
            turning.cancel()
        return max(rows)

    assert asyncio.run(longest_row()) < MOST_IN_A_ROW
