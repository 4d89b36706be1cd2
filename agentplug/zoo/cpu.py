"""Plugins that never end, or not in time (worker side)."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

from agentplug.zoo._base import ZooPlugin, spin, syscall


class Spinner(ZooPlugin):
    """Loops for ever without awaiting anything. In the host's own loop, this would freeze every other plugin.

    Stopped by the watchdog, which reads the worker's CPU clock: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Count, and never stop counting."""
        count = 0
        while True:
            count += 1


class CatastrophicRegex(ZooPlugin):
    """Spends hours inside one call of C code, where no Python signal handler or trace function runs.

    Stopped by the watchdog with SIGKILL: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Match nested repetitions against a text that almost fits: 2**60 ways to fail."""
        return re.fullmatch(r"(a+)+b", "a" * 60) is not None


class Sleeper(ZooPlugin):
    """Awaits a future that is never done, and ignores cancellations. It uses no CPU at all.

    Stopped by the watchdog's clock: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Wait, and ignore each cancellation."""
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue


class BlockedLoop(ZooPlugin):
    """Sleeps without awaiting, so that its own loop is blocked and no timeout in it can fire.

    Stopped by the watchdog, whose clock is not in that loop: `limited:wall`.
    """

    async def process(self, input_data: Any) -> Any:
        """Sleep for an hour."""
        time.sleep(3600)  # noqa: ASYNC251


class ThreadSpinner(ZooPlugin):
    """Works in threads that release the interpreter's lock, so that every processor of the machine is busy.

    Stopped by the watchdog, whose clock counts all threads together: `limited:cpu`.
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


class HugeInteger(ZooPlugin):
    """Computes a number in one C call that would take a week.

    Stopped by the watchdog: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise 3 to the power of two million, and the result to that of a thousand."""
        return len(str((3**2_000_000) ** 1000))


class HashCollider(ZooPlugin):
    """Fills a dict with keys that all have the same hash, so that each is compared with all earlier ones.

    Stopped by the watchdog: `limited:cpu`. As a reply, such a dict is refused.
    """

    async def process(self, input_data: Any) -> Any:
        """Build a dict of 100,000 multiples of 2**61 - 1."""
        return len(dict.fromkeys(key * ((1 << 61) - 1) for key in range(100_000)))


class SlowStarter(ZooPlugin):
    """Spins in `initialize`, before there is any call to limit.

    Stopped by the watchdog, under the limits of a call: `limited:cpu`.
    """

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Loop for ever."""
        spin()

    async def process(self, input_data: Any) -> Any:
        """Return at once. No call gets here."""
        return "ready"


class LateSpinner(ZooPlugin):
    """Answers like a good plugin, and leaves a thread that spins after the call.

    The answer counts: `completed`. The watchdog ends a worker that uses CPU between calls.
    """

    async def process(self, input_data: Any) -> Any:
        """Start the thread and return."""
        threading.Thread(target=spin, daemon=True).start()
        return "done"


class Revenant(ZooPlugin):
    """Ends only its main thread, so that its process looks dead but goes on.

    Stopped by the watchdog, because such a process can't be measured: `died:SIGKILL`.
    """

    async def process(self, input_data: Any) -> Any:
        """Start a sleeping thread, and exit the main one alone."""
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return syscall("exit", 0)
