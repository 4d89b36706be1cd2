"""Frames spoiled in every way we can think of: bits, lengths, splices, and edits that know msgpack.

Pure functions of a `random.Random`, so that a seed stands for the same cases everywhere. Half of the cases are cut
and patched as bytes; the other half stay well-formed msgpack and lie in what they say, which gets much further.
"""

from __future__ import annotations

import struct
from random import Random
from typing import NamedTuple

import msgspec

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.codec import layout as codes
from tests.fuzz.corpus import Seed

CALL = 0x01020304
"""The number of the first call of every case; further calls of a window count up from it."""
NONCE = 0x0A0B0C0D
"""What a worker is asked to confirm with."""

INTERESTING = (
    *(0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 100, 127, 128, 129, 255, 256, 1000, 4095, 4096),
    *(16383, 16384, 32767, 32768, 65535, 65536, 1 << 20, (1 << 20) + 1, 1 << 24, (1 << 24) + 1),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, (1 << 64) - 1),
)
_NESTED = frozenset((codes.TUPLE, codes.DICT, codes.SET, codes.FROZENSET, *range(codes.ARRAY, codes.STAMP + 1)))
_WORDS = """
    |b1 |i1 <i2 <i4 <i8 >i8 <u4 <f2 <f4 <f8 >f8 <f16 <c8 <c16 <M8 <M8[s] <M8[ns] <M8[0D] <m8[7us] <M8[999999Y]
    <U0 <U1 <U999999999 |S0 |S5 |V0 |V7 |V999999999 |O O object <O record subarray C F A K U S array values
    texts category masked zoned period interval index range multi block timestamp timedelta NaT NA nan python
    pyarrow left right both neither s ms us ns D M W-SUN QE-DEC B 0B cbh CBMS 999999h -1D UTC Europe/Paris
    Etc/GMT+1 ../../etc/passwd localtime posixrules raised not_found contract syntax memory files disk processes
    threads enforced partial unavailable observe veto type message traceback reason limit name version hooks
    where protocol barriers \u00e9 \U0001f600
""".split()
_encode = msgspec.msgpack.Encoder().encode


class Case(NamedTuple):
    """What a worker says, and how: the bytes, how many come in one read (0: all), whether it hangs up behind them.

    `calls` are under way (0: it has yet to greet). `asked`: it is asked to confirm that it is idle. `reply_bytes` is
    what the policy allows.
    """

    data: bytes
    chunk: int = 0
    eof: bool = False
    calls: int = 1
    asked: bool = False
    reply_bytes: int = 1 << 18


class Node:
    """A piece of well-formed msgpack: its bytes, and the pieces within it."""

    __slots__ = ("children", "code", "kind", "raw")

    def __init__(self, kind: str, raw: bytes, children: list[Node], code: int = 0) -> None:
        self.kind = kind  # leaf, list, map, ext (opaque), nest (an extension whose payload is msgpack)
        self.raw = raw
        self.children = children
        self.code = code


def parse(data: bytes) -> Node | None:
    """The tree of `data`; None for what isn't one whole piece of msgpack."""
    try:
        node, end = _parse(data, 0)
    except (IndexError, ValueError, struct.error):
        return None
    return node if end == len(data) else None


def _parse(data: bytes, at: int) -> tuple[Node, int]:
    start, tag = at, data[at]
    at += 1
    if tag < 0x80 or tag >= 0xE0 or tag in (0xC0, 0xC2, 0xC3):
        return Node("leaf", data[start:at], []), at
    if tag < 0xA0 or tag >= 0xDC:
        if tag < 0xA0:
            count, keyed = tag & 15, tag < 0x90
        else:
            width = 2 if tag in (0xDC, 0xDE) else 4
            count, keyed = int.from_bytes(data[at : at + width], "big"), tag >= 0xDE
            at += width
        children = []
        for _ in range(count * (1 + keyed)):
            child, at = _parse(data, at)
            children.append(child)
        return Node("map" if keyed else "list", data[start:at], children), at
    fixed = {0xCC: 1, 0xD0: 1, 0xCD: 2, 0xD1: 2, 0xCA: 4, 0xCE: 4, 0xD2: 4, 0xCB: 8, 0xCF: 8, 0xD3: 8}
    if tag in fixed:
        return Node("leaf", data[start : at + fixed[tag]], []), at + fixed[tag]
    if 0xD4 <= tag <= 0xD8 or 0xC7 <= tag <= 0xC9:
        if tag >= 0xD4:
            length = 1 << (tag - 0xD4)
        else:
            width = 1 << (tag - 0xC7)
            length = int.from_bytes(data[at : at + width], "big")
            at += width
        code, payload = data[at], data[at + 1 : at + 1 + length]
        end = at + 1 + length
        inner = parse(payload) if code in _NESTED else None
        if inner is not None:
            return Node("nest", data[start:end], [inner], code), end
        return Node("ext", data[start:end], [Node("leaf", payload, [])], code), end
    if tag < 0xC0:
        length = tag & 31
    else:
        width = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}[tag]
        length = int.from_bytes(data[at : at + width], "big")
        at += width
    return Node("leaf", data[start : at + length], []), at + length


