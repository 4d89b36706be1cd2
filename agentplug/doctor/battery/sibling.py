"""A well-behaved plugin, the target of others (worker side); it has a note in its memory and in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SiblingPlugin:
    """Returns its note as it is in memory and in the scratch directory."""

    name = "sibling"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Store the note."""
        self._note: str = config["note"]
        Path("note.txt").write_text(self._note)

    async def process(self, input_data: Any) -> Any:
        """Return the note from memory and from the file, the file names, and the input."""
        return {
            "memory": self._note,
            "file": Path("note.txt").read_text(),
            "files": sorted(os.listdir(".")),
            "echo": input_data,
        }
