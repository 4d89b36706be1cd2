"""The reading half of the value codec, on hostile bytes (host for replies, else worker).

The methods may raise any error: `codec.decode` makes a `DecodeError` of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.msgpack import Ext

from agentplug.core.boundary.codec import layout as wire
from agentplug.core.boundary.codec.crowded_keys import crowded, key_units
from agentplug.core.boundary.codec.layout import SCALARS, DecodeError, is_slow, typed
from agentplug.core.boundary.codec.pieces import dict_of, read, set_of

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace


class Unpacker:
    """The state of one decoding. The structure must refer to blobs in their order, to each byte once."""

    def __init__(self, blobs: memoryview, units: int, pace: Pace = wire.HURRY) -> None:
        self.pace = pace
        self.at = 0
        self.texts_left = wire.most_texts(len(blobs))
        self.calendar_steps = wire.CALENDAR_STEPS
        self.zones = wire.Zones()
        self._blobs = blobs
        self._units = units
        self._pause_at = max(units - wire.PAUSE_UNITS, -1)
        self._keys = 0

    def spend(self, units: int) -> None:
        """Count work, and pause now and then. Raises `DecodeError` for more than the structure may cost."""
        self._units -= units
        if self._units > self._pause_at:
            return
        self._pause_at = max(self._units - wire.PAUSE_UNITS, -1)
        self.pace.pause()
        if self._units < 0:
            raise DecodeError("too many values that aren't plain")

    def native(self, data: bytes | memoryview) -> Any:
        """Decode msgpack, with extensions still packed."""
        if not is_slow(data):
            try:
                return typed(Ext).decode(data)
            except msgspec.ValidationError:
                pass  # deep nesting, or an attack
        return read(bytes(data), self._units + wire.SLACK_UNITS, self.pace)

    def value(self, tree: Any, depth: int) -> Any:
        """Return `tree` with every extension replaced by its value."""
        kind = type(tree)
        if kind is Ext:
            self.spend(1)
            unpack = _UNPACK.get(tree.code)
            if unpack is None:
                raise DecodeError("an extension that isn't ours")
            if depth > wire.MAX_DEPTH + wire.SLACK_DEPTH:
                raise DecodeError(f"nested deeper than {wire.MAX_DEPTH} levels")
            return unpack(self, tree.data, depth)
        if kind is list:
            self.spend(wire.LIST_UNITS)
            return self.items(tree, depth)
        if kind is dict:
            self.spend(wire.MAP_UNITS)
            if not SCALARS.issuperset(map(type, tree.values())):
                if depth > wire.MAX_DEPTH + wire.SLACK_DEPTH:
                    raise DecodeError(f"nested deeper than {wire.MAX_DEPTH} levels")
                for key, item in tree.items():
                    if type(item) not in SCALARS:
                        tree[key] = self.value(item, depth + 1)
            return tree
        return tree

    def items(self, tree: Any, depth: int) -> list[Any]:
        """Replace the items of a list by their values, in place, and return the list."""
        if type(tree) is not list:
            raise DecodeError("no list where there must be one")
        if not SCALARS.issuperset(map(type, tree)):
            if depth > wire.MAX_DEPTH + wire.SLACK_DEPTH:
                raise DecodeError(f"nested deeper than {wire.MAX_DEPTH} levels")
            for at, item in enumerate(tree):
                if type(item) not in SCALARS:
                    tree[at] = self.value(item, depth + 1)
        return tree

    def parts(self, data: bytes, count: int) -> list[Any]:
        """Return the parts of an extension, still packed."""
        tree = self.native(data)
        if type(tree) is not list or len(tree) != count:
            raise DecodeError("an extension with other parts than it must have")
        return tree

    def buffer(self, tree: Any) -> bytes | memoryview:
        """Return the bytes that went into `Packer.buffer`; a view if they came as a blob."""
        if type(tree) is not Ext:
            raise DecodeError("no bytes where there must be some")
        self.spend(1)
        if tree.code == wire.BYTES:
            return bytes(tree.data)
        if tree.code != wire.BLOB:
            raise DecodeError("no bytes where there must be some")
        at, length = wire.BLOB_LAYOUT.unpack(tree.data)
        if at != self.at or length > len(self._blobs) - at:
            raise DecodeError("a blob that isn't the next one, or is too long")
        self.at = at + length
        return self._blobs[at : self.at]

    def hashed(self, tree: Any, depth: int) -> list[Any]:
        """Return values that are cheap to put into a dict or a set. Raises `DecodeError` for others."""
        self._keys += 1
        keys = self.items(tree, depth)
        self._keys -= 1
        self.spend(key_units(keys))
        if crowded(keys, self.pace):
            raise DecodeError("keys that share too many hashes")
        return keys

    def _int(self, data: bytes, depth: int) -> int:
        if self._keys and len(data) > wire.MAX_KEY_INT_BYTES:
            raise DecodeError("an int that is too long for a key")
        return int.from_bytes(data, "little", signed=True)

    def _dict(self, data: bytes, depth: int) -> dict[Any, Any]:
        keys, values = self.parts(data, 2)
        keys = self.hashed(keys, depth)
        values = self.items(values, depth)
        if len(keys) != len(values):
            raise DecodeError("a dict with more keys than values, or fewer")
        pairs = dict_of(keys, values, self.pace)
        if len(pairs) != len(keys):
            raise DecodeError("a key that is there twice")
        return pairs

    def _set(self, data: bytes, depth: int) -> set[Any]:
        items = self.hashed(self.native(data), depth)
        made = set_of(items, self.pace)
        if len(made) != len(items):
            raise DecodeError("an item that is there twice")
        return made

    def _decimal(self, data: bytes, depth: int) -> Decimal:
        if len(data) > wire.MAX_DIGITS:
            raise DecodeError("a decimal with too many digits")
        value = Decimal(data.decode("ascii"))
        exponent = value.as_tuple().exponent
        if type(exponent) is int and abs(exponent) > wire.MAX_EXPONENT:
            raise DecodeError("a decimal with too large an exponent")
        return value


def _clock(data: bytes) -> dict[str, Any]:
    hour, minute, second, microsecond, fold, aware, micros = wire.TIME_LAYOUT.unpack(data)
    zone = None if not aware else timezone(timedelta(microseconds=micros)) if micros else UTC
    clock = {"hour": hour, "minute": minute, "second": second, "microsecond": microsecond}
    return clock | {"fold": fold, "tzinfo": zone}


# These modules import numpy or pandas: they load with the first such value, at the reader's pace.


def _array(unpacker: Unpacker, data: bytes, depth: int) -> Any:
    unpacker.pace.load("numpy")
    from agentplug.core.boundary.codec.arrays import unpack_array

    return unpack_array(unpacker, unpacker.parts(data, 4))


def _scalar(unpacker: Unpacker, data: bytes, depth: int) -> Any:
    unpacker.pace.load("numpy")
    from agentplug.core.boundary.codec.arrays import unpack_scalar

    return unpack_scalar(unpacker, unpacker.native(data))


def _series(unpacker: Unpacker, data: bytes, depth: int) -> Any:
    unpacker.pace.load("pandas")
    from agentplug.core.boundary.codec.tables import unpack_series

    return unpack_series(unpacker, unpacker.parts(data, 4), depth)


def _frame(unpacker: Unpacker, data: bytes, depth: int) -> Any:
    unpacker.pace.load("pandas")
    from agentplug.core.boundary.codec.tables import unpack_frame

    return unpack_frame(unpacker, unpacker.parts(data, 4), depth)


def _index(unpacker: Unpacker, data: bytes, depth: int) -> Any:
    unpacker.pace.load("pandas")
    from agentplug.core.boundary.codec.tables import unpack_index

    return unpack_index(unpacker, unpacker.native(data), depth)


def _stamp(unpacker: Unpacker, data: bytes, depth: int) -> Any:
    unpacker.pace.load("pandas")
    from agentplug.core.boundary.codec.times import unpack_stamp

    return unpack_stamp(unpacker, unpacker.native(data), depth)


_UNPACK: dict[int, Callable[[Unpacker, bytes, int], Any]] = {
    wire.BLOB: lambda unpacker, data, depth: bytes(unpacker.buffer(Ext(wire.BLOB, data))),
    wire.BYTES: lambda unpacker, data, depth: data,
    wire.INT: Unpacker._int,
    wire.TEXT: lambda unpacker, data, depth: wire.text_of(data, unpacker.pace),
    wire.TUPLE: lambda unpacker, data, depth: tuple(unpacker.items(unpacker.native(data), depth)),
    wire.DICT: Unpacker._dict,
    wire.SET: Unpacker._set,
    wire.FROZENSET: lambda unpacker, data, depth: frozenset(unpacker._set(data, depth)),
    wire.COMPLEX: lambda unpacker, data, depth: complex(*wire.COMPLEX_LAYOUT.unpack(data)),
    wire.DECIMAL: Unpacker._decimal,
    wire.UUID: lambda unpacker, data, depth: uuid.UUID(bytes=data),
    wire.DATETIME: lambda unpacker, data, depth: datetime(*wire.DATE_LAYOUT.unpack(data[:4]), **_clock(data[4:])),
    wire.DATE: lambda unpacker, data, depth: date(*wire.DATE_LAYOUT.unpack(data)),
    wire.TIME: lambda unpacker, data, depth: time(**_clock(data)),
    wire.TIMEDELTA: lambda unpacker, data, depth: timedelta(*wire.SPAN_LAYOUT.unpack(data)),
    wire.ARRAY: _array,
    wire.SCALAR: _scalar,
    wire.SERIES: _series,
    wire.FRAME: _frame,
    wire.INDEX: _index,
    wire.STAMP: _stamp,
}
