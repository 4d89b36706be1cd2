"""Frames as workers send them, one or more for each kind of frame and each type of value: what mutations begin with.

They are the same in every process and on every machine, so that a seed stands for the same cases everywhere.
"""

from __future__ import annotations

import functools
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire

EVERY_LIMIT = ("", "memory", "files", "disk", "processes", "threads")
EVERY_REASON = ("raised", "not_found", "contract", "syntax")
EVERY_CLAIM = ("tried", "opened", "connected", "bound", "forked", "ran")


class Seed(NamedTuple):
    """One frame: what it is of, its kind, its two parts."""

    name: str
    kind: int
    structure: bytes
    blobs: bytes = b""


def plain_samples() -> dict[str, Any]:
    """Python's own types, at their edges."""
    deep: Any = 1
    for at in range(20):
        deep = [[deep], {"a": deep}, (deep,), {1: deep}][at % 4]
    return {
        "None": None,
        "bool": True,
        "ints": [0, -1, 127, 128, -32768, 1 << 31, (1 << 64) - 1, -(1 << 63)],
        "long ints": [1 << 64, -(1 << 63) - 1, 1 << 1000],
        "floats": [0.0, -0.0, 1.5, float("inf"), float("nan"), 5e-324],
        "texts": ["", "hello", "é\u2028", "\U0001f600", "x" * 300],
        "surrogates": ["\ud800", {"\udfff": 1}],
        "bytes": b"short",
        "long bytes": [b"a" * 300, b"b" * 1000],
        "list": [1, "two", [3.0, [None]]],
        "dict": {"a": 1, "b": {"c": [1, 2]}},
        "tuple": (1, ("x", b"y"), ()),
        "keys": {1: "int", "1": "str", b"1": "bytes", 1.5: "float", None: 0, (1, True): 0, frozenset([2]): 0},
        "odd keys": {1 << 70: 0, Decimal(7): 1, date(2024, 1, 1): 2, uuid.UUID(int=9): 3, 1j: 4},
        "set": {1, 2, 300},
        "frozenset": frozenset([(1, 2), (3, 4)]),
        "complex": [1 + 2j, complex(float("nan"), -0.0)],
        "decimals": [Decimal("1.10"), Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+999999")],
        "uuid": uuid.UUID(int=5),
        "datetimes": [
            datetime(2024, 10, 27, 2, 30, fold=1),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
        ],
        "dates": [date.min, date.max],
        "times": [time(23, 59, 59, 999_999), time(1, tzinfo=timezone(timedelta(hours=2)))],
        "spans": [timedelta(0), timedelta.min, timedelta.max],
        "deep": deep,
        "many": [[at] for at in range(200)],
        "rows": [{"id": at, "name": f"row {at}", "ok": at % 2 == 0} for at in range(20)],
    }


def array_samples() -> dict[str, Any]:
    """numpy arrays and scalars."""
    record = np.zeros(3, [("a", "<i4"), ("b", "<U3", (2,)), ("c", [("d", "|b1"), ("e", ">f8")])])
    return {
        "ints": np.arange(6, dtype="<i4").reshape(2, 3),
        "floats": np.linspace(0, 1, 50),
        "fortran": np.asfortranarray(np.arange(200.0).reshape(10, 20)),
        "strided": np.arange(40)[::3],
        "reversed": np.arange(6)[::-1],
        "no dimensions": np.array(5, "u1"),
        "empty": np.zeros((0, 3), "<f4"),
        "bools": np.array([True, False]),
        "complex": np.array([1j, 2], "<c8"),
        "times": np.array(["2024-01-01", "NaT"], "M8[s]"),
        "spans": np.array([1, 2], "m8[25us]"),
        "texts": np.array(["a", "bc", ""]),
        "bytes": np.array([b"a", b"bc"]),
        "void": np.zeros(2, "V5"),
        "record": record,
        "record scalar": record[0],
        "half": np.arange(3, dtype=">f2"),
        "long double": np.zeros(3, "<f16"),  # others hold padding, which is whatever was there
        "scalars": [np.float32(1.5), np.int8(-1), np.bool_(True), np.str_("\0a"), np.bytes_(b"x\0")],
        "time scalars": [np.datetime64("2024-01-01", "D"), np.timedelta64(5, "ms")],
        "many": [np.arange(3), {"x": np.zeros(100)}, np.ones((3, 3, 3), "<i2")],
    }


def table_samples() -> dict[str, Any]:
    """pandas tables, columns, indexes and scalars."""
    days = pd.date_range("2024-03-30", periods=3, tz="Europe/Paris")
    columns = {
        "int": [1, 2, 3],
        "float": [1.0, np.nan, -0.0],
        "text": pd.Series(["a", None, "é"], dtype=object),
        "NA text": pd.array(["x", None, ""], dtype="string"),
        "Int16": pd.array([1, None, 3], dtype="Int16"),
        "Float32": pd.array([1, None, 3], dtype="Float32"),
        "boolean": pd.array([True, None, False], dtype="boolean"),
        "category": pd.Categorical(["b", None, "a"], categories=["b", "a"], ordered=True),
        "zoned": days,
        "fixed": days.tz_convert(timezone(timedelta(hours=5))),
        "span": pd.to_timedelta([1, 2, None], unit="s"),
        "period": pd.period_range("2024-01", periods=3, freq="M"),
        "interval": pd.arrays.IntervalArray.from_breaks([0.0, 1.0, 2.0, 3.0], closed="left"),
        "objects": pd.Series([(1, 2), {"k": 2**70}, None], dtype=object),
    }
    small = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    named = small.copy()
    named.attrs = {"unit": "bytes", "limits": [1, 2]}
    return {
        "frame": pd.DataFrame({name: columns[name] for name in ("int", "text", "Int16", "category")}),
        "block": named,
        "no columns": small[[]],
        "empty": pd.DataFrame(),
        "two levels": small.set_index([pd.Index(["x", "y", "x"], dtype=object), days]),
        "columns of two levels": pd.concat({"x": small, "y": small}, axis=1, names=["k", None]),
        "zoned index": small.set_index(days),
        "range": small.set_axis(range(10, 4, -2)),
        "timestamps": [pd.Timestamp("2024-01-01 00:00:00.123456789", tz="Europe/Paris"), pd.Timestamp(0, unit="s")],
        "small scalars": [pd.Timedelta("1s"), pd.Period("2024-01", "M"), pd.Interval(1, 2.5), pd.NaT, pd.NA],
        "RangeIndex": pd.RangeIndex(0, 100, 7, name="r"),
        "CategoricalIndex": pd.CategoricalIndex(["a", "b", "a"]),
        "IntervalIndex": pd.interval_range(0, 3),
        "interval of ranges": pd.Series(pd.arrays.IntervalArray.from_arrays(pd.RangeIndex(9), pd.RangeIndex(9))),
        "DatetimeIndex": pd.date_range("2024", periods=5, freq="6h"),
        "TimedeltaIndex": pd.timedelta_range("1s", periods=3, freq="1s"),
        "PeriodIndex": pd.period_range("2024-01", periods=3, freq="M", name="p"),
    } | {f"{name} column": pd.Series(column, name=name) for name, column in columns.items()}


@functools.cache
def seeds() -> tuple[Seed, ...]:
    """The corpus: replies first, then every other kind of frame, those that only a host may send among them."""
    found = []
    for group, samples in (("plain", plain_samples()), ("array", array_samples()), ("table", table_samples())):
        for name, value in samples.items():
            packed = values.encode(value)
            found.append(Seed(f"{group} {name}", wire.REPLY, packed.structure, b"".join(packed.blobs)))
    reports = [
        wire.BarrierReport("landlock", "files", "enforced", "ABI 7"),
        wire.BarrierReport("seccomp", "calls", "unavailable", "no", ["host", "network"], "another kernel"),
    ]
    sites = [wire.Site("process", "a.py", 3), wire.Site("<genexpr>", "\x1b[31m.py", 1 << 31)]
    bodies: list[tuple[str, int, Any]] = [
        ("hello", wire.HELLO, wire.Hello(wire.PROTOCOL, reports)),
        ("loaded", wire.LOADED, wire.Loaded("name", "1.0")),
        ("loaded with rights", wire.LOADED, wire.Loaded("n", "1", {}, {"network": [443], "env": ["A"], "read": "/"})),
        ("loaded with hooks", wire.LOADED, wire.Loaded("name", "1.0", {"input": "veto", "output": "observe"})),
        ("misfit", wire.UNSERIALIZABLE, wire.Misfit("module.Type", "value['rows'][3]")),
        ("claims", wire.CLAIMS, wire.Claims([wire.Claim("tried", "connect", "tcp:10.0.0.1:443", 3)], 2)),
        ("opened", wire.CLAIMS, wire.Claims([wire.Claim(kind, "read", "/etc/hosts", 1) for kind in EVERY_CLAIM])),
        ("profile", wire.PROFILE, wire.Profile("cpu", sites, [wire.Stack(9, 1, [0, 1]), wire.Stack(5, 1, [1])], 7)),
        ("no profile", wire.PROFILE, wire.Profile("cpu", missing="memray isn't there")),
        ("text", wire.DISPLAY, wire.DisplayBody("text/plain", (3, 0), "#1", body=b"pear\x1b[2J")),
        ("updated text", wire.DISPLAY, wire.DisplayBody("text/plain", (3, 0), "#1", True, body=b"")),
        ("html", wire.DISPLAY, wire.DisplayBody("text/html", (0, 0), "=a", body=b"<b>pear</b><script>1</script>")),
        ("json", wire.DISPLAY, wire.DisplayBody("application/json", (0, 9), "#2", body=b'{"a": [1, null, "b"]}')),
        ("dropped", wire.DISPLAY, wire.DisplayBody("", (0, 0), dropped=17)),
        ("load", wire.LOAD, wire.Load("m", "", [wire.ModuleBytes("m", "m.py", False, b"x = 1")], b"")),
    ]
    for limit in EVERY_LIMIT:
        bodies.append(
            (f"error {limit}", wire.ERROR, wire.Failure("OSError", "no\nmore", "Trace\x1b[31m", "raised", limit))
        )
    for reason in EVERY_REASON:
        bodies.append((f"error {reason}", wire.ERROR, wire.Failure("", "it isn't there", "", reason)))
    found += [Seed(name, kind, wire.encode_body(body)) for name, kind, body in bodies]
    for name, table in table_samples().items():
        if type(table).__name__ == "DataFrame":
            packed = values.encode(table)
            body = wire.DisplayBody("application/vnd.dataframe", (0, 0), "#3", body=bytes(packed.structure))
            found.append(Seed(f"shown {name}", wire.DISPLAY, wire.encode_body(body), b"".join(packed.blobs)))
    for mime, picture in (("image/png", b"\x89PNG\r\n\x1a\n" + bytes(40)), ("image/jpeg", b"\xff\xd8\xff\xe0")):
        found.append(Seed(f"shown {mime}", wire.DISPLAY, wire.encode_body(wire.DisplayBody(mime, (0, 0))), picture))
    found += [Seed("settled", wire.SETTLED, b""), Seed("settle", wire.SETTLE, b""), Seed("close", wire.CLOSE, b"")]
    return tuple(found)
