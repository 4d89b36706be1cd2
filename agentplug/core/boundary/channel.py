"""Length-prefixed frames over a stream socket (both sides).

The host reads with `FrameReader`, which never blocks, never stores more than the announced frame, and raises
`Violation` for anything else. The worker, which trusts its host, reads with `FrameSource`.
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
"""The most descriptors with one frame; the kernel takes 253."""

_CHUNK = 1 << 14
_MOST_AT_ONCE = 8 << 20  # a large reply is read in turns, so that it doesn't hold up the caller's loop
_AT_ONCE_BYTES = 1 << 20
_DROPPED_AT_ONCE = 1 << 17
_MAX_READS = 64  # reads a frame may take, beside one for every 4 KiB of it


class Violation(Exception):
    """The other side broke the protocol. `oversize` holds (announced, allowed) bytes of a reply over its limit."""

    def __init__(self, reason: str, oversize: tuple[int, int] | None = None) -> None:
        super().__init__(reason)
        self.oversize = oversize


def pack(kind: int, call: int, structure: Buffer = b"", blobs: Sequence[Buffer] = (), flags: int = 0) -> list[Buffer]:
    """Return the buffers of one frame, to be sent in this order."""
    if not blobs:
        return [HEADER.pack(MAGIC, kind, flags, call, len(structure), 0) + structure]
    total = sum(memoryview(blob).nbytes for blob in blobs)
    head = HEADER.pack(MAGIC, kind, flags, call, len(structure), total)
    return [head + structure, *blobs]


class FrameReader:
    """A reader of whole frames from a non-blocking socket.

    `reply_bytes` bounds a frame's structure and blobs together: a larger one is dropped as it comes, and is oversize
    once more than that has come. More than `worker_bytes`, which no worker can have, is refused by its header. The
    watchdog bounds the time while `partial` is true.
    """

    def __init__(
        self, sock: socket.socket, reply_bytes: int, *, worker_bytes: int = 1 << 32, takes_descriptor: bool = False
    ) -> None:
        self._sock = sock
        self._reply_bytes = reply_bytes
        self._worker_bytes = worker_bytes
        self._buffer = bytearray()
        self._body: bytearray | mmap.mmap | None = None
        self._filled = self._total = 0
        self._oversize: tuple[int, int] | None = None
        self._head: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._reads = 0
        self.eof = False
        self._takes_descriptor = takes_descriptor  # else the kernel closes those that come
        self._descriptor = -1

    @property
    def partial(self) -> bool:
        """True if a frame has begun and isn't whole."""
        return self._body is not None or bool(self._buffer)

    @property
    def expected_bytes(self) -> int:
        """The size of the frame that has begun, or of its header while that isn't whole."""
        return self._total if self._body is not None else HEADER.size

    def next(self) -> Frame | None:
        """Return the next whole frame, or None if there is none yet, or at `eof`. Raises `Violation`."""
        taken = 0
        while taken < _MOST_AT_ONCE:
            if self._body is None and self._buffer and (frame := self._from_buffer()) is not None:
                return frame
            try:
                if self._body is not None:
                    start = 0 if self._oversize else self._filled
                    count = self._sock.recv_into(memoryview(self._body)[start:])
                    self._filled += count
                else:
                    data = self._recv_with_descriptor() if self._takes_descriptor else self._sock.recv(_CHUNK)
                    count = len(data)
                    if not self._buffer and count >= HEADER.size:
                        frame = self._whole_at_once(data)
                        if frame is not None:
                            return frame
                    self._buffer += data
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
            if self._body is not None and self._filled >= self._total:
                return self._whole()
        return None  # the caller has other things to do meanwhile; the socket stays readable

    def take_descriptor(self) -> int:
        """Return the descriptor that came, or -1, and take no other from now on."""
        fd, self._descriptor, self._takes_descriptor = self._descriptor, -1, False
        return fd

    def _recv_with_descriptor(self) -> bytes:
        data, descriptors, _, _ = socket.recv_fds(self._sock, _CHUNK, 1)
        for fd in descriptors:
            os.set_inheritable(fd, False)
            self._descriptor = fd
        return data

    def _whole_at_once(self, data: bytes) -> Frame | None:
        """Return `data` as a frame if it is exactly one, as nearly every reply is."""
        magic, kind, flags, call, structure, blobs = HEADER.unpack_from(data)
        end = HEADER.size + structure
        if end + blobs != len(data) or magic != MAGIC or kind not in FROM_WORKER or flags:
            return None
        if structure + blobs > self._reply_bytes:
            return None
        return Frame(kind, flags, call, data[HEADER.size : end], data[end:])

    def _from_buffer(self) -> Frame | None:
        buffer = self._buffer
        if len(buffer) < HEADER.size:
            if buffer and buffer[0] != MAGIC:
                raise Violation("bytes on the channel that don't begin a frame")
            return None
        magic, kind, flags, call, structure, blobs = HEADER.unpack_from(buffer)
        if magic != MAGIC or kind not in FROM_WORKER or flags:
            raise Violation("bytes on the channel that don't begin a frame")
        total = structure + blobs
        if total > self._worker_bytes:
            raise Violation(f"a frame of {total} bytes was announced")
        self._head = (kind, flags, call, structure)
        body: bytearray | mmap.mmap
        if total > self._reply_bytes or structure > MAX_STRUCTURE_BYTES:
            allowed = MAX_STRUCTURE_BYTES if structure > MAX_STRUCTURE_BYTES else self._reply_bytes
            self._oversize, total = (total, allowed), allowed + 1
            body = bytearray(_DROPPED_AT_ONCE)
        else:
            # The kernel allocates pages as they are filled: an announced gigabyte costs neither memory nor time.
            body = bytearray(total) if total <= _AT_ONCE_BYTES else mmap.mmap(-1, total)
        here = len(buffer) - HEADER.size
        if self._oversize is None:
            here = min(total, here)
            body[:here] = buffer[HEADER.size : HEADER.size + here]
        del buffer[: HEADER.size + here]
        self._body, self._filled, self._total = body, here, total
        return self._whole() if here >= total else None

    def _whole(self) -> Frame:
        assert self._body is not None
        if self._oversize is not None:
            raise Violation(f"a frame of {self._oversize[0]} bytes, for {self._oversize[1]} allowed", self._oversize)
        kind, flags, call, structure = self._head
        body = self._body
        self._body, self._filled, self._reads = None, 0, 0
        whole = memoryview(body)
        return Frame(kind, flags, call, bytes(whole[:structure]), whole[structure:])


