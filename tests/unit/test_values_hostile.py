"""Replies that cost a host far more than their plugin: refused, or decoded in pieces with pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pandas.testing as pdt
import pytest
from msgspec.msgpack import Ext
from msgspec.msgpack import encode as msgpack

from agentplug.core.boundary.codec import Costly, DecodeError, Unserializable, decode, encode, pieces
from agentplug.core.boundary.codec import layout as wire
from agentplug.core.decoders import _PAUSES_AT_ONCE


def carried(value: Any) -> Any:
    """`value` after both halves of the codec."""
    packed = encode(value)
    return decode(packed.structure, b"".join(map(bytes, packed.blobs)))


class Reply:
    """A reply in the making. `structure` is its msgpack, `blobs` the bytes beside it."""

    def __init__(self) -> None:
        self.blobs = bytearray()

    def blob(self, data: bytes) -> Ext:
        """Return the form of `data` in the structure."""
        self.blobs += data
        return Ext(wire.BLOB, wire.BLOB_LAYOUT.pack(len(self.blobs) - len(data), len(data)))

    def array(self, array: np.ndarray) -> list[Any]:
        """Return the parts of an array."""
        return [array.dtype.str, list(array.shape), "C", self.blob(array.tobytes())]

    def index(self, array: np.ndarray) -> list[Any]:
        """Return the parts of an index."""
        return ["index", ["array", self.array(array)], None, None]

    def categories(self, index: list[Any]) -> Ext:
        """Return a series of one item, of these categories."""
        codes = ["|i1", [1], "C", Ext(wire.BYTES, b"\0")]
        return series(["category", codes, index, False], 1)


def series(column: list[Any], count: int) -> Ext:
    """Return a series of this column."""
    return Ext(wire.SERIES, msgpack([column, ["range", 0, count, 1, None], None, {}]))


def colliding(count: int, bits: int = 31) -> np.ndarray:
    """Return numbers that share one hash in pandas' hash tables; fewer `bits` leave more of each number zero."""
    low = np.arange(1, 400 * count, dtype=np.uint64)
    high = np.uint64(12345) ^ low ^ ((low << np.uint64(11)) & np.uint64(0xFFFFFFFF))
    fits = high < (1 << bits)
    return ((high[fits][:count] << np.uint64(33)) | low[fits][:count]).astype(np.int64)


