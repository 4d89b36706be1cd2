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

from agentplug.contract.explain import plugin_name
from agentplug.contract.run import KINDS, USAGE_FIELDS, Run
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
_pack = struct.Struct("<" + "".join({"<i8": "q", "<i1": "b", "<i2": "h", "<f8": "d"}[kind] for _, kind in ROW)).pack
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

    def add(self, row: bytes) -> None:
        """Add one at the end."""
        self._rows += row
        self.count += 1

    def compress(self) -> None:
        """Nothing more is to be added."""
        self._rows = zlib.compress(self._rows, _FAST)

    def rows(self) -> bytes:
        """All of them, also while another thread adds or compresses."""
        rows = self._rows
        return bytes(rows) if isinstance(rows, bytearray) else zlib.decompress(rows)


class Recorder:
    """Takes runs, keeps their figures. `words` are the texts that the rows' `by` codes stand for.

    `known_as` is the name that a manager gave the plugin; without it rows show the plugin's own.
    """

    known_as: str | None = None

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.blocks: deque[Block] = deque()
        self.words: list[str] = []
        self.dropped = 0
        self._codes: dict[str | None, int] = {None: _MISSING}
        self._source: Any = None
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> None:
        """Keep the figures of `run`; the oldest block goes when there are too many."""
        if run.source is not self._source or self.blocks[-1].count >= BLOCK_ROWS:
            self._turn_to(run)
        verdict = run.verdict
        code = self._codes.get(verdict.by)
        if code is None:
            code = self._new_code(verdict.by)
        started_us = round(run.started_at.timestamp() * 1e6)
        self.blocks[-1].add(_pack(run.number, started_us, _KIND_CODES[verdict.kind], code, *run.usage))

    def _turn_to(self, run: Run) -> None:
        """Begin another block, unless the last one has room and tells of the same plugin."""
        source = self._source = run.source
        identity = Identity(plugin_name(run), printable(source.version, 100), source.digest)
        if self.blocks and self.blocks[-1].identity == identity and self.blocks[-1].count < BLOCK_ROWS:
            return
        while len(self) > MAX_ROWS - BLOCK_ROWS:
            self.dropped += self.blocks.popleft().count
        if self.blocks:
            self.blocks[-1].compress()
        self.blocks.append(Block(identity))

    def _new_code(self, by: str | None) -> int:
        """Exceptions are named by plugins, which may invent a new name for every call."""
        word = printable(str(by), 100)
        if word not in self.words:
            if len(self.words) >= _MAX_WORDS:
                word = _OTHER
            if word not in self.words:
                self.words.append(word)
        code = self.words.index(word)
        if len(self._codes) <= 2 * _MAX_WORDS:
            self._codes[by] = code
        return code

    def __len__(self) -> int:
        return sum(block.count for block in self.blocks)

    def names(self) -> set[str]:
        """The names of the plugins in it: more than one where a plugin failed before it could say its own."""
        return {identity.plugin for identity, _ in self.snapshot()}

    def snapshot(self) -> Iterator[tuple[Identity, bytes]]:
        """Each block's identity and its rows; safe while another thread adds."""
        name = self.known_as
        for block in list(self.blocks):
            yield block.identity if name is None else block.identity._replace(plugin=name), block.rows()
