"""The longest delay of this process's loop (host)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

_TICK_S = 0.005


class Pulse:
    """Measures the longest delay of the running loop: the lateness of its ticks, less the wait for a processor."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._due_s, self._queued_s = time.monotonic(), _queued_s()

    def begin(self) -> None:
        """Measure from now on."""
        self._longest_s = 0.0
        self._due_s, self._queued_s = time.monotonic() + _TICK_S, _queued_s()

    @property
    def longest_s(self) -> float:
        """The longest delay since `begin`, one that has just ended included, in seconds."""
        late_s = time.monotonic() - self._due_s - (_queued_s() - self._queued_s)
        self._longest_s = max(self._longest_s, late_s)
        return self._longest_s

    async def beat(self) -> None:
        """Tick for ever, and measure the delay of each tick."""
        while True:
            self._due_s, self._queued_s = time.monotonic() + _TICK_S, _queued_s()
            await asyncio.sleep(_TICK_S)
            _ = self.longest_s


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[Pulse]:
    """Run a pulse of the running loop during the block."""
    pulse = Pulse()
    task = asyncio.create_task(pulse.beat())
    try:
        yield pulse
    finally:
        task.cancel()


def _queued_s() -> float:
    """Return the seconds that this thread has waited for a processor, from its task's schedstat file."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
