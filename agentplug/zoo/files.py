"""Plugins that read what isn't theirs, or fill what is (worker side)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Snoop:
    """Reads the private keys of everybody on this machine, to send them home.

    Stopped by Landlock, which opens no file to a plugin but the interpreter's and what the policy grants:
    `failed:PermissionError`. And there is no network to send them over.
    """

    name = "snoop"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Read every file in `.ssh` of the home directory `input_data`, or else of all of them."""
        homes = [Path(input_data)] if isinstance(input_data, str) else [*Path("/home").iterdir(), Path("/root")]
        return {str(key): key.read_text() for home in homes for key in (home / ".ssh").iterdir()}


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
