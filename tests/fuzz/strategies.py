"""Every value that the codec carries, as one strategy, and what it means for two of them to be the same."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pandas.testing as pdt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

texts = st.text(st.characters(exclude_categories=()), max_size=12)  # any code point, lone surrogates too
_offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
_decimals = st.one_of(
    st.decimals(allow_nan=True).filter(lambda number: not number.is_snan()),  # one that signals can be no key
    st.integers(-(10**30), 10**30).map(Decimal),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 600), 1 << 600),
    st.sampled_from([(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), -(1 << 63) - 1]),
    st.floats(),
    texts,
    st.binary(max_size=600),
    st.complex_numbers(),
    _decimals,
    st.uuids(),
    st.datetimes(),
    st.datetimes(timezones=st.one_of(st.just(UTC), _offsets)),
    st.dates(),
    st.times(),
    st.times(timezones=_offsets),
    st.timedeltas(),
)
keys = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)

_simple = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(min_len=1),
)
_records = hnp.array_dtypes(_simple, max_size=3, allow_subarrays=True).filter(
    lambda dtype: len(dtype.fields) == len(dtype.names)  # no titles
)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays of any dtype without objects: empty ones, 0-dimensional ones, and views that step, turn or repeat."""
    dtype = draw(st.one_of(_simple, _records))
    array = np.asarray(draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))))
    match draw(st.integers(0, 5)):
        case 0 if array.ndim:
            return array[:: draw(st.sampled_from([2, -1, -2]))]
        case 1:
            return array.T
        case 2:
            return np.asfortranarray(array)
        case 3:
            return np.broadcast_to(array, (2, *array.shape))
        case _:
            return array


_days = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))
_small = st.integers(-100, 100)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


def _objects(items: list[Any]) -> Any:
    return np.fromiter(items, dtype=object, count=len(items))


_COLUMNS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "int64": (st.integers(-(1 << 63), (1 << 63) - 1), lambda items: np.array(items, "i8")),
    "uint8": (st.integers(0, 255), lambda items: np.array(items, "u1")),
    "float32": (st.floats(width=32), lambda items: np.array(items, "f4")),
    "float64": (st.floats(), lambda items: np.array(items, "f8")),
    "bool": (st.booleans(), lambda items: np.array(items, "?")),
    "complex128": (st.complex_numbers(), lambda items: np.array(items, "c16")),
    "Int16": (_maybe(st.integers(-(1 << 15), (1 << 15) - 1)), lambda items: pd.array(items, dtype="Int16")),
    "UInt64": (_maybe(st.integers(0, 1000)), lambda items: pd.array(items, dtype="UInt64")),
    "Float64": (_maybe(st.floats(allow_nan=False)), lambda items: pd.array(items, dtype="Float64")),
    "boolean": (_maybe(st.booleans()), lambda items: pd.array(items, dtype="boolean")),
    "string": (_maybe(st.text(max_size=8)), lambda items: pd.array(items, dtype="string")),
    "str": (_maybe(st.text(max_size=8)), lambda items: pd.array(items, dtype="str")),
    "texts": (texts, _objects),
    "objects": (keys, _objects),
    "category": (_maybe(st.sampled_from("abc")), lambda items: pd.Categorical(items, categories=["c", "a", "b"])),
    "ordered": (_small, lambda items: pd.Categorical(items, ordered=True)),
    "naive": (_maybe(_days), lambda items: pd.to_datetime(pd.Series(items, dtype="M8[us]")).array),
    "nanoseconds": (_days, lambda items: pd.Series(items, dtype="M8[ns]").array),
    "zoned": (
        _maybe(_days),
        lambda items: pd.Series(items, dtype="M8[ms]").dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo").array,
    ),
    "fixed": (
        _days,
        lambda items: pd.Series(items, dtype="M8[s]").dt.tz_localize(timezone(timedelta(hours=5))).array,
    ),
    "span": (
        _maybe(st.timedeltas(timedelta(-9), timedelta(9))),
        lambda items: pd.Series(items, dtype="m8[us]").array,
    ),
    "period": (_small, lambda items: pd.PeriodIndex.from_ordinals(items, freq="M").array),
    "interval": (
        _small,
        lambda items: pd.arrays.IntervalArray.from_arrays(items, [at + 2 for at in items], closed="both"),
    ),
}


@st.composite
def columns(draw: st.DrawFn, length: int | None = None, names: tuple[str, ...] = tuple(_COLUMNS)) -> Any:
    """What a Series or an Index is made of: an array of one of the dtypes that the codec knows."""
    items, make = _COLUMNS[draw(st.sampled_from(names))]
    size = draw(st.integers(0, 5)) if length is None else length
    return make(draw(st.lists(items, min_size=size, max_size=size)))


