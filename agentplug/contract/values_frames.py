"""pandas Series, frames, indexes and timestamps on the wire (host and worker), column by column.

A column is a list whose first item names its kind: numpy arrays for what pandas keeps in arrays, texts joined into
one blob with their lengths beside, values for the rest. Each kind is built by one explicit constructor here.
pandas is imported when the first table arrives, or by whoever made one.

The frequency of a long DatetimeIndex (over 10,000) is dropped: checking one takes pandas too long.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from agentplug.contract.values_arrays import pack_array, unpack_array
from agentplug.contract.values_guard import crowded
from agentplug.contract.values_wire import (
    ARRAY,
    FRAME,
    INDEX,
    MICROSECOND,
    SERIES,
    STAMP,
    DecodeError,
    Unserializable,
    key_step,
    plain,
    type_name,
)

if TYPE_CHECKING:
    from agentplug.contract.values_pack import Packer
    from agentplug.contract.values_unpack import Unpacker

_FRAME_UNITS, _COLUMN_UNITS = 100, 30
_MAX_CATEGORIES = 32_768  # pandas puts them in a table whose hash anyone can foresee
_MAX_FREQ_LENGTH = 10_000
_MAX_RANGE = 1 << 24
_FREQ = re.compile(r"-?\d{0,6}[A-Za-z]{1,4}(?:-[A-Z]{3})?")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,3}")
_INDEXES = (
    "Index",
    "RangeIndex",
    "MultiIndex",
    "DatetimeIndex",
    "TimedeltaIndex",
    "PeriodIndex",
    "IntervalIndex",
    "CategoricalIndex",
)


def pack(packer: Packer, value: Any, depth: int) -> tuple[int, Any] | None:
    """Code and parts of a pandas value, None for any other."""
    pd = sys.modules["pandas"]
    kind = type(value)
    if kind is pd.DataFrame:
        return FRAME, _pack_frame(packer, value, depth)
    if kind is pd.Series:
        column = _pack_column(packer, value.array, depth)
        index = _pack_index(packer, value.index, depth)
        return SERIES, [column, index, packer.value(value.name, depth + 1), _pack_attrs(packer, value, depth)]
    if kind in [getattr(pd, name) for name in _INDEXES]:
        return INDEX, _pack_index(packer, value, depth)
    if value is pd.NaT or value is pd.NA:
        return STAMP, ["NaT" if value is pd.NaT else "NA"]
    if kind is pd.Timestamp:
        return STAMP, ["timestamp", int(value.asm8.view("i8")), value.unit, _pack_zone(value.tzinfo)]
    if kind is pd.Timedelta:
        return STAMP, ["timedelta", int(value.asm8.view("i8")), value.unit]
    return None
