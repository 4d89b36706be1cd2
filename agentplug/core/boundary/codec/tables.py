"""pandas Series, DataFrames and indexes on the wire (host and worker): columns, labels and `attrs`.

pandas is imported with the first table.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from agentplug.core.boundary.codec import layout as wire
from agentplug.core.boundary.codec.arrays import pack_array, unpack_array
from agentplug.core.boundary.codec.columns import (
    INDEXES,
    check_unit,
    not_too_long,
    pack_column,
    pack_index,
    unpack_column,
    unpack_labels,
)
from agentplug.core.boundary.codec.layout import DecodeError, Unserializable, key_step, plain
from agentplug.core.boundary.codec.times import STAMP_UNITS, pack_stamp

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.coders import Reading, Writing

_FRAME_UNITS = 100


def pack(packer: Writing, value: Any, depth: int) -> tuple[int, Any] | None:
    """Return code and parts of a pandas value, None for any other."""
    pd = sys.modules["pandas"]
    kind = type(value)
    if kind is pd.DataFrame:
        return wire.FRAME, _pack_frame(packer, value, depth)
    if kind is pd.Series:
        column = pack_column(packer, value.array, depth)
        index = pack_index(packer, value.index, depth)
        return wire.SERIES, [column, index, packer.value(value.name, depth + 1), _pack_attrs(packer, value, depth)]
    if kind in [getattr(pd, name) for name in INDEXES]:
        return wire.INDEX, pack_index(packer, value, depth)
    stamp = pack_stamp(packer, value, depth)
    if stamp is None:
        return None
    packer.spend(STAMP_UNITS, value)
    return wire.STAMP, stamp


def _pack_attrs(packer: Writing, table: Any, depth: int) -> Any:
    return packer.value(table.attrs, depth + 1) if type(table.attrs) is dict and plain(table.attrs, 0) else {}


def _pack_frame(packer: Writing, frame: Any, depth: int) -> list[Any]:
    import numpy as np

    packer.spend(_FRAME_UNITS, frame)
    dtypes = set(frame.dtypes)
    columns = pack_index(packer, frame.columns, depth)
    index = pack_index(packer, frame.index, depth)
    body: list[Any] = []
    if len(dtypes) == 1 and isinstance(dtype := dtypes.pop(), np.dtype) and dtype.kind in "biufcmM":
        body = ["block", pack_array(packer, frame.to_numpy())]
    else:
        for at, label in enumerate(frame.columns):
            try:
                body.append(pack_column(packer, frame.iloc[:, at].array, depth))
            except Unserializable as error:
                error.within(key_step(label))
                raise
    return [columns, index, body, _pack_attrs(packer, frame, depth)]


def unpack_series(unpacker: Reading, parts: list[Any], depth: int) -> Any:
    """Return the Series of these parts."""
    import pandas as pd

    column = unpack_column(unpacker, parts[0], depth)
    index = unpack_labels(unpacker, parts[1], depth, len(column))
    name = unpacker.value(parts[2], depth + 1)
    series = pd.Series(column, index=index, dtype=column.dtype, name=name, copy=False)
    _attrs(unpacker, series, parts[3], depth)
    return series


def unpack_frame(unpacker: Reading, parts: list[Any], depth: int) -> Any:
    """Return the DataFrame of these parts."""
    import pandas as pd

    unpacker.spend(_FRAME_UNITS)
    columns = unpack_labels(unpacker, parts[0], depth, None)
    index = unpack_labels(unpacker, parts[1], depth, None)
    body = parts[2]
    if type(body) is not list:
        raise DecodeError("a table without columns of ours")
    if body and body[0] == "block":
        block = unpack_array(unpacker, body[1])
        if block.shape != (len(index), len(columns)) or block.dtype.kind not in "biufcmM":
            raise DecodeError("a table whose block doesn't fit its labels")
        check_unit(block)
        for labels in (index, columns):
            not_too_long(unpacker, labels)
        frame = pd.DataFrame(block, index=index, copy=False)
    else:
        series = {}
        for at, column in enumerate(body):
            array = unpack_column(unpacker, column, depth)
            if len(body) != len(columns) or len(array) != len(index):
                raise DecodeError("a table whose columns don't fit its labels")
            series[at] = pd.Series(array, index=not_too_long(unpacker, index), dtype=array.dtype, copy=False)
        if len(body) != len(columns):
            raise DecodeError("a table whose columns don't fit its labels")
        not_too_long(unpacker, index)
        frame = pd.DataFrame(series, index=index, copy=False)
    frame.columns = columns
    _attrs(unpacker, frame, parts[3], depth)
    return frame


def unpack_index(unpacker: Reading, parts: Any, depth: int) -> Any:
    """Return the Index of these parts."""
    return not_too_long(unpacker, unpack_labels(unpacker, parts, depth, None))


def _attrs(unpacker: Reading, table: Any, packed: Any, depth: int) -> None:
    attrs = unpacker.value(packed, depth + 1)
    if type(attrs) is not dict:
        raise DecodeError("a table whose attrs are no dict")
    if attrs:
        table.attrs = attrs
