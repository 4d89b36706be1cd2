"""pandas timestamps, spans, periods and intervals, and time zones, on the wire (host and worker).

A zone is its offset or its name, a frequency its name; no other text reaches pandas' parsers. pandas is imported with
the first of them.
"""

from __future__ import annotations

import functools
import re
import sys
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agentplug.core.boundary.codec.layout import MICROSECOND, DecodeError, Unserializable, type_name

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.coders import Reading, Writing

FREQ = re.compile(r"-?\d{0,6}[A-Za-z]{1,4}(?:-[A-Z]{3})?")
CLOSED = ("left", "right", "both", "neither")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,3}")
STAMP_UNITS = 8


def pack_stamp(packer: Writing, value: Any, depth: int) -> list[Any] | None:
    """Return the parts of a pandas scalar, None for any other value."""
    pd = sys.modules["pandas"]
    kind = type(value)
    if value is pd.NaT or value is pd.NA:
        return ["NaT" if value is pd.NaT else "NA"]
    if kind is pd.Timestamp:
        return ["timestamp", int(value.asm8.view("i8")), value.unit, pack_zone(packer, value.tzinfo)]
    if kind is pd.Timedelta:
        return ["timedelta", int(value.asm8.view("i8")), value.unit]
    if kind is pd.Period and FREQ.fullmatch(value.freqstr):
        return ["period", value.ordinal, value.freqstr]
    if kind is pd.Interval:
        return ["interval", packer.items([value.left, value.right], depth), value.closed]
    return None


def pack_zone(packer: Writing, zone: tzinfo | None) -> int | str | None:
    """Return a zone's name, or its offset in microseconds if that is fixed."""
    if zone is None:
        return None
    if isinstance(zone, timezone):
        return zone.utcoffset(None) // MICROSECOND
    name = zone.key if isinstance(zone, ZoneInfo) else getattr(zone, "zone", None)
    if type(name) is not str or _ZONE.fullmatch(name) is None:
        raise Unserializable(type_name(zone), "is a time zone without a name")
    packer.spend(packer.zones.units_of(name), zone)
    return name


def unpack_stamp(unpacker: Reading, parts: Any, depth: int) -> Any:
    """Return the pandas scalar of these parts: a Timestamp, a Timedelta, a Period, an Interval, NaT or NA."""
    import numpy as np
    import pandas as pd

    unpacker.spend(STAMP_UNITS)
    if parts in (["NaT"], ["NA"]):
        return pd.NaT if parts == ["NaT"] else pd.NA
    kind, count, unit, *zone = parts
    if kind == "interval" and unit in CLOSED:
        left, right = unpacker.items(count, depth)
        return pd.Interval(left, right, closed=unit)
    if kind == "period" and type(count) is int and FREQ.fullmatch(unit):
        return pd.Period(ordinal=count, freq=unit)
    if type(count) is not int or not -(1 << 63) <= count < 1 << 63 or unit not in ("s", "ms", "us", "ns"):
        raise DecodeError("a timestamp that isn't ours")
    if kind == "timestamp":
        stamp = pd.Timestamp(np.datetime64(count, unit))
        return stamp if zone == [None] else stamp.tz_localize("UTC").tz_convert(unpack_zone(unpacker, *zone))
    if kind == "timedelta" and not zone:
        return pd.Timedelta(np.timedelta64(count, unit))
    raise DecodeError("a timestamp that isn't ours")


def unpack_zone(unpacker: Reading, zone: Any) -> tzinfo:
    """Return the zone of this name or offset. Names come from the machine's own list of zones."""
    if type(zone) is int:
        return timezone(timedelta(microseconds=zone)) if zone else UTC
    if type(zone) is not str or len(zone) > 64 or _ZONE.fullmatch(zone) is None:
        raise DecodeError("a time zone that isn't ours")
    unpacker.spend(unpacker.zones.units_of(zone))
    return _zone(zone)


@functools.cache
def _zone(name: str) -> ZoneInfo:
    """Return the zone of this name. There are some 600, and each is a file to read."""
    return ZoneInfo(name)
