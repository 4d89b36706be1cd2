"""Traces in parquet, feather and CSV files, written and read without loss (host).

A head holds what the format would lose: `attrs`, dtypes, categories, the index. Parquet and feather have it in their
metadata, a CSV as JSON in the first row of a last column `agentplug` (without rows, in the name of that column), so
that every program reads it as a table. Rows keep their labels: feather and CSV have another column for them, unless
rows are just counted.

The head also holds the format's number and the version of agentplug that wrote the file. A new column needs no new
number, because its values are missing when an older file is read. A change that an older reader would misread needs
one.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentplug.contract.formats import TRACE_FORMAT, newer_format
from agentplug.contract.regular_file import replacing
from agentplug.contract.text import printable
from agentplug.report.columns import CALLS_COLUMNS, SAMPLES_COLUMNS, add_missing_columns, is_trace, kind_of
from agentplug.report.frames import without_formulas
from agentplug.report.heads.sizes import (
    CELL_BYTES,
    MAX_HEAD_BYTES,
    TooLarge,
    check_bytes,
    check_head,
    check_schema,
    check_zone,
    import_pyarrow,
    read_file,
)
from agentplug.report.machine import machine
from agentplug.report.spreadsheet import plain_cell, safe_cell, safe_json

if TYPE_CHECKING:
    import pandas as pd

_HEAD = "agentplug"
_FIRST_LINE = b"# agentplug "  # the head of a CSV of formats 1 and 2
_CELL = re.compile(rb'(?:"((?:[^"]|"")*+)"|([^",\n]*+))(,|\n|\Z)')
_SUFFIXES = (".parquet", ".feather", ".csv")
_LABELS = "row label"
_ARROW_FORMAT, _SAFE_CELLS_FORMAT, _CSV_FORMAT = 1, 2, 3
_DTYPE = re.compile(
    r"(?:category|(?:u?int|U?Int|[fF]loat)\d{1,2}|bool(?:ean)?|string(?:\[(?:python|pyarrow)\])?"
    r"|(?:timedelta|datetime)64\[(?:s|ms|us|ns)(?:, (?P<zone>[^\]]+))?\])"
)
"""The dtypes that a file may ask for: those that its format or a CSV changes."""


def save_trace(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a calls frame or a samples frame in the format of the suffix. Returns the path.

    A CSV keeps only a trace's own columns. Before anything is written, raises `ValueError` for an unknown suffix, or
    a frame that is no trace or that the file couldn't restore; `ImportError` without pyarrow; and `OSError`.
    """
    target = _checked_path(path)
    try:
        kind_of(frame)
    except AttributeError as error:
        raise ValueError(str(error)) from None
    if not frame.columns.is_unique:
        raise ValueError("two columns of this frame have one name: rename or drop one of them")
    head = {
        "format": _CSV_FORMAT if target.suffix == ".csv" else _ARROW_FORMAT,
        "agentplug": machine()["agentplug"],
        "attrs": _attrs(frame),
    }
    if target.suffix != ".parquet":  # parquet keeps any index
        frame, head["index"] = _plain(frame)
    head["dtypes"] = {str(name): str(dtype) for name, dtype in frame.dtypes.items()}
    head["categories"] = {str(n): of.cat.categories.tolist() for n, of in frame.items() if _kind(of) == "categories"}
    try:
        check_head(len(safe_json(json.dumps(head))))
        check_bytes(frame.size * CELL_BYTES, *frame.shape)
    except TooLarge as error:
        raise ValueError(f"this frame {error}: save it in parts") from None
    with replacing(target) as new:
        (_write_csv if target.suffix == ".csv" else _write_arrow)(frame, head, new)
    return target


def load_trace(path: str | Path) -> pd.DataFrame:
    """Read what `save_trace` wrote: same values, dtypes and `attrs`.

    In columns that an older agentplug didn't write all values are missing. TeX in a text, which no trace of ours
    has, comes back escaped. Raises `ValueError` for a newer format, and for a file that is no trace.
    """
    source = _checked_path(path)
    if source.suffix != ".csv":
        import_pyarrow(source.suffix)
    try:
        data = read_file(source)
    except TooLarge as error:
        raise _too_large(source, error) from None
    try:
        frame = _restored(*(_read_csv(data) if source.suffix == ".csv" else _read_arrow(data, source.suffix)))
        if not is_trace(frame):
            raise ValueError("its columns are others")
    except _NewerFormat as error:
        raise ValueError(f"{printable(str(source), 200)} was {error}") from None
    except TooLarge as error:
        raise _too_large(source, error) from None
    except Exception as error:  # whatever somebody else's bytes make of pyarrow and pandas
        what = f"{printable(str(source), 200)} is no trace that agentplug saved"
        raise ValueError(f"{what}: {printable(str(error), 200)}") from None
    return without_formulas(add_missing_columns(frame))


