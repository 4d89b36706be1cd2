"""`Recorder`: a row for every call of a plugin, packed, bounded (host).

Runs hold values, output and events, so only the latest are kept. Their figures are a hundred bytes a call, some
twenty-five once compressed, and are kept for a million calls. What goes then is the oldest, a block at a time, and it
is counted. History without a bound belongs into files.
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
"""A block is compressed once it is full: in a millisecond, which the caller's loop can spare."""
MAX_ROWS = 1 << 20
"""So many rows are kept at most."""
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
_BY_AT = struct.calcsize("<qqb")  # what stands before it
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}


class Identity(NamedTuple):
    """What the rows of a block share."""

    plugin: str
    version: str
    digest: str


@dataclass(slots=True)
class Block:
    """Rows of one plugin, one after another, as `ROW` lays them out."""

    identity: Identity
    count: int = 0
    _rows: bytearray | bytes = field(default_factory=bytearray)

    def add(self, rows: bytes | bytearray, count: int = 1) -> None:
        """Add so many at the end."""
        self._rows += rows
        self.count += count

    def compress(self) -> None:
        """Nothing more is to be added."""
        self._rows = zlib.compress(bytes(self._rows), _FAST)

    def copy(self) -> Block:
        """Another one of the same rows."""
        rows = self._rows
        return Block(self.identity, self.count, rows if isinstance(rows, bytes) else bytearray(rows))

    def rows(self) -> bytes:
        """All of them, also while another thread adds or compresses."""
        rows = self._rows
        return bytes(rows) if isinstance(rows, bytearray) else zlib.decompress(rows)


class Recorder:
    """Takes runs, keeps their figures. `words` are the texts that the rows' `by` codes stand for.

    `known_as` is the name that a manager gave the plugin; without it rows show the plugin's own.
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
        """Keep the figures of `run`; the oldest block goes when there are too many."""
        if run.source is not self._source or self.blocks[-1].count >= BLOCK_ROWS:
            self._turn_to(run)
        verdict = run.verdict
        code = self._code(verdict.by)
        started_us = round(run.started_at.timestamp() * 1e6)
        self.blocks[-1].add(_row.pack(run.number, started_us, _KIND_CODES[verdict.kind], code, *run.usage))

    def copy(self) -> Recorder:
        """Another one of the same rows."""
        other = Recorder()
        other.known_as, other.dropped = self.known_as, self.dropped
        other.words, other._codes = list(self.words), dict(self._codes)
        other.blocks = deque(block.copy() for block in self.blocks)
        return other

    def absorb(self, other: Recorder) -> None:
        """Take over the rows of `other`, which is known by the same name and takes no more runs itself."""
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
        """When its oldest row's call began, in microseconds since 1970. Only where there is a row."""
        return int(_row.unpack_from(self.blocks[0].rows())[1])

    @property
    def latest_us(self) -> int:
        """When its latest row's call began, likewise; also while another thread begins a block."""
        rows = next(rows for block in reversed(list(self.blocks)) if (rows := block.rows()))
        return int(_row.unpack_from(rows, len(rows) - _row.size)[1])

    def drop_oldest(self) -> None:
        """Let the oldest block go, and count it."""
        self.dropped += self.blocks.popleft().count
        self._source = None

    def _turn_to(self, run: RunRecord) -> None:
        source = run.source
        self._begin(Identity(plugin_name(run), printable(source.version, 100), source.digest), 1)
        self._source = source

    def _begin(self, identity: Identity, count: int) -> None:
        """Another block for so many rows, unless the last one has room and tells of the same plugin."""
        if self.blocks and self.blocks[-1].identity == identity and self.blocks[-1].count + count <= BLOCK_ROWS:
            return
        while len(self) > MAX_ROWS - BLOCK_ROWS:
            self.drop_oldest()
        if self.blocks:
            self.blocks[-1].compress()
        self.blocks.append(Block(identity))

    def _code(self, by: str | None) -> int:
        """Exceptions are named by plugins, which may invent a new name for every call."""
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
        """The names of the plugins in it: more than one where a plugin failed before it could say its own."""
        return {block.identity.plugin if self.known_as is None else self.known_as for block in list(self.blocks)}

    def snapshot(self) -> Iterator[tuple[Identity, bytes]]:
        """Each block's identity and its rows; safe while another thread adds."""
        name = self.known_as
        for block in list(self.blocks):
            yield block.identity if name is None else block.identity._replace(plugin=name), block.rows()
