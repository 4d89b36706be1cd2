"""What plugins print, written into the cell that called them (host).

A sink is called on the watchdog's thread. It writes inside a copy of the calling cell's context, where ipykernel
(from 6.29 on) keeps the cell's identity, so the text lands in that cell however late it comes, and nobody else's
output moves. The kernel's streams buffer and send a few times a second; a terminal is written at once.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from agentplug.contract.text import printable

BURST_CHARACTERS = 512 * 1024
CHARACTERS_A_SECOND = 128 * 1024

_TOLD = "\n[agentplug: more was printed than a notebook should carry; the run's stdout and stderr have it]\n"


class Allowance:
    """A bucket of characters that refills as time passes, shared by all cells of a session."""

    def __init__(self, burst: int = BURST_CHARACTERS, a_second: int = CHARACTERS_A_SECOND) -> None:
        self._burst, self._a_second = burst, a_second
        self._left: float = burst
        self._at_s = time.monotonic()
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        """How many of `wanted` characters may be written now."""
        with self._lock:
            now_s = time.monotonic()
            self._left = min(self._burst, self._left + (now_s - self._at_s) * self._a_second)
            self._at_s = now_s
            granted = min(wanted, int(self._left))
            self._left -= granted
            return granted


class CellSink:
    """Writes one call's output into the cell that was running when this was made."""

    def __init__(self, allowance: Allowance) -> None:
        self._streams: dict[str, TextIO] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._context = contextvars.copy_context()
        self._allowance = allowance
        self._cut = False

    def __call__(self, name: str, text: str) -> None:
        """Write `text` to the stream `name`, made harmless; past the allowance it says so, once, and stops."""
        if self._cut:
            return
        granted = self._allowance.take(len(text))
        shown = harmless(text[:granted])
        if granted < len(text):
            self._cut = True
            shown += _TOLD
        try:
            self._context.run(self._write, self._streams[name], shown)
        except (OSError, ValueError):  # that stream was closed meanwhile: the text is in the run
            self._cut = True

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        stream.write(text)


def harmless(text: str) -> str:
    """`text` with its lines and tabs, and everything else that steers a display made visible."""
    return "\n".join(
        part if part.isprintable() else printable(part, len(part), lines=True) for part in text.split("\n")
    )


def sink_maker() -> Callable[[], CellSink]:
    """For `stream_to`: a sink for each call."""
    allowance = Allowance()
    return lambda: CellSink(allowance)
