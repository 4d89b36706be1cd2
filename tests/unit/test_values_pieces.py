"""Large structures: bounded in containers, decoded in pieces, and read as `encode` wrote them.

What is asserted is the size of what one call decodes, and the count of containers; the times that these stand for
are in the docstrings of `values.pieces`.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext
from msgspec.msgpack import decode as unpacked
from msgspec.msgpack import encode as msgpack

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.core.boundary.codec import DecodeError, Unserializable, decode, encode, pieces
from agentplug.core.boundary.codec import layout as wire

UNITS = MAX_STRUCTURE_BYTES // wire.BYTES_PER_UNIT


def filled(item: bytes, last: bytes = b"") -> bytes:
    """A list that is 1 MiB long, of nothing but these bytes; and another item at its end."""
    count = (MAX_STRUCTURE_BYTES - 5 - len(last)) // len(item)
    return b"\xdd" + struct.pack(">I", count + bool(last)) + item * count + last


def keyed(length: int, keys: Iterator[bytes], value: bytes) -> bytes:
    """Dicts of so many keys, one after another, no two keys the same, up to 1 MiB."""
    body, count = bytearray(), 0
    while True:
        pairs = b"".join(struct.pack("B", 0xA0 + len(key)) + key + value for key in itertools.islice(keys, length))
        if not pairs or len(body) + len(pairs) + 10 > MAX_STRUCTURE_BYTES:
            return b"\xdd" + struct.pack(">I", count) + body
        body += b"\xdf" + struct.pack(">I", pairs.count(value + b"\xa3") + 1) + pairs
        count += 1


def ascii_keys() -> Iterator[bytes]:
    return (bytes(key) for key in itertools.product(range(33, 127), repeat=3))


def other_keys() -> Iterator[bytes]:
    return ((chr(first) + chr(second)).encode() for first in range(0x80, 0x800) for second in range(33, 127))


WORST: dict[str, bytes] = {
    "empty lists": filled(b"\x90"),
    "empty dicts": filled(b"\x80"),
    "one-item lists": filled(b"\x91\xc0"),
    "lists with long headers": filled(b"\xdd\0\0\0\0"),
    "lists of lists": filled(b"\x9f" + b"\x90" * 15),
    "lists of short texts": filled(b"\x93\xa0\xa1a\xa0"),
    "dicts with one key": filled(b"\x81\xa1a\x01"),
    "dicts of lists": filled(b"\x81\xa1a\x90"),
    "dicts in dicts": filled(b"\x81\xa0" * 6 + b"\x80"),
    "nested to the limit": filled(b"\x91" * 63 + b"\x90"),
    "one-character texts": filled(b"\xa1a"),
    "texts that aren't ASCII": filled(b"\xa2\xc3\xa9"),
    "empty texts": filled(b"\xa0"),
    "texts with long headers": filled(b"\xdb\0\0\0\1a"),
    "small ints": filled(b"\x01"),
    "ints that look like lists": filled(b"\xcd\x90\x90"),
    "floats": filled(b"\xca\x3f\x80\0\0"),
    "doubles that look like lists": filled(b"\xcb" + b"\x90" * 8),
    "nothing": filled(b"\xc0"),
    "short keys in one dict": keyed(200_000, ascii_keys(), b"\xc0"),
    "short keys of lists": keyed(200_000, ascii_keys(), b"\x90"),
    "short keys in long dicts": keyed(50_000, ascii_keys(), b"\xc0"),
    "short keys that aren't ASCII": keyed(1_000, other_keys(), b"\xc0"),
    "empty tuples": filled(b"\xd4\x05\x90"),
    "mixed": filled(b"\x90\x80\xa1a\x01\xcb" + b"\0" * 8 + b"\xd4\x05\x90\x81\xa1k\xc3"),
    "a tuple of lists": msgpack(Ext(wire.TUPLE, filled(b"\x90")[:5] + filled(b"\x90")[5:-16])),
    "lists, then an extension": filled(b"\x90", b"\xd4\x05\x90"),
    "lists, then deep ones": filled(b"\x90", b"\x91" * 12 + b"\x90"),
    "lists, then what isn't msgpack": filled(b"\x90", b"\xc1"),
    "texts, then an extension": filled(b"\xa1a", b"\xd4\x05\x90"),
    "texts, then what isn't UTF-8": filled(b"\xa1a", b"\xa1\xff"),
}
TAKEN = {
    "one-character texts",
    "texts that aren't ASCII",
    "empty texts",
    "texts with long headers",
    "small ints",
    "ints that look like lists",
    "floats",
    "doubles that look like lists",
    "nothing",
    "short keys in one dict",
    "short keys in long dicts",
    "short keys that aren't ASCII",
    "texts, then an extension",
}


def containers(value: Any) -> int:
    if type(value) not in (list, dict, tuple):
        return 0
    items = value.values() if type(value) is dict else value
    return 1 + sum(containers(item) for item in items if type(item) in (list, dict, tuple))


class TestWorstCases:
    @pytest.mark.parametrize("name", WORST)
    def test_costly_structure_is_taken_in_pieces_or_refused(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever fills 1 MiB: never more containers than their bound, nor a call that decodes much of it."""
        calls: list[int] = []
        items = pieces._items

        def spy(data: bytes, since: int, upto: int, count: int) -> list[Any]:
            calls.append(upto - since)
            return items(data, since, upto, count)

        monkeypatch.setattr(pieces, "_items", spy)
        structure = WORST[name]
        assert MAX_STRUCTURE_BYTES - 70 <= len(structure) <= MAX_STRUCTURE_BYTES or "key" in name or "tuple" in name
        try:
            value = decode(structure)
        except DecodeError:
            taken = False
        else:
            taken = True
            assert containers(value) <= UNITS
        assert taken == (name in TAKEN)
        most = MAX_STRUCTURE_BYTES if name == "a tuple of lists" else 3 * wire.PIECE_BYTES  # an extension is one item
        assert all(length < most for length in calls)
        assert bool(calls) == wire.is_slow(structure) or not taken

    def test_slow_structures_are_told_by_their_bytes(self) -> None:
        """All that is slow in one call is walked: the guess may only err on the other side."""
        fast = {"small ints", "nothing"}
        for name, structure in WORST.items():
            assert wire.is_slow(structure) is (name not in fast), name

    def test_short_structure_is_never_slow(self) -> None:
        """65,536 containers are within all bounds, so nearly every reply is spared the look."""
        assert not wire.is_slow(b"\xdd\0\0\xff\xfb" + b"\x90" * 65_531)
        assert decode(b"\xdd\0\0\xff\xfb" + b"\x80" * 65_531) == [{}] * 65_531

    @pytest.mark.parametrize("cut", [1, 2, 9, 70_000, 900_000])
    def test_large_structure_cut_off_is_refused(self, cut: int) -> None:
        """Wherever the end is missing, and when there is more after it."""
        whole = encode([{"id": at, "name": f"n{at}", "x": at / 7} for at in range(30_000)]).structure
        assert wire.is_slow(whole)
        for structure in (whole[:-cut], whole + b"\x01" * min(cut, MAX_STRUCTURE_BYTES - len(whole))):
            with pytest.raises(DecodeError):
                decode(structure)


