"""pandas columns and indexes on the wire (host and worker), in one module because each may contain the other.

A column is a list whose first item names its kind: numpy arrays, texts joined into one blob with their lengths, or
single values. One explicit constructor here builds each kind.

The frequency of an index is dropped if pandas would take too long to check it: beyond 10,000 steps of a day or less;
beyond 1,000 steps of weeks, business days, months, quarters and years in one value; and every other kind.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentplug.core.boundary.codec.arrays import pack_array, unpack_array
from agentplug.core.boundary.codec.categories import check_categories, most_categories
from agentplug.core.boundary.codec.layout import DecodeError, Unserializable, text_of, type_name, utf8_of
from agentplug.core.boundary.codec.times import CLOSED, FREQ, pack_zone, unpack_zone

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.coders import Reading, Writing

_COLUMN_UNITS = 30
_UNITS = (("s", 1), ("ms", 1), ("us", 1), ("ns", 1))
_MAX_FREQ_LENGTH = 10_000
_FIXED = re.compile(r"-?\d{0,6}(?:D|h|min|s|ms|us|ns)")
_CALENDAR = re.compile(r"-?\d{0,6}(?:W|B|B?[MQY][SE])(?:-[A-Z]{3})?")
_TEXTS_AT_ONCE = 1 << 12
_MAX_RANGE = 1 << 24
INDEXES = (
    "Index",
    "RangeIndex",
    "MultiIndex",
    "DatetimeIndex",
    "TimedeltaIndex",
    "PeriodIndex",
    "IntervalIndex",
    "CategoricalIndex",
)


def pack_column(packer: Writing, array: Any, depth: int) -> list[Any]:
    """Return the parts of a column, which is a pandas array."""
    import numpy as np

    pd = sys.modules["pandas"]
    packer.spend(_COLUMN_UNITS, array)
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy()
    dtype = array.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return ["array", pack_array(packer, np.asarray(array))]
    if isinstance(dtype, np.dtype):
        items = list(array)
        if items and {str}.issuperset(map(type, items)):
            return _pack_texts(packer, items, "object", "")
        return ["values", packer.items(items, depth + 1)]
    if isinstance(dtype, pd.CategoricalDtype):
        if len(array.categories) > (most := most_categories(array.categories)):
            raise Unserializable("category", f"has more than {most} categories of its kind; use plain values")
        packer.spend(2 * len(array.categories), array)
        categories = pack_index(packer, array.categories, depth)  # first, as they are read
        return ["category", pack_array(packer, np.asarray(array.codes)), categories, bool(array.ordered)]
    if isinstance(dtype, pd.StringDtype):
        items = []
        for at in range(0, len(array), _TEXTS_AT_ONCE):
            piece = array[at : at + _TEXTS_AT_ONCE]
            items += [None if missing else str(text) for text, missing in zip(piece, piece.isna(), strict=True)]
            packer.pace.pause()
        return _pack_texts(packer, items, "NA" if dtype.na_value is pd.NA else "nan", dtype.storage)
    if isinstance(array, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        mask = array.isna()
        data = array.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
        return ["masked", pack_array(packer, data), pack_array(packer, mask)]
    if isinstance(dtype, pd.DatetimeTZDtype):
        instants = array.to_numpy(dtype=f"M8[{dtype.unit}]")  # in UTC
        return ["zoned", pack_array(packer, instants), pack_zone(packer, dtype.tz)]
    if isinstance(dtype, pd.PeriodDtype) and FREQ.fullmatch(freq := dtype.name[len("period[") : -1]):
        return ["period", pack_array(packer, np.asarray(array.asi8)), freq]
    if isinstance(dtype, pd.IntervalDtype):
        ends = [pack_column(packer, end.array, depth) for end in (array.left, array.right)]
        return ["interval", *ends, dtype.closed]
    raise Unserializable(type_name(array), "is a pandas column that has no place on the wire")


def _pack_texts(packer: Writing, items: list[str | None], missing: str, storage: str) -> list[Any]:
    import numpy as np

    packer.texts += len(items)
    lengths = np.empty(len(items), "<i4")
    pieces = []
    for at in range(0, len(items), _TEXTS_AT_ONCE):
        piece = items[at : at + _TEXTS_AT_ONCE]
        lengths[at : at + len(piece)] = [-1 if text is None else len(text) for text in piece]
        pieces.append("".join(text for text in piece if text is not None))
        packer.pace.pause()
    joined = utf8_of("".join(pieces), packer.pace)
    return ["texts", missing, storage, packer.buffer(lengths.view(np.uint8).data), packer.buffer(joined)]


def pack_index(packer: Writing, index: Any, depth: int) -> list[Any]:
    """Return the parts of an index."""
    import numpy as np

    pd = sys.modules["pandas"]
    packer.spend(_COLUMN_UNITS, index)
    if type(index) is pd.RangeIndex:
        return ["range", index.start, index.stop, index.step, packer.value(index.name, depth + 1)]
    names = packer.items(list(index.names), depth + 1)
    if type(index) is pd.MultiIndex:
        levels = [pack_index(packer, level, depth) for level in index.levels]
        codes = [pack_array(packer, np.asarray(codes)) for codes in index.codes]
        return ["multi", levels, codes, names]
    if type(index).__name__ not in INDEXES:
        raise Unserializable(type_name(index))
    freq = getattr(index, "freqstr", None) if isinstance(index, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
    if freq is not None and not _is_quick_to_check(packer, freq, len(index)):
        freq = None
    if freq is not None:
        packer.spend(4 * len(index), index)
    return ["index", pack_column(packer, index.array, depth), names[0], freq]


def unpack_column(unpacker: Reading, parts: Any, depth: int) -> Any:
    """Return the numpy or pandas array of these parts."""
    import numpy as np
    import pandas as pd

    unpacker.spend(_COLUMN_UNITS)
    kind, *rest = parts
    if kind == "array":
        return _line(unpacker, rest[0], "biufcmM")
    if kind == "values":
        values = unpacker.items(rest[0], depth + 1)
        return np.fromiter(values, dtype=object, count=len(values))
    if kind == "texts":
        return _texts(unpacker, *rest)
    if kind == "category":
        categories = unpack_labels(unpacker, rest[1], depth, None)
        unpacker.spend(2 * len(categories))
        check_categories(categories)
        codes = _codes(unpacker, rest[0], len(categories))
        # Without pandas' own check of the categories: it builds a hash table.
        dtype: Any = pd.CategoricalDtype
        dtype = dtype._from_fastpath(categories, bool(rest[2]))
        return pd.Categorical.from_codes(codes, dtype=dtype)
    if kind == "masked":
        data, mask = _line(unpacker, rest[0], "biuf"), _line(unpacker, rest[1], "b")
        masked = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
        return masked.get(data.dtype.kind, pd.arrays.IntegerArray)(data, mask)
    if kind == "zoned":
        instants = pd.DatetimeIndex(_line(unpacker, rest[0], "M"))
        return instants.tz_localize("UTC").tz_convert(unpack_zone(unpacker, rest[1])).array
    if kind == "period" and FREQ.fullmatch(rest[1]):
        return _periods(_line(unpacker, rest[0], "i"), rest[1])
    if kind == "interval" and rest[2] in CLOSED:
        # Columns, whose length the input bounds: pandas makes arrays of whatever it gets here.
        left, right = (unpack_column(unpacker, end, depth) for end in rest[:2])
        return pd.arrays.IntervalArray.from_arrays(left, right, closed=rest[2])
    raise DecodeError("a column of no kind of ours")


def _line(unpacker: Reading, parts: Any, kinds: str) -> Any:
    """Return an array of one dimension and one of these kinds."""
    array = unpack_array(unpacker, parts)
    if array.ndim != 1 or array.dtype.kind not in kinds or array.dtype.names is not None:
        raise DecodeError("a column that isn't one")
    check_unit(array)
    return array


def check_unit(array: Any) -> None:
    """Raise `DecodeError` for times in units that pandas converts: 2 million of them, in one call, took 100 ms."""
    import numpy as np

    if array.dtype.kind in "mM" and np.datetime_data(array.dtype) not in _UNITS:
        raise DecodeError("times in a unit that no table has")


def _codes(unpacker: Reading, parts: Any, count: int) -> Any:
    """Return positions among `count` items, -1 for none: pandas uses them unchecked, in C."""
    codes = _line(unpacker, parts, "i")
    if len(codes) and not (codes.min() >= -1 and codes.max() < count):
        raise DecodeError("a code that stands for nothing")
    return codes


def _texts(unpacker: Reading, missing: Any, storage: Any, packed_lengths: Any, packed_text: Any) -> Any:
    import numpy as np
    import pandas as pd

    if missing not in ("object", "NA", "nan"):
        raise DecodeError("texts of no kind of ours")
    lengths = np.frombuffer(unpacker.buffer(packed_lengths), dtype="<i4")
    unpacker.texts_left -= len(lengths)
    if unpacker.texts_left < 0:
        raise DecodeError("too many texts in columns")
    text = text_of(unpacker.buffer(packed_text), unpacker.pace)
    ends = np.maximum(lengths, 0).cumsum(dtype="i8")
    if (lengths < -1).any() or (int(ends[-1]) if len(ends) else 0) != len(text):
        raise DecodeError("texts that don't fit their lengths")
    if missing == "object":
        column = np.empty(len(lengths), dtype=object)
        for at, items in _cut(unpacker, text, lengths):
            column[at : at + len(items)] = items
        return column
    text_dtype: Any = pd.StringDtype  # whose second argument came with pandas 2.3
    chosen = {"na_value": np.nan} if missing == "nan" else {}
    dtype = text_dtype("python" if storage == "python" else None, **chosen)
    pieces = [pd.Series(items, dtype=dtype) for _, items in _cut(unpacker, text, lengths)]
    return pd.concat(pieces).array if pieces else pd.array([], dtype=dtype)


def _cut(unpacker: Reading, text: str, lengths: Any) -> Iterator[tuple[int, list[str | None]]]:
    """Yield the texts of these lengths, some at a time, with the place of the first: four million in one call of
    pandas stopped all other threads for 1.7 s."""
    end = 0
    for at in range(0, len(lengths), _TEXTS_AT_ONCE):
        items: list[str | None] = []
        for length in lengths[at : at + _TEXTS_AT_ONCE].tolist():
            items.append(None if length < 0 else text[end : end + length])
            end += max(length, 0)
        yield at, items
        unpacker.pace.pause()


def _periods(ordinals: Any, freq: str) -> Any:
    import pandas as pd

    index: Any = pd.PeriodIndex
    return index.from_ordinals(ordinals, freq=freq).array


def not_too_long(unpacker: Reading, index: Any) -> Any:
    """Return `index`. Raises `DecodeError` for a long range without data, which takes gigabytes once it is used."""
    if len(index) > max(_MAX_RANGE, unpacker.at):
        raise DecodeError("an index that is too long")
    return index


def unpack_labels(unpacker: Reading, parts: Any, depth: int, length: int | None) -> Any:
    """Return the index of these parts, of this `length` unless None."""
    import pandas as pd

    unpacker.spend(_COLUMN_UNITS)
    kind, *rest = parts
    if kind == "range":
        start, stop, step, name = rest
        if not {int}.issuperset(map(type, (start, stop, step))) or len(range(start, stop, step)) > 1 << 40:
            raise DecodeError("a range that isn't one")
        index: Any = pd.RangeIndex(start, stop, step, name=unpacker.value(name, depth + 1))
    elif kind == "multi":
        names = unpacker.items(rest[2], depth + 1)
        levels = [not_too_long(unpacker, unpack_labels(unpacker, level, depth, None)) for level in rest[0]]
        codes = [_codes(unpacker, codes, len(level)) for codes, level in zip(rest[1], levels, strict=True)]
        if len({len(code) for code in codes}) != 1 or len(names) != len(levels):
            raise DecodeError("an index whose levels differ in length")
        # Without pandas' own check: it looks for codes out of range, as above, and then builds a hash table a level.
        index = pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
    elif kind == "index":
        packed, name, freq = rest
        name = unpacker.value(name, depth + 1)
        column = unpack_column(unpacker, packed, depth)
        index = pd.Index(column, dtype=column.dtype, name=name, tupleize_cols=False, copy=False)
        if freq is not None:
            index = _with_freq(unpacker, index, freq)
    else:
        raise DecodeError("an index of no kind of ours")
    if length is not None and len(index) != length:
        raise DecodeError("an index that doesn't fit what it labels")
    return index


def _with_freq(unpacker: Reading, index: Any, freq: Any) -> Any:
    unpacker.spend(4 * len(index))
    if not _is_quick_to_check(unpacker, freq, len(index)):
        raise DecodeError("a frequency that isn't ours, or has too many steps")
    try:
        return type(index)(index, freq=freq)
    except ValueError:
        return index  # a step may be more than its name says


def _is_quick_to_check(coder: Writing | Reading, freq: str, length: int) -> bool:
    """True if pandas checks `length` steps of this frequency soon enough; count calendar steps. pandas goes from step
    to step: a calendar step takes up to 60 µs, one of custom business hours far more."""
    if _FIXED.fullmatch(freq):
        return length <= _MAX_FREQ_LENGTH
    if _CALENDAR.fullmatch(freq) is None or length > coder.calendar_steps:
        return False
    coder.calendar_steps -= length
    return True
