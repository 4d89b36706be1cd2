"""The members of a message beside its parts, checked (host). Each check raises `ContractError` with the name."""

from __future__ import annotations

from typing import Any, NoReturn

from agentplug.contract.messages.plain_json import strict
from agentplug.contract.policy import shown
from agentplug.contract.text import printable
from agentplug.errors import ContractError

AGENT = ("id", "name", "framework", "framework_version")
MODEL = ("id", "vendor")
USAGE = ("input_tokens", "output_tokens")


def refuse(name: str, what: str) -> NoReturn:
    """Raise the error: which member, and what is wrong with it."""
    raise ContractError(f"{name}: {what}")


def count(name: str, value: object) -> None:
    """A whole number, 0 or more."""
    if type(value) is not int or not 0 <= value <= 1 << 53:
        refuse(name, f"{shown(value)}; write a whole number, 0 or more")


def duration(value: object) -> bool:
    """Whether it is a finite number, 0 or more."""
    return type(value) in (int, float) and 0 <= value <= 1 << 53  # type: ignore[operator]


def texts(name: str, value: object) -> list[str]:
    """A list of texts."""
    if not isinstance(value, (list, tuple)) or not all(type(text) is str for text in value):
        refuse(name, f"{shown(value)}; write a list of texts")
    return [strict(text, name) for text in value]


def members(name: str, value: object, known: tuple[str, ...]) -> dict[str, Any] | None:
    """A dict with texts for some of `known`, or None."""
    if value is None:
        return None
    if type(value) is not dict:
        refuse(name, f"{shown(value)}; write a dict with {', '.join(known)}, or None")
    for key, text in value.items():
        if key not in known:
            refuse(f"{name}.{printable(str(key), 60)}", f"unknown; {name} has {', '.join(known)}")
        if text is not None and type(text) is not str:
            refuse(f"{name}.{key}", f"{shown(text)}; write text, or None")
    return strict(value, name)  # type: ignore[no-any-return]


def tokens(value: object) -> dict[str, Any] | None:
    """A dict with counts for some of `USAGE`."""
    if value is None:
        return None
    if type(value) is not dict:
        refuse("usage", f"{shown(value)}; write a dict with {', '.join(USAGE)}, or None")
    for key, number in value.items():
        if key not in USAGE:
            refuse(f"usage.{printable(str(key), 60)}", f"unknown; usage has {', '.join(USAGE)}")
        if number is not None:
            count(f"usage.{key}", number)
    return dict(value)
