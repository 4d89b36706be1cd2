"""The displays of a call as plain data (host), and their bounds (host and worker).

A display is a claim of the plugin: a picture was decoded and encoded again, HTML is only shown in a frame of its own
without scripts, text is escaped where it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agentplug.contract.text import printable

MAX_DISPLAYS = 100
"""The most displays of one call; the others are counted."""
MAX_DISPLAY_FRAMES = 1_000
"""The most displays and updates of displays in one call."""
MAX_DISPLAY_BYTES = 4 << 20
MAX_DISPLAYS_BYTES = 16 << 20
"""The most bytes of one display, and of all displays and updates of one call."""
MAX_TEXT_BYTES, MAX_HTML_BYTES, MAX_JSON_BYTES = 1 << 16, 1 << 18, 1 << 18
MAX_PIXELS = 25_000_000
"""The largest picture."""
MAX_REPR = 2_000
"""The most characters of a last value that is shown by its repr."""

TEXT, HTML, JSON, PNG, JPEG = "text/plain", "text/html", "application/json", "image/png", "image/jpeg"
TABLE = "application/vnd.dataframe"
"""The kind of a display that is a DataFrame."""
Kind = Literal["text/plain", "text/html", "application/json", "image/png", "image/jpeg", "application/vnd.dataframe"]
PICTURES = (PNG, JPEG)
MOST_BYTES = {TEXT: MAX_TEXT_BYTES, HTML: MAX_HTML_BYTES, JSON: MAX_JSON_BYTES}
"""The most bytes of a display, for the kinds with a bound of their own."""


@dataclass(frozen=True, slots=True)
class Described:
    """A cell's last value that has no plain form: its type and its repr, in the plugin's words. Claims, not objects.

    `is_displayed` is true if the call has displayed it too, as a picture or the like.
    """

    type: str
    text: str
    is_displayed: bool = False

    def __repr__(self) -> str:
        text = printable(self.text, MAX_REPR, lines=True)
        return f"{text}  [{printable(self.type, 100)}, as the sandbox describes it]"


@dataclass(frozen=True, slots=True, eq=False)
class DisplayRecord:
    """One thing that a call has shown: `mime` is its kind, `data` a str, bytes, a DataFrame or plain JSON values.

    `pixels` is a picture's width and height, as its decoder measured them.
    """

    mime: str
    data: Any
    pixels: tuple[int, int] | None = None

    def size_bytes(self) -> int:
        """Return about how many bytes `data` takes."""
        if isinstance(self.data, (str, bytes)):
            return len(self.data)
        usage = getattr(self.data, "memory_usage", None)
        return int(usage(deep=False).sum()) if usage is not None else MAX_JSON_BYTES