def cpu_s(call: Callable[[], Any]) -> float:
    """This thread's CPU time for a call, the least of three."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        call()
        times.append(time.thread_time() - begun)
    return min(times)


def of_numbers(numbers: np.ndarray, kind: str) -> tuple[bytes, bytes]:
    """A reply: a series with a category a number."""
    reply = Reply()
    if kind == "intervals":
        ends = [["array", reply.array(numbers + more)] for more in (0, 1)]
        index = ["index", ["interval", *ends, "left"], None, None]
    elif kind == "masked":
        column = ["masked", reply.array(numbers), reply.array(np.zeros(len(numbers), bool))]
        index = ["index", column, None, None]
    else:
        index = reply.index(numbers if kind == "numbers" else numbers.view(kind))
    return msgpack(reply.categories(index)), bytes(reply.blobs)


class TestCategories:
    @pytest.mark.parametrize("kind", ["numbers", "<M8[ns]", "<m8[s]", "masked", "intervals"])
    def test_numbers_that_collide_cost_no_more_than_others(self, kind: str) -> None:
        """They would in a hash table of pandas, whose hashes anyone can foresee: a hundred times as much."""
        numbers = colliding(16_000)
        numbers = np.concatenate([numbers[1::2], numbers[::2]])  # in no order
        hostile = of_numbers(numbers, kind)
        honest = of_numbers(np.random.default_rng(0).permutation(16_000), kind)

        assert len(decode(*hostile).cat.categories) == 16_000
        assert cpu_s(lambda: decode(*hostile)) < 10 * cpu_s(lambda: decode(*honest))

    @pytest.mark.parametrize("kind", ["numbers", "<M8[ns]", "masked", "intervals"])
    def test_the_same_one_twice_is_refused(self, kind: str) -> None:
        """As pandas itself would."""
        with pytest.raises(DecodeError, match="a category that is missing, or there twice"):
            decode(*of_numbers(np.array([5, 7, 5]), kind))

    @pytest.mark.parametrize("item", ["a", 1, None])
    def test_objects_there_twice_or_missing_are_refused(self, item: Any) -> None:
        """Texts and others."""
        with pytest.raises(DecodeError, match="a category that is missing, or there twice"):
            decode(msgpack(Reply().categories(["index", ["values", [item, "b", item]], None, None])))

    def test_of_objects_that_cannot_be_sorted_there_may_be_few(self) -> None:
        """13,000 that collide would take pandas seconds. Both halves agree, and texts aren't concerned."""
        numbers = colliding(1_001, bits=28).tolist()  # Python's hash of such a number is the number
        with pytest.raises(DecodeError, match="too many categories"):
            decode(msgpack(Reply().categories(["index", ["values", numbers], None, None])))

        mixed = pd.Categorical(["a"], categories=["a", *numbers[:999]])
        assert list(carried(pd.Series(mixed)).cat.categories) == ["a", *numbers[:999]]
        with pytest.raises(Unserializable, match="has more than 1000 categories"):
            encode(pd.Series(pd.Categorical(["a"], categories=["a", *numbers[:1_000]])))
        texts = pd.Series(pd.Categorical(["1"], categories=[str(number) for number in range(32_000)]))
        pdt.assert_series_equal(carried(texts), texts)

    @pytest.mark.parametrize(
        "categories",
        [
            pd.Index([1.5, -0.5]),
            pd.Index([1j, 2j]),
            pd.Index([True, False]),
            pd.RangeIndex(3),
            pd.Index([3, 1], dtype="Int64"),
            pd.Index(["b", "a"], dtype="string"),
            pd.date_range("2024", periods=3, tz="Asia/Tokyo"),
            pd.period_range("2024", periods=3, freq="M"),
            pd.interval_range(0.0, 3.0),
            pd.timedelta_range("1h", periods=2),
            pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
            pd.Index([], dtype=object),
        ],
        ids=lambda index: f"{type(index).__name__}-{index.dtype}",
    )
    def test_every_kind_comes_back(self, categories: pd.Index) -> None:
        """With their order, and what stands for none of them."""
        column = pd.Series(pd.Categorical.from_codes([-1], categories, ordered=True))

        pdt.assert_series_equal(carried(column), column)

    def test_codes_and_categories_that_are_blobs_come_back(self) -> None:
        """Blobs are read in the order in which they were written, and only long ones are blobs."""
        column = pd.Series(pd.Categorical([f"{number:03}" for number in range(400)] * 2))

        pdt.assert_series_equal(carried(column), column)


