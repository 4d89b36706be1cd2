"""Guards against hostile structures (host and worker): keys that crowd a hash table, and deep nesting.

Each is linear in the bytes that came in, and recurses nowhere.
"""

from __future__ import annotations

from itertools import islice
from operator import eq
from typing import Any

from agentplug.contract.values.wire import MAX_DEPTH, SLACK_DEPTH, DecodeError

KEY_UNITS = 8
"""What a key costs whose hash anyone can foresee (a number, or a tuple of them), in units of work.

Keys of different hashes can still walk one long chain through the table: a dict of 160,000 chosen ints took 7
seconds, in one call that lets no other thread run. With 16,384 of them, all that 1 MiB may hold, it's 0.1.
"""
MAX_SHARED_HASH = 16
"""Keys of one dict or set that may share one hash: numbers make a few by chance, an attacker thousands."""

_KEYED = frozenset({str, bytes})  # types whose hash Python salts anew in every process


def key_units(keys: list[Any]) -> int:
    """What it costs to put these keys into a dict or a set."""
    return 0 if _KEYED.issuperset(map(type, keys)) else KEY_UNITS * len(keys)


def crowded(keys: list[Any]) -> bool:
    """Whether too many of these keys share one hash, as all multiples of 2**61 - 1 do.

    Raises TypeError for an unhashable key.
    """
    if len(keys) <= MAX_SHARED_HASH or _KEYED.issuperset(map(type, keys)):
        return False
    hashes = sorted(map(hash, keys))
    return any(map(eq, hashes, islice(hashes, MAX_SHARED_HASH, None)))


_SCALAR, _TEXT, _LIST, _MAP, _EXT, _FOREIGN = range(6)


def _table() -> list[tuple[int, int, int]]:
    """For each first byte of msgpack: the kind, the width of the length after it, and the length if there is none."""
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


def scan(data: bytes | memoryview, most: int) -> None:
    """Walk msgpack that nests deeper than the typed decoder looks, before an untyped one may see it.

    Raises DecodeError unless nesting is bounded, there are at most `most` containers, every key is text, and there
    are only types that we write. What is cut off or left over is the decoder's to find.
    """
    table = _TABLE
    at, end = 0, len(data)
    left, keyed = 1, False  # items left in this container; whether they are keys and values in turn
    outer: list[tuple[int, bool]] = []
    while True:
        while not left:
            if not outer:
                return
            left, keyed = outer.pop()
        if at >= end:
            raise DecodeError("the structure is cut off")
        left -= 1
        kind, width, count = table[data[at]]
        at += 1
        if keyed and left & 1 and kind != _TEXT:
            raise DecodeError("a plain map has a key that isn't text")
        if kind == _SCALAR:
            at += count
            continue
        if width:
            count = int.from_bytes(data[at : at + width], "big")
            at += width
        if kind == _TEXT:
            at += count
        elif kind in (_LIST, _MAP):
            outer.append((left, keyed))
            left, keyed = (count, False) if kind == _LIST else (2 * count, True)
            most -= 1
            if most < 0 or len(outer) > MAX_DEPTH + 2 * SLACK_DEPTH:
                raise DecodeError(f"nested deeper than {MAX_DEPTH} levels, or too much of that")
        elif kind == _EXT and (at >= end or data[at] < 0x80):  # codes below zero are msgpack's, as its timestamp
            at += count + 1
        else:
            raise DecodeError("the structure holds a type that isn't ours")