rows = random.Random(3)
NORMAL: dict[str, Any] = {
    "floats": [rows.random() for _ in range(100_000)],
    "short texts": [f"s{at}" for at in range(100_000)],
    "other short texts": [chr(0x4E00 + at % 20_000) * 2 for at in range(100_000)],
    "small dicts": [{"id": at, "name": f"n{at}", "x": at / 7, "tag": "y", "ok": True} for at in range(20_000)],
    "dicts below a key": {
        "rows": {"first": [{"id": at, "tags": ["a", "b"], "at": [at, 1.5]} for at in range(20_000)]}
    },
    "pairs": [[at % 100, at] for at in range(100_000)],
    "one long dict": {str(at): at for at in range(100_000)},
    "lists of floats": [[rows.random() for _ in range(1000)] for _ in range(110)],
    "long text": "\u4e2d" * 300_000,
    "texts and a tuple": ["x" * (at % 9) for at in range(120_000)] + [(1, 2)],
    "tuples": [(at % 100,) for at in range(100_000)],
    "set of texts": {f"s{at}" for at in range(100_000)},
}


class TestEncodeAndDecodeAgree:
    @pytest.mark.parametrize("name", NORMAL)
    def test_normal_data_up_to_a_mebibyte_comes_back(self, name: str) -> None:
        """What JSON-like replies are made of is far from every bound but the length."""
        packed = encode(NORMAL[name])
        assert 100_000 < len(packed.structure) <= MAX_STRUCTURE_BYTES
        back = decode(packed.structure)
        assert type(back) is type(NORMAL[name])
        assert back == NORMAL[name]

    @pytest.mark.parametrize(
        ("item", "most"),
        [([], UNITS - 1), ({"a": 1}, (UNITS - 1) // 2), ([[]], (UNITS - 1) // 2), ({"k": []}, (UNITS - 1) // 3)],
    )
    def test_containers_are_taken_up_to_the_same_bound_by_both(self, item: Any, most: int) -> None:
        """One more is refused by `encode`, with its place and the remedy, and by `decode`; where both look."""
        dense = [""] * 100_000
        assert decode(encode([dense, *[item] * (most - 1)]).structure) == [dense, *[item] * (most - 1)]
        with pytest.raises(Unserializable, match=r"^value\[\d+\].*too many values; use arrays"):
            encode([dense, *[item] * (most + 1)])
        with pytest.raises(DecodeError, match="too many"):
            decode(msgpack([dense, *[item] * (most + 1)]))

    @pytest.mark.parametrize("item", [[], {}, {"a": 1}, ["", ""], [[], {}], [1.5, -0.1]])
    @pytest.mark.parametrize("count", [43_690, 65_536, 131_072])
    def test_what_one_takes_the_other_takes(self, item: Any, count: int) -> None:
        """Whether they count, or see at a glance that there's no need to."""
        structure = msgpack([item] * count)
        try:
            packed = encode([item] * count)
        except Unserializable:
            with pytest.raises(DecodeError):
                decode(structure)
        else:
            assert packed == (structure, [])
            assert len(structure) > MAX_STRUCTURE_BYTES or decode(structure) == [item] * count

    def test_dataclasses_count_as_the_dicts_they_become(self) -> None:
        """They cost the reader as much."""

        @dataclasses.dataclass
        class Row:
            a: int

        most = (UNITS - 1) // 2
        assert decode(encode([Row(1)] * most).structure) == [{"a": 1}] * most
        with pytest.raises(Unserializable, match="too many values"):
            encode([Row(1)] * (most + 1))

    def test_bounds_follow_the_limit_of_the_structure(self) -> None:
        """A reader that takes less is told so to `encode`, too."""
        value = [[]] * 70_000
        with pytest.raises(Unserializable, match="too many values"):
            encode([*value, ()], structure_limit=1 << 19)
        assert decode(encode(value, structure_limit=1 << 20).structure) == value


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.lists(st.floats(allow_nan=False), min_size=9, max_size=30),
    st.builds(Ext, st.integers(0, 127), st.binary(max_size=40)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=20), st.dictionaries(st.text(max_size=40), inner, max_size=20)),
    max_leaves=40,
)


