"""Replies made by hand to harm a host that decodes them: each did, or nearly, before there was a check.

`python -m tests.fuzz.traps` plays them with little address space, and tells as JSON how each ended, what CPU time it
took and how much the process grew.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from msgspec.msgpack import Ext
from msgspec.msgpack import encode as msgpack

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.codec import layout as codes
from tests.fuzz.mutations import CALL, Case
from tests.fuzz.target import play

ADDRESS_BYTES = 3 << 30
LONG = 1 << 26  # eight bytes for each of these would be half a gigabyte


def ext(code: int, *parts: Any) -> Ext:
    """An extension of these parts."""
    return Ext(code, msgpack(list(parts)))


def blob(at: int, length: int) -> Ext:
    """A reference to bytes beside the structure."""
    return Ext(codes.BLOB, codes.BLOB_LAYOUT.pack(at, length))


def span(count: int, start: int = 0) -> list[Any]:
    """A RangeIndex: a few bytes, however long it is."""
    return ["range", start, start + count, 1, None]


def record(formats: list[Any], offsets: list[int], size: int) -> list[Any]:
    """A dtype with these fields."""
    return ["record", [f"f{at}" for at in range(len(formats))], formats, offsets, size]


_NOTHING = Ext(codes.BYTES, b"")
_TWO = "<U3"
TRAPS: dict[str, tuple[Any, bytes]] = {
    "field beyond its record": (
        ext(codes.ARRAY, record(["|b1"], [(1 << 31) - 1], 8), [1], "C", Ext(codes.BYTES, bytes(8))),
        b"",
    ),
    "field before its record": (
        ext(codes.ARRAY, record(["<U2"], [-8], 8), [1], "C", Ext(codes.BYTES, bytes(8))),
        b"",
    ),
    "field of a field beyond it": (
        ext(codes.SCALAR, record([record([_TWO], [(1 << 31) - 4], 8)], [0], 8), [], "C", Ext(codes.BYTES, bytes(8))),
        b"",
    ),
    "thousands of fields in one place": (
        ext(codes.ARRAY, record(["<U262144"] * 8_000, [0] * 8_000, 1 << 20), [1], "C", blob(0, 1 << 20)),
        bytes(1 << 20),
    ),
    "intervals of ranges": (
        ext(codes.SERIES, ["interval", span(LONG), span(LONG, 1), "left"], span(LONG), None, {}),
        b"",
    ),
    "labels of intervals of ranges": (
        ext(codes.INDEX, "index", ["interval", span(LONG), span(LONG, 1), "left"], None, None),
        b"",
    ),
    "categories that are intervals of ranges": (
        ext(
            codes.SERIES,
            [
                "category",
                ["|i1", [1], "C", Ext(codes.BYTES, b"\0")],
                ["index", ["interval", span(LONG), span(LONG, 1), "left"], None, None],
                False,
            ],
            span(1),
            None,
            {},
        ),
        b"",
    ),
    "a level that is a long range": (
        ext(codes.INDEX, "multi", [span(LONG)], [["|i1", [2], "C", Ext(codes.BYTES, b"\0\1")]], ["a"]),
        b"",
    ),
    "rows without columns": (
        ext(codes.FRAME, span(0), span(LONG), ["block", ["<f8", [LONG, 0], "C", _NOTHING]], {}),
        b"",
    ),
    "columns without rows": (
        ext(codes.FRAME, span(LONG), span(0), ["block", ["<f8", [0, LONG], "C", _NOTHING]], {}),
        b"",
    ),
    "long range": (ext(codes.INDEX, *span(LONG)), b""),
    "large item of an empty array": (ext(codes.ARRAY, "<U500000000", [0], "C", _NOTHING), b""),
}


def main() -> None:
    """Play every trap, after a harmless case that imports what is imported on first use."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    told = {}
    harmless = (
        ext(
            codes.SERIES,
            ["interval", *[["array", ["<i8", [1], "C", Ext(codes.BYTES, bytes(8))]]] * 2, "left"],
            span(1),
            None,
            {},
        ),
        b"",
    )
    for name, (tree, blobs) in {"harmless": harmless, **TRAPS}.items():
        structure = msgpack(tree)
        head = wire.HEADER.pack(wire.MAGIC, wire.REPLY, 0, CALL, len(structure), len(blobs))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.thread_time()
        outcome = play(Case(head + structure + blobs, reply_bytes=16 << 20), look=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        told[name] = [outcome, time.thread_time() - began, grown]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
