"""Plugins that take down the process they run in, or the one that started it (worker side)."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from typing import Any


class HostKiller:
    """Kills its parent, or the process whose id it is given: the notebook's kernel, say.

    Stopped by seccomp, which lets a worker's signals reach that worker alone: `failed:PermissionError`.
    """

    name = "host killer"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Send SIGKILL to process `input_data`, or else to the parent."""
        os.kill(input_data if isinstance(input_data, int) else os.getppid(), signal.SIGKILL)
        return "killed"


class Quitter:
    """Ends its process at once, without a word, as a plugin in the host would end the notebook's kernel.

    Nothing needs to stop it: the worker is its own, and the host sees how it ended: `died:exit 3`.
    """

    name = "quitter"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Leave through `os._exit`, past every `finally` and `except`."""
        os._exit(3)


class Segfaulter:
    """Reads address zero through ctypes, as a defect in any compiled package might.

    Nothing needs to stop it: the kernel ends the worker, and the host goes on: `died:SIGSEGV`.
    """

    name = "segfaulter"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Follow a null pointer."""
        return ctypes.string_at(0)
