"""Plugins that never come to an end (worker side)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any


class Spinner:
    """Loops for ever without awaiting anything. In the host's own loop, this would freeze every other plugin.

    Stopped by the watchdog, which reads the worker's CPU clock: `limited:cpu`.
    """

    name = "spinner"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Count, and never stop counting."""
        count = 0
        while True:
            count += 1


class CatastrophicRegex:
    """Spends hours inside one call of C code, where no Python signal handler or trace function gets a turn.

    Stopped by the watchdog, with a SIGKILL that asks nobody: `limited:cpu`.
    """

    name = "catastrophic regex"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Match nested repetitions against a text that almost fits: 2**60 ways to fail."""
        return re.fullmatch(r"(a+)+b", "a" * 60) is not None


class Sleeper:
    """Awaits what never comes, and ignores being cancelled. It uses no CPU at all.

    Stopped by the watchdog's clock: `limited:wall`.
    """

    name = "sleeper"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Wait, and swallow every cancellation."""
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                continue
