"""Guards against hostile structures (host and worker): keys that crowd a hash table, and deep nesting.

Each is linear in the bytes that came in, and recurses nowhere.
"""

from __future__ import annotations

from itertools import islice
from operator import eq
from typing import Any

from agentplug.contract.values_wire import MAX_DEPTH, SLACK_DEPTH, DecodeError

MAX_SHARED_HASH = 16
"""Keys of one dict or set that may share one hash: numbers make a few by chance, an attacker thousands."""

_KEYED = frozenset({str, bytes})  # types whose hash Python salts anew in every process
_UNSIMULATED = 4096  # with fewer keys the worst chain takes some milliseconds
_STEPS_PER_KEY = 64


def crowded(keys: list[Any]) -> bool:
    """Whether a dict or a set of these keys would take far more than linear time to build.

    Two attacks: many keys with one hash (all multiples of 2**61 - 1 hash to 0), and keys of different hashes that
    walk one long chain of the table. For the second, large ones are placed in tables of CPython's design first,
    counting steps. Raises TypeError for an unhashable key.
    """
    hashes = list(map(hash, keys))
    if len(keys) <= MAX_SHARED_HASH or _KEYED.issuperset(map(type, keys)):
        return False
    ordered = sorted(hashes)
    if any(map(eq, ordered, islice(ordered, MAX_SHARED_HASH, None))):
        return True
    size = 2 * _UNSIMULATED
    while 2 * size < 3 * len(keys) and size > _UNSIMULATED:
        size *= 2
    return len(keys) > _UNSIMULATED and any(
        _chained(hashes[: 2 * table // 3], table, linear)
        for table in (size, size // 2, size // 4)  # the final table, and those it grew from
        if table >= _UNSIMULATED
        for linear in (0, 9)  # dicts jump at once, sets look at 9 neighbours before they do
    )


def _chained(hashes: list[int], size: int, linear: int) -> bool:
    mask = size - 1
    taken = bytearray(size)
    left = _STEPS_PER_KEY * len(hashes)
    for hashed in hashes:
        at = hashed & mask
        perturb = hashed & 0xFFFF_FFFF_FFFF_FFFF
        while taken[at]:
            if linear and at + linear <= mask:
                free = taken.find(0, at, at + linear + 1)
                if free >= 0:
                    at = free
                    break
            left -= 1 + linear
            if left < 0:
                return True
            perturb >>= 5
            at = (at * 5 + 1 + perturb) & mask
        taken[at] = 1
    return False


_WIDTH = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_WIDTH |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_LENGTH = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def scan(data: bytes | memoryview) -> None:
    """Walk msgpack that nests deeper than the typed decoder looks, before an untyped one may see it.

    Raises DecodeError unless nesting is bounded, every key is text, and there are only types we write. Cut or
    trailing data is left to the decoder.
    """
    at, end = 0, len(data)
    todo: list[list[int]] = [[1, 0]]  # items left, and whether they are keys and values in turn
    while todo:
        frame = todo[-1]
        if not frame[0]:
            todo.pop()
            continue
        frame[0] -= 1
        if at >= end:
            raise DecodeError("the structure is cut off")
        tag = data[at]
        at += 1
        is_key = frame[1] and frame[0] & 1
        if is_key and not (0xA0 <= tag <= 0xBF or 0xD9 <= tag <= 0xDB):
            raise DecodeError("a plain map has a key that isn't text")
        if tag < 0x80 or tag >= 0xE0:
            continue
        if tag in _WIDTH:
            at += _WIDTH[tag]
            continue
        if tag in _FIXED_EXT:
            count, what = _FIXED_EXT[tag], 0xC7
        elif tag in _LENGTH:
            width = _LENGTH[tag]
            count, what = int.from_bytes(data[at : at + width], "big"), tag
            at += width
        elif tag < 0xC0:
            count, what = tag & (0x1F if tag >= 0xA0 else 0x0F), tag
        else:
            raise DecodeError("the structure holds a type that isn't ours")
        if 0xC7 <= what <= 0xC9:
            if at < end and data[at] >= 0x80:  # codes below zero are msgpack's own, a timestamp for one
                raise DecodeError("the structure holds an extension that isn't ours")
            at += count + 1
        elif 0xA0 <= what <= 0xBF or 0xD9 <= what <= 0xDB:
            at += count
        else:
            is_map = what < 0x90 or what >= 0xDE
            todo.append([count * 2, 1] if is_map else [count, 0])
            if len(todo) > MAX_DEPTH + 2 * SLACK_DEPTH:
                raise DecodeError(f"nested deeper than {MAX_DEPTH} levels")
