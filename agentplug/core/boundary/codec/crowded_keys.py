"""Guards against keys that crowd a hash table (host and worker). Their time is linear in the input."""

from __future__ import annotations

from itertools import islice
from operator import eq
from typing import Any

from agentplug.core.boundary.codec.layout import Pace
from agentplug.core.boundary.codec.pieces import KEYS_AT_ONCE

KEY_UNITS = 8
"""The cost in units of work of a key whose hash anyone can foresee: a number, or a tuple of numbers.

Keys of different hashes can still walk one long chain through the table: a dict of 160,000 chosen ints took 7
seconds, in one call that lets no other thread run. With 16,384 of them, all that 1 MiB may hold, it's 0.1.
"""
MAX_SHARED_HASH = 16
"""The most keys of one dict or set with the same hash: numbers make a few by chance, an attacker thousands."""

_SALTED = frozenset({str, bytes})  # types whose hash Python salts anew in every process


def key_units(keys: list[Any]) -> int:
    """Return the cost of putting these keys into a dict or a set."""
    return 0 if _SALTED.issuperset(map(type, keys)) else KEY_UNITS * len(keys)


def crowded(keys: list[Any], pace: Pace) -> bool:
    """True if too many of these keys share one hash, as all multiples of 2**61 - 1 do.

    Raises `TypeError` for an unhashable key.
    """
    if len(keys) <= MAX_SHARED_HASH or _SALTED.issuperset(map(type, keys)):
        return False
    hashes: list[int] = []
    for at in range(0, len(keys), KEYS_AT_ONCE):
        hashes += map(hash, keys[at : at + KEYS_AT_ONCE])  # that of a decimal with a large exponent takes 7 µs
        pace.pause()
    hashes.sort()
    return any(map(eq, hashes, islice(hashes, MAX_SHARED_HASH, None)))
