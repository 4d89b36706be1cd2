"""The value codec: what comes back is what went in, and hostile bytes end in a DecodeError and in nothing else."""

from __future__ import annotations

import collections
import dataclasses
import enum
import gc
import math
import struct
import uuid
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pandas.testing as pdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec.msgpack import Ext
from msgspec.msgpack import encode as msgpack

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.core.boundary.codec import MAX_DEPTH, DecodeError, Unserializable, decode, encode, type_name
from agentplug.core.boundary.codec import layout as wire

MODULUS = (1 << 61) - 1  # every multiple of it hashes to 0


def carried(value: Any) -> Any:
    packed = encode(value)
    return decode(packed.structure, b"".join(packed.blobs))


def same(left: Any, right: Any) -> bool:
    """Equal in type and value all the way down, with nan the same as nan, and -0.0 not as 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, (set, frozenset)):
        rest = list(right)
        for item in left:
            found = next((at for at, other in enumerate(rest) if same(item, other)), None)
            if found is None:
                return False
            del rest[found]
        return not rest
    if isinstance(left, (datetime, time)):
        return left.replace(tzinfo=None) == right.replace(tzinfo=None) and (
            left.fold == right.fold and left.utcoffset() == right.utcoffset()
        )
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    return bool(left == right)


def refused(structure: bytes, blobs: bytes = b"") -> str:
    with pytest.raises(DecodeError) as caught:
        decode(structure, blobs)
    return str(caught.value)


def message_of(structure: bytes, blobs: bytes | bytearray) -> str:
    """The message of the refusal, or nothing when it decodes."""
    try:
        decode(structure, blobs)
    except DecodeError as error:
        return str(error)
    return ""


def ext(code: int, *parts: Any) -> Ext:
    """An extension whose payload is the list of these parts."""
    return Ext(code, msgpack(list(parts)))


def array_parts(array: Any) -> list[Any]:
    return [array.dtype.str, list(array.shape), "C", Ext(wire.BYTES, array.tobytes())]


texts = st.text(st.characters(exclude_categories=()), max_size=12)
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 300), 1 << 300),
    st.floats(),
    texts,
    st.binary(max_size=600),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(),
    st.datetimes(timezones=st.one_of(st.just(UTC), offsets)),
    st.dates(),
    st.times(),
    st.times(timezones=st.just(timezone(timedelta(hours=2)))),
    st.timedeltas(),
)
keys = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
values = st.recursive(
    st.one_of(scalars, keys),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
    ),
    max_leaves=12,
)


class TestRoundTrip:
    @settings(max_examples=300, deadline=None)
    @given(values)
    def test_every_plain_python_value_comes_back_exactly(self, value: Any) -> None:
        """Types, signs of zero, nan, order of keys, folds and lone surrogates survive, at any nesting."""
        assert same(carried(value), value)

    @pytest.mark.parametrize(
        "value",
        [
            1 << 63,
            (1 << 64) - 1,
            1 << 64,
            -(1 << 63),
            -(1 << 63) - 1,
            [1 << 100_000],
            "\ud83d\ude00",
            {"\ud800": 1, "a": 2},
            {1: "int", "1": "str", b"1": "bytes", 1.5: "float", None: 0, (1, True): 0},
            b"x" * 256,
            b"x" * 257,
            [b"a" * 300, {"b": b"b" * 400}, (b"c" * 500,)],
            Decimal("-0E+5"),
            Decimal("NaN"),
            Decimal("-Infinity"),
            datetime(2024, 10, 27, 2, 30, fold=1),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
            ["a" * 100_000],
        ],
    )
    def test_edges_come_back_exactly(self, value: Any) -> None:
        """The ends of msgpack's ranges, and what stands just beyond them, are no different from the middle."""
        assert same(carried(value), value)

    def test_dict_may_have_several_nan_keys(self) -> None:
        """Each nan is a key of its own, as in the dict that was sent."""
        back = carried({float("nan"): 1, float("nan"): 2})
        assert len(back) == 2
        assert all(math.isnan(key) for key in back)

    def test_plain_values_are_native_msgpack(self) -> None:
        """Plain data needs no extension, so decoding it is one call and any msgpack reader can show it."""
        value = {"text": "hello", "n": [1, 2.5, None, True]}
        assert encode(value) == (msgpack(value), [])

    def test_zone_becomes_the_offset_it_had(self) -> None:
        """A ZoneInfo isn't shipped; the instant and the wall clock stay."""
        value = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
        back = carried(value)
        assert back == value
        assert back.tzinfo == timezone(timedelta(hours=2))

    def test_buffers_namedtuples_and_dataclasses_become_plain(self) -> None:
        """What has no type on the wire but an obvious plain form is sent as that."""

        class Point(NamedTuple):
            x: int
            y: int

        @dataclasses.dataclass
        class Row:
            name: str
            point: Any

        value = [bytearray(b"a"), memoryview(b"b" * 300), Row("r", Point(1, 2))]
        assert same(carried(value), [b"a", b"b" * 300, {"name": "r", "point": (1, 2)}])

    def test_blobs_lie_in_order_beside_the_structure(self) -> None:
        """Large bytes aren't copied into the structure, whose length is limited."""
        packed = encode([b"a" * 1000, b"b" * 2000])
        assert packed.blobs == [b"a" * 1000, b"b" * 2000]
        assert packed.blob_bytes == 3000
        assert len(packed.structure) < 100

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer_can_be_decoded(self, kind: type) -> None:
        """A channel may hand over what it received into, without a copy."""
        packed = encode([b"a" * 1000, (1,)])
        assert decode(memoryview(packed.structure), kind(b"".join(packed.blobs))) == [b"a" * 1000, (1,)]

    def test_depth_up_to_the_limit_comes_back(self) -> None:
        """What `encode` takes, `decode` takes: lists, dicts and tuples in turn, as deep as allowed."""
        value: Any = 1
        for at in range(MAX_DEPTH):
            value = [[value], {"a": value}, (value,), {1: value}][at % 4]
        assert same(carried(value), value)

    def test_collector_is_left_as_it_was(self) -> None:
        """Reading a large structure pauses Python's collector; afterwards it runs again, and stays off if it was."""
        large = encode(["text"] * 50_000).structure
        decode(large)
        assert gc.isenabled()
        gc.disable()
        try:
            decode(large)
            assert not gc.isenabled()
        finally:
            gc.enable()


