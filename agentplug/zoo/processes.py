"""Plugins that multiply (worker side)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class ForkBomb:
    """Forks, and so does every child of it, until the machine's process table is full.

    Stopped at the first fork by seccomp, which answers as a process limit does: `limited:processes`.
    """

    name = "fork bomb"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Fork without end."""
        while True:
            os.fork()


class Daemon:
    """Forks twice and starts a new session, to live on after the notebook is closed.

    With `Policy(processes=0)` it can't fork at all: `limited:processes`. Where processes are granted, the zygote
    adopts what the dead worker left behind, and ends it.
    """

    name = "daemon"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Leave a grandchild behind that sleeps for an hour."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("/bin/sleep", ["sleep", "3600"])
            os._exit(0)
        return "gone"