def _too_large(source: Path, error: TooLarge) -> ValueError:
    remedy = f"if you trust it, read it with pandas.read_{source.suffix[1:]}"
    return ValueError(f"{printable(str(source), 200)} {error}; {remedy}")


class _NewerFormat(Exception):
    """A file whose format is newer than this agentplug."""


def _head(text: str | bytes) -> dict[str, Any]:
    """Parse the metadata of a file. Raises `_NewerFormat`, and `ValueError` for anything else."""
    head: dict[str, Any] = json.loads(text)
    number = head.get("format", 0) if isinstance(head, dict) else None
    if type(number) is not int or number < 0:
        raise ValueError("it names no format")
    if number > TRACE_FORMAT:
        raise _NewerFormat(newer_format(number, TRACE_FORMAT, head.get("agentplug")))
    return head


def _attrs(frame: pd.DataFrame) -> dict[Any, Any]:
    for name, value in frame.attrs.items():
        try:
            same = isinstance(name, str) and json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError, RecursionError):
            same = False
        if not same:
            raise ValueError(
                f"attrs[{printable(repr(name), 100)}] isn't JSON, all that files keep: change or drop it"
            )
    return frame.attrs


def _plain(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Any]]:
    """Move the index to a column, unless rows are just counted. Returns the frame, and the column and index names."""
    import pandas as pd

    labels = frame.index
    counted = labels.dtype == "int64" and labels.equals(pd.RangeIndex(len(frame)))
    column = None if counted else "t" if labels.name == "t" else _LABELS
    by_number = column != _LABELS or pd.api.types.is_integer_dtype(labels.dtype)
    if labels.nlevels > 1 or not by_number or not isinstance(labels.name, str | None):
        raise ValueError("feather and CSV keep a trace's rows by number: reset_index() first, or take .parquet")
    if column in frame.columns:
        raise ValueError(f"this frame has a column {column!r} beside its index: drop that column, or take .parquet")
    plain = frame.reset_index(drop=True) if column is None else frame.rename_axis(column).reset_index()
    return plain, [column, labels.name]


def _kind(column: Any) -> str:
    """Return `texts`, `figures` or `categories` for a column that its dtype's name can restore, else nothing."""
    import numpy as np
    import pandas as pd

    dtype, text = column.dtype, str(pd.Index([], dtype=str).dtype)  # `object` before pandas 3
    if isinstance(dtype, pd.CategoricalDtype):
        return "categories" if str(dtype.categories.dtype) == text else ""
    if str(dtype) == text:
        return "texts" if all(isinstance(word, str) for word in column.dropna()) else ""
    known = isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "iufmM")
    known = known or str(dtype) == "Int64"  # whole numbers, some of them missing
    return "figures" if known and dtype == pd.api.types.pandas_dtype(str(dtype)) else ""


def _write_csv(plain: pd.DataFrame, head: dict[str, Any], target: Path) -> None:
    others = [str(name) for name in plain if name not in {*CALLS_COLUMNS, *SAMPLES_COLUMNS, "t", _LABELS}]
    if others:
        what = f"a .csv keeps a trace's own columns, not {printable(', '.join(others), 200)}"
        raise ValueError(f"{what}: take .parquet or .feather, or drop them")
    words: dict[Any, list[str]] = {}
    for name, column in plain.items():
        kind = _kind(column)
        if not kind or (kind == "categories" and column.cat.ordered):
            raise ValueError(f"a .csv keeps no {column.dtype} in {name}: take .parquet or .feather, or use astype()")
        if kind != "figures":
            words[name] = column.dropna().unique().tolist()
        elif column.dtype.kind == "m":
            plain[name] = column.dt.as_unit("ns").astype("int64")
    for name, column in plain.items():
        if any(safe_cell(word) != word for word in words.get(name, ())):
            plain[name] = column.astype(object).map(safe_cell, na_action="ignore")
    texts = {safe_cell(word) for of in words.values() for word in of}
    missing = next(word for word in ("NA" * n for n in range(len(texts) + 1)) if word not in texts)  # mostly ""
    # To pandas' csv reader, unlike Python's, a carriage return ends a line, so texts with one are quoted.
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if any("\r" in word for word in texts) else csv.QUOTE_MINIMAL
    text = safe_json(json.dumps(head | {"missing": missing}))
    if len(plain):
        plain[_HEAD] = [text, *[None] * (len(plain) - 1)]
    else:
        plain[f"{_HEAD} {text}"] = None
    plain.to_csv(target, index=False, encoding="utf-8", lineterminator="\n", na_rep=missing, quoting=quoting)


