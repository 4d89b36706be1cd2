"""The differences between a pin and the plugin as it is now, as lines that people read (host).

As in a unified diff, `-` marks what the lock has and `+` what is here now.
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


def differences(pinned: Pin, current: Pin) -> list[str]:
    """List the differences between two pins. Rights and specifier, which the user chose, are compared elsewhere."""
    lines: list[str] = []
    for name in _PLAIN:
        lines += _lines_of(name, getattr(pinned, name), getattr(current, name))
    for table, word in _TABLES.items():
        lines += table_lines(word, getattr(pinned, table), getattr(current, table))
    if not lines or pinned.kind == "cell":
        lines += _lines_of("digest", pinned.digest, current.digest)
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"  … and {len(lines) - _MOST_LINES} more"]


def table_lines(word: str, pinned: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return one line for each entry that was added or removed, two for each that changed."""
    lines: list[str] = []
    for key in sorted({*pinned, *current}):
        lines += _lines_of(f"{word} {printable(key, 300)}", pinned.get(key, ""), current.get(key, ""))
    return lines


class PinnedClaims(NamedTuple):
    """The claims that a plugin must make about itself once it runs: those read from its code when it was pinned."""

    name: str
    version: str
    hooks: Mapping[str, str]
    asks: Mapping[str, Any]

    def refuse_other_claims(self, loaded: Loaded, *, has_metadata: bool) -> None:
        """Raise `PinMismatch` if a worker reports another name, version, hooks or asked rights.

        A plugin without a member `asks` asks for nothing, unless it `has_metadata` that does.
        """
        lines = [*_lines_of("name", self.name, loaded.name), *_lines_of("version", self.version, loaded.version)]
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


def _lines_of(what: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    lines = [f"- {what}: {_text(before)}"] if before != "" else []
    return [*lines, f"+ {what}: {_text(after)}"] if after != "" else lines


def _text(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 300)
