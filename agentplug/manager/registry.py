"""The plugins of a manager by name, in the order of their calls (host)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agentplug.contract.text import printable
from agentplug.errors import DuplicatePlugin, PluginNotFound
from agentplug.manager.registration import AnyPlugin, Registration


class Registry:
    """Registrations by name. A failed one is removed once its error was seen.

    `last` has the plugins of a manager when it was closed, until another is added.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Registration] = {}
        self.last: Mapping[str, AnyPlugin] = {}

    def add(self, name: str, entry: Registration) -> None:
        """Register `entry` under `name`, replacing an entry of that name."""
        self.entries[name] = entry
        self.last = {}

    def rename(self, before: str, name: str) -> None:
        """Rename the entry `before` to `name`, without changing the order. Raises `DuplicatePlugin`."""
        if name in self.entries:
            raise _duplicate(name)
        self.entries = {name if key == before else key: entry for key, entry in self.entries.items()}

    def refuse(self, name: str) -> None:
        """Raise `DuplicatePlugin` if `name` is in use."""
        if name in self.settled():
            raise _duplicate(name)

    def clear(self) -> list[Registration]:
        """Empty the registry, and return its entries."""
        if self.entries:
            self.last = {name: entry.plugin for name, entry in self.entries.items() if entry.failure() is None}
        entries, self.entries = list(self.entries.values()), {}
        return entries

    def named(self, name: object) -> Registration:
        """Return the registration under `name`. Raises `PluginNotFound`."""
        entries = self.settled()
        entry = entries.get(name) if isinstance(name, str) else None
        if entry is None:
            known = ", ".join(printable(key, 60) for key in entries) or "none"
            raise PluginNotFound(f"No plugin {printable(str(name), 100)!r} is registered; there are: {known}")
        return entry

    def plugins(self) -> Mapping[str, AnyPlugin]:
        """Return the plugins by name."""
        return MappingProxyType({name: entry.plugin for name, entry in self.settled().items()})

    def rows(self) -> list[dict[str, str]]:
        """List a row of texts for each plugin."""
        return [entry.row(name) for name, entry in self.settled().items()]

    def settled(self) -> dict[str, Registration]:
        """Return the registrations that haven't failed, and remove the failed ones whose error was seen."""
        for name, entry in list(self.entries.items()):
            if entry.error_was_seen and entry.failure() is not None:
                del self.entries[name]
        return {name: entry for name, entry in self.entries.items() if entry.failure() is None}

    def unseen_failure(self) -> BaseException | None:
        """Return the first error of an initialization that nobody has seen, and remove that registration."""
        for name, entry in list(self.entries.items()):
            if entry.failure() is not None:
                del self.entries[name]
                if not entry.error_was_seen:
                    return entry.failure()
        return None


def _duplicate(name: str) -> DuplicatePlugin:
    return DuplicatePlugin(f"Plugin {printable(name, 100)} already registered")
