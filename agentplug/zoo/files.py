"""Plugins that read what isn't theirs, or fill what is (worker side)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Snoop:
    """Reads the private keys of whoever started the notebook, then would send them home.

    HOME leads it to its own scratch directory, so it asks the password database for the real one. Stopped by
    Landlock, which shows a plugin no files beside the interpreter's: `failed:PermissionError`.
    """

    name = "snoop"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Read the key that `input_data` names, or every file of `~/.ssh`."""
        if isinstance(input_data, str):
            return Path(input_data).read_text()
        folder = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh"
        return {path.name: path.read_text() for path in folder.iterdir()}


class DiskFiller:
    """Writes to its scratch directory until the disk is full.

    Stopped by a file size limit and, where the machine allows one, a sized tmpfs; elsewhere by the watchdog, which
    counts the directory: `limited:disk`.
    """

    name = "disk filler"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Write file after file of 1 MiB."""
        written = 0
        while True:
            written += Path(f"filling-{written}").write_bytes(b"x" * (1 << 20))
