"""A `Policy` from typed options (host): `--memory 64M --network 443`.

The command line and the magics make their parsers from the options in `limits.FIELDS`, and pass the parsed values to
`policy_from_options`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from agentplug.contract.limits import FIELDS, Field, Kind
from agentplug.contract.policy import Policy
from agentplug.contract.text import is_utf8, printable
from agentplug.errors import PolicyError

_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)\s*", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_YES = frozenset(("", "yes", "true", "on", "all"))
_NO = frozenset(("no", "false", "off", "none"))


def policy_from_options(options: Mapping[str, Any], base: Policy | None = None) -> Policy:
    """Return `base`, or the default policy, changed by `options`: values by an option's name or key.

    A value is a text, a list of texts for a repeatable option, True for a switch, or None for an unused option. Names
    that are no option are ignored. Raises `PolicyError`, naming the option.
    """
    policy = base or Policy()
    for row in FIELDS.values():
        value = options.get(row.key, options.get(row.option))
        if value is None or (row.kind.many and not value) or (row.is_switch and value is False):
            continue
        if row.is_switch:
            value = row.words[0] if row.words else True
        try:
            policy = policy.replace(**{row.name: _READERS.get(row.kind, _identity)(value)})
        except PolicyError as error:
            raise PolicyError(_option_message(row, str(error))) from None
    return policy


def _option_message(row: Field, message: str) -> str:
    """Name the option in a policy's message: `--cpu=0.0: …` for `cpu_s=0.0: …`."""
    if message.startswith(row.name):
        return f"--{row.option}{message.removeprefix(row.name)}"
    return f"--{row.option}: {message}"


def _identity(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise PolicyError(f"{value!r} isn't a time; write seconds, or text like 500ms, 90s or 2m") from None
        return float(match[1]) * _SECONDS[match[2].lower()]


def _count(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise PolicyError(f"{value!r} isn't a whole number") from None


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in _YES | _NO:
        return word in _YES
    try:
        return tuple(int(port) for port in word.split(","))
    except ValueError:
        raise PolicyError(f"{value!r}: write TCP ports like 443,8080, or yes, or no") from None


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(map(str, value))


def _variables(value: Any) -> dict[str, str]:
    pairs = {}
    for text in _texts(value):
        name, equals, content = text.partition("=")
        if not equals and (not is_utf8(name) or name not in os.environ):  # which can't look up a lone surrogate
            raise PolicyError(f"{printable(name, 100)} isn't set here; write {printable(name, 100)}=VALUE")
        pairs[name] = content if equals else os.environ[name]
    return pairs


def _grants(value: Any) -> dict[str, str]:
    return {point: grant for point, _, grant in (text.partition("=") for text in _texts(value))}


def _modules(value: Any) -> tuple[str, ...]:
    return tuple(name.strip() for text in _texts(value) for name in text.split(","))


_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.SECONDS: _seconds,
    Kind.COUNT: _count,
    Kind.PORTS: _network,
    Kind.VARIABLES: _variables,
    Kind.GRANTS: _grants,
    Kind.MODULES: _modules,
}