_LABELS = tuple(name for name in _COLUMNS if name not in ("objects", "complex128"))


@st.composite
def indexes(draw: st.DrawFn, length: int | None = None) -> Any:
    """Indexes of each class: ranges, plain ones of each dtype, with frequencies, of several levels."""
    size = draw(st.integers(0, 5)) if length is None else length
    name = draw(st.one_of(st.none(), keys.filter(_labels_well)))
    match draw(st.integers(0, 4)):
        case 0:
            start, step = draw(_small), draw(st.sampled_from([1, 2, -3]))
            return pd.RangeIndex(start, start + size * step, step, name=name)
        case 1:
            levels = [draw(columns(size, _LABELS)) for _ in range(draw(st.integers(1, 3)))]
            return pd.MultiIndex.from_arrays(levels, names=[name, *[None] * (len(levels) - 1)])
        case 2:
            return pd.date_range(
                "2024", periods=size, freq=draw(st.sampled_from(["D", "7h", "ME", "W-TUE"])), name=name
            )
        case 3:
            return pd.timedelta_range("1s", periods=size, freq="90s", name=name)
        case _:
            return pd.Index(draw(columns(size, _LABELS)), name=name)


def _labels_well(name: Any) -> bool:
    """A name that pandas' own comparisons bear: nan isn't itself there, and a tuple reads as a list of names."""
    return not isinstance(name, (tuple, frozenset)) and (
        not isinstance(name, (float, complex, Decimal)) or name == name  # noqa: PLR0124
    )


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """Series and DataFrames, of one dtype or many, labels that repeat among them."""
    size = draw(st.integers(0, 4))
    index = draw(indexes(size))
    if draw(st.booleans()):
        return pd.Series(
            draw(columns(size)), index=index, name=draw(st.one_of(st.none(), scalars.filter(_labels_well)))
        )
    width = draw(st.integers(0, 4))
    if draw(st.integers(0, 3)) == 0:
        frame = pd.DataFrame(draw(hnp.arrays("f8", (size, width))), index=index)
    else:
        made = {at: pd.Series(draw(columns(size)), index=index) for at in range(width)}
        frame = pd.DataFrame(made, index=index)
    frame.columns = draw(indexes(width))
    return frame


stamps = st.one_of(
    st.sampled_from([pd.NaT, pd.NA, pd.Period("2024-01", "M"), pd.Interval(1, 2.5, closed="both")]),
    st.builds(pd.Timestamp, _days),
    st.builds(lambda at: pd.Timestamp(at, tz="Europe/Paris"), _days),
    st.builds(pd.Timedelta, st.timedeltas(timedelta(-999), timedelta(999))),
)
numpy_scalars = st.one_of(
    hnp.arrays(_simple, ()).map(lambda array: array[()]),
    st.text(max_size=5).map(np.str_),
    st.binary(max_size=300).map(np.bytes_),
)
values = st.recursive(
    st.one_of(scalars, keys, arrays(), numpy_scalars, stamps, tables(), indexes()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equal in type and value all the way down, with nan the same as nan, and -0.0 not as 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (np.ndarray, np.generic)):
        left, right = np.asarray(left), np.asarray(right)
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, (pd.DataFrame, pd.Series, pd.Index)):
        return _same_table(left, right)
    if left is pd.NaT or left is pd.NA:
        return left is right
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, (set, frozenset)):
        return _same_set(left, list(right))
    if isinstance(left, pd.Timestamp):
        return bool(left == right) and (left.unit, left.tz) == (right.unit, right.tz)
    if isinstance(left, (datetime, time)):
        return left.replace(tzinfo=None) == right.replace(tzinfo=None) and (
            left.fold == right.fold and left.utcoffset() == right.utcoffset()
        )
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    return bool(left == right)


def _same_set(items: Any, rest: list[Any]) -> bool:
    for item in items:
        found = next((at for at, other in enumerate(rest) if same(item, other)), None)
        if found is None:
            return False
        del rest[found]
    return not rest


def _same_table(left: Any, right: Any) -> bool:
    try:
        if isinstance(left, pd.Index):
            pdt.assert_index_equal(right, left, exact=True)
            return getattr(left, "freq", None) == getattr(right, "freq", None)
        if isinstance(left, pd.Series):
            pdt.assert_series_equal(right, left, check_index_type=True, check_exact=True)
            return _same_objects(left, right)
        pdt.assert_frame_equal(right, left, check_column_type=True, check_index_type=True, check_exact=True)
        return all(_same_objects(left.iloc[:, at], right.iloc[:, at]) for at in range(left.shape[1]))
    except AssertionError:
        return False


def _same_objects(left: Any, right: Any) -> bool:
    return left.dtype != object or same(list(left), list(right))
