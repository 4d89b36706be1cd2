"""The size of a parquet file's values, from its footer and from the head of each page (host).

The footer says how many rows the reader makes room for. Each page says what it is decompressed to, in a header of
Thrift's compact protocol: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from agentplug.report.heads.sizes import (
    MAX_HEAD_BYTES,
    MAX_PIECES,
    OBJECT_BYTES,
    TEXT_BYTES,
    check_bytes,
    check_head,
    check_pieces,
    import_pyarrow,
    value_bytes,
)

_TAIL_BYTES = 8
_FOOTER_SHARE = 5
"""A footer has the head five times: for agentplug, for pandas, and again in Arrow's own form, as base64."""
_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3
_REFERS_BACK = 7
"""The encoding DELTA_BYTE_ARRAY, where a text begins as the one before: few bytes hold endless ones."""
_DEEPEST = 8
_PADDING_BYTES = 100
"""What the reader adds to chunks of old writers."""


class Page(NamedTuple):
    """A page: its kind, its bytes in memory, its values and their encoding."""

    kind: int
    size: int
    values: int
    encoding: int


def open_parquet(data: bytes) -> Any:
    """Return a pyarrow `ParquetFile` of `data` whose values are within bounds. Raises `TooLarge` and `ValueError`."""
    pa, parquet = import_pyarrow(""), import_pyarrow(".parquet")
    if data[-4:] != b"PAR1":
        raise ValueError("it isn't parquet")
    check_head(int.from_bytes(data[-_TAIL_BYTES:-4], "little") // _FOOTER_SHARE)
    limits = {"thrift_string_size_limit": _FOOTER_SHARE * MAX_HEAD_BYTES, "thrift_container_size_limit": MAX_PIECES}
    file = parquet.ParquetFile(pa.BufferReader(data), **limits)
    _check_values(data, file)
    _check_texts(data, file, limits)
    return file


def _check_values(data: bytes, file: Any) -> None:
    about, schema = file.metadata, file.schema
    rows, columns = about.num_rows, about.num_columns
    check_bytes(0, rows, columns)
    check_pieces(about.num_row_groups * columns, "chunks")
    widths = _widths(file)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    if sum(group.num_rows for group in groups) != rows:
        raise ValueError("its head and its parts don't agree on the rows")
    chunks = [(column, group.column(column)) for group in groups for column in range(columns)]
    room = [max(0, group.num_rows) for group in groups for _ in range(columns)]
    size = sum(max(least, chunk.num_values) * widths[at] for (at, chunk), least in zip(chunks, room, strict=True))
    check_bytes(size, rows, columns)
    pieces = 0
    for column, chunk in chunks:
        shared_bytes = 0
        for page in _pages(data, chunk):
            pieces += 1
            check_pieces(pieces, "pages or more")
            if page.encoding == _REFERS_BACK:
                raise ValueError("its texts are given as parts of each other")
            size += page.size
            if page.kind == _DICTIONARY:
                shared_bytes += page.size
            elif shared_bytes and schema.column(column).max_repetition_level:
                size += page.values * shared_bytes  # such a text can't be looked at before it is repeated
    check_bytes(size, rows, columns)


def _widths(file: Any) -> list[int]:
    """Return the memory that a value of each leaf column takes; of an object, if any field has fields."""
    fields = list(file.schema_arrow)
    leaves = [file.schema.column(at) for at in range(file.metadata.num_columns)]
    if any(field.type.num_fields for field in fields):
        return [max(OBJECT_BYTES, leaf.length) for leaf in leaves]
    return [max(value_bytes(field.type), leaf.length) for field, leaf in zip(fields, leaves, strict=True)]


def _check_texts(data: bytes, file: Any, limits: dict[str, int]) -> None:
    """Raise `TooLarge` if texts that many rows share are too large when each row has its own."""
    import numpy as np

    pa, compute, parquet = map(import_pyarrow, ("", ".compute", ".parquet"))
    names = [field.name for field in file.schema_arrow if value_bytes(field.type) == TEXT_BYTES]
    shared = parquet.ParquetFile(pa.BufferReader(data), read_dictionary=names, **limits)
    size = 0
    for name in names:
        for chunk in shared.read(columns=[name]).column(0).chunks:
            if pa.types.is_dictionary(chunk.type) and len(chunk.dictionary):  # others are as large as their pages
                lengths = compute.binary_length(chunk.dictionary.fill_null("")).to_numpy()
                times = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=len(lengths))
                size += sum(map(int, times * lengths.astype("int64")))
                check_bytes(size, file.metadata.num_rows, file.metadata.num_columns)


def _pages(data: bytes, chunk: Any) -> Iterator[Page]:
    """Yield the pages of a chunk, as far as the reader goes: to the last of its values."""
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end = min(len(data), at + chunk.total_compressed_size + _PADDING_BYTES)
    values = 0
    while values < chunk.num_values and at < end:
        reader = _Thrift(data, at)
        header = reader.struct()
        kind, size, stored = header[1], header[2], header[3]
        if not 0 <= stored <= end - reader.at or size < 0:
            raise ValueError("a page is larger than its place")
        at = reader.at + stored
        about = header.get({_DATA: 5, _DICTIONARY: 7, _DATA_2: 8}.get(kind, 0), Counter())
        encoding = about[4] if kind == _DATA_2 else about[2]
        if kind in (_DATA, _DATA_2):
            values += about[1]
        yield Page(kind, size, about[1], encoding)


class _Thrift:
    """A reader of Thrift's compact protocol: the numbers of structs, by field."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a struct; texts are left out. Raises `ValueError` for what a page header hasn't."""
        if depth > _DEEPEST:
            raise ValueError("a page header is nested too deep")
        fields: dict[int, Any] = Counter()
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._number()
            if kind in (1, 2):
                continue  # a truth value stands in the head
            if kind == 3:
                self.at += 1
            elif kind == 5:
                fields[number] = self._number()
            elif kind in (4, 6):
                self._varint()  # no field of these headers is so wide, so the reader skips it
            elif kind == 7:
                self.at += 8
            elif kind == 8:
                length = self._varint()
                self.at += length
            elif kind == 12:
                fields[number] = self.struct(depth + 1)
            else:
                raise ValueError("a page header has an odd field")
        return fields

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number in a page header has no end")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
