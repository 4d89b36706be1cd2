"""Plugins of the doctor, beside those of the zoo (worker side)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class _Probe:
    name = "probe"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Set up nothing."""


class Inventory(_Probe):
    """Returns its whole environment: `completed`."""

    async def process(self, input_data: Any) -> Any:
        """Return the variables of Python and of the kernel, as `NAME=value`."""
        kernels = Path("/proc/self/environ").read_bytes().decode(errors="replace").split("\0")
        return [*(f"{name}={value}" for name, value in os.environ.items()), *filter(None, kernels)]


class Locksmith(_Probe):
    """Opens a file that was granted but has mode 000, as only root's powers can: `failed:PermissionError`."""

    async def process(self, input_data: Any) -> Any:
        """Return the content of the file `input_data`."""
        return Path(input_data).read_text()
