"""A well-behaved plugin that others are set upon (worker side): it keeps a note in its memory and in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SiblingPlugin:
    """Answers each call with its note, as its memory and as its scratch directory have it."""

    name = "sibling"
    version = "1.0"

    def __init__(self) -> None:
        self._note = ""

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take the note."""
        self._note = config["note"]
        Path("note.txt").write_text(self._note)

    async def process(self, input_data: Any) -> Any:
        """Its note twice, its files, and the input."""
        return {
            "memory": self._note,
            "file": Path("note.txt").read_text(),
            "files": sorted(os.listdir(".")),
            "echo": input_data,
        }
