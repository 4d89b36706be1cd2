"""Encode the requests to a worker (host): a plugin's bytes to load, the inputs of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.contract.text import printable
from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.codec.layout import PIECE_BYTES
from agentplug.core.host.exchange import Request
from agentplug.core.sources.source import Source
from agentplug.errors import ContractError

_MAX_REQUEST_BYTES = 1 << 30
_native = msgspec.msgpack.Encoder().encode


def load_request(source: Source, env: Mapping[str, str], claims: list[str] | None = None) -> Request:
    """Return the request to load a plugin, with the variables that it may see; `claims` is as in `wire.Load`."""
    pinned = source.closure.files if source.closure is not None else None
    modules = source.modules if pinned is None else ()
    sent = [wire.ModuleBytes(m.name, m.path, m.is_package, m.code) for m in modules]
    load = wire.Load(source.entry, source.attribute, sent, source.pickled, dict(env), claims, pinned)
    return Request(wire.LOAD, 0, wire.encode_body(load))


def call_request(value: Any, method: int = wire.PROCESS) -> Request:
    """Return the request of a call with one input.

    A value that the codec can't carry travels as a pickle: the worker may trust its host. Raises `ContractError` if
    it can't be pickled either, and for more than 1 GiB.
    """
    try:
        structure, blobs = values.encode(value)
    except values.Unserializable as misfit:
        return _bounded(_pickled(value, method, misfit))
    if len(structure) > MAX_STRUCTURE_BYTES:
        return _bounded(_pickled(value, method, None))
    return _bounded(Request(wire.CALL, method, structure, blobs))


def message_request(point: str, message: Mapping[str, Any]) -> Request:
    """Return the request of an `on_message` call. `message` holds plain JSON values, as an `AgentMessage` does.

    Such values need the codec's native form alone, so a message of usual length skips the search for other types.
    Raises as `call_request` does.
    """
    structure = _native([point, message])
    if len(structure) <= PIECE_BYTES:
        return Request(wire.CALL, wire.ON_MESSAGE, structure)
    return call_request([point, dict(message)], wire.ON_MESSAGE)


def _pickled(value: Any, method: int, misfit: values.Unserializable | None) -> Request:
    from agentplug.core.sources.objects import pickled_by_value

    try:
        data = pickled_by_value(value)
    except Exception as error:
        what = f"{misfit.type} at {misfit.where}" if misfit is not None else "it"
        raise ContractError(
            f"This input can't be sent to a worker: {printable(what, 300)} has no plain form and can't be pickled "
            f"({type(error).__name__}: {printable(str(error), 200)}). Send plain data, arrays or DataFrames"
        ) from None
    return Request(wire.CALL, method | wire.PICKLED, data)


def _bounded(request: Request) -> Request:
    if request.size_bytes > _MAX_REQUEST_BYTES:
        raise ContractError(f"This input takes {request.size_bytes} bytes; at most {_MAX_REQUEST_BYTES} can be sent")
    return request
