"""numpy arrays and scalars on the wire (host and worker): a checked dtype, a shape and a buffer.

numpy is imported with the first array. Text from a worker reaches `np.dtype` only if it matches a pattern here, and
a buffer becomes an array only if its length fits its shape.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from agentplug.core.boundary.codec.layout import DecodeError, Unserializable, type_name

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.coders import Reading, Writing

_UNIT = r"(\[\d{0,6}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
_DTYPE = re.compile(
    rf"\|b1|[<>|][iu]1|[<>][iu][248]|[<>]f(?:2|4|8|12|16)|[<>]c(?:8|16|24|32)|[<>][mM]8{_UNIT}|[<>|][SUV]\d{{1,9}}"
)
_MAX_NESTING = 8
_MAX_DIMENSIONS = 32
_MAX_EMPTY_ITEM_BYTES = 1 << 20  # numpy allocates one item even for an empty array
_ARRAY_UNITS = 4
_LAST_CODE_POINT = 0x10FFFF
_X87_MANTISSA_BITS, _X87_BYTES = 63, 10


def pack_array(packer: Writing, array: Any) -> list[Any]:
    """Return the parts of an array: dtype, shape, order of the buffer, buffer."""
    import numpy as np

    packer.spend(_ARRAY_UNITS, array)
    spec = _spec(packer, array.dtype, 0)
    itemsize = array.dtype.itemsize
    if itemsize == 0 or array.ndim > _MAX_DIMENSIONS or itemsize > max(array.nbytes, _MAX_EMPTY_ITEM_BYTES):
        raise _refused(array.dtype, "has items of no or too great a size, or too many dimensions")
    if array.nbytes == 0:
        return [spec, list(array.shape), "C", packer.buffer(b"")]
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = np.ascontiguousarray(array.T if fortran else array).reshape(-1)
    if not (used := _used_bytes(array.dtype)).all():  # the padding holds bytes of this process's memory
        flat = flat.copy()
        flat.view(np.uint8).reshape(-1, itemsize)[:, ~used] = 0
    return [spec, list(array.shape), "F" if fortran else "C", packer.buffer(flat.view(np.uint8).data)]


def pack_scalar(packer: Writing, value: Any) -> Any:
    """Return the parts of a numpy scalar: text or bytes alone, or those of an array without dimensions."""
    import numpy as np

    kind = type(value)
    if kind is np.str_:
        return ["U", packer.value(str.__str__(value), 0)]
    if kind is np.bytes_:
        return ["S", packer.buffer(bytes(value))]
    if value.dtype.type is not kind:
        raise Unserializable(type_name(value), "is a subclass of a numpy scalar")
    return pack_array(packer, np.asarray(value))


def unpack_array(unpacker: Reading, parts: list[Any]) -> Any:
    """Return the array of these parts: writable, with memory of its own."""
    import numpy as np

    unpacker.spend(_ARRAY_UNITS)
    spec, shape, order, packed = parts
    dtype = _dtype(unpacker, spec, 0)
    buffer = unpacker.buffer(packed)
    _check_shape(shape)
    if dtype.itemsize == 0 or dtype.itemsize * math.prod(shape) != len(buffer):
        raise DecodeError("an array whose shape doesn't fit its bytes")
    if dtype.itemsize > max(len(buffer), _MAX_EMPTY_ITEM_BYTES):
        raise DecodeError("an array without items whose items would be too large")
    if not buffer:
        return np.empty(shape, dtype)
    flat = np.frombuffer(buffer, dtype)
    _check_items(flat)
    if order == "F":
        return flat.reshape(shape[::-1]).T.copy(order="K")
    return flat.reshape(shape).copy()


def unpack_scalar(unpacker: Reading, parts: Any) -> Any:
    """Return the numpy scalar of these parts."""
    import numpy as np

    if type(parts) is list and len(parts) == 4:
        array = unpack_array(unpacker, parts)
        if array.shape != ():
            raise DecodeError("a numpy scalar with dimensions")
        return array[()]
    kind, packed = parts
    if kind == "U":
        text = unpacker.value(packed, 0)
        if type(text) is str:
            return np.str_(text)
    elif kind == "S":
        return np.bytes_(bytes(unpacker.buffer(packed)))
    raise DecodeError("a numpy scalar of no kind of ours")


def _refused(dtype: Any, why: str) -> Unserializable:
    return Unserializable(f"numpy array of {dtype.name[:80]}", why)


def _spec(packer: Writing, dtype: Any, nesting: int) -> Any:
    """Return a dtype as text, or `["subarray", item, shape]`, or `["record", names, items, offsets, size]`."""
    packer.spend(1, dtype)
    if dtype.hasobject or nesting > _MAX_NESTING:
        raise _refused(dtype, "holds Python objects, or nests too deep")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["subarray", _spec(packer, base, nesting + 1), list(shape)]
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        if any(len(field) > 2 for field in fields):
            raise _refused(dtype, "has titles beside the names of its fields")
        if sum(field[0].itemsize for field in fields) > dtype.itemsize:
            raise _refused(dtype, "has fields that overlap")
        specs = [_spec(packer, field[0], nesting + 1) for field in fields]
        names = [packer.value(name, 0) for name in dtype.names]
        return ["record", names, specs, [field[1] for field in fields], dtype.itemsize]
    if _DTYPE.fullmatch(dtype.str) is None or dtype.isbuiltin == 2:
        raise _refused(dtype, "has no place on the wire")
    return dtype.str


def _used_bytes(dtype: Any) -> Any:
    """Return a mask of an item's bytes: False for those that pad a record or an x86 long double."""
    import numpy as np

    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.tile(_used_bytes(base), math.prod(shape))
    used = np.ones(dtype.itemsize, bool)
    if dtype.names is not None:
        used[:] = False
        for field, at, *_ in (dtype.fields[name] for name in dtype.names):
            used[at : at + field.itemsize] |= _used_bytes(field)
    elif dtype.type in (np.longdouble, np.clongdouble) and np.finfo(np.longdouble).nmant == _X87_MANTISSA_BITS:
        parts = used.reshape(2 if dtype.kind == "c" else 1, -1)
        parts[:, _X87_BYTES:] = False
        if not dtype.isnative:
            parts[:] = parts[:, ::-1].copy()
    return used


