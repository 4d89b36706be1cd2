"""The plugins of a manager by name, in the order in which they are called (host)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agentplug.contract.text import printable
from agentplug.errors import DuplicatePlugin, PluginNotFound
from agentplug.manager.registration import AnyPlugin, Registration


class Registry:
    """Registrations by name. One whose initialization failed goes once its error was seen.

    `last` has the plugins that there were as the manager was closed, as long as it has got no others.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Registration] = {}
        self.last: Mapping[str, AnyPlugin] = {}

    def add(self, name: str, entry: Registration) -> None:
        """Register `entry` under `name`, in the place of what is there."""
        self.entries[name] = entry
        self.last = {}

    def rename(self, before: str, name: str) -> None:
        """Give the entry `before` the name that its plugin says, in the same place. Raises `DuplicatePlugin`."""
        if name in self.entries:
            raise _taken(name)
        self.entries = {name if key == before else key: entry for key, entry in self.entries.items()}

    def refuse(self, name: str) -> None:
        """Raise `DuplicatePlugin` if `name` is taken."""
        if name in self.settled():
            raise _taken(name)

    def clear(self) -> list[Registration]:
        """Empty the registry, which is closed: what was in it."""
        if self.entries:
            self.last = {name: entry.plugin for name, entry in self.entries.items() if entry.failure() is None}
        entries, self.entries = list(self.entries.values()), {}
        return entries

    def named(self, name: object) -> Registration:
        """The registration under `name`. Raises `PluginNotFound`."""
        entries = self.settled()
        entry = entries.get(name) if isinstance(name, str) else None
        if entry is None:
            known = ", ".join(printable(key, 60) for key in entries) or "none"
            raise PluginNotFound(f"No plugin {printable(str(name), 100)!r} is registered; there are: {known}")
        return entry

    def plugins(self) -> Mapping[str, AnyPlugin]:
        """The plugins by name."""
        return MappingProxyType({name: entry.plugin for name, entry in self.settled().items()})

    def rows(self) -> list[dict[str, str]]:
        """A row of texts for each plugin, for lists of them."""
        return [entry.row(name) for name, entry in self.settled().items()]

    def settled(self) -> dict[str, Registration]:
        """The registrations, without those whose initialization failed and whose error was seen."""
        for name, entry in list(self.entries.items()):
            if entry.error_was_seen and entry.failure() is not None:
                del self.entries[name]
        return {name: entry for name, entry in self.entries.items() if entry.failure() is None}

    def unseen_failure(self) -> BaseException | None:
        """The error of an initialization that nobody has seen, once; those that failed are forgotten."""
        for name, entry in list(self.entries.items()):
            if entry.failure() is not None:
                del self.entries[name]
                if not entry.error_was_seen:
                    return entry.failure()
        return None


def _taken(name: str) -> DuplicatePlugin:
    return DuplicatePlugin(f"Plugin {printable(name, 100)} already registered")