class TestRead:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(trees, st.integers(0, 60))
    def test_any_tree_is_read_as_in_one_call(self, monkeypatch: pytest.MonkeyPatch, tree: Any, length: int) -> None:
        """Wherever the pieces happen to end: in a list, between a key and its value, within several containers."""
        monkeypatch.setattr(pieces, "PIECE_BYTES", length)
        data = msgpack(tree)
        back = pieces.read(data, UNITS)
        assert back == unpacked(data)
        assert msgpack(back) == data  # types and the order of keys, too

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(trees, st.integers(0, 60), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=3))
    def test_spoiled_trees_are_read_as_in_one_call_or_refused(
        self, monkeypatch: pytest.MonkeyPatch, tree: Any, length: int, spoils: list[tuple[int, int]]
    ) -> None:
        """Nothing gets through that one call would refuse, and it means the same."""
        monkeypatch.setattr(pieces, "PIECE_BYTES", length)
        data = bytearray(msgpack(tree))
        for at, byte in spoils:
            data[at % len(data)] = byte
        try:
            back = pieces.read(bytes(data), UNITS)
        except (DecodeError, msgspec.DecodeError, UnicodeDecodeError):
            return
        assert msgpack(back) == msgpack(unpacked(bytes(data)))

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"\xdc\x01\x00" + b"\x90" * 256, "too many"),
            (b"\xdc\x00\x81" + b"\x80" * 129, "too many"),
            (b"\x91" * 90 + b"\x90", "nested"),
            (b"\x81\xa0" * 90 + b"\x90", "nested"),
            (b"\x81\x01\x02", "key"),
            (b"\x81\xcb" + b"\0" * 9, "key"),
            (b"\x92\x01", "cut off"),
            (b"\x91\x01\x01", "goes on"),
            (b"\xc4\x01a", "isn't ours"),
            (b"\xd4\xff\0", "isn't ours"),
            (b"\xc1", "isn't ours"),
        ],
    )
    def test_what_breaks_a_bound_is_refused_by_the_walk_itself(self, data: bytes, why: str) -> None:
        """Before it is decoded: msgspec alone would build it, or go deeper than the stack reaches."""
        with pytest.raises(DecodeError, match=why):
            pieces.read(data, 256)

    def test_same_key_twice_leaves_its_last_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in one call; a worker that writes it gains nothing."""
        monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
        assert pieces.read(b"\x83\xa1a\x01\xa1b\x90\xa1a\x03", UNITS) == {"a": 3, "b": []}
