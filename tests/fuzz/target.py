"""What the host does with what a worker says, without a worker: read frames, take them, decode them, judge them.

`play` runs the host's own code from the socket to the verdict. Whatever a case holds, `play` returns how it ended;
an exception that comes out of it is one that would have come out into a user's notebook.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from agentplug.contract.policy import Policy
from agentplug.contract.record import SourceInfo
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import FrameReader, Violation
from agentplug.core.boundary.frames import Frame
from agentplug.core.decode import load_error, runs_of
from agentplug.core.displays import decode_display, table_of
from agentplug.core.host.displays import Displays
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.readings import Counters, Memory
from agentplug.core.pictures import Picture
from agentplug.core.run import Run
from agentplug.errors import AgentplugError
from agentplug.report.displays import bundle, card_part
from tests.fuzz.mutations import CALL, NONCE, Case

MAX_REASON = 400
_POLICY = Policy()
_SOURCE = SourceInfo("spec", "file", "sha256:0", "plugin", "1")


class Stream:
    """A socket that holds what a worker sent: as much of it at a time as `chunk` says, then nothing or its end."""

    def __init__(self, data: bytes, chunk: int = 0, eof: bool = False) -> None:
        self._data = memoryview(data)
        self._chunk = chunk
        self._eof = eof

    def recv(self, most: int) -> bytes:
        """As recv(2) on a socket that doesn't block."""
        data = self._data
        if not len(data):
            if self._eof:
                return b""
            raise BlockingIOError
        taken = min(most, self._chunk or most, len(data))
        self._data = data[taken:]
        return bytes(data[:taken])

    def recvmsg(self, most: int, *_: int) -> tuple[bytes, list[Any], int, None]:
        """The same, with no descriptor beside it."""
        return self.recv(most), [], 0, None

    def recv_into(self, buffer: memoryview) -> int:
        """The same into `buffer`."""
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @property
    def empty(self) -> bool:
        """Nothing will come any more."""
        return not len(self._data)


class _Readings:
    """The kernel's word on a worker that isn't there."""

    def __init__(self, waits: bool) -> None:
        self._waits = waits

    def cpu_ns(self) -> int:
        return 1_000_000

    def counters(self, cpu_ns: int, *, hardly_ns: int = 0) -> Counters:
        return Counters(1 << 25, 1, 0, 1, 0, 10, 10)

    def reset_peak(self) -> None:
        return

    def memory(self) -> Memory:
        return Memory(1 << 25, 1 << 25, 1)

    def footprint_bytes(self) -> int:
        return 1 << 25

    def receives_on(self, fd: int) -> bool:
        return self._waits


class _Worker:
    """As much of a worker as judging a run asks for."""

    policy = _POLICY
    barriers = ()
    listener = None
    limits = SimpleNamespace(floor_bytes=-(1 << 30), counts_scratch=True, reserved_bytes=lambda _: 0)
    process = SimpleNamespace(pid=-1, readings=None, scratch="/nowhere", open_scratch="/nowhere")

    def stop(self, by: str) -> None:
        return


_WORKER: Any = _Worker()
_CALLING = Request(wire.CALL)
_LOADING = Request(wire.LOAD)


def play(case: Case, *, look: bool = False, sock: Any = None) -> str:
    """How the host takes `case`: `violation`, `waiting` or `ended` (no whole answer), or the verdicts.

    With `look`, what a notebook would show of the runs is made as well. `sock` stands in for the case's bytes.
    """
    sock = sock or Stream(case.data, case.chunk, case.eof)
    reader = FrameReader(sock, case.reply_bytes, takes_descriptor=case.calls == 0)
    exchange = _exchange(case)
    readings: Any = _Readings(not case.asked)
    try:
        while not exchange.done:
            frame = reader.next()
            if frame is None:
                if reader.eof:
                    return "ended"
                if sock.empty:
                    return "waiting"
                continue
            if exchange.take(frame, readings):
                exchange.settle(readings)
                if exchange.nonce is not None:
                    exchange.nonce = NONCE
    except Violation as violation:
        if not 0 < len(str(violation)) <= MAX_REASON:
            raise AssertionError(f"the reason of a violation has {len(str(violation))} characters") from violation
        return "violation"
    exchange.close()
    if exchange.greeting:
        return _greeted(exchange)
    runs = runs_of(exchange, _WORKER, _SOURCE)
    for record in exchange.records:
        # To decode mustn't need memory that isn't there: a DecodeError would hide that, were it not for its words.
        assert not any("MemoryError" in str(event.detail.get("reason")) for event in record.events), "out of memory"
    if exchange.records[0].answers == _LOAD_ANSWERS:
        _loaded(exchange, runs[0])
    if look:
        _show(runs)
    return " ".join(str(run.verdict) for run in runs)


