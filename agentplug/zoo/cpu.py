"""Plugins that never come to an end, or not in time (worker side)."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from agentplug.zoo._beast import Beast, syscall


class Spinner(Beast):
    """Loops for ever without awaiting anything. In the host's own loop, this would freeze every other plugin.

    Stopped by the watchdog, which reads the worker's CPU clock: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Count, and never stop counting."""
        count = 0
        while True:
            count += 1


class CatastrophicRegex(Beast):
    """Spends hours inside one call of C code, where no Python signal handler or trace function gets a turn.

    Stopped by the watchdog, with a SIGKILL that asks nobody: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Match nested repetitions against a text that almost fits: 2**60 ways to fail."""
        return re.fullmatch(r"(a+)+b", "a" * 60) is not None


class Sleeper(Beast):
    """Awaits what never comes, and ignores being cancelled. It uses no CPU at all.

    Stopped by the watchdog's clock: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Wait, and swallow every cancellation."""
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue


class BlockedLoop(Beast):
    """Sleeps without awaiting, so that its own loop stands still and no timeout within it can fire.

    Stopped by the watchdog's clock, which is not in that loop: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Sleep for an hour."""
        time.sleep(3600)  # noqa: ASYNC251


class ThreadSpinner(Beast):
    """Works in threads that give up the interpreter's lock, so that every processor of the machine is busy.

    Stopped by the watchdog; the clock it reads is that of all threads together: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Hash for ever, eight times at once."""

        def work() -> None:
            while True:
                hashlib.sha256(bytes(1 << 20)).digest()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class HugeInteger(Beast):
    """Computes a number of which the first digit would take a week, in one C call.

    Stopped by the watchdog: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise 3 to the power of two million, and the result to that of a thousand."""
        return len(str((3**2_000_000) ** 1000))


class HashCollider(Beast):
    """Fills a dict with keys that all have one hash, so that each has to be compared with all before it.

    Stopped by the watchdog, while it does that to itself: `limited:cpu`. The host refuses such a dict as a reply.
    """

    async def process(self, input_data: Any) -> Any:
        """Build a dict of 100,000 multiples of 2**61 - 1."""
        return len(dict.fromkeys(key * ((1 << 61) - 1) for key in range(100_000)))


class SlowStarter(Beast):
    """Spins in `initialize`, before there is any call to limit.

    Stopped as in a call, under the same limits: `limited:cpu`.
    """

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Never be ready."""
        while True:
            pass

    async def process(self, input_data: Any) -> Any:
        """Never reached."""
        return "ready"


class LateSpinner(Beast):
    """Answers like a good plugin, and leaves a thread that spins when nobody is looking any more.

    The answer counts: `completed`. The watchdog ends a worker that uses CPU between calls, and closing it ends it
    anyway.
    """

    async def process(self, input_data: Any) -> Any:
        """Return at once."""

        def spin() -> None:
            while True:
                pass

        threading.Thread(target=spin, daemon=True).start()
        return "done"


class Revenant(Beast):
    """Ends its first thread alone, so that its process looks dead to the system and goes on all the same.

    Stopped because what can't be measured must go: `died:SIGKILL`.
    """

    async def process(self, input_data: Any) -> Any:
        """Leave a sleeping thread behind, and let the first one exit by itself."""
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return syscall("exit", 0)
