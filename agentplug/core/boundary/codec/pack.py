"""The writing half of the value codec, for values that aren't plain (worker for replies, else host).

Types are compared exactly. Of a value's own code only a dataclass's attributes and a time zone's offset run.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec.msgpack import Encoder, Ext

from agentplug.core.boundary.codec import layout as wire
from agentplug.core.boundary.codec.crowded_keys import crowded, key_units
from agentplug.core.boundary.codec.layout import Unserializable, key_step, type_name

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace

_CONTENT = (str, bytes, int, float, list, dict, tuple, set, frozenset, BaseException, enum.Enum)
_ENCODER = Encoder()


class Packer:
    """The state of one encoding, with the blobs in the order of reading."""

    def __init__(self, units: int, pace: Pace = wire.HURRY) -> None:
        self.pace = pace
        self.blobs: list[bytes | memoryview] = []
        self.texts = 0
        self.calendar_steps = wire.CALENDAR_STEPS
        self.zones = wire.Zones()
        self._blob_bytes = 0
        self._units = units
        self._pause_at = max(units - wire.PAUSE_UNITS, -1)
        self._keys = 0

    def spend(self, units: int, value: object) -> None:
        """Count work for the reader. Raises `Unserializable` for more than the reader accepts."""
        self._units -= units
        if self._units > self._pause_at:
            return
        self._pause_at = max(self._units - wire.PAUSE_UNITS, -1)
        self.pace.pause()
        if self._units < 0:
            raise Unserializable(
                type_name(value),
                "comes after too many values; use arrays, a table, texts joined into one, or fewer tables",
            )

    def value(self, value: Any, depth: int) -> Any:
        """Return `value` as msgpack takes it."""
        kind = type(value)
        if kind is bool or kind is float or value is None:
            return value
        if kind is str:
            if value.isascii():
                return value
            try:
                value.encode()
            except UnicodeEncodeError:
                return self._ext(wire.TEXT, wire.utf8_of(value, self.pace), value)
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 64 else self._int(value)
        if depth > wire.MAX_DEPTH:
            raise Unserializable(type_name(value), f"is nested deeper than {wire.MAX_DEPTH} levels, or in itself")
        if kind is list:
            self.spend(wire.LIST_UNITS, value)
            return self.items(value, depth)
        if kind is dict:
            self.spend(wire.MAP_UNITS, value)
            return self._dict(value, depth)
        pack = _PACK.get(kind)
        if pack is not None:
            code, data = pack(self, value, depth)
            return self._ext(code, data, value)
        return self._other(value, depth)

    def items(self, values: Any, depth: int) -> list[Any]:
        """Return each of `values`, from a container `depth` levels deep, as msgpack takes it."""
        packed = []
        try:
            for item in values:
                packed.append(self.value(item, depth + 1))
        except Unserializable as error:
            error.within(f"[{len(packed)}]")
            raise
        return packed

    def nested(self, code: int, parts: Any, value: object) -> Ext:
        """Return an extension made of parts that msgpack takes."""
        return self._ext(code, _ENCODER.encode(parts), value)

    def buffer(self, data: bytes | memoryview) -> Ext:
        """Return the form of `data` in the structure; long bytes become a blob."""
        if len(data) <= wire.INLINE_BYTES:
            return self._ext(wire.BYTES, bytes(data), data)
        at = self._blob_bytes
        self.blobs.append(data)
        self._blob_bytes += len(data)
        return self._ext(wire.BLOB, wire.BLOB_LAYOUT.pack(at, len(data)), data)

    def _ext(self, code: int, data: bytes, value: object) -> Ext:
        self.spend(1, value)
        return Ext(code, data)

    def _int(self, value: int) -> Ext:
        length = value.bit_length() // 8 + 1
        if self._keys and length > wire.MAX_KEY_INT_BYTES:
            raise Unserializable("int", f"of {length} bytes is too long for a key ({wire.MAX_KEY_INT_BYTES})")
        return self._ext(wire.INT, value.to_bytes(length, "little", signed=True), value)

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if {str}.issuperset(map(type, value)):
            keys = self.items(value, depth)
            values = self._values(value, depth)
            if {str}.issuperset(map(type, keys)):  # no surrogates
                return dict(zip(keys, values, strict=True))
        else:
            keys = self._hashed(list(value), depth)
            values = self._values(value, depth)
        return self.nested(wire.DICT, [keys, values], value)

    def _values(self, value: dict[Any, Any], depth: int) -> list[Any]:
        packed = []
        for key, item in value.items():
            try:
                packed.append(self.value(item, depth + 1))
            except Unserializable as error:
                error.within(key_step(key))
                raise
        return packed

    def _hashed(self, keys: list[Any], depth: int) -> list[Any]:
        self.spend(key_units(keys), keys)
        if crowded(keys, self.pace):
            raise Unserializable(type_name(keys[0]), "and the keys beside it share too many hashes")
        self._keys += 1
        packed = self.items(keys, depth)
        self._keys -= 1
        return packed

    def _set(self, value: Any, depth: int) -> tuple[int, bytes]:
        code = wire.SET if type(value) is set else wire.FROZENSET
        return code, _ENCODER.encode(self._hashed(list(value), depth))

    def _tuple(self, value: Any, depth: int) -> tuple[int, bytes]:
        return wire.TUPLE, _ENCODER.encode(self.items(value, depth))

    def _decimal(self, value: Decimal, depth: int) -> tuple[int, bytes]:
        exponent = value.as_tuple().exponent
        text = str(value)
        if len(text) > wire.MAX_DIGITS or (type(exponent) is int and abs(exponent) > wire.MAX_EXPONENT):
            raise Unserializable("decimal.Decimal", "has too many digits or too large an exponent")
        return wire.DECIMAL, text.encode("ascii")

    def _other(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in (bytes, bytearray, memoryview):
            return self.buffer(bytes(value))
        if (numpy := sys.modules.get("numpy")) is not None:
            from agentplug.core.boundary.codec import arrays

            if kind is numpy.ndarray:
                return self.nested(wire.ARRAY, arrays.pack_array(self, value), value)
            if isinstance(value, numpy.generic):
                return self.nested(wire.SCALAR, arrays.pack_scalar(self, value), value)
        if "pandas" in sys.modules:
            from agentplug.core.boundary.codec import tables

            if (packed := tables.pack(self, value, depth)) is not None:
                return self.nested(*packed, value)
        if isinstance(value, tuple) and type(getattr(kind, "_fields", None)) is tuple:
            return self._ext(*self._tuple(value, depth), value)
        if dataclasses.is_dataclass(kind) and not isinstance(value, _CONTENT):
            self.spend(wire.MAP_UNITS, value)
            return self._dict({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, depth)
        raise Unserializable(type_name(value))


def _pack_datetime(packer: Packer, value: datetime, depth: int) -> tuple[int, bytes]:
    day = wire.DATE_LAYOUT.pack(value.year, value.month, value.day)
    return wire.DATETIME, day + _pack_clock(value, value.utcoffset())


def _pack_time(packer: Packer, value: time, depth: int) -> tuple[int, bytes]:
    offset = value.utcoffset()
    if value.tzinfo is not None and offset is None:
        raise Unserializable("datetime.time", "has a zone whose offset depends on the day")
    return wire.TIME, _pack_clock(value, offset)


def _pack_clock(value: Any, offset: timedelta | None) -> bytes:
    micros = 0 if offset is None else offset // wire.MICROSECOND
    clock = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return wire.TIME_LAYOUT.pack(*clock, offset is not None, micros)


def _pack_span(packer: Packer, value: timedelta, depth: int) -> tuple[int, bytes]:
    return wire.TIMEDELTA, wire.SPAN_LAYOUT.pack(value.days, value.seconds, value.microseconds)


_PACK: dict[type, Callable[[Packer, Any, int], tuple[int, bytes]]] = {
    tuple: Packer._tuple,
    set: Packer._set,
    frozenset: Packer._set,
    Decimal: Packer._decimal,
    complex: lambda packer, value, depth: (wire.COMPLEX, wire.COMPLEX_LAYOUT.pack(value.real, value.imag)),
    uuid.UUID: lambda packer, value, depth: (wire.UUID, value.bytes),
    datetime: _pack_datetime,
    date: lambda packer, value, depth: (wire.DATE, wire.DATE_LAYOUT.pack(value.year, value.month, value.day)),
    time: _pack_time,
    timedelta: _pack_span,
}
