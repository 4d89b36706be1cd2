"""Decode large or deep msgpack in pieces, from hostile bytes (host and worker).

One call of msgspec lets no other thread run, nor an event loop: 1 MiB of empty lists took 0.1 s, of short keys
0.12 s, and the collector after it as long again. Between pieces of some 64 KiB other threads run. The walk over the
items never recurses, counts the containers, and takes 0.1 to 0.2 µs an item, 1 µs a container.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec.msgpack import Decoder

from agentplug.core.boundary.codec.layout import (
    HURRY,
    LIST_UNITS,
    MAP_UNITS,
    MAX_DEPTH,
    PIECE_BYTES,
    SLACK_DEPTH,
    DecodeError,
)

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace

KEYS_AT_ONCE = 1 << 7
_BYTES_AT_ONCE = 1 << 12

_SCALAR, _TEXT, _LIST, _MAP, _EXT, _FOREIGN = range(6)


def _table() -> list[tuple[int, int, int]]:
    """Return for each first byte of msgpack the kind, the width of the length field, and the length without one."""
    table = [(_FOREIGN, 0, 0)] * 256
    table[0x00:0x80] = [(_SCALAR, 0, 0)] * 128
    table[0xE0:] = [(_SCALAR, 0, 0)] * 32
    table[0x80:0x90] = [(_MAP, 0, count) for count in range(16)]
    table[0x90:0xA0] = [(_LIST, 0, count) for count in range(16)]
    table[0xA0:0xC0] = [(_TEXT, 0, count) for count in range(32)]
    widths = {_EXT: (0xC7, 0xC8, 0xC9), _TEXT: (0xD9, 0xDA, 0xDB), _LIST: (0, 0xDC, 0xDD), _MAP: (0, 0xDE, 0xDF)}
    for kind, wide in widths.items():
        for width, tag in zip((1, 2, 4), wide, strict=True):
            if tag:
                table[tag] = (kind, width, 0)
    sizes = {0: (0xC0, 0xC2, 0xC3), 1: (0xCC, 0xD0), 2: (0xCD, 0xD1), 4: (0xCA, 0xCE, 0xD2), 8: (0xCB, 0xCF, 0xD3)}
    for size, tags in sizes.items():
        for tag in tags:
            table[tag] = (_SCALAR, 0, size)
    for power in range(5):
        table[0xD4 + power] = (_EXT, 0, 1 << power)
    return table


_TABLE = _table()
_FLOATS = re.compile(rb"(?s:\xcb.{8})++")
_KEY = bytes(1 + row[2] if row[:2] == (_TEXT, 0) else 0 for row in _TABLE)
"""The length of a short text, by its first byte; 0 for anything else."""
_LEAF = bytes(1 + row[2] if row[0] == _SCALAR and row[2] < 8 else key for row, key in zip(_TABLE, _KEY, strict=True))
"""The length of a short number or text, by its first byte; 0 for anything else."""
_UNTYPED: Decoder[Any] = Decoder()


def dict_of(keys: list[Any], values: list[Any], pace: Pace) -> dict[Any, Any]:
    """Return a dict of keys and values, made in steps: 200,000 keys in one call took 60 ms."""
    made: dict[Any, Any] = {}
    for at in range(0, len(keys), KEYS_AT_ONCE):
        upto = at + KEYS_AT_ONCE
        made.update(zip(keys[at:upto], values[at:upto], strict=True))
        pace.pause()
    return made


def set_of(items: list[Any], pace: Pace) -> set[Any]:
    """Return a set of items, made in steps: 10,000 decimals of large exponents in one call took 70 ms."""
    made: set[Any] = set()
    for at in range(0, len(items), KEYS_AT_ONCE):
        made.update(items[at : at + KEYS_AT_ONCE])
        pace.pause()
    return made


def read(data: bytes, units: int, pace: Pace = HURRY) -> Any:
    """Return the value of this msgpack, with extensions still packed. Pauses every few hundred items.

    Raises `DecodeError` if nesting is too deep, containers cost more than `units`, a key isn't text, or a type isn't
    ours; and msgspec's own errors, as for a text that isn't UTF-8.
    """
    table = _TABLE
    at, end, pause_at = 0, len(data), _BYTES_AT_ONCE
    # State of the present container: where its header begins; the items left; True if they are keys and values in
    # turn; the items decoded already (of a map keys and values in one list); where the undecoded ones begin; `left`
    # at that place. A container gets a list of its own once it fills a piece; before, it's part of an outer piece.
    begin, left, keyed, made, since, pending = 0, 1, False, None, 0, 1
    outer: list[tuple[int, int, bool, list[Any] | None, int, int]] = []
    while True:
        while not left:
            if not outer:
                if at != end:
                    raise DecodeError("the structure is cut off, or goes on after its end")
                return ((made or []) + _items(data, since, at, pending))[0]
            closed: Any = made
            if closed is not None:
                closed += _items(data, since, at, pending)
                if keyed:
                    closed = dict_of(closed[::2], closed[1::2], pace)
            start = begin
            begin, left, keyed, made, since, pending = outer.pop()
            if closed is not None:
                made = [] if made is None else made
                made += _items(data, since, start, pending - left - 1)
                made.append(closed)
                since, pending = at, left
        if at >= pause_at:
            pace.pause()
            pause_at = at + _BYTES_AT_ONCE
        if at - since > PIECE_BYTES:
            made = [] if made is None else made
            made += _items(data, since, at, pending - left)
            since, pending = at, left
        stop = min(end, since + PIECE_BYTES, pause_at)
        skips = _KEY if keyed and not left & 1 else _LEAF
        values = _LEAF
        while at < stop and left and (size := skips[data[at]]):  # nearly all items, at half the price
            at += size
            left -= 1
            if keyed:
                skips, values = values, skips
        if not left:
            continue
        if at >= end:
            raise DecodeError("the structure is cut off")
        left -= 1
        start = at
        kind, width, count = table[data[at]]
        at += 1
        if keyed and left & 1 and kind != _TEXT:
            raise DecodeError("a plain map has a key that isn't text")
        if kind == _SCALAR:
            at += count
            if count == 8 and left > 8 and not keyed:
                run = _FLOATS.match(data, at, at + 9 * min(left, PIECE_BYTES // 9))
                if run is not None:
                    left -= (run.end() - at) // 9
                    at = run.end()
            continue
        if width:
            count = int.from_bytes(data[at : at + width], "big")
            at += width
        if kind == _TEXT:
            at += count
        elif kind in (_LIST, _MAP):
            outer.append((begin, left, keyed, made, since, pending))
            keyed = kind == _MAP
            left = 2 * count if keyed else count
            begin, made, since, pending = start, None, at, left
            units -= MAP_UNITS if keyed else LIST_UNITS
            if units < 0:
                raise DecodeError("too many lists and dicts")
            if len(outer) > MAX_DEPTH + 2 * SLACK_DEPTH:
                raise DecodeError(f"nested deeper than {MAX_DEPTH} levels")
        elif kind == _EXT and (at >= end or data[at] < 0x80):  # codes below zero are msgpack's, as its timestamp
            at += count + 1
        else:
            raise DecodeError("the structure holds a type that isn't ours")


def _items(data: bytes, since: int, upto: int, count: int) -> list[Any]:
    """Decode `count` items from these bytes."""
    items: list[Any] = _UNTYPED.decode(b"\xdd" + count.to_bytes(4, "big") + data[since:upto])
    return items