class FrameSource:
    """A reader of frames from a blocking socket whose other side is trusted (worker side)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""

    def first(self) -> tuple[Frame | None, list[int]]:
        """Return the first frame, or None at the end of the stream, and the descriptors that came before it."""
        received: list[int] = []
        while True:
            head, descriptors, _, _ = socket.recv_fds(self._sock, HEADER.size, MOST_DESCRIPTORS)
            received += descriptors
            while 0 < len(head) < HEADER.size and (more := self._sock.recv(HEADER.size - len(head))):
                head += more
            if len(head) < HEADER.size:
                return None, received
            if HEADER.unpack(head)[1] != DESCRIPTORS:
                self._buffer = head
                return self.next(), received

    def next(self) -> Frame | None:
        """Return the next frame, or None at the end of the stream."""
        data = self._buffer or self._sock.recv(_CHUNK)
        while len(data) < HEADER.size:
            more = self._sock.recv(_CHUNK)
            if not more:
                return None
            data += more
        _, kind, flags, call, structure, blobs = HEADER.unpack_from(data)
        end = HEADER.size + structure + blobs
        if len(data) < end:
            body = bytearray(end)
            body[: len(data)] = data
            filled = len(data)
            while filled < end:
                got = self._sock.recv_into(memoryview(body)[filled:])
                if got == 0:
                    return None
                filled += got
            self._buffer = b""
            start = HEADER.size
            return Frame(kind, flags, call, bytes(body[start : start + structure]), body[start + structure :])
        self._buffer = data[end:]
        middle = HEADER.size + structure
        return Frame(kind, flags, call, data[HEADER.size : middle], data[middle:end])

    @property
    def waiting(self) -> bool:
        """True if a frame, or the beginning of one, has been read already."""
        return bool(self._buffer)


def write_frame(sock: socket.socket, buffers: Sequence[Buffer]) -> None:
    """Send all of a frame over a blocking socket (worker side)."""
    for buffer in buffers:
        sock.sendall(buffer)
