"""The parts of a message, by the OpenTelemetry GenAI conventions (host).

The message schemas of semantic-conventions 1.41 define the types below, and generic parts of any other type. Stricter
than those schemas, a part of a defined type never passes as generic: it must have the members of its type.
"""

from __future__ import annotations

from typing import Any

from agentplug.contract.messages.members import refuse
from agentplug.contract.messages.plain_json import Coercion, strict
from agentplug.contract.policy import brief

# type: (required texts, optional texts, other required members)
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "text": (("content",), (), ()),
    "reasoning": (("content",), (), ()),
    "tool_call": (("name",), ("id",), ()),
    "tool_call_response": ((), ("id",), ("response",)),
    "server_tool_call": (("name",), ("id",), ("server_tool_call",)),
    "server_tool_call_response": ((), ("id",), ("server_tool_call_response",)),
    "blob": (("modality", "content"), ("mime_type",), ()),
    "uri": (("modality", "uri"), ("mime_type",), ()),
    "file": (("modality", "file_id"), ("mime_type",), ()),
}
_TYPED_OBJECTS = ("server_tool_call", "server_tool_call_response")


def checked(value: object) -> list[dict[str, Any]]:
    """Check a list of parts by their types, and return a copy. Raises `ContractError`."""
    if not isinstance(value, (list, tuple)):
        refuse("parts", f"a {type(value).__name__}; write a list of dicts, each with a type")
    for at, part in enumerate(value):
        if error := _error(part):
            refuse(f"parts[{at}]{error[0]}", error[1])
    return strict(value, "parts")  # type: ignore[no-any-return]


def _error(part: object) -> tuple[str, str] | None:
    """Return the member of a part that breaks its type's schema, and what should be there."""
    if type(part) is not dict:
        return "", f"a {type(part).__name__}; write a dict with a type"
    kind = part.get("type")
    if type(kind) is not str or not kind:
        return ".type", f"{brief(kind)}; write text, such as {', '.join(list(PARTS)[:4])}"
    required, optional, others = PARTS.get(kind, ((), (), ()))
    for name in required:
        if type(part.get(name)) is not str:
            return f".{name}", f"{brief(part.get(name))}; a {kind} part has a text there"
    for name in optional:
        if part.get(name) is not None and type(part[name]) is not str:
            return f".{name}", f"{brief(part[name])}; text, or None"
    for name in others:
        if name not in part:
            return f".{name}", f"missing; a {kind} part has one"
        inner = part[name]
        if name in _TYPED_OBJECTS and (type(inner) is not dict or type(inner.get("type")) is not str):
            return f".{name}", "write a dict with a type"
    return None


def coerce_parts(value: object, plain: Coercion) -> list[dict[str, Any]]:
    """Make parts of a plain `value`. Items that are no parts become generic ones, with a note."""
    parts = []
    for at, part in enumerate(value if isinstance(value, list) else [value]):
        if error := _error(part):
            plain.notes.append(f"parts[{at}]{error[0]}: not as its type has it, so generic")
            part = {**(part if isinstance(part, dict) else {"content": part}), "type": "generic"}
        parts.append(part)
    return parts
