"""Codes, limits, layouts and errors of the value codec, for both of its halves (host and worker)."""

from __future__ import annotations

import functools
import struct
from collections import deque
from datetime import timedelta
from types import GenericAlias
from typing import Any, Protocol

from msgspec.msgpack import Decoder

from agentplug.contract.text import printable

BLOB, BYTES, INT, TEXT, TUPLE, DICT, SET, FROZENSET, COMPLEX, DECIMAL, UUID = range(1, 12)
DATETIME, DATE, TIME, TIMEDELTA, ARRAY, SCALAR, SERIES, FRAME, INDEX, STAMP = range(12, 22)

MAX_DEPTH = 64
"""The most containers within containers."""
SLACK_DEPTH = 8
"""More levels that decoding allows, for the layers of a table."""
SLACK_UNITS = 64
PLAIN_DEPTH = 8
"""The most levels of a structure that is decoded in one call. Beyond, each container costs a unit of work."""
INLINE_BYTES = 256
"""Longer bytes travel as blobs, beside the structure."""
BYTES_PER_UNIT = 8
"""A structure may cost one unit of work, such as one extension, for so many of its bytes."""
LIST_UNITS, MAP_UNITS = 1, 2
"""The cost of a list and of a dict: mostly that of the garbage collector afterwards."""
PAUSE_UNITS = 32
"""Units of work between two pauses of a decoding: mostly some 0.1 ms."""
LEAST_TEXTS, BYTES_PER_TEXT = 1 << 20, 16
"""The most texts in the columns of a value, or one for so many bytes of its blobs: freeing a million takes 45 ms."""
TEXT_PIECE = 1 << 12
"""Longer texts with lone surrogates are made in pieces of this length: each surrogate takes 0.25 µs."""
PIECE_BYTES = 1 << 16
"""A longer structure may be decoded in pieces of this length."""
MOST_TEXTS, MOST_CONTAINERS = 50_000, 1 << 16
"""The most texts and containers that are decoded in one call, guessed by first bytes (other data may hold the same
bytes). So many lists take some 5 ms, and the collector 12 ms after; so many keys of one dict, the slowest of texts,
15 to 25 ms."""
_TEXTS = bytes([*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB])
_CONTAINERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
CALENDAR_STEPS = 1_000
"""The most calendar steps in the frequencies of all indexes of a value."""
MAX_KEY_INT_BYTES = 256
"""The longest int as a key: comparing it with a Decimal of the same hash costs the square of its length."""
MAX_DIGITS = 10_000
MAX_EXPONENT = 2_000_000
"""The largest decimals: the default context makes at most 28 digits and exponents of a million."""

_ZONE_UNITS, _FAMILIAR_ZONES = 64, 8

BLOB_LAYOUT = struct.Struct("<QQ")  # offset, length
COMPLEX_LAYOUT = struct.Struct("<dd")
DATE_LAYOUT = struct.Struct("<HBB")
TIME_LAYOUT = struct.Struct("<BBBIB?q")  # hour, minute, second, microsecond, fold, aware, offset in microseconds
SPAN_LAYOUT = struct.Struct("<iii")
MICROSECOND = timedelta(microseconds=1)

_NAME_LENGTH = 200


@functools.cache
def typed(*extra: Any) -> Decoder[Any]:
    """Return a decoder for `PLAIN_DEPTH` levels whose keys are text: an untyped one builds dicts of any key, in C.

    It recurses no deeper, whatever the recursion limit is. `pieces` decodes deeper structures.
    """
    leaf: Any = None | bool | int | float | str
    for kind in extra:
        leaf = leaf | kind
    tree = leaf
    for _ in range(PLAIN_DEPTH):
        tree = leaf | GenericAlias(list, (tree,)) | GenericAlias(dict, (str, tree))
    return Decoder(tree)


class Unserializable(Exception):
    """A value that has no place on the wire: `type` is its type's name, `where` it stands, `why` the reason."""

    def __init__(self, type: str, why: str = "has no place on the wire", where: str = "") -> None:
        super().__init__(type, why, where)
        self.type = type
        self.why = why
        self.where = where

    def within(self, step: str) -> None:
        """Put `step` (like `['rows']` or `[3]`) before the place, on the error's way out of the containers."""
        self.where = (step + self.where)[:_NAME_LENGTH]

    def __str__(self) -> str:
        return f"{self.where or 'value'}: {self.type} {self.why}"


class DecodeError(Exception):
    """The bytes aren't what `encode` writes. The message holds no text from them."""


class Costly(Exception):
    """A decoding costs more than it may cost where it was begun: raised by its pace, and never a `DecodeError`."""


