"""The bounds of data files from somebody else, and the memory that a value takes (host)."""

from __future__ import annotations

import importlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable

MAX_FILE_BYTES = 512 << 20
MAX_HEAD_BYTES = 3 << 20
"""The longest head: a kilobyte or two a plugin."""
MAX_BYTES = 1 << 30
"""The most memory for a file's values; more than a million calls."""
MAX_PIECES = 20_000
"""The most pages or buffers: each is looked at."""
MAX_COLUMNS = 1_000

FIGURE_BYTES, CELL_BYTES, TEXT_BYTES, OBJECT_BYTES = 8, 32, 64, 128
_REPEATING = frozenset(
    ("string_view", "binary_view", "list_view", "large_list_view", "run_end_encoded", "dense_union", "sparse_union")
)
_DTYPE = re.compile(r"\w{1,20}(\[[\w ,/+:-]{0,60}\])?", re.ASCII)
_ZONE = re.compile(r"(?!dateutil|/)[\w+:/-]{1,60}", re.ASCII)


class TooLarge(Exception):
    """A file over a bound; the text has both figures."""


def import_pyarrow(module: str) -> Any:
    """Import pyarrow or a module of it, as in `.parquet`. Raises `ImportError` with the remedy."""
    try:
        return importlib.import_module(f"pyarrow{module}")
    except ImportError:
        raise ImportError("parquet and feather need pyarrow: pip install 'agentplug[arrow]'; .csv doesn't") from None


def read_file(source: Path) -> bytes:
    """Return the bytes of a regular file. Raises `TooLarge` and `OSError`."""
    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise TooLarge("is no regular file, whose size is known")
        data = file.read(MAX_FILE_BYTES + 1) if about.st_size <= MAX_FILE_BYTES else b""
        if (size := max(about.st_size, len(data))) > MAX_FILE_BYTES:
            raise TooLarge(f"has {format_size(size)}, and at most {format_size(MAX_FILE_BYTES)} are read")
    return data


def check_head(size: int) -> None:
    """Raise `TooLarge` for a head of more than `MAX_HEAD_BYTES`."""
    if size > MAX_HEAD_BYTES:
        raise TooLarge(f"has a head of {format_size(size)}, and at most {format_size(MAX_HEAD_BYTES)} are read")


def check_pieces(count: int, what: str) -> None:
    """Raise `TooLarge` for more than `MAX_PIECES` pages or buffers."""
    if count > MAX_PIECES:
        raise TooLarge(f"has {count:,} {what}, and at most {MAX_PIECES:,} are read")


def check_bytes(size: int, rows: int, columns: int) -> None:
    """Raise `TooLarge` if the values would take more than `MAX_BYTES`, or for more than `MAX_COLUMNS`."""
    if columns > MAX_COLUMNS:
        raise TooLarge(f"has {columns:,} columns, and at most {MAX_COLUMNS:,} are read")
    if size > MAX_BYTES:
        shape = f"{rows:,} rows in {columns:,} columns"
        raise TooLarge(
            f"would take {format_size(size)} of memory ({shape}), and a trace may take {format_size(MAX_BYTES)}"
        )


def value_bytes(kind: Any) -> int:
    """Return the memory that a value of an Arrow type takes in a frame, beside its text."""
    types = import_pyarrow("").types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind):
        return FIGURE_BYTES
    if types.is_timestamp(kind) or types.is_duration(kind) or types.is_dictionary(kind):
        return FIGURE_BYTES
    return TEXT_BYTES if any(is_kind(kind) for is_kind in _text_kinds(types)) else OBJECT_BYTES


def _text_kinds(types: Any) -> tuple[Any, ...]:
    return types.is_string, types.is_large_string, types.is_binary, types.is_large_binary


def check_schema(schema: Any) -> None:
    """Raise `ValueError` for types whose values may overlap in a file, and for odd dtypes and zones.

    pandas looks dtypes and zones up by their names, zones also as files.
    """
    for field in schema:
        _check_type(field.type, 0)
    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    if len(levels := about.get("column_indexes", [])) > 1:
        raise ValueError("the names of its columns are tuples")
    for column in [*about.get("columns", []), *levels]:
        if not _DTYPE.fullmatch(str(column["numpy_type"])):
            raise ValueError(f"no trace has a column of {printable(str(column['numpy_type']), 60)}")
        check_zone((column.get("metadata") or {}).get("timezone"))


def check_zone(zone: str | None) -> None:
    """Raise `ValueError` for a time zone that isn't named as zones are."""
    if zone is not None and not _ZONE.fullmatch(zone):
        raise ValueError(f"{printable(zone, 60)} is no time zone")


def _check_type(kind: Any, depth: int) -> None:
    name = str(kind).partition("<")[0]
    if name in _REPEATING or depth > 8:
        raise ValueError(f"no trace has a column of {printable(str(kind), 60)}")
    check_zone(getattr(kind, "tz", None))
    for at in range(kind.num_fields):
        _check_type(kind.field(at).type, depth + 1)
    if name == "dictionary":
        _check_type(kind.value_type, depth + 1)
