"""The parts of a message, as the OpenTelemetry GenAI conventions have them (host).

The message schemas of semantic-conventions 1.41 define the types below, and generic parts of any other type. There a
text part without a text would pass as generic; here a part whose type is defined has to be as its definition says.
"""

from __future__ import annotations

from typing import Any

from agentplug.contract.messages.members import refuse
from agentplug.contract.messages.plain_json import MadePlain, strict
from agentplug.contract.policy import shown

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
    """A copy of `value`, whose parts are as their types have them. Raises `ContractError`."""
    if not isinstance(value, (list, tuple)):
        refuse("parts", f"a {type(value).__name__}; write a list of dicts, each with a type")
    for at, part in enumerate(value):
        if found := wrong(part):
            refuse(f"parts[{at}]{found[0]}", found[1])
    return strict(value, "parts")  # type: ignore[no-any-return]


def wrong(part: object) -> tuple[str, str] | None:
    """Where a part isn't as the schema has its type, and what should be there."""
    if type(part) is not dict:
        return "", f"a {type(part).__name__}; write a dict with a type"
    kind = part.get("type")
    if type(kind) is not str or not kind:
        return ".type", f"{shown(kind)}; write text, such as {', '.join(list(PARTS)[:4])}"
    required, optional, others = PARTS.get(kind, ((), (), ()))
    for name in required:
        if type(part.get(name)) is not str:
            return f".{name}", f"{shown(part.get(name))}; a {kind} part has a text there"
    for name in optional:
        if part.get(name) is not None and type(part[name]) is not str:
            return f".{name}", f"{shown(part[name])}; text, or None"
    for name in others:
        if name not in part:
            return f".{name}", f"missing; a {kind} part has one"
        inner = part[name]
        if name in _TYPED_OBJECTS and (type(inner) is not dict or type(inner.get("type")) is not str):
            return f".{name}", "write a dict with a type"
    return None


def fitting(value: object, plain: MadePlain) -> list[dict[str, Any]]:
    """`value`, plain already, as parts: what isn't one becomes generic, and is noted."""
    found = []
    for at, part in enumerate(value if isinstance(value, list) else [value]):
        amiss = wrong(part)
        if amiss is None:
            found.append(part)
            continue
        plain.notes.append(f"parts[{at}]{amiss[0]}: not as its type has it, so generic")
        inside = part if isinstance(part, dict) else {"content": part}
        found.append({**inside, "type": "generic"})
    return found