class Counting:
    """A pace that counts its pauses, and ends the decoding after `most` of them."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.count = 0
        self.most = most
        self.loaded: list[str] = []

    def pause(self) -> None:
        self.count += 1
        if self.count > self.most:
            raise Costly

    def load(self, module: str) -> None:
        self.loaded.append(module)


LONG_TEXT = "\ud800é€x" * 100_000


class TestPace:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param([set() for _ in range(10_000)], id="many extensions"),
            pytest.param([pd.Series([], dtype=object) for _ in range(100)], id="empty series"),
            pytest.param(pd.DataFrame({str(at): [at, None] for at in range(200)}, dtype=object), id="wide frame"),
            pytest.param(LONG_TEXT, id="lone surrogates"),
            pytest.param(pd.Series(["ab"] * 200_000), id="texts"),
            pytest.param([[[str(at)]] for at in range(60_000)], id="dense"),
            pytest.param([pd.Timestamp("2024", tz="Asia/Tokyo")] * 200, id="zones"),
        ],
    )
    def test_long_decodings_and_encodings_pause(self, value: Any) -> None:
        """So that others go on meanwhile; and can be ended there, which isn't the value's fault."""
        pace = Counting()
        packed = encode(value)
        blobs = b"".join(map(bytes, packed.blobs))

        decode(packed.structure, blobs, pace=pace)

        assert pace.count >= 2
        with pytest.raises(Costly):
            decode(packed.structure, blobs, pace=Counting(1))

    def test_quick_values_are_decoded_where_they_arrive(self) -> None:
        """A call's round trip has no thread of its own."""
        pace = Counting(_PAUSES_AT_ONCE)
        for value in ({"a": [1, 2.5, "x"] * 1_000}, {1, 2}, (Decimal(1), "\ud800"), np.ones(1_000)):
            packed = encode(value)
            decode(packed.structure, b"".join(map(bytes, packed.blobs)), pace=pace)

    def test_modules_are_loaded_by_it(self) -> None:
        """Numpy for an array, pandas for whatever needs pandas: before anything of theirs is touched."""
        pace = Counting()
        for value in ([np.int64(1)], np.ones(3), pd.NaT, pd.Series([1]), pd.DataFrame(), pd.Index([1])):
            packed = encode(value)
            decode(packed.structure, b"".join(map(bytes, packed.blobs)), pace=pace)

        assert pace.loaded == ["numpy"] * 2 + ["pandas"] * 4

    @pytest.mark.parametrize("cut", range(8))
    def test_texts_cut_anywhere_come_back(self, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
        """Never within a character."""
        monkeypatch.setattr(wire, "TEXT_PIECE", 64 + cut)
        text = "\ud800é€x\U0001f600" * 50

        assert carried(text) == text
        assert carried(pd.Series([text, "é"], dtype=object)).tolist() == [text, "é"]

    def test_bytes_that_are_no_text_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where every byte says that it goes on."""
        monkeypatch.setattr(wire, "TEXT_PIECE", 64)
        with pytest.raises(DecodeError, match="UnicodeDecodeError"):
            decode(msgpack(Ext(wire.TEXT, b"\x80" * 1_000)))


@pytest.mark.parametrize("unit", ["M8[M]", "M8[D]", "M8[25s]", "M8[as]", "m8[W]"])
@pytest.mark.parametrize("where", ["column", "block", "index", "zoned"])
def test_times_that_pandas_would_convert_are_refused(unit: str, where: str) -> None:
    """Two million of them hold everything up for 0.1 s, and no table of pandas' own has such units."""
    reply = Reply()
    array = reply.array(np.zeros((1, 1) if where == "block" else 1, unit))
    one = ["range", 0, 1, 1, None]
    value = {
        "column": lambda: series(["array", array], 1),
        "block": lambda: Ext(wire.FRAME, msgpack([one, one, ["block", array], {}])),
        "index": lambda: Ext(wire.INDEX, msgpack(["index", ["array", array], None, None])),
        "zoned": lambda: series(["zoned", array, "Asia/Tokyo"], 1),
    }[where]()

    with pytest.raises(DecodeError):
        decode(msgpack(value), bytes(reply.blobs))


def test_texts_in_columns_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """To free two million takes 0.1 s. Both halves count alike, over all columns; large replies may have more."""
    monkeypatch.setattr(wire, "LEAST_TEXTS", 10)
    short = pd.Series(["ab"] * 6)

    assert len(carried([short])) == 1
    assert len(carried([pd.Series(["a long text of words"] * 50)])[0]) == 50
    with pytest.raises(Unserializable, match="has 12 texts in its columns, over 10; use categories"):
        encode([short, short])
    monkeypatch.setattr(wire, "LEAST_TEXTS", 12)
    packed = encode([short, short])
    monkeypatch.setattr(wire, "LEAST_TEXTS", 11)
    with pytest.raises(DecodeError, match="too many texts in columns"):
        decode(packed.structure, b"".join(map(bytes, packed.blobs)))


def test_keys_whose_hashes_take_long_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 decimals of large exponents took 0.14 s in two calls that let nobody else run."""
    keys = {Decimal(f"{at}E1999999") for at in range(100)}
    monkeypatch.setattr(pieces, "KEYS_AT_ONCE", 7)

    assert carried(keys) == keys
    assert carried(dict.fromkeys(keys, 1)) == dict.fromkeys(keys, 1)