class Pace(Protocol):
    """The way in which a long decoding lets others go on."""

    def pause(self) -> None:
        """Let others go on. May raise `Costly`, or `DecodeError` if the decoding took too long."""

    def load(self, module: str) -> None:
        """Import a module. May raise `Costly`."""


class Hurry:
    """The pace of a decoding that lets nobody else go on."""

    def pause(self) -> None:
        """Go on at once."""

    def load(self, module: str) -> None:
        """Leave the import to the code that needs the module."""


HURRY: Pace = Hurry()


def text_of(data: bytes | memoryview, pace: Pace) -> str:
    """Decode UTF-8 that may hold lone surrogates, piece by piece."""
    if len(data) <= TEXT_PIECE:
        return str(data, "utf-8", "surrogatepass")
    pieces, at = [], 0
    while at < len(data):
        end = at + TEXT_PIECE
        for _ in range(3):  # the most bytes of a character after its first
            if end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
        pieces.append(str(data[at:end], "utf-8", "surrogatepass"))
        at = end
        pace.pause()
    return "".join(pieces)


def utf8_of(text: str, pace: Pace) -> bytes:
    """Encode a text that may hold lone surrogates, piece by piece."""
    if text.isascii() or len(text) <= TEXT_PIECE:
        return text.encode("utf-8", "surrogatepass")
    pieces = []
    for at in range(0, len(text), TEXT_PIECE):
        pieces.append(text[at : at + TEXT_PIECE].encode("utf-8", "surrogatepass"))
        pace.pause()
    return b"".join(pieces)


class Zones:
    """The zones that a value named lately. pandas takes 0.1 ms for a time in any other, 3 µs in one of these."""

    def __init__(self) -> None:
        self._names: deque[str] = deque(maxlen=_FAMILIAR_ZONES)

    def units_of(self, name: str) -> int:
        """Return the cost of a time in the zone of this name."""
        if name in self._names:
            return 1
        self._names.append(name)
        return _ZONE_UNITS


def most_texts(blob_bytes: int) -> int:
    """Return the most texts in the columns of a value with blobs of this length."""
    return max(LEAST_TEXTS, blob_bytes // BYTES_PER_TEXT)


def type_name(value: object) -> str:
    """Return the qualified name of the type of `value`, escaped, at most 200 characters; run none of its code."""
    kind = type(value)
    qualname: Any = type.__dict__["__qualname__"].__get__(kind)
    module: Any = type.__dict__["__module__"].__get__(kind)  # whatever the class body has put there
    if type(qualname) is not str:
        qualname = "?"
    if type(module) is not str:
        module = "?"
    name = qualname if module == "builtins" else f"{module[:_NAME_LENGTH]}.{qualname}"
    return printable(name[:_NAME_LENGTH])[:_NAME_LENGTH]


def key_step(key: object) -> str:
    """Return a dict's key as a step of a path: exact texts and small ints as they are, other keys by type."""
    if type(key) is str:
        return f"[{printable(key[:40])!r}]"
    if type(key) is int and key.bit_length() < 64:
        return f"[{key}]"
    return f"[<{type_name(key)}>]"


SCALARS = frozenset({type(None), bool, int, float, str})
_NATIVE = SCALARS | {list, dict}


def container_units(value: Any) -> int:
    """Count the reader's cost of the containers of a plain value."""
    if type(value) not in (list, dict):
        return 0
    units, items = (MAP_UNITS, value.values()) if type(value) is dict else (LIST_UNITS, value)
    if not SCALARS.issuperset(map(type, items)):
        units += sum(map(container_units, items))
    return units


def container_count(data: bytes) -> int:
    """Guess the number of lists and dicts in `data`, rather too many than too few."""
    return len(data) - len(data.translate(None, _CONTAINERS))


def is_slow(data: bytes | memoryview) -> bool:
    """True if decoding `data` in one call may take too long; a guess by its bytes, which errs on that side."""
    if len(data) <= PIECE_BYTES:
        return False
    data = bytes(data)
    texts, containers = len(data) - len(data.translate(None, _TEXTS)), container_count(data)
    return containers > MOST_CONTAINERS or texts / MOST_TEXTS + containers / (2 * MOST_TEXTS) > 1


def plain(value: object, depth: int) -> bool:
    """True if `value` is no deeper than `PLAIN_DEPTH`, and all its types come back from msgpack as they are."""
    kind = type(value)
    items: Any
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str:
                return False
        items = value.values()  # type: ignore[attr-defined]
    elif kind is list:
        items = value
    else:
        return kind in SCALARS
    kinds = set(map(type, items))
    if kinds <= SCALARS:
        return True
    if depth + 1 >= PLAIN_DEPTH or not kinds <= _NATIVE:
        return False
    return all(plain(item, depth + 1) for item in items if type(item) in (list, dict))
