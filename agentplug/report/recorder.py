"""`Recorder`: a row for every call of a plugin, packed and bounded (host).

Runs hold values, output and events, so a plugin stores only its latest runs. A row of figures takes a hundred bytes,
about twenty-five compressed, so the rows of a million calls are stored. After that the oldest block is dropped, and
its rows counted. History without a bound belongs into files.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentplug.contract.record import KINDS, USAGE_FIELDS, RunRecord, plugin_name
from agentplug.contract.text import printable

BLOCK_ROWS = 1 << 10
"""The rows of a full block. To compress it takes a millisecond of the caller's loop."""
MAX_ROWS = 1 << 20
"""The most rows of a recorder."""
_FAST = 1
_MAX_WORDS = 1_000
_OTHER = "(other)"
_MISSING = -1

_SECONDS = tuple(name for name in USAGE_FIELDS if name.endswith("_s"))
ROW = [("run", "<i8"), ("started_us", "<i8"), ("verdict", "<i1"), ("by", "<i2")] + [
    (name, "<f8" if name in _SECONDS else "<i8") for name in USAGE_FIELDS
]
"""The fields of a row, as a numpy dtype without padding."""
_LETTERS = {"<i8": "q", "<i1": "b", "<i2": "h", "<f8": "d"}
_row = struct.Struct("<" + "".join(_LETTERS[kind] for _, kind in ROW))
_by = struct.Struct("<h")
_BY_AT = struct.calcsize("<qqb")  # after run, started_us and verdict
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}


class Identity(NamedTuple):
    """The plugin of a block's rows."""

    plugin: str
    version: str
    digest: str


@dataclass(slots=True)
class Block:
    """Rows of one plugin, laid out by `ROW`."""

    identity: Identity
    count: int = 0
    _rows: bytearray | bytes = field(default_factory=bytearray)

    def add(self, rows: bytes | bytearray, count: int = 1) -> None:
        """Append `count` rows."""
        self._rows += rows
        self.count += count

    def compress(self) -> None:
        """Compress the rows of a block that takes no more of them."""
        self._rows = zlib.compress(bytes(self._rows), _FAST)

    def copy(self) -> Block:
        """Return an independent copy."""
        rows = self._rows
        return Block(self.identity, self.count, rows if isinstance(rows, bytes) else bytearray(rows))

    def rows(self) -> bytes:
        """Return all rows; safe while another thread adds or compresses."""
        rows = self._rows
        return bytes(rows) if isinstance(rows, bytearray) else zlib.decompress(rows)


class Recorder:
    """The figures of a plugin's runs. `words` has the texts for the rows' `by` codes.

    `known_as` is the manager's name for the plugin, and replaces the plugin's own in all rows.
    """

    known_as: str | None = None

    def __init__(self, runs: Iterable[RunRecord] = ()) -> None:
        self.blocks: deque[Block] = deque()
        self.words: list[str] = []
        self.dropped = 0
        self._codes: dict[str | None, int] = {None: _MISSING}
        self._source: Any = None
        for run in runs:
            self.add(run)

    def add(self, run: RunRecord) -> None:
        """Add the figures of `run`. Drops the oldest block if there are too many."""
        if run.source is not self._source or self.blocks[-1].count >= BLOCK_ROWS:
            identity = Identity(plugin_name(run), printable(run.source.version, 100), run.source.digest)
            self._begin(identity, 1)
            self._source = run.source
        verdict = run.verdict
        code = self._code(verdict.by)
        started_us = round(run.started_at.timestamp() * 1e6)
        self.blocks[-1].add(_row.pack(run.number, started_us, _KIND_CODES[verdict.kind], code, *run.usage))

    def copy(self) -> Recorder:
        """Return an independent copy."""
        other = Recorder()
        other.known_as, other.dropped = self.known_as, self.dropped
        other.words, other._codes = list(self.words), dict(self._codes)
        other.blocks = deque(block.copy() for block in self.blocks)
        return other

    def absorb(self, other: Recorder) -> None:
        """Append the rows of `other`, which must have the same name and take no more runs."""
        codes = {code: self._code_of(word) for code, word in enumerate(other.words)} | {_MISSING: _MISSING}
        for block in other.blocks:
            rows = bytearray(block.rows())
            for at in range(_BY_AT, len(rows), _row.size):
                _by.pack_into(rows, at, codes[_by.unpack_from(rows, at)[0]])
            self._begin(block.identity, block.count)
            self.blocks[-1].add(rows, block.count)
        self.dropped += other.dropped
        self._source = None

    @property
    def oldest_us(self) -> int:
        """The start of the oldest row's call, in microseconds since 1970. There must be a row."""
        return int(_row.unpack_from(self.blocks[0].rows())[1])

    @property
    def latest_us(self) -> int:
        """The start of the latest row's call, likewise; safe while another thread begins a block."""
        rows = next(rows for block in reversed(list(self.blocks)) if (rows := block.rows()))
        return int(_row.unpack_from(rows, len(rows) - _row.size)[1])

    def drop_oldest(self) -> None:
        """Drop the oldest block, and count its rows."""
        self.dropped += self.blocks.popleft().count
        self._source = None

    def _begin(self, identity: Identity, count: int) -> None:
        """Begin a block, unless the last one is of the same plugin and has room for `count` rows."""
        if self.blocks and self.blocks[-1].identity == identity and self.blocks[-1].count + count <= BLOCK_ROWS:
            return
        while len(self) > MAX_ROWS - BLOCK_ROWS:
            self.drop_oldest()
        if self.blocks:
            self.blocks[-1].compress()
        self.blocks.append(Block(identity))

    def _code(self, by: str | None) -> int:
        """Return the code of a verdict's `by`. The cache is bounded: a plugin may invent exceptions without end."""
        if (code := self._codes.get(by)) is None:
            code = self._code_of(printable(str(by), 100))
            if len(self._codes) <= 2 * _MAX_WORDS:
                self._codes[by] = code
        return code

    def _code_of(self, word: str) -> int:
        if word not in self.words:
            if len(self.words) >= _MAX_WORDS:
                word = _OTHER
            if word not in self.words:
                self.words.append(word)
        return self.words.index(word)

    def __len__(self) -> int:
        return sum(block.count for block in self.blocks)

    def names(self) -> set[str]:
        """Return the names in the rows: several if a plugin failed before its own name was known."""
        return {block.identity.plugin if self.known_as is None else self.known_as for block in list(self.blocks)}

    def snapshot(self) -> Iterator[tuple[Identity, bytes]]:
        """Yield each block's identity and its rows; safe while another thread adds."""
        name = self.known_as
        for block in list(self.blocks):
            yield block.identity if name is None else block.identity._replace(plugin=name), block.rows()
