"""The host's end of the channel against whatever may come in: garbage, halves, giants and drips."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import FrameReader, FrameSource, Violation, pack, write_frame
from agentplug.core.boundary.frames import HEADER, MAGIC, Frame

REPLY_BYTES = 1 << 16


@pytest.fixture
def ends() -> Iterator[tuple[FrameReader, socket.socket]]:
    """A reader, and the socket that a worker would write to."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield FrameReader(ours, REPLY_BYTES), theirs


def frame_bytes(
    kind: int = wire.REPLY, call: int = 7, structure: bytes = b"abc", blobs: tuple[bytes, ...] = ()
) -> bytes:
    """One frame as it goes over the wire."""
    return b"".join(map(bytes, pack(kind, call, structure, blobs)))


def frames(data: bytes, chunk: int = 1 << 13) -> list[Frame]:
    """Every frame in `data`, sent in chunks and then ended."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        reader = FrameReader(ours, REPLY_BYTES)
        found = []
        for at in range(0, len(data), chunk):
            theirs.sendall(data[at : at + chunk])
            while (frame := reader.next()) is not None:
                found.append(frame)
        theirs.shutdown(socket.SHUT_WR)
        while (frame := reader.next()) is not None:
            found.append(frame)
        assert reader.eof
        return found


def test_a_frame_comes_out_as_it_went_in(ends: tuple[FrameReader, socket.socket]) -> None:
    """Kind, call, structure and blobs arrive; nothing more is there then, and nothing is half there."""
    reader, theirs = ends
    assert reader.next() is None
    write_frame(theirs, pack(wire.REPLY, 7, b"abc", [b"12", memoryview(b"345")]))
    assert reader.next() == Frame(wire.REPLY, 0, 7, b"abc", b"12345")
    assert (reader.next(), reader.partial, reader.eof) == (None, False, False)
    theirs.close()
    assert (reader.next(), reader.eof) == (None, True)


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=5), st.integers(20, 400))
def test_frames_survive_any_cut(bodies: list[tuple[bytes, bytes]], chunk: int) -> None:
    """However the stream is cut into pieces, the same frames come out."""
    data = b"".join(frame_bytes(structure=a, blobs=(b,) if b else ()) for a, b in bodies)
    assert frames(data, chunk) == [Frame(wire.REPLY, 0, 7, a, b) for a, b in bodies]


@given(st.binary(min_size=1, max_size=500))
def test_garbage_is_a_violation_or_nothing(data: bytes) -> None:
    """Any bytes at all: frames, a violation, or the wait for more, but no other exception."""
    found: list[Frame] = []
    with contextlib.suppress(Violation):
        found = frames(data)
    assert sum(len(frame.structure) + len(frame.blobs) for frame in found) <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"hello",
        bytes([MAGIC ^ 1]) + frame_bytes()[1:],
        frame_bytes(kind=wire.CALL),
        frame_bytes(kind=wire.LOAD),
        frame_bytes(kind=0),
        frame_bytes(kind=255),
        b"".join(map(bytes, pack(wire.REPLY, 1, b"", flags=1))),
    ],
)
def test_what_no_worker_may_send_is_a_violation(data: bytes, ends: tuple[FrameReader, socket.socket]) -> None:
    """A wrong first byte, a kind that only a host sends, an unknown kind, a flag: `Violation` at once."""
    reader, theirs = ends
    theirs.sendall(data)
    with pytest.raises(Violation, match="don't begin a frame") as caught:
        reader.next()
    assert caught.value.oversize is None


@pytest.mark.parametrize(
    ("structure", "blobs", "allowed"), [(REPLY_BYTES + 1, 0, REPLY_BYTES), (10, REPLY_BYTES, REPLY_BYTES)]
)
def test_a_frame_is_oversize_once_more_than_the_limit_has_come(
    structure: int, blobs: int, allowed: int, ends: tuple[FrameReader, socket.socket]
) -> None:
    """A header alone is a claim: until then the frame isn't whole. None of it is stored."""
    reader, theirs = ends
    theirs.sendall(HEADER.pack(MAGIC, wire.REPLY, 0, 1, structure, blobs) + bytes(allowed))
    while reader.next() is None and select.select([reader._sock], [], [], 0)[0]:
        pass
    assert (reader.partial, reader.expected_bytes) == (True, allowed + 1)

    theirs.sendall(b"x")

    with pytest.raises(Violation, match=r"a frame of .* bytes") as caught:
        reader.next()
    assert caught.value.oversize == (structure + blobs, allowed)


