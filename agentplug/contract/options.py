"""Limits and rights as people type them (host): `--memory 64M --network 443`, to a `Policy`.

The one place that knows these options; the command line and the magics make their parsers from `OPTIONS`, and read
what they parsed with `policy_from_options`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agentplug.contract.policy import Policy
from agentplug.errors import PolicyError

_YES = frozenset(("", "yes", "true", "on", "all"))
_NO = frozenset(("no", "false", "off", "none"))


class Option(NamedTuple):
    """`--NAME METAVAR`, which sets the policy's `field`. `many` may come more than once, a `flag` takes no value."""

    name: str
    field: str
    metavar: str
    help: str
    many: bool = False
    flag: bool = False

    @property
    def key(self) -> str:
        """The name that parsers of arguments file it under."""
        return self.name.replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option("memory", "memory", "SIZE", "memory that it may add, like 256M"),
    Option("cpu", "cpu_s", "SECONDS", "CPU time a call"),
    Option("wall", "wall_s", "SECONDS", "elapsed time a call"),
    Option("disk", "disk", "SIZE", "its private scratch directory, like 10M"),
    Option("processes", "processes", "N", "child processes"),
    Option("threads", "threads", "N", "threads, its first included"),
    Option("output", "output", "SIZE", "stdout and stderr that are kept a call"),
    Option("network", "network", "PORTS", "TCP ports that it may connect to, like 443,8080; or yes, or no"),
    Option("read", "read", "PATH", "a path that it may read", many=True),
    Option("write", "write", "PATH", "a path that it may read and write", many=True),
    Option(
        "env", "env", "NAME[=VALUE]", "a variable that it sees; without a value, the one that is set here", many=True
    ),
    Option("profile", "profile", "KIND", "where its memory or cpu went, as its own process says: memory or cpu"),
    Option("best-effort", "best_effort", "", "start even where this machine can't enforce everything", flag=True),
)


def policy_from_options(given: Mapping[str, Any], base: Policy | None = None) -> Policy:
    """`base` (or the default policy) with the options that were `given`, by name or key; None was not given.

    Values are texts, lists of texts for options that may come more than once, and True for a flag; other names are
    left to the caller. Raises `PolicyError`, naming the option.
    """
    policy = base or Policy()
    for option in OPTIONS:
        value = given.get(option.key, given.get(option.name))
        if value is None or (option.many and not value) or (option.flag and value is False):
            continue
        try:
            policy = policy.replace(**{option.field: _READERS.get(option.name, _as_it_is)(value)})
        except PolicyError as error:
            raise PolicyError(_of_option(option, str(error))) from None
    return policy


def _of_option(option: Option, message: str) -> str:
    """A policy's message in the words of who typed the option: `--cpu=0.0: …` for `cpu_s=0.0: …`."""
    if message.startswith(option.field):
        return f"--{option.name}{message.removeprefix(option.field)}"
    return f"--{option.name}: {message}"


def _as_it_is(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise PolicyError(f"{value!r} isn't a number of seconds") from None


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


def _env(value: Any) -> dict[str, str]:
    pairs = {}
    for text in [value] if isinstance(value, str) else value:
        name, equals, content = str(text).partition("=")
        if not equals and name not in os.environ:
            raise PolicyError(f"{name} isn't set here; write {name}=VALUE")
        pairs[name] = content if equals else os.environ[name]
    return pairs


_READERS: dict[str, Callable[[Any], Any]] = {
    "cpu": _seconds,
    "wall": _seconds,
    "processes": _count,
    "threads": _count,
    "network": _network,
    "env": _env,
}
