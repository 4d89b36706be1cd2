"""Verify an audit log's chain (host): every line of all its files, up to the first bad one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agentplug.contract.text import printable
from agentplug.errors import AuditError
from agentplug.manager.audit import lines, places
from agentplug.manager.audit.lines import Entry, NotALine
from agentplug.manager.audit.resuming import NewerFormat, header_fields, header_of

_TRIES = 3
_CONTAINER_VALUES = 6
"""The values that take as much memory as a list or dict: `[]` is two bytes of a line."""


class BadLine(NamedTuple):
    """The first line that can't be trusted: its file, its number in the file from 1 (0: the file itself), and why."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        where = f"line {self.line} of {places.path_text(self.file)}" if self.line else places.path_text(self.file)
        return f"{where}: {self.why}"


@dataclass(frozen=True)
class Verification:
    """The result of checking a log's chain; true if `ok`.

    `lines` and `files` count what is good, up to `first_bad` (None if all is good). `head` is the hash of the last
    good line. `torn_bytes` is the size of a half-written last line, which a crash leaves. If `closed`, the log ends
    with a `close` line, so nothing is missing at its end; otherwise only a `head` noted elsewhere can prove that.
    """

    ok: bool
    lines: int
    files: int
    chain: str
    head: str
    closed: bool
    first_bad: BadLine | None = None
    torn_bytes: int = 0

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        good = f"{self.lines:,} line{_s(self.lines)} in {self.files} file{_s(self.files)}"
        if self.first_bad is not None:
            return f"not to be trusted after {good}; {self.first_bad}"
        return f"{good}, each tied to the one before; {'closed in order' if self.closed else 'not closed'}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def verify(path: str | os.PathLike[str], head: str | None = None) -> Verification:
    """Check every line of the log at `path` and of its full parts, and the links between them.

    `head`, from `AuditLog.head` or an earlier verification, must be the hash of one of the lines; otherwise the log
    was cut off or rewritten. A full part (`audit.jsonl.2`) can be checked alone, without its link to the part before.
    Raises `AuditError` if the file is missing or unreadable, no audit log, or of a newer format.
    """
    place = places.place(path)
    for attempt in range(_TRIES):
        walk = Walk(place)
        has_head = False
        for entry in walk:
            has_head = has_head or entry.hash == head
        if walk.bad is None or attempt == _TRIES - 1 or not walk.moved():
            break  # else the log was read while it was written, perhaps in the middle of a rotation
    if walk.bad is None and head is not None and not has_head:
        why = f"no line has the hash {printable(head, 70)}: the log was cut off before it, or written anew"
        walk.bad = BadLine(place, 0, why)
    return walk.verification()


class Walk:
    """An iterator over a log's entries, which ends at the first bad line and sets `bad` to it.

    `values` grows with the memory that the entries take: more than their number of bytes tells.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.bad: BadLine | None = None
        self.files: list[str] = []
        self.chain = ""
        self.torn_bytes = 0
        self.values = 0
        self._last: Entry | None = None
        self._count = 0
        self._seen = self._state()

    def __iter__(self) -> Iterator[Entry]:
        parts = places.parts_of(self.path)
        expected = self._first_part(parts)
        for _, file in parts:
            yield from self._file(file, expected)
            if self.bad is not None:
                return
            expected += 1
        if parts and not os.path.lexists(self.path):
            self.bad = BadLine(self.path, 0, "it is missing: it was removed, or a rotation was interrupted")
            return
        yield from self._file(self.path, expected)

    def moved(self) -> bool:
        """Return True if the files changed since the walk began."""
        return self._seen != self._state()

    def verification(self) -> Verification:
        """Return the result of the walk."""
        last = self._last
        return Verification(
            self.bad is None,
            self._count,
            len(self.files),
            self.chain,
            last.hash if last else "",
            last is not None and last.kind == "close",
            self.bad,
            self.torn_bytes,
        )

    def _first_part(self, parts: list[tuple[int, str]]) -> int:
        """Return the first file's part number: 1, or the number in its name if a full part is checked alone."""
        if parts:
            return 1
        number = self.path.rpartition(".")[2]
        return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 1

    def _file(self, path: str, part: int) -> Iterator[Entry]:
        descriptor = places.open_to_read(path)
        with open(descriptor, "rb", buffering=1 << 18) as file:
            first = file.readline(lines.MAX_LINE_BYTES + 1)
            if not self.files and first.endswith(b"\n") and not first.startswith(b'{"n":'):
                header_of(first, path)  # raises: the file is no audit log
            self.files.append(path)
            raw, number = first, 1
            while raw or number == 1:
                entry = self._entry(raw, path, number, part)
                if entry is None:
                    return
                self._last, self._count = entry, self._count + 1
                yield entry
                raw, number = file.readline(lines.MAX_LINE_BYTES + 1), number + 1

    def _entry(self, raw: bytes, path: str, number: int, part: int) -> Entry | None:
        """Return a line's entry, or set `bad` and return None."""
        try:
            if not raw.endswith(b"\n"):
                raise NotALine(self._torn(raw))
            self.values += raw.count(b",") + _CONTAINER_VALUES * (raw.count(b"[") + raw.count(b"{"))
            entry = lines.unseal(raw, path, number)
            self._link(entry, part)
        except NotALine as error:
            self.bad = BadLine(path, number, str(error))
            return None
        return entry

    def _torn(self, raw: bytes) -> str:
        if len(raw) > lines.MAX_LINE_BYTES:
            return f"it is longer than {lines.MAX_LINE_BYTES} bytes"
        self.torn_bytes = len(raw)
        if not raw:
            return "the file is empty"
        return f"it is torn: {len(raw)} bytes without an end, as a crash or a cut leaves them"

    def _link(self, entry: Entry, part: int) -> None:
        """Raise `NotALine` unless `entry` follows the entry before, and the file begins with a header."""
        last = self._last
        if entry.line == 1:
            try:
                header = header_fields(entry)
            except NewerFormat:
                raise
            except AuditError as error:
                raise NotALine(str(error)) from None
            if header["part"] != part:
                raise NotALine(f"this is part {header['part']} of the log, and not part {part}: files are missing")
            if last is not None and header["chain"] != self.chain:
                raise NotALine("this is part of another log")
            self.chain = header["chain"]
            if last is None and part > 1:
                return  # a full part, checked alone
        elif entry.kind == "header":
            raise NotALine("a header stands in the middle of a file")
        n, prev = (last.n, last.hash) if last is not None else (0, lines.NO_HASH)
        if entry.prev != prev:
            raise NotALine("it doesn't follow the line before: lines were removed, added or put in another order")
        if entry.n != n + 1:
            raise NotALine(f"it is numbered {entry.n}, where {n + 1} was to be")

    def _state(self) -> list[tuple[str, int]]:
        paths = [path for _, path in places.parts_of(self.path)] + [self.path]
        return [(path, os.stat(path).st_size if os.path.exists(path) else -1) for path in paths]