def test_a_frame_that_no_worker_can_hold_is_refused_by_its_header(ends: tuple[FrameReader, socket.socket]) -> None:
    """Before a byte of it is read, and as no limit's matter."""
    reader, theirs = ends
    theirs.sendall(HEADER.pack(MAGIC, wire.REPLY, 0, 1, 0xFFFFFFFF, 0xFFFFFFFF))
    with pytest.raises(Violation, match=r"a frame of .* bytes was announced") as caught:
        reader.next()
    assert caught.value.oversize is None


def test_an_oversize_frame_that_comes_whole_is_refused_too(ends: tuple[FrameReader, socket.socket]) -> None:
    """The quick way for whole frames has the same bounds."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(frame_bytes(structure=bytes(200)))
        with pytest.raises(Violation, match="a frame of 200 bytes"):
            FrameReader(ours, 100).next()


def test_a_truncated_frame_stays_partial(ends: tuple[FrameReader, socket.socket]) -> None:
    """Half a frame is `partial`, also at the end of the stream; it never counts as one."""
    reader, theirs = ends
    theirs.sendall(frame_bytes(structure=bytes(100))[:50])
    assert reader.next() is None
    assert (reader.partial, reader.eof, reader.expected_bytes) == (True, False, 100)
    theirs.close()
    assert reader.next() is None
    assert (reader.partial, reader.eof) == (True, True)


def test_a_drip_of_single_bytes_is_a_violation(ends: tuple[FrameReader, socket.socket]) -> None:
    """A frame that comes in byte by byte is cut off after some reads, long before it is whole."""
    reader, theirs = ends
    data = frame_bytes(structure=bytes(200))
    for at in range(64):
        theirs.sendall(data[at : at + 1])
        assert reader.next() is None
    theirs.sendall(data[64:65])
    with pytest.raises(Violation, match="one frame came in 65 pieces"):
        reader.next()


def test_frames_may_come_glued_together(ends: tuple[FrameReader, socket.socket]) -> None:
    """Several frames in one piece, the last one cut, come out one by one."""
    reader, theirs = ends
    data = b"".join(frame_bytes(call=call, structure=bytes(call)) for call in range(5))
    theirs.sendall(data + frame_bytes(call=9)[:5])
    assert [reader.next() for _ in range(5)] == [Frame(wire.REPLY, 0, n, bytes(n), b"") for n in range(5)]
    assert reader.next() is None
    assert reader.partial
    theirs.sendall(frame_bytes(call=9)[5:])
    assert reader.next() == Frame(wire.REPLY, 0, 9, b"abc", b"")


def test_a_socket_that_breaks_is_an_end(ends: tuple[FrameReader, socket.socket]) -> None:
    """A reset connection reads as the end of the stream."""
    reader, theirs = ends
    theirs.close()
    assert (reader.next(), reader.eof) == (None, True)


@pytest.mark.parametrize("size", [0, 10, 1 << 14, 1 << 20, 5 << 20])
def test_the_workers_end_reads_what_the_host_packs(size: int) -> None:
    """`FrameSource` gives frames of any size, also when the next one follows at once; None at the end."""
    ours, theirs = socket.socketpair()
    structure, blob = bytes(range(256)) * (size // 512), bytes(size // 2)
    sender = threading.Thread(
        target=lambda: [write_frame(ours, pack(wire.CALL, n, structure, [blob])) for n in range(3)] and ours.close()
    )
    with theirs:
        sender.start()
        source = FrameSource(theirs)
        for number in range(3):
            frame = source.next()
            assert frame is not None
            assert (frame.kind, frame.call, bytes(frame.structure), bytes(frame.blobs)) == (
                wire.CALL,
                number,
                structure,
                blob,
            )
        assert source.next() is None
        assert not source.waiting
        sender.join(10)


def test_blobs_count_in_a_frame_that_comes_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"".join(map(bytes, pack(wire.REPLY, 7, b"abc", (bytes(200),)))))
        with pytest.raises(Violation, match="a frame of 203 bytes"):
            FrameReader(ours, 100).next()