def _replaced(node: Node, old: bytes, new: bytes) -> bytes:
    if node.raw == old:
        return new
    if node.kind in ("leaf", "ext") or old not in node.raw:
        return node.raw
    inside = [_replaced(child, old, new) for child in node.children]
    if node.kind == "nest":
        return extension(node.code, inside[0])
    return _counted(node.kind, len(inside) // (1 + (node.kind == "map"))) + b"".join(inside)


def _counted(kind: str, count: int) -> bytes:
    small, wide = (0x90, 0xDC) if kind == "list" else (0x80, 0xDE)
    if count < 16:
        return bytes((small | count,))
    if count < 1 << 16:
        return struct.pack(">BH", wide, count)
    return struct.pack(">BI", wide + 1, count & 0xFFFFFFFF)


def extension(code: int, payload: bytes) -> bytes:
    """An extension of msgpack."""
    if len(payload) < 256:
        return struct.pack(">BBB", 0xC7, len(payload), code & 0xFF) + payload
    return struct.pack(">BIB", 0xC9, len(payload), code & 0xFF) + payload


class Mutator:
    """Makes cases out of seeds. Holds nothing but what it derives from them."""

    def __init__(self, seeds: tuple[Seed, ...]) -> None:
        self.seeds = seeds
        self._trees = [parse(seed.structure) for seed in seeds]
        pool: dict[bytes, None] = {}
        for tree in self._trees:
            stack = [tree] if tree is not None else []
            while stack:
                node = stack.pop()
                if node.kind != "leaf" or node.raw[:1] != b"":
                    pool.setdefault(node.raw)
                stack += [] if node.kind == "ext" else node.children
        self._pieces = [raw for raw in pool if len(raw) <= 400]
        self._pieces += [_encode(word) for word in _WORDS]
        self._pieces += [_encode(number) for number in INTERESTING]
        self._pieces += [_encode(-number) for number in INTERESTING if number <= 1 << 63]
        self._pieces += [_encode(number) for number in (float("nan"), float("inf"), -0.0, 1e308)]
        self._pieces += [extension(code, b"") for code in range(24)]
        for length in (0, 1, 300, 1000, 1 << 20, 1 << 63):
            self._pieces += [extension(codes.BLOB, codes.BLOB_LAYOUT.pack(at, length)) for at in (0, 1, 300)]
        # Tables are slow to make, so they get a smaller share of the cases than they have of the corpus.
        self._light = [at for at, seed in enumerate(seeds) if not seed.name.startswith("table")]
        self._heavy = [at for at, seed in enumerate(seeds) if seed.name.startswith("table")]

    def case(self, rng: Random) -> Case:
        """One stream of one to three frames, at least one of them spoiled."""
        number = rng.getrandbits(16)
        calls = 1
        asked = number & 15 == 0
        if number & 0x1F0 == 0x10:
            calls = 0
        elif number & 0x1F0 == 0x20:
            calls = 3
        frames = [self._frame(rng, calls, at) for at in range(max(1, calls))]
        if asked:
            frames.append(wire.HEADER.pack(wire.MAGIC, wire.SETTLED, 0, NONCE, 0, 0))
        if number & 0x3E00 == 0x200:
            frames.append(self._frame(rng, calls, 0))
        data = b"".join(frames)
        if number & 0x7 == 7:
            data = self._spoil_bytes(rng, data)
        chunk = rng.choice((1, 2, 3, 7, 15, 16, 17, 64, 1000, 4096)) if number & 0x700 == 0x700 else 0
        reply = rng.choice((64, 1000, 1 << 18, 1 << 24)) if number & 0xF00 == 0x300 else 1 << 18
        return Case(data, chunk, bool(number & 0x8000), calls, asked, reply)

    def _frame(self, rng: Random, calls: int, at: int) -> bytes:
        number = rng.getrandbits(20)
        where = self._heavy if number & 7 == 0 else self._light
        chosen = where[(number >> 4) % len(where)]
        seed, tree = self.seeds[chosen], self._trees[chosen]
        structure, blobs, kind = seed.structure, seed.blobs, seed.kind
        way = rng.getrandbits(4)
        if way < 7 and tree is not None:
            structure = self._edit(rng, tree)
        elif way == 7 and tree is not None:
            structure = self._everywhere(rng, tree)
        elif way == 8:
            structure = self._grow(rng, 4)
        elif way < 13:
            structure = self._spoil_bytes(rng, structure)
        elif way == 13 and blobs:
            blobs = self._spoil_bytes(rng, blobs)
        elif way == 14 and tree is not None:
            structure = self._spoil_bytes(rng, self._edit(rng, tree))
        if len(blobs) and rng.getrandbits(3) == 0:
            blobs = self._spoil_bytes(rng, blobs)
        sizes = [len(structure), len(blobs)]
        magic, flags, call = wire.MAGIC, 0, CALL + at
        if kind == wire.SETTLED:
            call = NONCE
        odd = rng.getrandbits(8)
        if odd < 24:
            match odd % 8:
                case 0:
                    magic = rng.getrandbits(8)
                case 1 | 2:
                    kind = rng.choice((*sorted(wire.FROM_WORKER), 0, 1, 2, 255))
                case 3:
                    flags = 1 << rng.getrandbits(4)
                case 4:
                    call = rng.choice((0, CALL + 1, CALL - 1, NONCE, 0xFFFFFFFF))
                case 5:
                    sizes[rng.getrandbits(1)] = rng.choice(INTERESTING) & 0xFFFFFFFF
                case _:
                    which = rng.getrandbits(1)
                    sizes[which] = (sizes[which] + rng.choice((-16, -1, 1, 16, 255))) & 0xFFFFFFFF
        return wire.HEADER.pack(magic, kind, flags, call, *sizes) + structure + blobs

    # ------------------------------------------------------------------ msgpack

    def _edit(self, rng: Random, node: Node) -> bytes:
        """The bytes of `node` with a change in or below it."""
        kind = node.kind
        if kind == "leaf" or rng.random() < 0.25:
            return self._change(rng, node)
        if kind == "nest":
            return extension(node.code, self._edit(rng, node.children[0]))
        if kind == "ext":
            return extension(node.code, self._spoil_bytes(rng, node.children[0].raw))
        children = node.children
        if not children:
            return self._change(rng, node)
        raws = [child.raw for child in children]
        for _ in range(1 + (rng.getrandbits(2) == 0)):
            at = int(rng.random() * len(raws))
            raws[at] = self._edit(rng, children[at])
        return _counted(kind, len(raws) // (1 + (kind == "map"))) + b"".join(raws)

    def _everywhere(self, rng: Random, tree: Node) -> bytes:
        """One leaf replaced in every place where it stands: lengths that lie, but agree with one another."""
        leaf = tree
        while leaf.children and leaf.kind != "ext":
            leaf = leaf.children[int(rng.random() * len(leaf.children))]
        new = _encode(rng.choice(INTERESTING)) if leaf.raw[0] < 0x80 else self._piece(rng)
        return _replaced(tree, leaf.raw, new)

    def _change(self, rng: Random, node: Node) -> bytes:
        """Something else in the place of `node`."""
        kind = node.kind
        way = rng.getrandbits(4)
        if kind in ("list", "map") and way < 10:
            raws = [child.raw for child in node.children]
            step = 1 + (kind == "map")
            count = len(raws) // step
            at = int(rng.random() * (count + 1)) * step
            match way:
                case 0 | 1:
                    del raws[at : at + step]
                case 2 | 3:
                    raws[at:at] = raws[at : at + step] or [self._piece(rng)] * step
                case 4 | 5:
                    raws[at:at] = [self._piece(rng) for _ in range(step)]
                case 6:
                    raws *= 1 + rng.getrandbits(5)
                    raws = raws[: 2000 * step]
                case 7:
                    rng.shuffle(raws)
                case 8:
                    return _counted(kind, rng.choice(INTERESTING) & 0xFFFFFFFF) + b"".join(raws)
                case 9:
                    return _counted("list", len(raws)) + b"".join(raws)
            return _counted(kind, len(raws) // step) + b"".join(raws)
        if kind in ("ext", "nest") and way < 8:
            payload = node.children[0].raw
            match way:
                case 0 | 1 | 2:
                    return extension(rng.getrandbits(5) if way else rng.getrandbits(8), payload)
                case 3:
                    return struct.pack(">BIB", 0xC9, rng.choice(INTERESTING) & 0xFFFFFFFF, node.code) + payload
                case 4:
                    return extension(node.code, payload * (1 + rng.getrandbits(4)))
                case _:
                    return extension(node.code, self._spoil_bytes(rng, payload))
        if way < 12:
            return self._piece(rng)
        if way < 14:
            return self._grow(rng, 2)
        wraps = 1 + (rng.getrandbits(7) if way == 15 and rng.getrandbits(3) == 0 else 0)
        raw = node.raw
        for _ in range(wraps):
            raw = (
                b"\x91" + raw
                if way & 1
                else extension(rng.choice((codes.TUPLE, codes.SET, codes.DICT)), b"\x91" + raw)
            )
        return raw

    def _piece(self, rng: Random) -> bytes:
        return self._pieces[int(rng.random() * len(self._pieces))]

    def _grow(self, rng: Random, depth: int) -> bytes:
        """Well-formed msgpack out of pieces."""
        if depth == 0 or rng.getrandbits(2) == 0:
            return self._piece(rng)
        inside = [self._grow(rng, depth - 1) for _ in range(rng.getrandbits(2) + (rng.getrandbits(3) == 0))]
        way = rng.getrandbits(3)
        if way < 2:
            return _counted("list", len(inside)) + b"".join(inside)
        if way == 2:
            keyed = [_encode(word) + item for word, item in zip(_WORDS, inside, strict=False)]
            return _counted("map", len(keyed)) + b"".join(keyed)
        return extension(rng.randrange(1, 24), _counted("list", len(inside)) + b"".join(inside))

    # ------------------------------------------------------------------ bytes

    def _spoil_bytes(self, rng: Random, data: bytes) -> bytes:
        """One to four blind changes."""
        spoilt = bytearray(data)
        for _ in range(1 + (rng.getrandbits(2) == 0) * rng.getrandbits(2)):
            size = len(spoilt)
            at = int(rng.random() * size)
            match rng.getrandbits(4) if size else 9:
                case 0 | 1 | 2:
                    spoilt[at] ^= 1 << rng.getrandbits(3)
                case 3 | 4:
                    spoilt[at] = rng.getrandbits(8)
                case 5:
                    del spoilt[at:]
                case 6:
                    del spoilt[at : at + 1 + rng.getrandbits(4)]
                case 7:
                    spoilt[at:at] = spoilt[at : at + 1 + rng.getrandbits(6)]
                case 8:
                    spoilt[at:at] = rng.randbytes(1 + rng.getrandbits(3))
                case 9 | 10:
                    spoilt[at:at] = self._piece(rng)
                case 11:
                    piece = self._piece(rng)
                    spoilt[at : at + len(piece)] = piece
                case 12 | 13:
                    width = 1 << rng.getrandbits(2)
                    number = rng.choice(INTERESTING) & ((1 << 8 * width) - 1)
                    spoilt[at : at + width] = number.to_bytes(width, "big" if rng.getrandbits(1) else "little")
                case 14:
                    other = self.seeds[int(rng.random() * len(self.seeds))].structure
                    cut = int(rng.random() * (len(other) + 1))
                    spoilt[at:] = other[cut:]
                case _:
                    spoilt += bytes(spoilt[at : at + 64]) * (1 + rng.getrandbits(3))
        return bytes(spoilt)
