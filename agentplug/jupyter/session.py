"""The plugins of one notebook session (host): their manager, and the variables that they are bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from agentplug.contract.text import printable
from agentplug.core.host.conversation import wait_for
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.sources.names import near_match, quoted
from agentplug.manager.manager import AnyPlugin, PluginManager

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Session:
    """The plugins and variables that the magics of one shell share."""

    def __init__(self, ip: InteractiveShell) -> None:
        self.ip = ip
        self.manager = PluginManager()

    @property
    def names(self) -> dict[str, Any]:
        """The user's variables."""
        names: dict[str, Any] = self.ip.user_ns
        return names

    def plugin(self, name: str) -> AnyPlugin:
        """Return the plugin of that name. Raises `UsageError`."""
        plugins = self.manager.plugins
        if name not in plugins:
            known = ", ".join(printable(key, 60) for key in plugins) or "none"
            hint = near_match(name, plugins) or f"; there are: {known}"
            raise UsageError(f"no plugin {quoted(name)} is loaded{hint}")
        return plugins[name]

    def load(
        self, source: object, name: str, policy: Any, config: dict[str, Any] | None, *, locked: bool = False
    ) -> SandboxedPlugin:
        """Load a plugin and bind it to the variable `name`; raises what `PluginManager.load` raises."""
        plugin = wait_for(self.manager.load(source, name, policy, config, locked=locked))
        self.names[name] = plugin
        return plugin

    def unload(self, name: str) -> None:
        """Close a plugin and drop its variable, unless that has another value by now."""
        plugin = self.plugin(name)
        wait_for(self.manager.unregister(name))
        if self.names.get(name) is plugin:
            del self.names[name]

    def reload(self, name: str) -> AnyPlugin:
        """Load a plugin again and bind its variable anew, unless that has another value by now."""
        before = self.plugin(name)
        plugin = wait_for(self.manager.reload(name))
        if self.names.get(name) is before:
            self.names[name] = plugin
        return plugin

    def close(self) -> None:
        """Close every plugin and drop their variables."""
        plugins = dict(self.manager.plugins)
        wait_for(self.manager.close())
        for name, plugin in plugins.items():
            if self.names.get(name) is plugin:
                del self.names[name]


class PluginList:
    """The value of `%plugins`: one row a plugin, as they were then. `manager` is the session's `PluginManager`."""

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager
        self._rows = manager._inside.registry.rows()

    def __repr__(self) -> str:
        if not self._rows:
            return "No plugin is loaded; load one with %load_plugin SPEC."
        return aligned([{name: printable(text, 60) for name, text in row.items()} for row in self._rows])

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugins_table

        return plugins_table(self._rows)


def aligned(rows: Sequence[Mapping[str, str]]) -> str:
    """Return `rows` as lines of text in columns, with their keys as the first line."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


_sessions: dict[int, Session] = {}


def open_session(ip: InteractiveShell) -> Session:
    """Make the session of `ip`, which `session_of` returns until `close_session`."""
    session = _sessions[id(ip)] = Session(ip)
    return session


def session_of(ip: InteractiveShell) -> Session | None:
    """Return the session of the magics of `ip`; None while the extension isn't loaded."""
    return _sessions.get(id(ip))


def close_session(ip: InteractiveShell) -> None:
    """Forget the session of `ip` and close its plugins."""
    _sessions.pop(id(ip)).close()
