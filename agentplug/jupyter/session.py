"""The plugins of one notebook (host): their manager, the variables that they are bound to, and kept sandboxes."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.host.conversation import wait_for
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.session import Sandbox
from agentplug.core.sources.names import near_match, quoted
from agentplug.jupyter.failures import LineError
from agentplug.manager.manager import AnyPlugin, PluginManager
from agentplug.report.aligned import aligned

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Session:
    """The plugins and variables that the magics of one shell share. `sandboxes` are those of `--keep`."""

    def __init__(self, ip: InteractiveShell) -> None:
        self.ip = ip
        self.manager = PluginManager()
        self.sandboxes: dict[str, Sandbox] = {}

    @property
    def names(self) -> dict[str, Any]:
        """The user's variables."""
        names: dict[str, Any] = self.ip.user_ns
        return names

    @property
    def variables(self) -> list[str]:
        """The names of the user's own variables: not IPython's, and no modules."""
        hidden = self.ip.user_ns_hidden
        return [
            name
            for name, value in self.names.items()
            if not name.startswith("_") and name not in hidden and not isinstance(value, ModuleType)
        ]

    def plugin(self, name: str) -> AnyPlugin:
        """Return the plugin of that name. Raises `LineError`."""
        plugins = self.manager.plugins
        if name not in plugins:
            if name in self.sandboxes:
                raise LineError(f"{quoted(name)} is no plugin, it is a session of %%sandbox --keep")
            names = [*plugins, *self.sandboxes]
            known = ", ".join(printable(key, 60) for key in names)
            hint = near_match(name, names) or (f"; there are: {known}" if known else ", and no other is")
            raise LineError(f"no plugin {quoted(name)} is loaded{hint}")
        return plugins[name]

    def keep(self, name: str, policy: Policy | None) -> Sandbox:
        """Start the sandbox of `--keep NAME`. Raises what `SandboxedPlugin.start` raises."""
        if name in self.manager.plugins:
            raise LineError(f"--keep: {quoted(name)} is a loaded plugin; write another name")
        sandbox = Sandbox(policy)
        sandbox._rename(name, f"{name} cell {{}}")
        try:
            wait_for(sandbox._plugin.start())
        except BaseException:
            sandbox.close_sync()
            raise
        self.sandboxes[name] = sandbox
        return sandbox

    def load(
        self, source: object, name: str, policy: Any, config: dict[str, Any] | None, *, locked: bool = False
    ) -> SandboxedPlugin:
        """Load a plugin and bind it to the variable `name`; raises what `PluginManager.load` raises."""
        if name in self.sandboxes:
            raise LineError(
                f"{quoted(name)} is a session of %%sandbox --keep; write another name, or %unload_plugin {name} first"
            )
        plugin = wait_for(self.manager.load(source, name, policy, config, locked=locked))
        self.names[name] = plugin
        return plugin

    def unload(self, name: str) -> None:
        """Close a plugin and drop its variable, unless that has another value by now; or close a kept sandbox."""
        if name in self.sandboxes:
            self.sandboxes.pop(name).close_sync()
            return
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
        """Close every plugin and drop their variables; close the kept sandboxes."""
        for sandbox in self.sandboxes.values():
            sandbox.close_sync()
        self.sandboxes.clear()
        plugins = dict(self.manager.plugins)
        wait_for(self.manager.close())
        for name, plugin in plugins.items():
            if self.names.get(name) is plugin:
                del self.names[name]


class PluginList:
    """The value of `%plugins`: one row a plugin or kept sandbox, as they were then.

    `manager` is the notebook's `PluginManager`, `sandboxes` are those of `%%sandbox --keep` by name.
    """

    def __init__(self, session: Session) -> None:
        self.manager = session.manager
        self.sandboxes = dict(session.sandboxes)
        self._rows = self.manager._inside.registry.rows()
        self._rows += [_sandbox_row(name, sandbox) for name, sandbox in self.sandboxes.items()]

    def __repr__(self) -> str:
        if not self._rows:
            return "No plugin is loaded; load one with %load_plugin SPEC."
        return aligned([{name: printable(text, 200) for name, text in row.items()} for row in self._rows])

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugins_table

        return plugins_table(self._rows)


def _sandbox_row(name: str, sandbox: Sandbox) -> dict[str, str]:
    return {
        "name": name,
        "version": "",
        "state": sandbox.state,
        "runs in": "a confined worker, cell after cell",
        "hooks": "",
        "calls": str(sandbox._plugin._inside.calls),
        "last verdict": str(sandbox.runs[-1].verdict) if sandbox.runs else "",
    }


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
