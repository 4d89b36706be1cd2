"""Read a worker's stdout and stderr (host): store them up to a bound, count the rest, never block the plugin.

Displays come through the channel, output through pipes. A display says how many bytes of output were written before
it, so both are passed on in that order: what is read from a pipe waits until the channel has been read too.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentplug.core.host.displays import RawDisplay, Relay

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
        self._relay: Relay | None = None
        self._channel_reader: Callable[[], Callable[[], object] | None] = lambda: None  # a weak reference
        self._read_bytes = dict.fromkeys(self.fds.values(), 0)  # since the worker started
        self._reset()

    def _reset(self) -> None:
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._waiting: dict[str, bytes] = {"stdout": b"", "stderr": b""}  # read, and not passed on yet
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in self._texts}
        self._room = self._most_bytes
        self._count = 0

    @property
    def count(self) -> int:
        """Bytes since the last call. Waits for the watchdog if it is reading a pipe."""
        with self._lock:
            return self._count

    def read_channel_with(self, reader: Callable[[], Callable[[], object] | None]) -> None:
        """Set a weak reference to the function that reads the channel."""
        self._channel_reader = reader

    def begin(self, sink: Sink | None) -> None:
        """Begin a call; `sink` gets its output as it comes."""
        with self._lock:
            if self._count:
                self._reset()
            self._sink = sink
            self._relay = None

    def drain(self, fd: int) -> bool:
        """Read what is there now, without waiting and within bounds. Return False at the end of the stream."""
        with self._lock:
            goes_on = self._drain(fd)
            has_more = self._sink is not None and any(self._waiting.values())
        if has_more and (read := self._channel_reader()) is not None:
            read()  # displays that were sent before this output
        self.show_rest()
        return goes_on

    def show_rest(self) -> None:
        """Pass on all output that was read."""
        with self._lock:
            for name in self._waiting:
                self._pass_on(name)

    def pass_on_to(self, maker: Callable[[Sink | None], Relay]) -> Relay:
        """Put a relay between this call's output and its sink, and return it."""
        with self._lock:
            relay = self._relay = maker(self._sink)
            if self._sink is not None:
                self._sink = relay
            return relay

    def place(self, raw: RawDisplay, written: Sequence[int]) -> None:
        """Pass a display on, after so many bytes of stdout and stderr."""
        with self._lock:
            for fd in self.fds:
                self._drain(fd)
            for name, before in zip(self._waiting, written, strict=True):
                behind = self._read_bytes[name] - before
                self._pass_on(name, max(0, len(self._waiting[name]) - max(0, behind)))
            if self._relay is not None:
                self._relay.show(raw)

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
            self._read_bytes[name] += len(data)
            if self._room > 0:
                data_in_room = data[: self._room]
                self._room -= len(data_in_room)
                self._waiting[name] += data_in_room
            if len(data) > _CHUNK // 2:
                self._widen(fd)
            if len(data) < _CHUNK:
                return True
        return True

    def _pass_on(self, name: str, most: int | None = None) -> None:
        """Decode what waits, or its first `most` bytes: store it and show it."""
        data = self._waiting[name][:most]
        if data:
            self._waiting[name] = self._waiting[name][len(data) :]
            text = self._decoders[name].decode(data)
            self._texts[name].append(text)
            if self._sink is not None and text:
                self._show(self._sink, name, text)

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
                    self._pass_on(name)
                    if self._sink is not None:
                        self._show(self._sink, name, "")
            self._sink = self._relay = None
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