simple_dtypes = st.one_of(
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
records = hnp.array_dtypes(simple_dtypes, max_size=3, allow_subarrays=True)
dtypes = st.one_of(simple_dtypes, records.filter(lambda dtype: len(dtype.fields) == len(dtype.names)))  # no titles


class TestNumpy:
    @settings(max_examples=150, deadline=None)
    @given(hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)), st.booleans())
    def test_arrays_come_back_with_values_dtype_and_shape(self, array: Any, turned: bool) -> None:
        """Any dtype without objects, empty, 0-d, transposed; the copy is writable and owns its memory."""
        array = np.asarray(array)
        if turned:
            array = array.T[..., ::-1] if array.ndim else array
        back = carried(array)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
        assert back.flags.writeable
        assert back.flags.owndata

    def test_fortran_order_is_kept(self) -> None:
        """A column-ordered array is neither turned on the way nor copied to be sent."""
        array = np.asfortranarray(np.arange(1200.0).reshape(30, 40))
        packed = encode(array)
        assert np.shares_memory(np.frombuffer(packed.blobs[0], "u1"), array)
        back = decode(packed.structure, b"".join(packed.blobs))
        assert back.flags.f_contiguous
        assert (back == array).all()

    @pytest.mark.parametrize(
        "value",
        [
            np.float64(-0.0),
            np.float16(2),
            np.int8(-1),
            np.bool_(True),
            np.complex64(1j),
            np.datetime64("2024-01-01T00:00:01", "s"),
            np.timedelta64(5, "ms"),
            np.str_("a\0"),
            np.str_(""),
            np.bytes_(b"a\0"),
            np.longdouble(3),
        ],
    )
    def test_scalars_come_back_with_their_dtype(self, value: Any) -> None:
        """A numpy scalar stays one, though some are subclasses of Python's."""
        back = carried({"x": value})["x"]
        assert type(back) is type(value)
        assert back == value

    def test_record_scalar_and_numpy_keys_come_back(self) -> None:
        """Records, and numpy ints as keys (as groupby makes), are nothing special."""
        record = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])[0]
        assert carried(record) == record
        back = carried({np.int64(3): "x"})
        assert [type(key) for key in back] == [np.int64]

    @pytest.mark.parametrize(
        "array",
        [
            np.array([object()], dtype=object),
            np.zeros(2, dtype=[("a", "O")]),
            np.zeros(2, dtype=[(("title", "a"), "i4")]),
            np.ma.masked_array([1]),
            np.array(["a"], dtype=np.dtypes.StringDType()),
            np.empty(3, dtype=[]),
        ],
        ids=["object", "field", "titles", "masked", "StringDType", "no fields"],
    )
    def test_other_arrays_are_unserializable(self, array: Any) -> None:
        """Objects in arrays, titles, subclasses and items of no size are refused rather than lost."""
        with pytest.raises(Unserializable):
            encode(array)


