"""Replies that would keep a host busy, and bytes of its memory that mustn't travel: the codec takes neither on."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pandas.testing as pdt
import pytest
from msgspec.msgpack import Ext
from msgspec.msgpack import encode as msgpack

from agentplug.core.boundary.codec import DecodeError, columns, decode, encode, value_bytes
from agentplug.core.boundary.codec import layout as wire

REPLY_BYTES = 16 << 20
FOREIGN = 0xAA  # what lay in memory before


def carried(value: Any) -> Any:
    """`value` after both halves of the codec."""
    packed = encode(value)
    return decode(packed.structure, b"".join(map(bytes, packed.blobs)))


def extension(code: int, *parts: Any) -> Ext:
    """An extension of these parts."""
    return Ext(code, msgpack(list(parts)))


def dated(freq: str, count: int) -> Ext:
    """An index of that many days which says that it has this frequency."""
    days = np.arange(count, dtype="i8").view("M8[D]").astype("M8[s]")
    array = ["<M8[s]", [count], "C", Ext(wire.BYTES, days.tobytes())]
    return extension(wire.INDEX, "index", ["array", array], None, freq)


KEPT = ["D", "7D", "h", "min", "s", "ms", "us", "ns", "W-WED", "B", "ME", "2MS", "QE-FEB", "YS-MAR", "BME", "BQS-DEC"]
DROPPED = ["bh", "cbh", "C", "CBME", "CBMS", "SME", "SMS", "WOM-2TUE"]


class TestFrequencies:
    @pytest.mark.parametrize("freq", KEPT)
    def test_one_that_is_soon_checked_comes_back(self, freq: str) -> None:
        """Fixed steps, and those of the calendar."""
        index = pd.date_range("2024-01-01", periods=5, freq=freq)

        pdt.assert_index_equal(carried(index), index)
        assert carried(index).freq == index.freq

    @pytest.mark.parametrize("freq", DROPPED)
    def test_one_that_takes_pandas_long_is_dropped(self, freq: str) -> None:
        """Its labels come back; a reply that names it all the same is refused."""
        index = pd.date_range("2024-01-01", periods=5, freq=freq)

        back = carried(index)

        assert back.tolist() == index.tolist()
        assert back.freq is None
        with pytest.raises(DecodeError, match="a frequency that isn't ours"):
            decode(msgpack(dated(freq, 5)))

    def test_calendar_steps_are_counted_over_a_value(self) -> None:
        """What is beyond them comes without its frequency; a reply that goes beyond is refused."""
        index = pd.date_range("1900-01-01", periods=400, freq="MS")

        assert [back.freqstr for back in carried([index] * 3)] == ["MS", "MS", None]
        assert len(decode(msgpack(dated("MS", 1_000)))) == 1_000
        for reply in (dated("MS", 1_001), [dated("W", 500), dated("BYE", 501)]):
            with pytest.raises(DecodeError, match="a frequency that isn't ours"):
                decode(msgpack(reply))

    @pytest.mark.parametrize(("count", "kept"), [(10_000, "s"), (10_001, None)])
    def test_fixed_steps_have_a_longest_index(self, count: int, kept: str | None) -> None:
        """Beyond it the frequency is dropped."""
        assert carried(pd.date_range("2024", periods=count, freq="s")).freqstr == kept


class TestTexts:
    @pytest.mark.parametrize("length", [0, -1])
    @pytest.mark.parametrize("missing", ["object", "NA", "nan"])
    def test_millions_of_texts_are_made_a_few_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch, missing: str, length: int
    ) -> None:
        """No call that keeps other threads waiting gets more than its share of those that fill a reply."""
        most = 0
        series = pd.Series

        def counted(data: Any, *rest: Any, **options: Any) -> Any:
            nonlocal most
            most = max(most, len(data) if type(data) is list else 0)
            return series(data, *rest, **options)

        monkeypatch.setattr(pd, "Series", counted)
        count = 10 * columns._TEXTS_AT_ONCE + 1
        lengths = np.full(count, length, "<i4").tobytes()
        parts = [Ext(wire.BLOB, wire.BLOB_LAYOUT.pack(0, len(lengths))), Ext(wire.BYTES, b"")]
        reply = extension(wire.SERIES, ["texts", missing, "python", *parts], ["range", 0, count, 1, None], None, {})

        back = decode(msgpack(reply), lengths)

        assert len(back) == count
        assert back.isna().all() == (length < 0)
        assert most <= columns._TEXTS_AT_ONCE

    @pytest.mark.parametrize("dtype", [object, "str", "string"])
    @pytest.mark.parametrize("count", [0, 1, 4, 5, 13])
    def test_pieces_make_the_whole(self, monkeypatch: pytest.MonkeyPatch, dtype: Any, count: int) -> None:
        """Wherever they are cut, with texts of any length and missing ones."""
        monkeypatch.setattr(columns, "_TEXTS_AT_ONCE", 4)
        items = [None if at % 5 == 3 else "é\ud83d\ude00x"[: at % 4] for at in range(count)]
        items = [text if text is None or text.isascii() else "é€" * (at % 3) for at, text in enumerate(items)]
        series = pd.Series(items, dtype=dtype)

        pdt.assert_series_equal(carried(series), series)


def foreign(dtype: Any, value: Any) -> np.ndarray:
    """Items that are `value` each, in memory that was used before."""
    array = np.empty(50, dtype)
    array.view(np.uint8)[:] = FOREIGN
    for name in array.dtype.names or ():
        array[name] = value
    if array.dtype.names is None:
        array[:] = value
    return array


PADDED = {
    "aligned record": (np.dtype([("a", "u1"), ("b", "<i8")], align=True), 1),
    "record with a gap": (np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [5], "itemsize": 40}), 1),
    "record of long doubles": (np.dtype([("a", "u1"), ("b", "g"), ("c", "G")], align=True), 1),
    "record of subarrays": (np.dtype([("a", np.dtype([("x", "u1"), ("y", "<i4")], align=True), (3,))]), 1),
    "long double": (np.dtype("g"), 1),
    "long double, swapped": (np.dtype("g").newbyteorder(), 1),
    "complex of long doubles": (np.dtype("G"), 1 + 1j),
    "complex of long doubles, swapped": (np.dtype("G").newbyteorder(), 1 + 1j),
}


class TestPadding:
    @pytest.mark.parametrize("name", PADDED)
    def test_what_lay_between_values_stays_here(self, name: str) -> None:
        """A gap is sent as zeros; values come back, and the array that was sent is left alone."""
        dtype, value = PADDED[name]
        array = foreign(dtype, value)
        before = array.tobytes()

        packed = encode(array)

        sent = packed.structure + b"".join(map(bytes, packed.blobs))
        assert FOREIGN not in sent
        assert array.tobytes() == before
        back = decode(packed.structure, b"".join(map(bytes, packed.blobs)))
        assert back.dtype == array.dtype
        assert (back == array).all()
        assert FOREIGN not in encode(array[0]).structure

    def test_what_has_no_gaps_is_sent_as_it_lies(self) -> None:
        """Not a byte is copied."""
        array = np.ones(1000)

        assert np.shares_memory(np.frombuffer(encode(array).blobs[0], "u1"), array)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([set() for _ in range(20_000)], id="empty sets"),
        pytest.param([[] for _ in range(20_000)], id="empty lists"),
        pytest.param([{"a": 1} for _ in range(20_000)], id="small dicts"),
        pytest.param([number + 100_000 for number in range(20_000)], id="numbers"),
        pytest.param([f"{number:04}" for number in range(20_000)], id="short texts"),
        pytest.param([Decimal(number) for number in range(20_000)], id="decimals"),
        pytest.param([pd.DataFrame({"a": [1]}) for _ in range(200)], id="frames"),
        pytest.param("x" * 100_000, id="a long text"),
        pytest.param([set() for _ in range(60)], id="few empty sets"),
    ],
)
def test_what_a_value_takes_is_not_guessed_too_low(value: Any) -> None:
    """An empty set is 3 bytes on the way and 232 here: what is kept must be counted as it is."""
    packed = encode(value)
    blobs = b"".join(map(bytes, packed.blobs))
    decode(packed.structure, blobs)
    tracemalloc.start()
    try:
        kept = decode(packed.structure, blobs)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert value_bytes(packed.structure) + len(blobs) > 0.9 * taken
    assert type(kept) is type(value)
