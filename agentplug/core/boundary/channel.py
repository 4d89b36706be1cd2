"""Length-prefixed frames over a stream socket (both sides).

The host reads through `FrameReader`, which never blocks, never holds more than the frame it was promised, and
answers anything it doesn't expect with `Violation`. The worker, which trusts its host, reads with `FrameSource`.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Sequence

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.core.boundary.frames import DESCRIPTORS, FROM_WORKER, HEADER, MAGIC, Frame

Buffer = bytes | bytearray | memoryview

MOST_DESCRIPTORS = 200
"""How many go with one frame: the kernel takes 253."""

_CHUNK = 1 << 14
_MOST_AT_ONCE = 8 << 20  # a large reply is read in turns, so that it doesn't hold up the caller's loop
_AT_ONCE_BYTES = 1 << 20
_MAX_READS = 64  # reads a frame may take, beside one for every 4 KiB of it


class Violation(Exception):
    """The other side broke the protocol. `oversize` holds (announced, allowed) bytes of a reply over its limit."""

    def __init__(self, reason: str, oversize: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.oversize = oversize


def pack(kind: int, call: int, structure: Buffer = b"", blobs: Sequence[Buffer] = (), flags: int = 0) -> list[Buffer]:
    """The buffers of one frame, to be sent in this order."""
    if not blobs:
        return [HEADER.pack(MAGIC, kind, flags, call, len(structure), 0) + structure]
    total = sum(memoryview(blob).nbytes for blob in blobs)
    head = HEADER.pack(MAGIC, kind, flags, call, len(structure), total)
    return [head + structure, *blobs]


class FrameReader:
    """Takes frames off a non-blocking socket as they complete.

    `reply_bytes` bounds a frame's structure and blobs together. `partial` is true while a frame has begun but isn't
    whole, which the watchdog bounds in time.
    """

    def __init__(self, sock: socket.socket, reply_bytes: int, *, takes_descriptor: bool = False) -> None:
        self._sock = sock
        self._reply_bytes = reply_bytes
        self._held = bytearray()
        self._body: bytearray | mmap.mmap | None = None
        self._filled = 0
        self._head: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._reads = 0
        self.eof = False
        self._takes_descriptor = takes_descriptor  # else the kernel closes what is sent
        self._descriptor = -1

    @property
    def partial(self) -> bool:
        """A frame has begun and isn't whole."""
        return self._body is not None or bool(self._held)

    @property
    def expected_bytes(self) -> int:
        """The size of the frame that has begun, as far as it is known."""
        return len(self._body) if self._body is not None else HEADER.size

    def next(self) -> Frame | None:
        """The next whole frame, or None when there is none yet (or `eof`). Raises `Violation`."""
        taken = 0
        while taken < _MOST_AT_ONCE:
            if self._body is None and self._held and (frame := self._from_held()) is not None:
                return frame
            try:
                if self._body is not None:
                    count = self._sock.recv_into(memoryview(self._body)[self._filled :])
                    self._filled += count
                else:
                    data = self._recv_with_descriptor() if self._takes_descriptor else self._sock.recv(_CHUNK)
                    count = len(data)
                    if not self._held and count >= HEADER.size:
                        frame = self._whole_at_once(data)
                        if frame is not None:
                            return frame
                    self._held += data
            except BlockingIOError:
                return None
            except InterruptedError:
                continue
            except OSError:
                count = 0
            if count == 0:
                self.eof = True
                return None
            taken += count
            self._reads += 1
            if self._reads > _MAX_READS + self.expected_bytes // 4096:
                raise Violation(f"one frame came in {self._reads} pieces")
            if self._body is not None and self._filled == len(self._body):
                return self._whole()
        return None  # the caller has other things to do meanwhile; the socket stays readable

    def take_descriptor(self) -> int:
        """Hand over the descriptor that came, or -1; from now on none is taken any more."""
        fd, self._descriptor, self._takes_descriptor = self._descriptor, -1, False
        return fd

    def _recv_with_descriptor(self) -> bytes:
        data, descriptors, _, _ = socket.recv_fds(self._sock, _CHUNK, 1)
        for fd in descriptors:
            os.set_inheritable(fd, False)
            self._descriptor = fd
        return data

    def _whole_at_once(self, data: bytes) -> Frame | None:
        """The frame that `data` is, if it is just one: the way of nearly every reply."""
        magic, kind, flags, call, structure, blobs = HEADER.unpack_from(data)
        end = HEADER.size + structure
        if end + blobs != len(data) or magic != MAGIC or kind not in FROM_WORKER or flags:
            return None
        if structure + blobs > self._reply_bytes:
            return None
        return Frame(kind, flags, call, data[HEADER.size : end], data[end:])

    def _from_held(self) -> Frame | None:
        held = self._held
        if len(held) < HEADER.size:
            if held and held[0] != MAGIC:
                raise Violation("bytes on the channel that don't begin a frame")
            return None
        magic, kind, flags, call, structure, blobs = HEADER.unpack_from(held)
        if magic != MAGIC or kind not in FROM_WORKER or flags:
            raise Violation("bytes on the channel that don't begin a frame")
        if structure + blobs > self._reply_bytes or structure > MAX_STRUCTURE_BYTES:
            allowed = MAX_STRUCTURE_BYTES if structure > MAX_STRUCTURE_BYTES else self._reply_bytes
            raise Violation(
                f"a frame of {structure + blobs} bytes was announced", (max(structure, structure + blobs), allowed)
            )
        self._head = (kind, flags, call, structure)
        total = structure + blobs
        # The kernel gives pages as they are filled: a promise of a gigabyte costs neither memory nor time.
        body = bytearray(total) if total <= _AT_ONCE_BYTES else mmap.mmap(-1, total)
        here = min(total, len(held) - HEADER.size)
        body[:here] = held[HEADER.size : HEADER.size + here]
        del held[: HEADER.size + here]
        self._body, self._filled = body, here
        return self._whole() if here == total else None

    def _whole(self) -> Frame:
        assert self._body is not None
        kind, flags, call, structure = self._head
        body = self._body
        self._body, self._filled, self._reads = None, 0, 0
        whole = memoryview(body)
        return Frame(kind, flags, call, bytes(whole[:structure]), whole[structure:])