def tables() -> dict[str, pd.DataFrame]:
    days = pd.date_range("2024-03-30", periods=3, tz="Europe/Paris")
    wide = pd.DataFrame(
        {
            "int": [1, 2, 3],
            "float": [1.0, np.nan, -0.0],
            "bool": [True, False, True],
            "text": pd.array(["a", None, "\ud800é"], dtype=pd.StringDtype("python", na_value=np.nan)),  # not in Arrow
            "NA text": pd.array(["x", None, ""], dtype="string"),
            "Int16": pd.array([1, None, 3], dtype="Int16"),
            "Float32": pd.array([1, None, 3], dtype="Float32"),
            "boolean": pd.array([True, None, False], dtype="boolean"),
            "category": pd.Categorical(["b", None, "a"], categories=["b", "a"], ordered=True),
            "cut": pd.cut([1, 2, 3], 2),
            "naive": pd.date_range("2024", periods=3).as_unit("s"),
            "zoned": days,
            "fixed": days.tz_convert(timezone(timedelta(hours=5))),
            "span": pd.to_timedelta([1, 2, None], unit="s"),
            "period": pd.period_range("2024-01", periods=3, freq="M"),
            "interval": pd.arrays.IntervalArray.from_breaks([0.0, 1.0, 2.0, 3.0], closed="left"),
            "objects": pd.Series([(1, 2), {"k": 2**70}, None], dtype=object),
            "texts": pd.Series(["p", "q", ""], dtype=object),
            "pandas": pd.Series([pd.NaT, pd.NA, pd.Timestamp("2024", tz="UTC")], dtype=object),
        }
    )
    small = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    return {
        "wide": wide,
        "no rows": wide.iloc[:0],
        "no columns": wide[[]],
        "empty": pd.DataFrame(),
        "block": small,
        "same names": small.set_axis(["a", "a"], axis=1),
        "any names": small.set_axis(pd.Index([(1, 2), None], tupleize_cols=False), axis=1),
        "two levels": wide.set_index(["text", "int"])[["float", "category"]],
        "columns of two levels": pd.concat({"x": small, "y": small}, axis=1, names=["k", None]),
        "zoned index": small.set_index(days),
        "period index": small.set_index(wide["period"]),
        "interval index": small.set_index(wide["cut"]),
        "nullable index": small.set_index(wide["Int16"]),
        "category index": small.set_index(wide["category"]),
        "range": small.set_axis(range(10, 4, -2)),
        "sliced": wide.iloc[::2],
        "transposed": small.T,
    }


class TestPandas:
    @pytest.mark.parametrize("name", tables())
    def test_frames_come_back(self, name: str) -> None:
        """Values, dtypes, index, columns, names and frequencies are those that were sent."""
        frame = tables()[name]
        pdt.assert_frame_equal(carried(frame), frame, check_column_type=True, check_index_type=True)

    @pytest.mark.parametrize("column", tables()["wide"].columns)
    def test_series_and_indexes_of_every_dtype_come_back(self, column: str) -> None:
        """A column alone, with its name and dtype; and the same as an index."""
        series = tables()["wide"][column].rename((column, 1))
        pdt.assert_series_equal(carried(series), series)
        if column != "objects":
            index = pd.Index(series, name="n")
            pdt.assert_index_equal(carried(index), index, exact=True)

    def test_attrs_are_kept_when_plain(self) -> None:
        """Metadata that JSON could hold travels along; anything else is left behind, not an error."""
        frame = pd.DataFrame({"a": [1]})
        frame.attrs = {"unit": "bytes", "limits": [1, 2]}
        assert carried(frame).attrs == {"unit": "bytes", "limits": [1, 2]}
        frame.attrs = {"object": object()}
        assert carried(frame).attrs == {}

    def test_frame_can_be_written_to(self) -> None:
        """A decoded frame is the user's own."""
        frame = carried(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}))
        frame.loc[0, "a"] = 5.0
        frame["c"] = 1
        assert frame["a"].tolist() == [5.0, 2.0]

    @pytest.mark.parametrize(
        "value",
        [
            pd.Timestamp("2024-01-01 00:00:00.123456789", tz="Europe/Paris"),
            pd.Timestamp("2024-01-01"),
            pd.Timedelta("1s"),
            pd.Period("2024-01", "M"),
            pd.Interval(1, 2.5, closed="both"),
            pd.NaT,
            pd.NA,
        ],
    )
    def test_scalars_come_back(self, value: Any) -> None:
        """What one cell of a frame gives can be sent by itself."""
        back = carried([value])[0]
        assert type(back) is type(value)
        assert back is value or back == value

    def test_long_text_column_travels_as_blob(self) -> None:
        """A frame of 50,000 texts stays far below the limit on structures."""
        frame = pd.DataFrame({"t": [f"row {at}" for at in range(50_000)], "n": range(50_000)})
        assert len(encode(frame).structure) < 1000
        pdt.assert_frame_equal(carried(frame), frame)

    def test_where_names_column_and_row(self) -> None:
        """A cell that can't be sent is named by its column and row."""
        frame = pd.DataFrame({"a": [1, 2], "b": pd.Series([1, object()], dtype=object)})
        with pytest.raises(Unserializable) as caught:
            encode({"table": frame})
        assert (caught.value.type, caught.value.where) == ("object", "value['table']['b'][1]")

    @pytest.mark.parametrize("table", [pd.arrays.SparseArray([0, 1])], ids=["sparse"])
    def test_other_columns_are_unserializable(self, table: Any) -> None:
        """A dtype without a place on the wire is refused by name."""
        with pytest.raises(Unserializable, match="SparseArray"):
            encode(pd.Series(table))


