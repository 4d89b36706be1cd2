"""The longest delay of this process's loop (host)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

_TICK_S = 0.005


class Pulse:
    """Measures the longest delay of the running loop: how late its ticks come, less waits for a processor."""

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._due_s, self._queued_s = time.monotonic(), queued_s()

    def begin(self) -> None:
        """Measure from now on."""
        self._longest_s = 0.0
        self._expect()

    def _expect(self) -> None:
        """Expect the next tick. To read the waits takes time, which is no delay of the loop's: so it comes first."""
        self._queued_s = queued_s()
        self._due_s = time.monotonic() + _TICK_S

    @property
    def longest_s(self) -> float:
        """The longest delay since `begin`, one that has just ended included, in seconds."""
        waits_s = max(0.0, queued_s() - self._queued_s)  # less than before if a thread has ended
        late_s = time.monotonic() - self._due_s - waits_s
        self._longest_s = max(self._longest_s, late_s)
        return self._longest_s

    async def beat(self) -> None:
        """Tick for ever, and measure the delay of each tick."""
        while True:
            self._expect()
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


def queued_s(pid: int | None = None) -> float:
    """Return the seconds that this process's threads, or those of `pid`, have waited for a processor: schedstat.

    Of all threads, as another one may hold the lock that the loop's waits for.
    """
    total_ns = 0
    for task in Path(f"/proc/{pid or 'self'}/task").iterdir():
        with contextlib.suppress(OSError, IndexError):  # the thread has ended, or the kernel has no such file
            total_ns += int((task / "schedstat").read_text().split()[1])
    return total_ns / 1e9