def _dtype(unpacker: Reading, spec: Any, nesting: int) -> Any:
    import numpy as np

    unpacker.spend(1)
    if nesting > _MAX_NESTING + 1:
        raise DecodeError("a dtype that nests too deep")
    if type(spec) is str:
        if _DTYPE.fullmatch(spec) is None:
            raise DecodeError("a dtype that isn't ours")
        return np.dtype(spec)
    if type(spec) is not list or not spec:
        raise DecodeError("a dtype that isn't ours")
    if spec[0] == "subarray":
        base = _dtype(unpacker, spec[1], nesting + 1)
        shape = spec[2]
        _check_shape(shape)
        if base.itemsize * math.prod(shape) >= 1 << 31:
            raise DecodeError("a dtype whose items are too large")
        return np.dtype((base, tuple(shape)))
    kind, names, specs, offsets, size = spec
    if kind != "record" or not {int}.issuperset(map(type, (*offsets, size))) or not 0 < size < 1 << 31:
        raise DecodeError("a dtype that isn't ours")
    names = [unpacker.value(name, 0) for name in names]
    if not {str}.issuperset(map(type, names)):
        raise DecodeError("a dtype with a field whose name isn't text")
    formats = [_dtype(unpacker, item, nesting + 1) for item in specs]
    # numpy adds offset and size in 32 bits, accepts an overflow, and then reads and writes far outside.
    if any(not 0 <= at <= size - item.itemsize for at, item in zip(offsets, formats, strict=True)):
        raise DecodeError("a dtype with a field outside of its items")
    if sum(item.itemsize for item in formats) > size:
        raise DecodeError("a dtype whose fields overlap")  # thousands of the same field would each cost a check
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def _check_shape(shape: Any) -> None:
    if type(shape) is not list or len(shape) > _MAX_DIMENSIONS or not {int}.issuperset(map(type, shape)):
        raise DecodeError("an array with no shape of ours")
    if any(not 0 <= length < 1 << 62 for length in shape):
        raise DecodeError("an array with a length below zero, or too great")


def _check_items(array: Any) -> None:
    """Raise `DecodeError` for items that no numpy operation makes: some operations rely on their absence."""
    import numpy as np

    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _check_items(array[name])
    elif dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise DecodeError("a truth value that is neither 0 nor 1")
    elif dtype.kind == "U" and array.size and array.itemsize:
        order = dtype.str[0]
        # A copy, since a field of a record isn't contiguous and can't be seen as its code points.
        points = np.ascontiguousarray(array).reshape(-1).view(f"{order}u4")
        if points.max() > _LAST_CODE_POINT:
            raise DecodeError("text with a character that doesn't exist")