class Number(enum.IntEnum):
    ONE = 1


class Raising:
    """A value that must not be touched."""

    def __repr__(self) -> str:
        raise AssertionError("repr of a value was called")

    __str__ = __hash__ = __len__ = __iter__ = __eq__ = __repr__  # type: ignore[assignment]


class TestUnserializable:
    @pytest.mark.parametrize(
        ("value", "name", "where"),
        [
            (object(), "object", "value"),
            ({"rows": [1, 2, {3}, object()]}, "object", "value['rows'][3]"),
            ({1: (0, object())}, "object", "value[1][1]"),
            ({(1, 2): object()}, "object", "value[<tuple>]"),
            ([Number.ONE], f"{__name__}.Number", "value[0]"),
            (collections.OrderedDict(), "collections.OrderedDict", "value"),
            (lambda: 1, "function", "value"),
            (len, "builtin_function_or_method", "value"),
            (ValueError("x"), "ValueError", "value"),
            (time(1, tzinfo=ZoneInfo("Europe/Paris")), "datetime.time", "value"),
            ({1 << 5000}, "int", "value[0]"),
            ([Raising()], f"{__name__}.Raising", "value[0]"),
        ],
    )
    def test_type_and_place_are_told(self, value: Any, name: str, where: str) -> None:
        """A plugin's author reads what can't be sent, and where in the value it stands."""
        with pytest.raises(Unserializable) as caught:
            encode(value)
        assert (caught.value.type, caught.value.where) == (name, where)

    def test_long_keys_and_deep_paths_stay_short(self) -> None:
        """A message never grows with what the plugin returned."""
        value: Any = object()
        for _ in range(50):
            value = {"k" * 100_000: value}
        with pytest.raises(Unserializable) as caught:
            encode(value)
        assert len(str(caught.value)) < 500

    def test_value_in_itself_is_refused(self) -> None:
        """A cycle ends in an error, also where every level branches."""
        ring: list[Any] = []
        ring += [ring, ring]
        table: dict[Any, Any] = {1: ring}
        table["self"] = table
        for value in (ring, table, [(ring,)]):
            with pytest.raises(Unserializable, match="in itself"):
                encode(value)

    def test_too_deep_is_refused(self) -> None:
        """The limit holds for tuples and dicts as for lists."""
        for wrap in (lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: {1: v}):
            value: Any = 1
            for _ in range(MAX_DEPTH + 2):
                value = wrap(value)
            with pytest.raises(Unserializable, match="nested deeper"):
                encode(value)

    def test_field_that_raises_is_refused(self) -> None:
        """A plugin's own code may fail while its value is read; that is told by type, without its message."""

        @dataclasses.dataclass
        class Row:
            a: int = 1

            def __getattribute__(self, name: str) -> Any:
                if name == "a":
                    raise KeyError("secret")
                return super().__getattribute__(name)

        with pytest.raises(Unserializable, match="KeyError") as caught:
            encode([Row()])
        assert "secret" not in str(caught.value)

    def test_work_beyond_what_the_reader_takes_is_refused(self) -> None:
        """What `decode` would refuse for its cost, `encode` refuses first, with the remedy."""
        for value in ([()] * 140_000, set(range(20_000)), {k * MODULUS: 0 for k in range(50)}):
            with pytest.raises(Unserializable, match=r"too many"):
                encode(value)

    def test_huge_decimals_are_refused(self) -> None:
        """Digits and exponents are bounded: such numbers are slow to handle wherever they go."""
        for text in ("1e3000000", "9" * 20_000):
            with pytest.raises(Unserializable, match=r"decimal\.Decimal"):
                encode(Decimal(text))


