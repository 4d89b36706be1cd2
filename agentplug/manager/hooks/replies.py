"""Check hooks' return values (host): each kind of hook may return other values, and none is trusted.

A transform's answer is copied item by item, so a plugin's may hold only so many; and a long one is checked on a
decoding thread, not on the agent's loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.messages.parts import checked
from agentplug.contract.text import printable
from agentplug.errors import ContractError
from agentplug.manager.hooks.records import bounded_text

MOST_VALUES = 50_000
"""The most values in a plugin's answer: items of lists, keys and values of dicts. A message may have more: then so
may the answer."""
FEW_VALUES = 1_000
"""The most values of an answer that is checked on the agent's loop."""
_MOST_NAMED = 8
_SCALARS = {type(None), bool, int, float, str}


class BadReply(Exception):
    """A hook returned a value that its kind may not. The text names it, bounded and harmless."""


def value_count(reply: object, most: int) -> int:
    """Count the items of lists, and the keys and values of dicts, up to `most` or somewhat more."""
    count = 0
    containers = [reply]
    while containers and count <= most:
        container = containers.pop()
        if type(container) is dict:
            count += 2 * len(container)
            items: Any = container.values()
        elif type(container) is list or type(container) is tuple:
            count += len(container)
            items = container
        else:
            continue
        if count <= most:
            containers += [item for item in items if type(item) not in _SCALARS]
    return count


def check_size(message: AgentMessage, reply: object) -> None:
    """Raise `BadReply` for a transform's answer of too many values."""
    if value_count(reply, MOST_VALUES) > MOST_VALUES:
        most = max(MOST_VALUES, value_count(message.parts, message.size_bytes))
        if value_count(reply, most) > most:
            raise BadReply(f"a transform returned over {most} values; return longer texts, or fewer parts")


def transformed(message: AgentMessage, reply: Any, sent: Callable[[], dict[str, Any]], by: str) -> AgentMessage:
    """Return `message`, or a copy with the parts that a transform returned. `sent` returns the dict it was sent.

    `redactions` of the copy name the parts that the hook `by` changed; the host writes them, not the hook. Raises
    `BadReply` for anything but None, parts, or the message with other parts.
    """
    if reply is None:
        return message
    if isinstance(reply, AgentMessage):
        reply, sent = reply.to_dict(), message.to_dict
    if isinstance(reply, dict):
        reply = _parts_of(reply, sent())
    elif not isinstance(reply, (list, tuple)):
        raise BadReply(f"a transform returned a {_type(reply)}; it may return None, parts, or the message")
    try:
        parts = checked(reply)
        if parts == message.parts:
            return message
        note = _difference(message.parts, parts, by)
        return message.replace(parts=parts, redactions=[*message.redactions, note])
    except ContractError as error:
        raise BadReply(f"a transform returned no parts: {printable(str(error), 300)}") from None


def _difference(before: list[Any], after: list[Any], by: str) -> str:
    """Name the parts that differ, in a line."""
    if len(before) != len(after):
        return f"parts: {len(after)} in place of {len(before)}, by {by}"
    at = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    others = f" and {len(at) - _MOST_NAMED} more" if len(at) > _MOST_NAMED else ""
    return f"{', '.join(f'parts[{i}]' for i in at[:_MOST_NAMED])}{others}: changed by {by}"


def _parts_of(reply: dict[Any, Any], sent: dict[str, Any]) -> Any:
    others = [name for name in reply if name != "parts" and not (name in sent and _same(reply[name], sent[name]))]
    if others:
        raise BadReply(f"a transform changed {_name(others[0])}; it may change parts alone")
    if "parts" not in reply:
        raise BadReply("a transform returned a dict without parts")
    return reply["parts"]


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and _is_plain(one) and bool(one == other)


def _is_plain(value: Any) -> bool:
    """True without arrays and tables, whose comparison takes long, and is no bool."""
    if type(value) in _SCALARS:
        return True
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return False
    return _SCALARS.issuperset(map(type, value)) or all(map(_is_plain, value))


def denial(reply: Any) -> str | None:
    """Return a veto's reason to deny ("" if it gives none), or None if it allows.

    Raises `BadReply` for anything but None, True, False and `{"deny": reason}`.
    """
    if reply is None or reply is True:
        return None
    if reply is False:
        return ""
    if (
        isinstance(reply, dict)
        and reply.keys() == {"deny"}
        and (reply["deny"] is None or isinstance(reply["deny"], str))
    ):
        return bounded_text(reply["deny"] or "")
    raise BadReply(f"a veto returned a {_type(reply)}; it may return None, True, False, or {{'deny': 'the reason'}}")


def _type(reply: object) -> str:
    if isinstance(reply, dict):
        return f"dict with {', '.join(_name(key) for key in list(reply)[:3]) or 'nothing'}"
    return printable(type(reply).__name__, 60)


def _name(value: object) -> str:
    return printable(value, 60) if isinstance(value, str) else f"<{type(value).__name__}>"
