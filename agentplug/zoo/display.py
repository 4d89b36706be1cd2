"""Plugins that attack whoever looks at them (worker side)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Impostor:
    """Bears a name that would run a script in a notebook, and recolour a terminal.

    Stopped wherever text from a plugin is shown: it is escaped, and shows as what it is. The call itself is harmless:
    `completed`.
    """

    name = "<svg onload=x>\x1b[32m"
    version = "<script>alert(1)</script>"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Nothing to set up."""

    async def process(self, input_data: Any) -> Any:
        """Print what steers a terminal, and return what steers a page."""
        print("\x1b]0;owned\x07\x1b[2J\x1b[H<script>alert(1)</script>")
        return "<script>alert(1)</script>"