class TestTypeName:
    def test_hostile_classes_run_no_code(self) -> None:
        """Metaclass tricks and odd module names neither run nor show."""

        class Meta(type):
            def __getattribute__(cls, name: str) -> Any:
                raise AssertionError(f"asked for {name}")

        class Named(metaclass=Meta):
            __module__ = 7  # type: ignore[assignment]

        assert type_name(Named()).endswith("Named")
        assert type_name(Named()).startswith("?.")

    def test_long_and_unprintable_names_are_cut_and_escaped(self) -> None:
        """A name is at most 200 characters that steer no display."""
        name = type_name(type("a\x1b[31m" * 1000, (), {})())
        assert len(name) <= 200
        assert "\x1b" not in name


def flood(count: int) -> list[Any]:
    return [Ext(wire.INT, (at * MODULUS).to_bytes(12, "little")) for at in range(1, count)]


def chain(count: int, bits: int) -> list[int]:
    """Ints that follow one another through a table of CPython's design."""
    at, links = 7, []
    for _ in range(count // 2):
        links.append(at)
        at = (5 * at + 1) % (1 << bits)
    return links + [7 + (turn << bits) for turn in range(1, count // 2)]


BOOLEANS = np.array([2, 0, 1], "u1")
CODES = array_parts(np.array([0, 5], "i1"))
LABELS = ["index", ["values", ["a", "b"]], None, None]
LINE = ["array", array_parts(np.arange(2))]
RANGE = ["range", 0, 2, 1, None]


def line_index(labels: list[int]) -> list[Any]:
    return ["index", ["array", array_parts(np.array(labels))], None, None]


def column(*parts: Any) -> Ext:
    return ext(wire.SERIES, list(parts), RANGE, None, {})


HOSTILE: dict[str, Any] = {
    "unknown extension": Ext(99, b""),
    "timestamp of msgpack's own": Ext(-1, b"\0\0\0\0"),
    "tuple that is a map": Ext(wire.TUPLE, msgpack({"a": 1})),
    "tuple of nothing": Ext(wire.TUPLE, b""),
    "tuple with a tail": Ext(wire.TUPLE, b"\x90\x90"),
    "tuple cut off": Ext(wire.TUPLE, b"\xdd\xff\xff\xff\xff"),
    "dict of one part": ext(wire.DICT, [1]),
    "dict of unequal parts": ext(wire.DICT, [1, 2], [3]),
    "dict with 1 and True": ext(wire.DICT, [1, True], [0, 0]),
    "dict with 1 and 1.0": ext(wire.DICT, [1, 1.0], [0, 0]),
    "dict with a list for key": ext(wire.DICT, [[]], [0]),
    "dict with a set for key": ext(wire.DICT, [Ext(wire.SET, b"\x90")], [0]),
    "dict with a tuple of a list for key": ext(wire.DICT, [ext(wire.TUPLE, [1])], [0]),
    "dict with an array for key": ext(wire.DICT, [ext(wire.ARRAY, *array_parts(np.arange(1)))], [0]),
    "dict with a signalling nan": ext(wire.DICT, [Ext(wire.DECIMAL, b"sNaN")], [0]),
    "dict with a huge int for key": ext(wire.DICT, [Ext(wire.INT, b"\x01" * 5000)], [0]),
    "dict of one hash": ext(wire.DICT, flood(1000), [0] * 999),
    "dict of far too many keys": ext(wire.DICT, chain(100_000, 17), [0] * 99_999),
    "set of one hash": ext(wire.SET, *flood(5000)),
    "set with a tuple for key of one hash": ext(wire.SET, *[ext(wire.TUPLE, key) for key in flood(100)]),
    "set with twins": ext(wire.SET, 1, 1),
    "text that isn't": Ext(wire.TEXT, b"\xff\xff"),
    "decimal that isn't": Ext(wire.DECIMAL, b"one"),
    "decimal of many digits": Ext(wire.DECIMAL, b"9" * 500_000),
    "decimal of great exponent": Ext(wire.DECIMAL, b"1e999999999"),
    "decimal in other digits": Ext(wire.DECIMAL, "١".encode()),
    "uuid too short": Ext(wire.UUID, b"\0" * 15),
    "complex too short": Ext(wire.COMPLEX, b"\0" * 15),
    "date without a month": Ext(wire.DATE, b"\0\0\0\0"),
    "datetime cut off": Ext(wire.DATETIME, b"\xe8\x07\x01\x01"),
    "time with a long offset": Ext(wire.TIME, wire.TIME_LAYOUT.pack(0, 0, 0, 0, 0, True, 1 << 62)),
    "time folded twice": Ext(wire.TIME, wire.TIME_LAYOUT.pack(0, 0, 0, 0, 2, False, 0)),
    "timedelta too long": Ext(wire.TIMEDELTA, wire.SPAN_LAYOUT.pack(2_000_000_000, 0, 0)),
    "array of objects": ext(wire.ARRAY, "|O", [1], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array of a comma list": ext(wire.ARRAY, "i4,i4", [1], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array of a long dtype": ext(wire.ARRAY, "<i4" * 100_000, [1], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array of a missing dtype": ext(wire.ARRAY, None, [1], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array with more shape": ext(wire.ARRAY, "<i4", [3], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array with less shape": ext(wire.ARRAY, "<i4", [1], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array with a shape that overflows": ext(wire.ARRAY, "<i4", [1 << 62, 4], "C", Ext(wire.BYTES, b"")),
    "array with a negative shape": ext(wire.ARRAY, "<i4", [-1, -2], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array with a shape of floats": ext(wire.ARRAY, "<i4", [2.0], "C", Ext(wire.BYTES, b"\0" * 8)),
    "array with a shape of truths": ext(wire.ARRAY, "<i4", [True], "C", Ext(wire.BYTES, b"\0" * 4)),
    "array with 65 dimensions": ext(wire.ARRAY, "<i4", [1] * 65, "C", Ext(wire.BYTES, b"\0" * 4)),
    "empty array of giant length": ext(wire.ARRAY, "<i4", [0, (1 << 62) - 1, 9], "C", Ext(wire.BYTES, b"")),
    "empty array of giant items": ext(wire.ARRAY, "<U500000000", [0], "C", Ext(wire.BYTES, b"")),
    "array of items without size": ext(wire.ARRAY, "|V0", [1 << 60], "C", Ext(wire.BYTES, b"")),
    "array of giant subarrays": ext(wire.ARRAY, ["subarray", "<i4", [1 << 40]], [0], "C", Ext(wire.BYTES, b"")),
    "record beyond its size": ext(
        wire.ARRAY, ["record", ["a"], ["<i8"], [100], 8], [1], "C", Ext(wire.BYTES, b"\0" * 8)
    ),
    "record before its start": ext(
        wire.ARRAY, ["record", ["a"], ["<i8"], [-8], 8], [1], "C", Ext(wire.BYTES, b"\0" * 8)
    ),
    "array of third truths": ext(wire.ARRAY, "|b1", [3], "C", Ext(wire.BYTES, BOOLEANS.tobytes())),
    "record of third truths": ext(
        wire.ARRAY, ["record", ["a"], ["|b1"], [1], 2], [1], "C", Ext(wire.BYTES, b"\0\x07")
    ),
    "array of impossible characters": ext(wire.ARRAY, "<U1", [1], "C", Ext(wire.BYTES, b"\xff" * 4)),
    "array without bytes": ext(wire.ARRAY, "<i4", [1], "C", 5),
    "scalar with a dimension": ext(wire.SCALAR, *array_parts(np.arange(2))),
    "scalar of no kind": ext(wire.SCALAR, "X", "text"),
    "category codes out of range": column("category", CODES, LABELS, False),
    "category codes below": column("category", array_parts(np.array([-2, 0], "i1")), LABELS, False),
    "categories twice": column(
        "category", array_parts(np.array([0, 1], "i1")), ["index", ["values", ["a", "a"]], None, None], False
    ),
    "categories of a giant range": column(
        "category", array_parts(np.array([0, 1], "i1")), ["range", 0, 1 << 39, 1, None], False
    ),
    "levels out of range": ext(
        wire.SERIES, LINE, ["multi", [LABELS], [array_parts(np.array([0, 9], "i8"))], [None]], None, {}
    ),
    "levels that are no ints": ext(
        wire.SERIES, LINE, ["multi", [LABELS], [array_parts(np.array([0.0, 1.0]))], [None]], None, {}
    ),
    "column of two dimensions": column("array", array_parts(np.zeros((2, 1)))),
    "column of records": column("array", array_parts(np.zeros(2, "V8"))),
    "column of no kind": column("eval", "1"),
    "column masked unequally": column("masked", array_parts(np.zeros(2)), array_parts(np.zeros(3, bool))),
    "column longer than its index": column("values", [1, 2, 3]),
    "texts with lying lengths": column(
        "texts", "object", "", Ext(wire.BYTES, np.array([1, 5], "<i4").tobytes()), Ext(wire.BYTES, b"abc")
    ),
    "texts with lengths below zero": column(
        "texts", "object", "", Ext(wire.BYTES, np.array([-5, 3], "<i4").tobytes()), Ext(wire.BYTES, b"abc")
    ),
    "texts that overflow": column(
        "texts", "object", "", Ext(wire.BYTES, np.array([2**31 - 1] * 2, "<i4").tobytes()), Ext(wire.BYTES, b"")
    ),
    "zone outside its folder": column("zoned", array_parts(np.zeros(2, "M8[ns]")), "../../etc/passwd"),
    "zone that is absolute": column("zoned", array_parts(np.zeros(2, "M8[ns]")), "/etc/passwd"),
    "zone unknown": column("zoned", array_parts(np.zeros(2, "M8[ns]")), "Nowhere/Town"),
    "period of no frequency": column("period", array_parts(np.zeros(2, "i8")), "__import__"),
    "interval backwards": column("interval", *[line_index(ends) for ends in ([5, 6], [1, 2])], "left"),
    "index of a giant range": ext(wire.INDEX, "range", 0, 1 << 62, 1, None),
    "index of a range without step": ext(wire.INDEX, "range", 0, 9, 0, None),
    "index with a list for name": ext(wire.INDEX, "range", 0, 9, 1, []),
    "frame with too few columns": ext(wire.FRAME, LABELS, RANGE, [LINE], {}),
    "frame with a lying block": ext(wire.FRAME, LABELS, RANGE, ["block", array_parts(np.zeros((2, 3)))], {}),
    "frame of no columns, too long": ext(
        wire.FRAME, ["range", 0, 0, 1, None], ["range", 0, 1 << 39, 1, None], [], {}
    ),
    "frame with attrs that are a list": ext(wire.FRAME, ["range", 0, 0, 1, None], RANGE, [], []),
    "stamp of no unit": ext(wire.STAMP, "timestamp", 0, "eons", None),
    "stamp too large": ext(wire.STAMP, "timedelta", 1 << 63, "ns"),
    "interval of no order": ext(wire.STAMP, "interval", ["a", 5], "left"),
}

RAW: dict[str, bytes] = {
    "nothing": b"",
    "a byte msgpack never uses": b"\xc1",
    "cut off": msgpack({"a": [1, 2]})[:-1],
    "a tail": msgpack(1) + b"\0",
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "text of 4 billion": b"\xdb\xff\xff\xff\xff",
    "bytes of msgpack's own": msgpack(b"abc"),
    "text that isn't UTF-8": b"\xa1\xff",
    "map with an int for key": msgpack({1: 2}),
    "map with nil for key": b"\x81\xc0\x01",
    "map with a list for key": b"\x81\x91\x01\x02",
    "deep map with an int for key": b"\x91" * 20 + b"\x81\x01\x02",
    "deep map with a list for key": b"\x91" * 20 + b"\x81\x90\x02",
    "deep timestamp": b"\x91" * 20 + b"\xd6\xff\0\0\0\0",
    "deep bytes": b"\x91" * 20 + b"\xc4\x01a",
    "deep and cut off": b"\x91" * 20,
    "deep with a tail": b"\x91" * 20 + b"\x01\x01",
    "a million levels": b"\x91" * (MAX_STRUCTURE_BYTES - 1) + b"\x90",
    "half a million maps": b"\x81\xa0" * (MAX_STRUCTURE_BYTES // 2 - 1) + b"\xc0",
    "deep, wide": b"\xdc\x40\x00" + (b"\x91" * 60 + b"\xc0") * 0x4000,
    "levels of extensions": b"\xc9\x00\x0f\xff\xf0\x05\x91" * 1000,
    "too many extensions": b"\xdd" + struct.pack(">I", 200_000) + b"\xd4\x05\x90" * 200_000,
    "too many frames": msgpack([Ext(wire.FRAME, msgpack([["range", 0, 0, 1, None]] * 2 + [[], {}]))] * 5000),
    "too many int keys at once": msgpack(dict.fromkeys(chain(60_000, 17))),
    "too long": b"\xc0" * (MAX_STRUCTURE_BYTES + 1),
}


class TestHostileBytes:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_value_ends_in_a_decode_error(self, name: str) -> None:
        """Alone, in a list, in a deep list, in a tuple: always the codec's own error, with a bounded message."""
        bad = HOSTILE[name]
        deep: Any = bad
        for _ in range(20):
            deep = [deep]
        for value in (bad, [1, bad], deep, ext(wire.TUPLE, bad), {"a": bad}):
            assert len(refused(msgpack(value))) < 200

    @pytest.mark.parametrize("name", RAW)
    def test_hostile_structure_ends_in_a_decode_error(self, name: str) -> None:
        """Malformed, truncated, deep, lying and too large structures alike; quickly enough to be tested at all."""
        assert len(refused(RAW[name])) < 200

    def test_deep_extensions_end_in_a_decode_error(self) -> None:
        """Tuples in tuples are counted as lists in lists are."""
        packed = msgpack([])
        for _ in range(200):
            packed = msgpack([Ext(wire.TUPLE, packed)])
        assert "nested" in refused(packed)

    @pytest.mark.parametrize(
        ("offset", "length", "why"),
        [
            (0, 301, "too long"),
            (0, (1 << 64) - 1, "too long"),
            (1, 299, "isn't the next one"),
            (300, 0, "isn't the next one"),
            (1 << 63, 300, "isn't the next one"),
            (0, 0, "nothing refers to"),
            (0, 299, "nothing refers to"),
        ],
    )
    def test_blob_reference_must_fit_exactly(self, offset: int, length: int, why: str) -> None:
        """Out of range, shifted, or leaving bytes that nothing refers to: refused for that; the exact one isn't."""
        structure = msgpack(Ext(wire.BLOB, wire.BLOB_LAYOUT.pack(offset, length)))
        assert why in refused(structure, b"x" * 300)
        assert decode(msgpack(Ext(wire.BLOB, wire.BLOB_LAYOUT.pack(0, 300))), b"x" * 300) == b"x" * 300

    def test_blobs_are_referred_to_once_and_in_order(self) -> None:
        """Neither twice (a small reply would grow without end), nor overlapping, nor out of order, nor not at all."""

        def blob(offset: int, length: int) -> Ext:
            return Ext(wire.BLOB, wire.BLOB_LAYOUT.pack(offset, length))

        for parts in ([blob(0, 300)] * 2, [blob(0, 200), blob(100, 200)], [blob(150, 150), blob(0, 150)], [], [1]):
            refused(msgpack(parts), b"x" * 300)
        refused(msgpack(1), b"x")
        assert decode(msgpack([blob(0, 100), blob(100, 200)]), b"x" * 300) == [b"x" * 100, b"x" * 200]

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200), st.binary(max_size=40))
    def test_random_bytes_end_in_a_value_or_a_decode_error(self, structure: bytes, blobs: bytes) -> None:
        """No other exception comes out, whatever goes in."""
        assert len(message_of(structure, blobs)) < 200

    @settings(max_examples=500, deadline=None)
    @given(
        st.sampled_from(
            [
                encode(value)
                for value in (
                    {"a": (1, {2, b"x"}), 3: Decimal("1.5")},
                    [datetime(2024, 1, 1, tzinfo=UTC), uuid.UUID(int=5), 1 << 90, "\ud800"],
                    np.zeros(3, [("a", "i4"), ("b", "U3", (2,))]),
                    np.arange(100.0).reshape(4, 25).T,
                    tables()["wide"].drop(columns="period"),
                    tables()["two levels"],
                    pd.Timestamp("2024", tz="Europe/Paris"),
                )
            ]
        ),
        st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4),
        st.booleans(),
    )
    def test_spoiled_bytes_end_in_a_value_or_a_decode_error(self, packed: Any, spoils: Any, cut: bool) -> None:
        """Nor when good bytes are changed in places, or cut."""
        structure, blobs = bytearray(packed.structure), bytearray(b"".join(packed.blobs))
        for at, byte in spoils:
            target = blobs if at % 4 == 0 and blobs else structure
            target[at % len(target)] = byte
        if cut:
            del structure[-1]
        assert len(message_of(bytes(structure), blobs)) < 200