def _exchange(case: Case) -> Exchange:
    # What is loaded is answered by LOADED, and a report belongs where one was asked for: what a case answers shows
    # in the kind of its first frame.
    first = case.data[1:2] or b"\0"
    request = _LOADING if first[0] == wire.LOADED else _CALLING
    profile = "cpu" if first[0] == wire.PROFILE else ""
    on_display = _Displayed().take if first[0] == wire.DISPLAY else None
    exchange = Exchange(
        [request] * case.calls, takes_claims=first[0] == wire.CLAIMS, profile=profile, on_display=on_display
    )
    for at, record in enumerate(exchange.records):
        record.call = CALL + at
    return exchange


class _Displayed:
    """What a relay does with displays, at once: each is decoded, and made into what a page would get."""

    def __init__(self) -> None:
        self._displays = Displays(_Counting())

    def take(self, frame: Frame, at: int) -> None:
        raw, _ = self._displays.take(frame, at)
        if raw is None:
            return
        display = decode_display(raw, table_of, lambda mime, data: Picture(data, (1, 1)))
        shown = bundle(display)
        assert "\x1b" not in "".join([repr(display), card_part(display), *map(str, shown.values())])
        if "text/html" in shown and display.mime == "text/html":
            assert re.fullmatch(r'<iframe sandbox="" [^<>]*></iframe>', shown["text/html"], re.DOTALL)


class _Counting:
    """As much of a relay as counting displays asks for."""

    def drop(self, at: int, count: int) -> None:
        assert count >= 0


_LOAD_ANSWERS = Exchange([_LOADING]).records[0].answers


def _greeted(exchange: Exchange) -> str:
    frame = exchange.current.frame
    assert frame is not None
    try:
        hello = wire.decode_hello(frame.structure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "no greeting"
    assert len(hello.barriers) <= 32
    return "greeted"


def _loaded(exchange: Exchange, run: Run) -> None:
    """What the lifecycle does with the answer to LOAD."""
    frame = exchange.records[0].frame
    assert frame is not None
    if frame.kind == wire.LOADED and run.verdict.kind == "completed":
        wire.decode_loaded(frame.structure)
        return
    error = load_error(frame, run)
    assert isinstance(error, AgentplugError)


def _show(runs: Sequence[Run]) -> None:
    """All that a notebook makes of a run. The value's own repr may raise: that is the value's, and the user's."""
    for run in runs:
        texts = [repr(run), run.explain(), str(run._repr_html_()), str(run.verdict)]
        run.to_frame()
        assert "\x1b" not in "".join(texts)
        try:
            repr(run.value)
        except Exception:
            continue


def play_on_a_socket(case: Case, pair: tuple[socket.socket, socket.socket]) -> str:
    """The same through a real socket; `pair` is a connected one, whose first end doesn't block."""
    ours, theirs = pair
    sock = _Real(ours)
    theirs.sendall(case.data[: 1 << 16])
    try:
        return play(case._replace(eof=False), sock=sock)
    finally:
        sock.drain()


class _Real:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.recv, self.recv_into, self.recvmsg = sock.recv, sock.recv_into, sock.recvmsg
        self.empty = True  # all of it was sent before

    def drain(self) -> None:
        try:
            while self._sock.recv(1 << 16):
                pass
        except BlockingIOError:
            return
