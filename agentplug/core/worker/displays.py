"""Send what a call displays, within bounds, in order with its output (worker side).

`showing` finds the form of an object and is loaded with the first display. A frame goes out before the answer of its
call and never after: what a thread, a task or a finalizer of an earlier call displays is dropped.
"""

from __future__ import annotations

import contextvars
import io
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agentplug.contract.display import (
    MAX_DISPLAY_BYTES,
    MAX_DISPLAY_FRAMES,
    MAX_DISPLAYS,
    MAX_DISPLAYS_BYTES,
)
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import pack, write_frame

_HEAD_BYTES = 512  # of a frame, beside its body and blobs
_NONE = -1
_call_of: contextvars.ContextVar[int] = contextvars.ContextVar("agentplug_call", default=_NONE)


class CountedText(io.TextIOWrapper):
    """A text stream that counts the bytes written to it."""

    count = 0

    def write(self, text: str, /) -> int:
        """Write `text`. The count is late by one piece if an interrupt comes here, never the text."""
        written = super().write(text)
        self.count += len(text) if text.isascii() else len(text.encode("utf-8", "backslashreplace"))
        return written


def counted_stream(fd: int) -> CountedText:
    """Open a line-buffered text stream on a descriptor that stays open."""
    binary = open(fd, "wb", closefd=False)  # noqa: SIM115
    return CountedText(binary, encoding="utf-8", errors="backslashreplace", line_buffering=True)


class Displays:
    """The displays of the call under way, as frames."""

    def __init__(self, sock: socket.socket, streams: tuple[CountedText, CountedText], reply_bytes: int) -> None:
        self._sock = sock
        self._streams = streams
        self._most_bytes = min(MAX_DISPLAY_BYTES, reply_bytes - _HEAD_BYTES)
        self._lock = threading.RLock()
        self._sender = 0  # the thread that is sending
        self._interrupted = False
        self._earlier_threads: Sequence[threading.Thread] = ()
        self.call = _NONE
        self.is_before_calls = True
        self._names: set[str] = set()
        self._count = self._frames = self._bytes = self._dropped = 0

    def begin(self, call: int) -> None:
        """Begin a call. Threads that run now belong to earlier ones."""
        self.call = call
        self.is_before_calls = False
        _call_of.set(call)
        self._earlier_threads = threading.enumerate() if threading.active_count() > 1 else ()

    def end(self) -> None:
        """End the call. Waits for a display that another thread is sending."""
        with self._lock:
            if self._dropped and self.call != _NONE:
                self._write(wire.DisplayBody("", self._written(), dropped=self._dropped), ())
            self.call = _NONE
            if self._frames or self._dropped:
                self._names = set()
                self._count = self._frames = self._bytes = self._dropped = 0

    @property
    def belongs(self) -> bool:
        """True if the caller's task or thread belongs to the call under way."""
        if self.call == _NONE:
            return False
        call = _call_of.get()
        return call == self.call or (call == _NONE and threading.current_thread() not in self._earlier_threads)

    def send(self, mime: str, body: bytes, blobs: Sequence[Any], name: str, update: bool) -> None:
        """Send one display, or count it if it is beyond the bounds. `name` is its id; see `wire.DisplayBody`."""
        if not self.belongs:
            return
        size = len(body) + sum(memoryview(blob).nbytes for blob in blobs)
        with self._lock:
            if self.call == _NONE or self._sender:
                return  # the call has ended meanwhile; or a finalizer runs within `_write`
            update = update and name in self._names
            if (
                size > self._most_bytes
                or self._bytes + size > MAX_DISPLAYS_BYTES
                or self._frames == MAX_DISPLAY_FRAMES
                or (not update and self._count == MAX_DISPLAYS)
            ):
                self._dropped += 1
                return
            self._bytes += size
            self._frames += 1
            self._count += not update
            self._names.add(name)
            of_kind: Any = mime  # the host refuses any other than `Kind`
            self._write(wire.DisplayBody(of_kind, self._written(), name, update, 0, body), blobs)

    def _written(self) -> tuple[int, int]:
        for stream in (sys.stdout, sys.stderr, *self._streams):
            try:
                stream.flush()
            except Exception:
                continue  # the plugin replaced or closed it
        return self._streams[0].count, self._streams[1].count

    def _write(self, body: wire.DisplayBody, blobs: Sequence[Any]) -> None:
        """Write a frame whole: an interrupt that comes meanwhile is raised afterwards."""
        self._sender = threading.get_ident()
        try:
            write_frame(self._sock, pack(wire.DISPLAY, self.call, wire.encode_body(body), blobs))
        finally:
            self._sender = 0
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def postpone_interrupt(self) -> bool:
        """Return true if this thread is sending: then the interrupt is raised once that is done."""
        self._interrupted = self._sender == threading.get_ident()
        return self._interrupted


current: Callable[[], Displays]
"""The function that returns this worker's displays, set as it starts."""
