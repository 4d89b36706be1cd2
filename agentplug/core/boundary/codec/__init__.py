"""Values on the wire, as the worker encodes and the host decodes them (host and worker).

A value becomes a structure (msgpack) and blobs, the large bytes and arrays that travel beside it. Plain values
are native msgpack, so decoding them is one call; everything else is an extension with a code of ours. Nothing is
ever pickled, evaluated or imported by name. `decode` meets hostile bytes: it raises nothing but `DecodeError`, and
its time and memory are bounded by the length of what came in.

Types come back exactly, but: bytearray and memoryview as bytes, a namedtuple as tuple, a dataclass instance as
dict, an aware datetime or time with the fixed offset it had in place of its zone, a table without those of its
`attrs` that aren't plain. Subclasses of the listed types (an IntEnum, an OrderedDict) are refused: half of them
would be lost.

Two bounds beside the length. What costs the reader work is counted, and a structure of 1 MiB holds at most some
131,000 lists or extensions, 65,000 dicts, 16,000 keys that are no text, or 1,000 tables; `encode` refuses more before
`decode` must. And no call that keeps other threads waiting, such as one that runs an event loop, takes long: what is
large and dense (over some 100,000 texts, or 131,000 containers) is decoded in pieces. Numbers and
texts have no limit of their own.

Plain values need this module alone; `pack`, `unpack`, `pieces` and what they need are imported when a value isn't.
"""

from __future__ import annotations

import gc
from typing import Any, NamedTuple

import msgspec
from msgspec.msgpack import Encoder

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.core.boundary.codec.layout import (
    BYTES_PER_UNIT,
    MAX_DEPTH,
    PIECE_BYTES,
    DecodeError,
    Unserializable,
    container_count,
    container_units,
    is_slow,
    plain,
    type_name,
    typed,
)

__all__ = ["MAX_DEPTH", "DecodeError", "Packed", "Unserializable", "decode", "encode", "type_name", "value_bytes"]

_encode = Encoder().encode
_decode_plain = typed().decode
_FEW_BYTES, _GROWTH, _CONTAINER_BYTES = 256, 16, 232


class Packed(NamedTuple):
    """A value on the wire: `structure` is msgpack, `blobs` the bytes laid out after one another beside it."""

    structure: bytes
    blobs: list[bytes | memoryview]

    @property
    def blob_bytes(self) -> int:
        """The length of all blobs."""
        return sum(map(len, self.blobs))


def encode(value: object, *, structure_limit: int = MAX_STRUCTURE_BYTES) -> Packed:
    """`value` as structure and blobs. Blobs may be views of it: send them before it changes.

    `structure_limit` is what the reader will call `decode` with; it bounds the number of containers and of values
    that aren't plain (the length of the structure is the caller's to check). Raises `Unserializable` for a type that
    has no place on the wire, for too many values, and for nesting beyond `MAX_DEPTH`, as that of a list in itself.
    """
    units = structure_limit // BYTES_PER_UNIT
    try:
        if plain(value, 0):
            structure = _encode(value)
            if len(structure) <= PIECE_BYTES or len(structure) > structure_limit:  # the reader takes it by its length
                return Packed(structure, [])
            if not is_slow(structure) or container_units(value) <= units:
                return Packed(structure, [])
            # too many containers: the packer tells where they end
    except (OverflowError, UnicodeEncodeError):
        pass  # an int beyond 64 bits, a lone surrogate
    from agentplug.core.boundary.codec.pack import Packer

    packer = Packer(units)
    try:
        return Packed(_encode(packer.value(value, 0)), packer.blobs)
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
) -> Any:
    """The value that `encode` took. Raises nothing but `DecodeError`, whatever comes in."""
    if len(structure) > structure_limit:
        raise DecodeError(f"a structure of {len(structure)} bytes, more than {structure_limit}")
    large = len(structure) > PIECE_BYTES
    paused = large and gc.isenabled()  # a million empty lists made the collector run for 0.7 s of 0.8, for nothing
    if paused:
        gc.disable()
    try:
        if not blobs and not (large and is_slow(structure)):
            try:
                return _decode_plain(structure)
            except msgspec.ValidationError:
                pass  # extensions, deep nesting, or an attack
        from agentplug.core.boundary.codec.unpack import Unpacker

        beside = memoryview(blobs).cast("B")
        unpacker = Unpacker(beside, structure_limit // BYTES_PER_UNIT)
        value = unpacker.value(unpacker.native(structure), 0)
        if unpacker.at != len(beside):
            raise DecodeError("there are blob bytes that nothing refers to")
        return value
    except DecodeError:
        raise
    except msgspec.DecodeError:
        raise DecodeError("the structure isn't msgpack, is cut off, or goes on after its end") from None
    except Exception as error:
        # Only its type is told: the text may quote what came in, at any length.
        raise DecodeError(f"not a value: {type(error).__name__}") from None
    finally:
        if paused:
            gc.enable()


def value_bytes(structure: bytes | memoryview) -> int:
    """About how much memory the value of this takes, rather too much than too little: a guess by its bytes.

    An empty set is 3 bytes here and 232 in memory, a small number 5 and 44, a Decimal 8 and 111.
    """
    if len(structure) <= _FEW_BYTES:
        return len(structure) * _CONTAINER_BYTES // 3
    return len(structure) * _GROWTH + container_count(bytes(structure)) * _CONTAINER_BYTES