class FrameSource:
    """Reads frames off a blocking socket whose other side is trusted (worker side)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""

    def first(self) -> tuple[Frame | None, list[int]]:
        """The first frame, or None at the end of the stream, and the descriptors that came before it."""
        given: list[int] = []
        while True:
            head, descriptors, _, _ = socket.recv_fds(self._sock, HEADER.size, MOST_DESCRIPTORS)
            given += descriptors
            while 0 < len(head) < HEADER.size and (more := self._sock.recv(HEADER.size - len(head))):
                head += more
            if len(head) < HEADER.size:
                return None, given
            if HEADER.unpack(head)[1] != DESCRIPTORS:
                self._held = head
                return self.next(), given

    def next(self) -> Frame | None:
        """The next frame, or None at the end of the stream."""
        held = self._held or self._sock.recv(_CHUNK)
        while len(held) < HEADER.size:
            more = self._sock.recv(_CHUNK)
            if not more:
                return None
            held += more
        _, kind, flags, call, structure, blobs = HEADER.unpack_from(held)
        end = HEADER.size + structure + blobs
        if len(held) < end:
            body = bytearray(end)
            body[: len(held)] = held
            filled = len(held)
            while filled < end:
                got = self._sock.recv_into(memoryview(body)[filled:])
                if got == 0:
                    return None
                filled += got
            self._held = b""
            start = HEADER.size
            return Frame(kind, flags, call, bytes(body[start : start + structure]), body[start + structure :])
        self._held = held[end:]
        middle = HEADER.size + structure
        return Frame(kind, flags, call, held[HEADER.size : middle], held[middle:end])

    @property
    def waiting(self) -> bool:
        """A frame, or the beginning of one, has been read already."""
        return bool(self._held)


def write_frame(sock: socket.socket, buffers: Sequence[Buffer]) -> None:
    """Send all of a frame over a blocking socket (worker side)."""
    for buffer in buffers:
        sock.sendall(buffer)
