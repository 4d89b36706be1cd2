"""Plugins of the doctor, beside those of the zoo (worker side)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agentplug.zoo._base import ZooPlugin


class Inventory(ZooPlugin):
    """Returns its whole environment: `completed`."""

    async def process(self, input_data: Any) -> Any:
        """Return the variables of Python and of the kernel, as `NAME=value`."""
        kernels = Path("/proc/self/environ").read_bytes().decode(errors="replace").split("\0")
        return [*(f"{name}={value}" for name, value in os.environ.items()), *filter(None, kernels)]


class Locksmith(ZooPlugin):
    """Opens a file that was granted but has mode 000, as only root's powers can: `failed:PermissionError`."""

    async def process(self, input_data: Any) -> Any:
        """Return the content of the file `input_data`."""
        return Path(input_data).read_text()
