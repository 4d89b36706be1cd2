"""The output and displays of plugins, in the cell that called them (host).

A sink is called on the watchdog's thread, or that of a call's displays. It writes inside a copy of the calling
cell's context, where ipykernel
(from 6.29 on) stores the cell's identity, so late text too appears below that cell. The kernel's streams buffer and
send a few times a second; a terminal is written at once.
"""

from __future__ import annotations

import contextvars
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from IPython.core.interactiveshell import InteractiveShell

from agentplug.contract.display import DisplayRecord
from agentplug.report.stream_text import StreamText, cut_off

BURST_CHARACTERS = 512 * 1024
CHARACTERS_A_SECOND = 128 * 1024
"""The text that all calls of a session may write into the page and the notebook's file."""
BURST_DISPLAYS, DISPLAYS_A_SECOND = 300, 10
BURST_DISPLAY_BYTES, DISPLAY_BYTES_A_SECOND = 48 << 20, 2 << 20
"""The displays that they may add, by number and by size."""

_CUT_NOTE = "\n[agentplug: more was printed than a notebook should carry; the run's stdout and stderr have it]\n"


class Allowance:
    """A number (of characters, displays or bytes) that grows as time passes, up to `burst`; shared by all cells."""

    def __init__(self, burst: int = BURST_CHARACTERS, a_second: int = CHARACTERS_A_SECOND) -> None:
        self._burst, self._a_second = burst, a_second
        self._left: float = burst
        self._at_s = time.monotonic()
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        """Take up to `wanted`; return how many may be had now."""
        with self._lock:
            now_s = time.monotonic()
            self._left = min(self._burst, self._left + (now_s - self._at_s) * self._a_second)
            self._at_s = now_s
            granted = min(wanted, int(self._left))
            self._left -= granted
            return granted


class CellSink:
    """Writes one call's output into the cell that was running when the sink was made."""

    def __init__(self, allowance: Allowance, displays: Allowance, display_bytes: Allowance) -> None:
        self._streams: dict[str, TextIO] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._context = contextvars.copy_context()
        self._texts = {name: StreamText() for name in self._streams}
        self._allowance = allowance
        self._displays = displays
        self._display_bytes = display_bytes
        self._ids = ""
        self._cut = self._is_full = False

    def __call__(self, name: str, text: str) -> None:
        """Write `text`, made harmless, to the stream `name`; at the end of the allowance write a note and stop."""
        if self._cut:
            return
        visible = self._texts[name]
        output = visible.add(text) if text else visible.end()
        granted = self._allowance.take(len(output))  # what was escaped is longer
        if granted < len(output):
            self._cut = True
            output = cut_off(output, granted) + _CUT_NOTE
        if not output:
            return
        try:
            self._context.run(self._streams[name].write, output)
        except (OSError, ValueError):  # the stream was closed meanwhile; the run has the text
            self._cut = True

    def show(self, display: DisplayRecord, key: str, update: bool) -> None:
        """Show a display, or update it, while the allowance lasts; the run has it in any case."""
        size = display.size_bytes()
        if self._is_full or not (update or self._displays.take(1)) or self._display_bytes.take(size) < size:
            if not self._is_full:
                self._is_full = True
                self.note("more was displayed than a notebook should carry; run.displays has it")
            return
        from agentplug.report.displays import bundle

        self._ids = self._ids or f"agentplug-{secrets.token_hex(8)}"
        self._context.run(_publish, bundle(display), f"{self._ids}-{key}", update)

    def note(self, text: str) -> None:
        """Write a line of ours into the cell."""
        self._context.run(self._streams["stderr"].write, f"[agentplug: {text}]\n")


def _publish(data: dict[str, object], display_id: str, update: bool) -> None:
    InteractiveShell.instance().display_pub.publish(data, {}, transient={"display_id": display_id}, update=update)


def sink_maker() -> Callable[[], CellSink]:
    """Return a function that makes a sink for each call, for `stream_to`."""
    text = Allowance()
    displays = Allowance(BURST_DISPLAYS, DISPLAYS_A_SECOND)
    display_bytes = Allowance(BURST_DISPLAY_BYTES, DISPLAY_BYTES_A_SECOND)
    return lambda: CellSink(text, displays, display_bytes)
