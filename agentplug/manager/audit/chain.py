"""Walking an audit log's chain (host): every line of all its files, until the first that can't be trusted."""

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


class BadLine(NamedTuple):
    """The first line that can't be trusted: its file, its number there from 1 (0 for the file itself), and why."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        where = f"line {self.line} of {places.shown(self.file)}" if self.line else places.shown(self.file)
        return f"{where}: {self.why}"


@dataclass(frozen=True)
class Verification:
    """What a log's chain says. True where `ok`.

    `lines` were good, in so many `files`, up to `first_bad` (None where all were); `head` is the hash of the last
    good one. `torn_bytes` counts what a crash left half written at the end. `closed`: the log was closed in order, so
    nothing is missing at its end; if it wasn't, only a `head` noted elsewhere shows that.
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
    """Check every line of the log at `path`, its full parts included, and the links between them.

    `head`, noted from `AuditLog.head` or an earlier verification, has to be the hash of one of its lines: else the
    log was cut off before it, or written anew. A full part (`audit.jsonl.2`) can be checked by itself; its link to
    the part before isn't. Raises `AuditError` for a file that is missing or unreadable, no audit log, or of a
    newer format.
    """
    place = places.place(path)
    for attempt in range(_TRIES):
        walk = Walk(place)
        found = False
        for entry in walk:
            found = found or entry.hash == head
        if walk.bad is None or attempt == _TRIES - 1 or not walk.moved():
            break  # a log that is being written may be read between two steps of a rotation
    if walk.bad is None and head is not None and not found:
        why = f"no line has the hash {printable(head, 70)}: the log was cut off before it, or written anew"
        walk.bad = BadLine(place, 0, why)
    return walk.verification()


class Walk:
    """An iterator over the entries of a log. It ends at the first bad line, which is then in `bad`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.bad: BadLine | None = None
        self.files: list[str] = []
        self.chain = ""
        self.torn_bytes = 0
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
        """Whether the files have changed since the walk began."""
        return self._seen != self._state()

    def verification(self) -> Verification:
        """What was found."""
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
        """The part that the first file must be: 1, or its own number where a full part is looked at by itself."""
        if parts:
            return 1
        number = self.path.rpartition(".")[2]
        return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 1

    def _file(self, path: str, part: int) -> Iterator[Entry]:
        descriptor = places.open_to_read(path)
        with open(descriptor, "rb", buffering=1 << 18) as file:
            first = file.readline(lines.MAX_LINE_BYTES + 1)
            if not self.files and first.endswith(b"\n") and not first.startswith(b'{"n":'):
                header_of(first, path)  # which raises: this isn't one of ours at all
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
        """The entry of a line, or None with `bad` set."""
        try:
            if not raw.endswith(b"\n"):
                raise NotALine(self._half(raw))
            entry = lines.unseal(raw, path, number)
            self._link(entry, part)
        except NotALine as error:
            self.bad = BadLine(path, number, str(error))
            return None
        return entry

    def _half(self, raw: bytes) -> str:
        if len(raw) > lines.MAX_LINE_BYTES:
            return f"it is longer than {lines.MAX_LINE_BYTES} bytes"
        self.torn_bytes = len(raw)
        if not raw:
            return "the file is empty"
        return f"it is torn: {len(raw)} bytes without an end, as a crash or a cut leaves them"

    def _link(self, entry: Entry, part: int) -> None:
        """Raise `NotALine` unless `entry` follows the one before, and a file begins with its header."""
        last = self._last
        if entry.line == 1:
            try:
                told = header_fields(entry)
            except NewerFormat:
                raise
            except AuditError as error:
                raise NotALine(str(error)) from None
            if told["part"] != part:
                raise NotALine(f"this is part {told['part']} of the log, and not part {part}: files are missing")
            if last is not None and told["chain"] != self.chain:
                raise NotALine("this is part of another log")
            self.chain = told["chain"]
            if last is None and part > 1:
                return  # looked at by itself
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
