"""Read a worker's stdout and stderr (host): store them up to a bound, count the rest, never block the plugin."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable

if sys.platform == "linux":  # missing elsewhere
    import fcntl

Sink = Callable[[str, str], None]
"""Called with the stream's name (stdout, stderr) and its next text, on the watchdog's thread; with "" at its end."""

_CHUNK = 1 << 16  # also what a pipe takes before its writer waits
_WIDE = 1 << 18
_MOST_AT_ONCE = 1 << 20


class Output:
    """The two pipes of one worker. `take` ends the output of one call."""

    def __init__(self, stdout: int, stderr: int, most_bytes: int) -> None:
        self.fds = {stdout: "stdout", stderr: "stderr"}
        self._most_bytes = most_bytes
        self._wide: set[int] = set()
        self._lock = threading.Lock()
        self._sink: Sink | None = None
        self._reset()

    def _reset(self) -> None:
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self._texts}
        self._room = self._most_bytes
        self._count = 0

    @property
    def count(self) -> int:
        """Bytes since the last call. Waits for the watchdog if it is reading a pipe."""
        with self._lock:
            return self._count

    def begin(self, sink: Sink | None) -> None:
        """Begin a call; `sink` gets its output as it comes."""
        with self._lock:
            if self._count:
                self._reset()
            self._sink = sink

    def drain(self, fd: int) -> bool:
        """Read what is there now, without waiting and within bounds. Return False at the end of the stream."""
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
                data_in_room = data[: self._room]
                self._room -= len(data_in_room)
                text = self._decoders[name].decode(data_in_room)
                self._texts[name].append(text)
                if self._sink is not None and text:
                    self._show(self._sink, name, text)
            if len(data) > _CHUNK // 2:
                self._widen(fd)
            if len(data) < _CHUNK:
                return True
        return True

    def _widen(self, fd: int) -> None:
        """Make a pipe wider once its writer nearly fills it, so that it needn't wait for the watchdog."""
        if fd not in self._wide:
            self._wide.add(fd)
            with contextlib.suppress(OSError):  # this user's pipes hold too much already
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _WIDE)

    def _show(self, sink: Sink, name: str, text: str) -> None:
        """Call the sink. One that raises gets nothing more of this call, which goes on."""
        try:
            sink(name, text)
        except Exception:
            self._sink = None
            traceback.print_exc()

    def take(self) -> tuple[str, str, int, int]:
        """Return stdout, stderr, bytes in all and bytes dropped. Later output belongs to the next call."""
        with self._lock:
            for fd in self.fds:
                self._drain(fd)
            if self._count:
                for name in self._texts:
                    if self._sink is not None:
                        self._show(self._sink, name, "")
            self._sink = None
            if not self._count:
                return "", "", 0, 0
            texts = ["".join(self._texts[n]) + self._decoders[n].decode(b"", True) for n in ("stdout", "stderr")]
            count, dropped = self._count, max(0, self._count - self._most_bytes)
            self._reset()
            return texts[0], texts[1], count, dropped

    def abandon(self) -> None:
        """Close our copies, in a forked child of the host. The lock is new: a thread may have held it at the fork."""
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
    """Return the sink for a call that begins here: a notebook's cell, or None."""
    return _sink_maker()


def stream_to(maker: Callable[[], Sink | None] | None) -> None:
    """Let `maker` choose the sink of each call from now on; None for no streaming."""
    global _sink_maker
    _sink_maker = maker or (lambda: None)
