"""The size of a feather file's values, from the head of each of its record batches (host).

Feather is Arrow's IPC file. A compressed buffer begins with its size in memory; the places of buffers stand in a
flatbuffer before them: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from agentplug.report.heads.sizes import (
    OBJECT_BYTES,
    check_bytes,
    check_head,
    check_pieces,
    import_pyarrow,
    value_bytes,
)

_MAGIC = b"ARROW1"
_FOOTER_SHARE = 3
"""A footer has the head for agentplug, for pandas, and the columns."""
_DICTIONARY, _BATCH = 2, 3
_CONTINUES = 0xFFFFFFFF


def open_feather(data: bytes) -> Any:
    """Return a pyarrow reader of `data` whose values are within bounds. Raises `TooLarge` and `ValueError`."""
    pa = import_pyarrow("")
    if not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        raise ValueError("it isn't feather")
    (length,) = struct.unpack_from("<i", data, len(data) - 10)
    check_head(length // _FOOTER_SHARE)
    reader = import_pyarrow(".ipc").open_file(pa.BufferReader(data))
    check_bytes(0, 0, len(reader.schema))
    widths = [value_bytes(field.type) for field in reader.schema]
    if any(field.type.num_fields for field in reader.schema):
        widths = []
    footer = _Table.root(data, len(data) - 10 - length)
    size = rows = pieces = 0
    blocks = [*footer.structs(2, "<qi4xq"), *footer.structs(3, "<qi4xq")]
    check_pieces(len(blocks), "parts")
    for offset, head_bytes, _ in blocks:
        (first,) = struct.unpack_from("<I", data, offset)
        message = _Table.root(data, offset + (8 if first == _CONTINUES else 4))
        kind = message.number(1, "<B")
        batch = message.table(2)
        is_values = kind == _BATCH
        if kind == _DICTIONARY:
            batch = batch.table(1)
        count = batch.number(0, "<q")
        rows += count if is_values else 0
        nodes, buffers = batch.structs(1, "<qq"), batch.structs(2, "<qq")
        pieces += len(nodes) + len(buffers)
        check_pieces(pieces, "buffers")
        for at, (values, _) in enumerate(nodes):
            width = widths[at] if is_values and at < len(widths) else OBJECT_BYTES
            size += max(values, count, 0) * width
        compressed = batch.has(3)
        for start, stored in buffers:
            size += _buffer_bytes(data, offset + head_bytes + start, stored) if compressed else max(0, stored)
    check_bytes(size, rows, len(reader.schema))
    return reader


def _buffer_bytes(data: bytes, at: int, stored: int) -> int:
    if stored < 8:
        return 0
    (size,) = struct.unpack_from("<q", data, at)
    return stored if size == -1 else max(0, size)


class _Table:
    """A table of a flatbuffer: https://flatbuffers.dev/internals/. Places outside the data raise `struct.error`."""

    def __init__(self, data: bytes, at: int) -> None:
        if at < 0:
            raise ValueError("a place before its file")
        self._data, self._at = data, at
        self._index = at - struct.unpack_from("<i", data, at)[0]
        (self._index_bytes,) = struct.unpack_from("<H", data, max(0, self._index))

    @classmethod
    def root(cls, data: bytes, at: int) -> _Table:
        """Return the table that a flatbuffer at `at` begins with."""
        if at < 0:
            raise ValueError("a place before its file")
        return cls(data, at + struct.unpack_from("<I", data, at)[0])

    def has(self, field: int) -> bool:
        """Return True if the field is there."""
        return bool(self._place(field))

    def number(self, field: int, form: str) -> int:
        """Return a number, 0 if it is missing."""
        place = self._place(field)
        return int(struct.unpack_from(form, self._data, place)[0]) if place else 0

    def table(self, field: int) -> _Table:
        """Return a table in this one."""
        return _Table.root(self._data, self._place(field) or -1)

    def structs(self, field: int, form: str) -> list[tuple[Any, ...]]:
        """Return a vector of structs."""
        if not (place := self._place(field)):
            return []
        place += struct.unpack_from("<I", self._data, place)[0]
        (count,) = struct.unpack_from("<I", self._data, place)
        check_pieces(count, "parts")
        return list(self._unpacked(form, place + 4, count))

    def _unpacked(self, form: str, at: int, count: int) -> Iterator[tuple[Any, ...]]:
        width = struct.calcsize(form)
        return (struct.unpack_from(form, self._data, at + n * width) for n in range(count))

    def _place(self, field: int) -> int:
        at = 4 + 2 * field
        if at + 2 > self._index_bytes:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._index + at)
        return self._at + offset if offset else 0
