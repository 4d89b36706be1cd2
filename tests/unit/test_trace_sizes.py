"""Traces from somebody else: refused by their heads when they are larger in memory than a trace may be."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from agentplug.report.accessor import read_trace
from agentplug.report.files import save_trace
from agentplug.report.heads import sizes
from tests.unit.test_trace_files import calls

ROWS = 1 << 17
HEAD = {"attrs": {}, "index": [None, None], "dtypes": {}, "categories": {}, "missing": ""}


def shared(text: str, rows: int = ROWS) -> Any:
    """A text that all rows share."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "i4")), pa.array([text]))


def as_parquet(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd", **options)
    return file.getvalue()


def as_feather(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    feather.write_feather(table, file, **options)
    return file.getvalue()


def as_csv(body: str, **head: Any) -> bytes:
    names, rows = body.split("\n", 1)
    cell = json.dumps(HEAD | head).replace('"', '""')
    return f'{names},"agentplug {cell}"\n{rows}'.encode()


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "rows": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": shared("x", 1 << 20)})),
        "1,048,576 rows in 1 columns",
    ),
    "nulls": (
        ".parquet",
        lambda: as_parquet(pa.table({f"c{n}": pa.nulls(ROWS) for n in range(30)})),
        "would take 30 MiB of memory (131,072 rows in 30 columns), and a trace may take 4 MiB",
    ),
    "a text that all rows share": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": shared("x" * 1_000_000, 1_000)}), store_schema=False),
        "would take 953.7 MiB",
    ),
    "a page": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": ["x" * 30_000_000]}), use_dictionary=False, write_statistics=False),
        "would take 28.61 MiB",
    ),
    "a dictionary's page": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": ["x" * 30_000_000]}), write_statistics=False),
        "would take 28.61 MiB",
    ),
    "texts that begin as the one before": (
        ".parquet",
        lambda: as_parquet(
            pa.table({"plugin": [f"{'x' * 10_000}{n}" for n in range(10)]}),
            use_dictionary=False,
            column_encoding={"plugin": "DELTA_BYTE_ARRAY"},
        ),
        "its texts are given as parts of each other",
    ),
    "lists": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": pa.array([[None] * ROWS], pa.list_(pa.null()))})),
        "would take 16 MiB",
    ),
    "texts in lists": (
        ".parquet",
        lambda: as_parquet(
            pa.table({"plugin": pa.ListArray.from_arrays([0, 1000], shared("x" * 100_000, 1000))}), store_schema=False
        ),
        "would take 95",
    ),
    "many parts": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": range(25_000)}), row_group_size=1),
        "Exceeded size limit",
    ),
    "columns of parquet": (
        ".parquet",
        lambda: as_parquet(pa.table({f"c{n}": pa.nulls(1) for n in range(1001)})),
        "has 1,001 columns, and at most 1,000 are read",
    ),
    "a footer": (".parquet", lambda: b"PAR1" + b"\xff\xff\xff\x7fPAR1", "has a head of 409.6 MiB, and at most 3 MiB"),
    "no parquet": (".parquet", lambda: b"PAR", "it isn't parquet"),
    "a head": (
        ".parquet",
        lambda: as_parquet(pa.table({"plugin": [1]}).replace_schema_metadata({b"agentplug": b" " * (20 << 20)})),
        "and at most 3 MiB are read",
    ),
    "texts": (
        ".feather",
        lambda: as_feather(pa.table({"plugin": ["x" * 30_000_000]}), compression="zstd"),
        "would take 28.61 MiB",
    ),
    "nulls of feather": (
        ".feather",
        lambda: as_feather(pa.table({f"c{n}": pa.nulls(ROWS) for n in range(30)})),
        "would take 30 MiB of memory (131,072 rows in 30 columns)",
    ),
    "a dictionary": (
        ".feather",
        lambda: as_feather(pa.table({"plugin": shared("x" * 30_000_000, 3)}), compression="zstd"),
        "would take 28.61 MiB",
    ),
    "lists of nothing": (
        ".feather",
        lambda: as_feather(pa.table({"c": pa.FixedSizeListArray.from_arrays(pa.nulls(ROWS), ROWS)})),
        "would take 16 MiB",
    ),
    "many batches": (
        ".feather",
        lambda: as_feather(pa.table({"plugin": range(9_000)}), chunksize=1),
        "buffers, and at most 20,000 are read",
    ),
    "a head of feather": (
        ".feather",
        lambda: as_feather(pa.table({"plugin": [1]}).replace_schema_metadata({b"agentplug": b" " * (20 << 20)})),
        "and at most 3 MiB are read",
    ),
    "no feather": (".feather", lambda: b"ARROW2", "it isn't feather"),
    "texts that share a place": (
        ".feather",
        lambda: as_feather(pa.table({"plugin": pa.array(["x" * 1_000], pa.string_view())})),
        "no trace has a column of string_view",
    ),
    "cells": (".csv", lambda: as_csv("plugin\n" + "x\n" * ROWS * 2), "262,144 rows in 2 columns"),
    "columns of a csv": (".csv", lambda: as_csv("," * 5_000 + "\n"), "has 5,002 columns, and at most 1,000 are read"),
    "a first row": (".csv", lambda: as_csv("a\n" + "," * 5_000 + "\n"), "rows are longer than its columns' names"),
    "a first line": (".csv", lambda: b"agentplug " + b" " * (4 << 20), "has a head of 4 MiB, and at most 3 MiB"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_is_larger_in_memory_is_refused_by_its_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both figures, before anything is decoded, and pandas is never asked."""
    suffix, make, fact = BOMBS[name]
    path = tmp_path / f"trace{suffix}"
    path.write_bytes(make())
    for reader in ("read_parquet", "read_feather", "read_csv"):
        monkeypatch.setattr(pd, reader, lambda *_, **__: pytest.fail("pandas was asked"))
    monkeypatch.setattr(sizes, "MAX_BYTES", 4 << 20)

    with pytest.raises(ValueError, match=r"trace\.") as failure:
        read_trace(path)

    assert fact in str(failure.value)


def test_a_file_s_own_size_is_bounded(tmp_path: Path) -> None:
    """It isn't even read."""
    with (tmp_path / "trace.csv").open("wb") as file:
        file.truncate(100 << 30)
    with pytest.raises(ValueError, match="has 100 GiB, and at most 512 MiB are read; if you trust it, read"):
        read_trace(tmp_path / "trace.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
def test_only_a_regular_file_is_read(suffix: str, tmp_path: Path) -> None:
    """A pipe would make the reader wait for ever."""
    os.mkfifo(tmp_path / f"trace{suffix}")
    with pytest.raises(ValueError, match="is no regular file"):
        read_trace(tmp_path / f"trace{suffix}")


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
def test_what_could_not_be_read_isn_t_saved(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, and the remedy is named."""
    monkeypatch.setattr(sizes, "MAX_BYTES", 1 << 10)
    with pytest.raises(ValueError, match=r"would take .* \(4 rows in \d+ columns\).*: save it in parts"):
        save_trace(calls(), tmp_path / f"trace{suffix}")
    monkeypatch.undo()
    frame = calls()
    frame.attrs["long"] = "x" * (4 << 20)
    with pytest.raises(ValueError, match=r"has a head of 4.* MiB, and at most 3 MiB are read: save it in parts"):
        save_trace(frame, tmp_path / f"trace{suffix}")
    assert not list(tmp_path.iterdir())


def damaged(table: Any, before: bytes, after: bytes) -> bytes:
    data = as_feather(table, compression="uncompressed")
    assert data.count(before) == 1
    return data.replace(before, after)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (
            damaged(
                pa.table({"a": ["abcd"] * 4}),
                struct.pack("<5i", 0, 4, 8, 12, 16),
                struct.pack("<5i", 0, 4, 8, 12, 1 << 29),
            ),
            "Length spanned by binary offsets",
        ),
        (
            damaged(
                pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1], "i4"), pa.array(["x", "y"]))}),
                struct.pack("<4i", 0, 1, 0, 1),
                struct.pack("<4i", 0, 1, 0, 1 << 30),
            ),
            "Value at position 3 out of bounds",
        ),
    ],
)
def test_places_outside_of_a_buffer_are_refused(data: bytes, fact: str, tmp_path: Path) -> None:
    """pandas would read there, in whatever memory that is."""
    (tmp_path / "trace.feather").write_bytes(data)
    with pytest.raises(ValueError, match=fact):
        read_trace(tmp_path / "trace.feather")


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
@pytest.mark.parametrize(
    "about",
    [
        {"columns": [{"name": "run", "field_name": "run", "numpy_type": "f8," * 10_000, "metadata": None}]},
        {"columns": [{"name": "run", "field_name": "run", "numpy_type": "S3", "metadata": {"timezone": "../x"}}]},
        {"columns": [], "column_indexes": [{"name": None, "numpy_type": "object", "metadata": None}] * 2},
        {"columns": 3},
        [[]] * 3,
    ],
)
def test_what_pandas_would_look_up_by_name_is_checked(about: Any, suffix: str, tmp_path: Path) -> None:
    """Dtypes, time zones (names of files) and names of columns (which it evaluates)."""
    table = pa.table({"run": [1]}).replace_schema_metadata({b"pandas": json.dumps(about)})
    (tmp_path / f"trace{suffix}").write_bytes((as_parquet if suffix == ".parquet" else as_feather)(table))
    with pytest.raises(ValueError, match="is no trace that agentplug saved"):
        read_trace(tmp_path / f"trace{suffix}")


@pytest.mark.parametrize("zone", ["dateutil//etc/passwd", "../../../etc/passwd", "a" * 5_000, "/etc/passwd"])
def test_a_time_zone_is_no_path(zone: str, tmp_path: Path) -> None:
    """In each format."""
    table = pa.table({"run": pa.array([1], pa.timestamp("us", tz=zone))})
    (tmp_path / "trace.parquet").write_bytes(as_parquet(table))
    (tmp_path / "trace.feather").write_bytes(as_feather(table))
    (tmp_path / "trace.csv").write_bytes(as_csv("run\n1\n", dtypes={"run": f"datetime64[ns, {zone}]"}))
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match="is no time zone"):
            read_trace(path)


@pytest.mark.parametrize(
    "dtype",
    [
        *(
            "period[999999999s]",
            "Sparse[int8]",
            "interval[int64]",
            "ArrowDtype",
            "int64[pyarrow]",
            "S300000000",
            "V9",
        ),
        *("dictionary<values=string, indices=int32>[pyarrow]", "f8,f8", "V9", "object_", "int64 ", "timedelta64[Y]"),
    ],
)
def test_a_csv_asks_for_no_other_dtype(dtype: str, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(as_csv("run\n1\n", dtypes={"run": dtype}))
    with pytest.raises(ValueError, match="no trace has a column of"):
        read_trace(tmp_path / "trace.csv")


def test_a_category_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(as_csv("run\n1\n", dtypes={"run": "category"}, categories={"run": [[1]]}))
    with pytest.raises(ValueError, match="a category is no text"):
        read_trace(tmp_path / "trace.csv")


def test_a_page_that_claims_less_than_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The footer isn't believed: each page's own header is read, as the decoder does."""
    data = as_parquet(pa.table({"plugin": ["x" * 1_000] * 9}), use_dictionary=False, write_statistics=False)
    chunk = parquet.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0)
    size = chunk.total_uncompressed_size << 1  # as a varint of Thrift's
    claim = bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14))
    assert data.count(claim) == 2  # of the chunk, and of its group
    (tmp_path / "trace.parquet").write_bytes(data.replace(claim, b"\x82\x80\x00"))
    monkeypatch.setattr(sizes, "MAX_BYTES", 4 << 10)
    with pytest.raises(ValueError, match="would take 9"):
        read_trace(tmp_path / "trace.parquet")


def test_a_million_calls_are_no_bomb(tmp_path: Path) -> None:
    """As many as a plugin's trace holds: 16,000 of them take less than a 64th of the bound."""
    frame = calls("hog")
    many = frame.iloc[np.resize(np.arange(4), 1 << 14)].reset_index(drop=True)
    many.attrs = frame.attrs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "MAX_BYTES", sizes.MAX_BYTES >> 6)
        for suffix in (".parquet", ".feather", ".csv"):
            pd.testing.assert_frame_equal(read_trace(save_trace(many, tmp_path / f"trace{suffix}")), many)
