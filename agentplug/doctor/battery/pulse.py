"""How long this process's loop was held up (host)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

_TICK_S = 0.005


class Pulse:
    """Keeps the longest time for which this loop was held up: what ticks came late, less the wait for a processor."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._due_s, self._queued_s = time.monotonic(), _queued_s()

    def begin(self) -> None:
        """Count from here on."""
        self._longest_s = 0.0
        self._due_s, self._queued_s = time.monotonic() + _TICK_S, _queued_s()

    @property
    def longest_s(self) -> float:
        """Since `begin`, a hold-up that has just ended included."""
        late_s = time.monotonic() - self._due_s - (_queued_s() - self._queued_s)
        self._longest_s = max(self._longest_s, late_s)
        return self._longest_s

    async def beat(self) -> None:
        """Tick, and note how late."""
        while True:
            self._due_s, self._queued_s = time.monotonic() + _TICK_S, _queued_s()
            await asyncio.sleep(_TICK_S)
            _ = self.longest_s


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[Pulse]:
    """A pulse of the running loop, from here to the end of the block."""
    pulse = Pulse()
    task = asyncio.create_task(pulse.beat())
    try:
        yield pulse
    finally:
        task.cancel()


def _queued_s() -> float:
    """Seconds that this thread has waited for a processor, from schedstat(5) of its task."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
