"""Where an audit file ends (host): whether its chain can go on, from which line, and what a crash left there."""

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
    """A log whose format is newer than this agentplug: it isn't damaged."""


class End(NamedTuple):
    """The last whole line's number and hash, the log's chain and part, the bytes of whole lines, and what follows."""

    n: int = 0
    head: str = lines.NO_HASH
    chain: str = ""
    part: int = 0
    size: int = 0
    torn: bytes = b""

    def loss(self) -> dict[str, Any]:
        """What is told of the torn line: its bytes, their digest, and how it began."""
        began = printable(self.torn[:200].decode("latin-1"))
        return {"bytes": len(self.torn), "sha256": lines.digest_of(self.torn), "began": began}


def end_of(descriptor: int, path: str) -> End:
    """The end of the audit file. Raises `AuditError` for one that isn't one, or whose end can't be trusted."""
    first = places.first_line(descriptor)
    size = os.fstat(descriptor).st_size
    if len(first) > size:  # not one whole line
        torn = first[:-1]
        if torn.startswith(_BEGINS) or _BEGINS.startswith(torn) or not torn.strip(b"\0"):
            return End(torn=torn)
        raise AuditError(f"{places.shown(path)} is no audit log, and is left as it is; name another file")
    header = header_of(first, path)
    raw, after = places.last_line(descriptor)
    try:
        last = lines.unseal(raw)
    except NotALine as error:
        raise AuditError(
            f"The last line of {places.shown(path)} can't be trusted: {error}. `agentplug audit verify` tells more; "
            "move the file away as evidence, and begin another"
        ) from None
    torn = os.pread(descriptor, size - after, after)
    return End(last.n, last.hash, header["chain"], header["part"], after, torn)


def next_entry(descriptor: int, size: int, n: int, head: str) -> Entry | None:
    """The one line behind the first `size` bytes, if it follows line `n` with the hash `head`; else None."""
    raw = os.pread(descriptor, lines.MAX_LINE_BYTES + 1, size)
    try:
        entry = lines.unseal(raw)
    except NotALine:
        return None
    return entry if (entry.n, entry.prev) == (n + 1, head) else None


def header_of(first: bytes, path: str) -> dict[str, Any]:
    """The fields of an audit file's first line. Raises `AuditError` for another file, or a newer format."""
    try:
        entry = lines.unseal(first, path, 1)
    except NotALine as error:
        if first.startswith(_BEGINS):
            raise AuditError(f"The first line of {places.shown(path)} can't be trusted: {error}") from None
        raise AuditError(f"{places.shown(path)} is no audit log: {error}") from None
    return header_fields(entry)


def header_fields(entry: Entry) -> dict[str, Any]:
    """The fields of an entry that has to be a header. Raises `AuditError`."""
    path, fields = entry.file, entry.fields
    if entry.kind != "header" or fields.get("format") != lines.FORMAT:
        raise AuditError(f"{places.shown(path)} is no audit log: it has no header")
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise AuditError(f"{places.shown(path)} is no audit log: its header names no format")
    if version > AUDIT_FORMAT:
        writer = fields["machine"].get("agentplug") if isinstance(fields.get("machine"), dict) else None
        raise NewerFormat(f"{places.shown(path)} was {newer_format(version, AUDIT_FORMAT, writer)}")
    if not isinstance(fields.get("chain"), str) or not isinstance(fields.get("part"), int):
        raise AuditError(f"{places.shown(path)} is no audit log: its header names no chain")
    return fields
