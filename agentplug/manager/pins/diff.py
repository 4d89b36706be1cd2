"""In which way what is here differs from what was pinned, as lines that people read (host).

A line begins with `-` for what the lock has, `+` for what is here, as in a unified diff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.text import printable
from agentplug.errors import PinMismatch
from agentplug.manager.pins.pin import listed_right

if TYPE_CHECKING:
    from agentplug.core.boundary.frames import Loaded
    from agentplug.manager.pins.pin import Pin

_PLAIN = ("name", "version", "kind", "entry", "distribution", "python", "platform", "record")
_TABLES = {"files": "file", "closure": "dependency", "hooks": "asks for hook", "asks": "asks for", "origin": "origin"}
_MOST_LINES = 60


def differences(pinned: Pin, found: Pin) -> list[str]:
    """The lines, none where both are the same. Rights and specifier are compared elsewhere: they are the user's."""
    lines: list[str] = []
    for name in _PLAIN:
        lines += _changed(name, getattr(pinned, name), getattr(found, name))
    for table, word in _TABLES.items():
        lines += table_lines(word, getattr(pinned, table), getattr(found, table))
    if not lines or pinned.kind == "cell":
        lines += _changed("digest", pinned.digest, found.digest)
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"  … and {len(lines) - _MOST_LINES} more"]


def table_lines(word: str, pinned: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """One line for what was added or is gone, two for what changed."""
    lines: list[str] = []
    for key in sorted({*pinned, *found}):
        lines += _changed(f"{word} {printable(key, 300)}", pinned.get(key, ""), found.get(key, ""))
    return lines


class PinnedClaims(NamedTuple):
    """What a plugin must report of itself once it runs: what was read in its code when it was pinned."""

    name: str
    version: str
    hooks: Mapping[str, str]
    asks: Mapping[str, Any]

    def refuse_other_claims(self, loaded: Loaded, *, has_metadata: bool) -> None:
        """Raise `PinMismatch` where a worker reports another name, version, hooks or asked rights than these.

        A plugin without a member `asks` asks for nothing, unless it `has_metadata`, which may ask for it.
        """
        lines = [*_changed("name", self.name, loaded.name), *_changed("version", self.version, loaded.version)]
        lines += table_lines("asks for hook", self.hooks, loaded.hooks)
        if loaded.asks is not None or not has_metadata:
            lines += table_lines("asks for", _listed(self.asks), _listed(loaded.asks or {}))
        if lines:
            raise PinMismatch(
                f"Plugin {printable(self.name, 80)} says other things of itself once it runs than were read in its "
                "code and pinned (-); it was ended:\n" + "\n".join(lines)
            )


def _listed(asks: Mapping[str, Any]) -> dict[str, Any]:
    return {name: listed_right(name, value) for name, value in asks.items()}


def _changed(what: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    lines = [f"- {what}: {_shown(before)}"] if before != "" else []
    return [*lines, f"+ {what}: {_shown(after)}"] if after != "" else lines


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 300)
