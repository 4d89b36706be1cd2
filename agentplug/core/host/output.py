"""What a worker prints (host): kept up to a bound, counted beyond it, never in the plugin's way."""

from __future__ import annotations

import codecs
import os
import threading
import traceback
from collections.abc import Callable

Sink = Callable[[str, str], None]
"""Gets the stream's name (stdout, stderr) and its next text, on the watchdog's thread."""

_CHUNK = 1 << 16
_MOST_AT_ONCE = 1 << 20


class Output:
    """The two pipes of one worker. `take` ends a call's share and begins the next."""

    def __init__(self, stdout: int, stderr: int, kept_bytes: int) -> None:
        self.fds = {stdout: "stdout", stderr: "stderr"}
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._sink: Sink | None = None
        self._reset()

    def _reset(self) -> None:
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self._texts}
        self._room = self._kept_bytes
        self._count = 0

    @property
    def count(self) -> int:
        """Bytes that came since the last call, those that the watchdog is just taking off a pipe among them."""
        with self._lock:
            return self._count

    def begin(self, sink: Sink | None) -> None:
        """A call begins; `sink` sees its output as it comes."""
        with self._lock:
            if self._count:
                self._reset()
            self._sink = sink

    def drain(self, fd: int) -> bool:
        """Read what is there now, without waiting and within bounds; False at the end of the stream."""
        with self._lock:
            return self._drain(fd)

    def _drain(self, fd: int) -> bool:
        name = self.fds.get(fd)
        if name is None:
            return False
        for _ in range(_MOST_AT_ONCE // _CHUNK):
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._count += len(data)
            if self._room > 0:
                kept = data[: self._room]
                self._room -= len(kept)
                text = self._decoders[name].decode(kept)
                self._texts[name].append(text)
                if self._sink is not None and text:
                    self._show(self._sink, name, text)
            if len(data) < _CHUNK:
                return True
        return True

    def _show(self, sink: Sink, name: str, text: str) -> None:
        """A sink that raises shows nothing more of this call: that is no reason for the call not to end."""
        try:
            sink(name, text)
        except Exception:
            self._sink = None
            traceback.print_exc()

    def take(self) -> tuple[str, str, int, int]:
        """stdout, stderr, bytes in all, bytes dropped; what comes later belongs to the next call."""
        with self._lock:
            for fd in self.fds:
                self._drain(fd)
            self._sink = None
            if not self._count:
                return "", "", 0, 0
            texts = ["".join(self._texts[n]) + self._decoders[n].decode(b"", True) for n in ("stdout", "stderr")]
            count, dropped = self._count, max(0, self._count - self._kept_bytes)
            self._reset()
            return texts[0], texts[1], count, dropped

    def abandon(self) -> None:
        """In a forked child of the host: close our copies, whoever held the lock when it was forked."""
        self._lock = threading.Lock()
        self.close()

    def close(self) -> None:
        """Close both pipes."""
        with self._lock:
            for fd in self.fds:
                os.close(fd)
            self.fds = {}


_sink_maker: Callable[[], Sink | None] = lambda: None  # noqa: E731


def current_sink() -> Sink | None:
    """Where the output of a call that begins here should be streamed: a notebook's cell, or nowhere."""
    return _sink_maker()


def stream_to(maker: Callable[[], Sink | None] | None) -> None:
    """Let `maker` choose the sink of each call from now on; None for no streaming."""
    global _sink_maker
    _sink_maker = maker or (lambda: None)