def _read_csv(data: bytes) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pandas as pd

    has_first_line = data.startswith(_FIRST_LINE)
    begin = (data.find(b"\n") + 1 or len(data)) if has_first_line else 0
    check_head(begin)
    columns, last_name, end = _csv_row(data, begin)
    cells, text, _ = _csv_row(data, end)
    rows = data.count(b"\n", end)
    check_bytes(rows * columns * CELL_BYTES, rows, columns)
    if cells > columns:  # pandas makes an index of these
        raise ValueError("its rows are longer than its columns' names")
    if has_first_line:
        text = data[len(_FIRST_LINE) : begin]
    elif last_name.startswith(f"{_HEAD} ".encode()):
        text = last_name.partition(b" ")[2]
    elif last_name != _HEAD.encode():
        raise ValueError("it has no last column 'agentplug', in which a trace's limits are")
    check_head(len(text))
    head = _head(text)
    if not {"attrs", "index", "dtypes", "categories", "missing"} <= head.keys():
        raise ValueError("what its column 'agentplug' says is incomplete")
    table = io.BytesIO(data)
    table.seek(begin)
    frame = pd.read_csv(table, dtype=str, keep_default_na=False, na_values=[head["missing"]])
    if has_first_line and head.get("format") != _SAFE_CELLS_FORMAT:
        return frame, head
    frame = frame if has_first_line else frame.iloc[:, :-1].copy()
    for name in frame:
        if name in head["categories"] or head["dtypes"].get(name) in ("str", "object"):
            frame[name] = frame[name].map(plain_cell, na_action="ignore")
    return frame, head


def _csv_row(data: bytes, begin: int) -> tuple[int, bytes, int]:
    """Return the number of cells in the row that begins there, the last of them, and the end of the row.

    Raises `TooLarge` if it is longer than any row of a trace.
    """
    window = memoryview(data)[begin : begin + 2 * MAX_HEAD_BYTES]
    cells, last = 0, b""
    for cell in _CELL.finditer(window):
        cells, last = cells + 1, cell[1].replace(b'""', b'"') if cell[1] is not None else cell[2]
        if cell[3] != b",":
            check_head(cell.end() if not cell[3] and begin + cell.end() < len(data) else 0)
            return cells, bytes(last), begin + cell.end()
    raise ValueError("it is no table")


def _write_arrow(frame: pd.DataFrame, head: dict[str, Any], target: Path) -> None:
    metadata = {
        b"agentplug": json.dumps(head),
        b"PANDAS_ATTRS": json.dumps(head["attrs"]),
    }  # the latter as pandas does
    try:
        table = import_pyarrow("").Table.from_pandas(frame)
        table = table.replace_schema_metadata(table.schema.metadata | metadata)
        module = import_pyarrow(target.suffix)
        (module.write_table if target.suffix == ".parquet" else module.write_feather)(table, target)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"a {target.suffix} can't keep this frame: {printable(str(error), 200)}") from None


def _read_arrow(data: bytes, suffix: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pandas as pd

    from agentplug.report.heads import feather, parquet

    is_parquet = suffix == ".parquet"
    if is_parquet:
        schema = parquet.open_parquet(data).schema_arrow
    else:
        table = feather.open_feather(data).read_all()
        table.validate(full=True)  # texts and categories are places in other buffers, and pandas believes them
        schema = table.schema
    check_schema(schema)
    head = _head((schema.metadata or {}).get(b"agentplug", b"{}"))
    return (pd.read_parquet if is_parquet else pd.read_feather)(io.BytesIO(data)), head


def _restored(frame: pd.DataFrame, head: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    for name, dtype in head.get("dtypes", {}).items():
        frame[name] = _typed(frame[name], dtype, head["categories"].get(name))
    label, name = head.get("index", (None, frame.index.name))
    frame.index = (frame.index if label is None else pd.Index(frame.pop(label))).rename(name)  # keeps the dtype
    frame.attrs = head.get("attrs", frame.attrs)
    return frame


def _typed(column: Any, dtype: str, categories: list[str] | None) -> Any:
    """Restore the dtype of a column: of a CSV from texts, of parquet and feather its categories and time units."""
    import pandas as pd

    if categories is not None:
        if not all(isinstance(word, str) for word in categories):
            raise ValueError("a category is no text")
        return column.astype(pd.CategoricalDtype(pd.Index(categories, dtype=str), ordered=None))
    if dtype in (str(column.dtype), "str", "object"):
        return column
    if not (known := _DTYPE.fullmatch(dtype)):
        raise ValueError(f"no trace has a column of {printable(dtype, 60)}")
    if dtype.startswith("timedelta64"):
        return column.astype("int64").astype("timedelta64[ns]").astype(dtype)
    if dtype.startswith("datetime64"):
        check_zone(known["zone"])
        moments = pd.to_datetime(column, utc=True, format="ISO8601")
        return (moments if "," in dtype else moments.dt.tz_localize(None)).astype(dtype)
    return column.astype(dtype)


def _checked_path(path: str | Path) -> Path:
    if (checked := Path(path)).suffix not in _SUFFIXES:
        raise ValueError(f"{printable(str(path), 200)}: a trace is kept in a file ending in {', '.join(_SUFFIXES)}")
    return checked
