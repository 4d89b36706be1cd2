"""Plugins that take more memory than they were given, in three ways (worker side)."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any

_MIB = 1 << 20


class Hoarder:
    """Keeps every megabyte it can get on its heap: what a leak does, only faster.

    Stopped by the watchdog, which reads the worker's footprint in the kernel: `limited:memory`.
    """

    name = "hoarder"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Fill `input_data` MiB (4,096 unless a number is given) and never give one back."""
        most = input_data if isinstance(input_data, int) else 4096
        held = []
        for _ in range(most):
            held.append(bytearray(b"x") * _MIB)
        return len(held)


class SharedHoarder:
    """Takes anonymous shared memory, which the usual limit on a process's data (RLIMIT_DATA) doesn't count.

    Stopped all the same, because the watchdog counts every resident page: `limited:memory`.
    """

    name = "shared hoarder"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Map and fill 4 GiB in blocks of 8 MiB."""
        held = []
        for _ in range(512):
            block = mmap.mmap(-1, 8 * _MIB)
            for _ in range(8):
                block.write(b"x" * _MIB)
            held.append(block)
        return len(held)


class HiddenHoarder:
    """Writes into a memory file that it never maps, so that no process's footprint shows it.

    Stopped by seccomp, which refuses `memfd_create` as the kernel refuses memory: `limited:memory`.
    """

    name = "hidden hoarder"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Write 4 GiB into a memfd."""
        fd = os.memfd_create("hidden")
        return sum(os.write(fd, b"x" * _MIB) for _ in range(4096))
