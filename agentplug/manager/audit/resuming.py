"""Continuing an audit file (host): read its header and its last line, and what a crash left after that."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from agentplug.contract.formats import AUDIT_FORMAT, newer_format
from agentplug.contract.text import printable
from agentplug.errors import AuditError
from agentplug.manager.audit import lines, places
from agentplug.manager.audit.lines import Entry, NotALine

_BEGINS = b'{"n":'


class NewerFormat(AuditError):
    """The log isn't damaged, but its format is newer than this agentplug."""


class End(NamedTuple):
    """The end of an audit file: the last whole line's number `n` and hash `head`, the log's chain and part, the
    `size` of all whole lines, and the `torn` bytes after them.
    """

    n: int = 0
    head: str = lines.NO_HASH
    chain: str = ""
    part: int = 0
    size: int = 0
    torn: bytes = b""

    def loss(self) -> dict[str, Any]:
        """Return the fields of a `recovered` line: the torn line's size, digest and first characters."""
        began = printable(self.torn[:200].decode("latin-1"))
        return {"bytes": len(self.torn), "sha256": lines.digest_of(self.torn), "began": began}


def end_of(descriptor: int, path: str) -> End:
    """Find the end of an audit file. Raises `AuditError` if the file is none, or its last line can't be trusted."""
    first = os.pread(descriptor, lines.MAX_LINE_BYTES, 0).partition(b"\n")[0] + b"\n"
    size = os.fstat(descriptor).st_size
    if len(first) > size:  # not one whole line
        torn = first[:-1]
        if torn.startswith(_BEGINS) or _BEGINS.startswith(torn) or not torn.strip(b"\0"):
            return End(torn=torn)
        raise AuditError(f"{places.path_text(path)} is no audit log, and is left as it is; name another file")
    header = header_of(first, path)
    raw, after = places.last_line(descriptor)
    try:
        last = lines.unseal(raw)
    except NotALine as error:
        raise AuditError(
            f"The last line of {places.path_text(path)} can't be trusted: {error}. `agentplug audit verify` tells "
            "more; move the file away as evidence, and begin another"
        ) from None
    torn = os.pread(descriptor, size - after, after)
    return End(last.n, last.hash, header["chain"], header["part"], after, torn)


def next_entry(descriptor: int, size: int, n: int, head: str) -> Entry | None:
    """Read the one line after the first `size` bytes; None unless it follows line `n` with the hash `head`."""
    raw = os.pread(descriptor, lines.MAX_LINE_BYTES + 1, size)
    try:
        entry = lines.unseal(raw)
    except NotALine:
        return None
    return entry if (entry.n, entry.prev) == (n + 1, head) else None


def header_of(first: bytes, path: str) -> dict[str, Any]:
    """Return the fields of an audit file's first line. Raises `AuditError` for another file, or a newer format."""
    try:
        entry = lines.unseal(first, path, 1)
    except NotALine as error:
        if first.startswith(_BEGINS):
            raise AuditError(f"The first line of {places.path_text(path)} can't be trusted: {error}") from None
        raise AuditError(f"{places.path_text(path)} is no audit log: {error}") from None
    return header_fields(entry)


def header_fields(entry: Entry) -> dict[str, Any]:
    """Return the fields of a header. Raises `AuditError` if `entry` is none."""
    path, fields = entry.file, entry.fields
    if entry.kind != "header" or fields.get("format") != lines.FORMAT:
        raise AuditError(f"{places.path_text(path)} is no audit log: it has no header")
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise AuditError(f"{places.path_text(path)} is no audit log: its header names no format")
    if version > AUDIT_FORMAT:
        writer = fields["machine"].get("agentplug") if isinstance(fields.get("machine"), dict) else None
        raise NewerFormat(f"{places.path_text(path)} was {newer_format(version, AUDIT_FORMAT, writer)}")
    if not isinstance(fields.get("chain"), str) or not isinstance(fields.get("part"), int):
        raise AuditError(f"{places.path_text(path)} is no audit log: its header names no chain")
    return fields
