"""Checks of a message's members beside its parts (host). Each raises `ContractError` with the member's name."""

from __future__ import annotations

from typing import Any, NoReturn

from agentplug.contract.messages.plain_json import strict
from agentplug.contract.policy import brief
from agentplug.contract.text import printable
from agentplug.errors import ContractError

AGENT = ("id", "name", "framework", "framework_version")
MODEL = ("id", "vendor")
USAGE = ("input_tokens", "output_tokens")


def refuse(name: str, what: str) -> NoReturn:
    """Raise `ContractError`, with the member's name and what is wrong with it."""
    raise ContractError(f"{name}: {what}")


def check_count(name: str, value: object) -> None:
    """Check a whole number, 0 or more."""
    if type(value) is not int or not 0 <= value <= 1 << 53:
        refuse(name, f"{brief(value)}; write a whole number, 0 or more")


def is_duration(value: object) -> bool:
    """True for a finite number, 0 or more."""
    return type(value) in (int, float) and 0 <= value <= 1 << 53  # type: ignore[operator]


def check_texts(name: str, value: object) -> list[str]:
    """Check a list of texts, and return a copy."""
    if not isinstance(value, (list, tuple)) or not all(type(text) is str for text in value):
        refuse(name, f"{brief(value)}; write a list of texts")
    return [strict(text, name) for text in value]


def check_members(name: str, value: object, known: tuple[str, ...], *, counts: bool = False) -> dict[str, Any] | None:
    """Check a dict with texts, or with `counts`, for some of the keys `known`, or None; return a copy."""
    if value is None:
        return None
    if type(value) is not dict:
        refuse(name, f"{brief(value)}; write a dict with {', '.join(known)}, or None")
    for key, item in value.items():
        if key not in known:
            refuse(f"{name}.{printable(str(key), 60)}", f"unknown; {name} has {', '.join(known)}")
        if counts and item is not None:
            check_count(f"{name}.{key}", item)
        elif item is not None and type(item) is not str:
            refuse(f"{name}.{key}", f"{brief(item)}; write text, or None")
    return strict(value, name)  # type: ignore[no-any-return]
