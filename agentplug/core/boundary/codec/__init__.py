"""Values on the wire, as the worker encodes and the host decodes them (host and worker).

A value becomes a structure (msgpack) and blobs: the large bytes and arrays beside it. Plain values are native
msgpack, decoded in one call; every other type is an extension with a code of ours. Nothing is ever pickled,
evaluated or imported by name. `decode` meets hostile bytes: it raises nothing but `DecodeError`, and the length of
the input bounds its time and memory.

Types come back exactly, but: bytearray and memoryview as bytes, a namedtuple as tuple, a dataclass instance as
dict, an aware datetime or time with the fixed offset it had in place of its zone, a table without those of its
`attrs` that aren't plain. Subclasses of the listed types (an IntEnum, an OrderedDict) are refused: half of them
would be lost.

There are two bounds beside the length. The reader's work is counted: a structure of 1 MiB holds at most some 131,000
lists or extensions, 65,000 dicts, 16,000 keys other than text, or 1,000 tables; `encode` refuses more before `decode`
must. And no single call that lets no other thread run takes long: a large and dense structure (over some 50,000
texts, or 65,000 containers) is decoded in pieces, as are the texts of columns. Between them the reader pauses, so
that its `pace` can let others go on. Numbers have no limit of their own, nor texts outside of columns.

Plain values need this module and `layout` alone; other values import `pack`, `unpack`, `pieces` and their needs.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.msgpack import Encoder

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.core.boundary.codec.layout import (
    BYTES_PER_UNIT,
    HURRY,
    MAX_DEPTH,
    PIECE_BYTES,
    Costly,
    DecodeError,
    Unserializable,
    container_count,
    container_units,
    is_slow,
    most_texts,
    plain,
    type_name,
    typed,
)

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace

__all__ = [
    "HURRY",
    "MAX_DEPTH",
    "Costly",
    "DecodeError",
    "Packed",
    "Unserializable",
    "decode",
    "encode",
    "type_name",
    "value_bytes",
]

_encode = Encoder().encode
_decode_plain = typed().decode
_PAUSES_A_COLLECTION = 32
_FEW_BYTES, _GROWTH, _EMPTY_SET_BYTES, _CONTAINER_BYTES = 256, 19, 232, 1 << 10


class Packed(NamedTuple):
    """A value on the wire: `structure` is msgpack, `blobs` the bytes that follow it, one after the other."""

    structure: bytes
    blobs: list[bytes | memoryview]

    @property
    def blob_bytes(self) -> int:
        """The length of all blobs together."""
        return sum(map(len, self.blobs))


def encode(value: object, *, structure_limit: int = MAX_STRUCTURE_BYTES, pace: Pace = HURRY) -> Packed:
    """Return `value` as structure and blobs. Blobs may be views of the value: send them before it changes.

    `structure_limit` is the reader's, as in `decode`. It bounds the number of containers and of values that aren't
    plain; the caller checks the structure's length. Raises `Unserializable` for a type that has no place on the wire,
    for too many values, and for nesting beyond `MAX_DEPTH`, as that of a list in itself.
    """
    units = structure_limit // BYTES_PER_UNIT
    try:
        if plain(value, 0):
            structure = _encode(value)
            # The reader refuses a structure over the limit by its length alone.
            if len(structure) > structure_limit or not is_slow(structure) or container_units(value) <= units:
                return Packed(structure, [])
            # too many containers: the packer finds the place, for the error
    except (OverflowError, UnicodeEncodeError):
        pass  # an int beyond 64 bits, a lone surrogate
    from agentplug.core.boundary.codec.pack import Packer

    packer = Packer(units, pace)
    try:
        packed = Packed(_encode(packer.value(value, 0)), packer.blobs)
        if packer.texts > (most := most_texts(packed.blob_bytes)):
            raise Unserializable(
                type_name(value), f"has {packer.texts} texts in its columns, over {most}; use categories"
            )
        return packed
    except Unserializable as error:
        error.within("value")
        raise
    except MemoryError:
        raise  # the policy's limit, which has a verdict of its own
    except Exception as error:  # whatever a plugin's dataclass or time zone raises
        raise Unserializable(type_name(value), f"raised {type_name(error)} on its way", "value") from error


def decode(
    structure: bytes | memoryview,
    blobs: bytes | bytearray | memoryview = b"",
    *,
    structure_limit: int = MAX_STRUCTURE_BYTES,
    pace: Pace = HURRY,
) -> Any:
    """Return the value that was encoded. Raises nothing but `DecodeError`, whatever the bytes are.

    `pace` is asked to pause every `PAUSE_UNITS` of work, and may end the decoding: its `Costly` is raised too.
    """
    if len(structure) > structure_limit:
        raise DecodeError(f"a structure of {len(structure)} bytes, more than {structure_limit}")
    large = len(structure) > PIECE_BYTES
    paused = large and gc.isenabled()  # a million empty lists made the collector run for 0.7 s of 0.8, for nothing
    if paused:
        gc.disable()
        pace = _Collecting(pace)
    try:
        if not blobs and not (large and is_slow(structure)):
            try:
                return _decode_plain(structure)
            except msgspec.ValidationError:
                pass  # extensions, deep nesting, or an attack
        from agentplug.core.boundary.codec.unpack import Unpacker

        beside = memoryview(blobs).cast("B")
        unpacker = Unpacker(beside, structure_limit // BYTES_PER_UNIT, pace)
        value = unpacker.value(unpacker.native(structure), 0)
        if unpacker.at != len(beside):
            raise DecodeError("there are blob bytes that nothing refers to")
        return value
    except (DecodeError, Costly):
        raise
    except msgspec.DecodeError:
        raise DecodeError("the structure isn't msgpack, is cut off, or goes on after its end") from None
    except Exception as error:
        # Of the error only its type: the text may quote the input, at any length.
        raise DecodeError(f"not a value: {type(error).__name__}") from None
    finally:
        if paused:
            gc.enable()


class _Collecting:
    """A pace that has the collector look at what was decoded since it last did: a hundred thousand lists at once took
    it 25 ms, twice, while no other thread ran."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._count = 0
        self.load = pace.load

    def pause(self) -> None:
        """Pause; collect every so often."""
        self._count += 1
        if not self._count % _PAUSES_A_COLLECTION:
            gc.collect(1)
        self._pace.pause()


def value_bytes(structure: bytes | memoryview) -> int:
    """Guess the memory that a decoded value takes, by its bytes: rather too much than too little.

    An empty set is 3 bytes here and 232 in memory, a small number 5 and 44, a Decimal 7 and 129 (Python 3.13). A
    container counts as 1 KiB, because of the time that the collector takes to look at those that are stored.
    """
    if len(structure) <= _FEW_BYTES:
        return len(structure) * _EMPTY_SET_BYTES // 3
    return len(structure) * _GROWTH + container_count(bytes(structure)) * _CONTAINER_BYTES
