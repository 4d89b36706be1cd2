"""`PluginManager`: the plugins of a session by name (host). What it does with hooks is in `dispatching`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.progress import waiting
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.trusted import TrustedPlugin
from agentplug.errors import ContractError, DuplicatePlugin, PinMismatch, PluginNotFound, PolicyError
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.audit.watching import Watch
from agentplug.manager.pins.lock_guard import HeldToLock
from agentplug.manager.plugin_hooks import PluginHooks
from agentplug.manager.registration import AnyPlugin, Registration
from agentplug.manager.registry import Dispatching
from agentplug.manager.retired import Past

if TYPE_CHECKING:
    import pandas as pd
__all__ = ["AnyPlugin", "PluginManager"]

DRAIN_S = 5.0


class PluginManager(Dispatching):
    """Loads, registers, calls, reloads and unloads plugins. An async context manager: leaving it closes them all.

    `policy` holds for every plugin that comes without one of its own. `audit` is a path, or an `AuditLog` with
    options of its own: what happens is written there, and a call that can't be written down raises `AuditError`.

    `lock` is the path of an `agentplug.lock`: a plugin that it pins loads as it was pinned or not at all. With
    `locked` nothing else loads.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        audit: AuditLog | str | os.PathLike[str] | None = None,
        lock: str | os.PathLike[str] | None = None,
        locked: bool = False,
    ) -> None:
        if policy is not None and not isinstance(policy, Policy):
            raise PolicyError(f"policy is a {type(policy).__name__}; write a Policy, as in Policy(memory='256M')")
        super().__init__()
        self.policy = policy or Policy()
        self._past = Past()
        self._watch = Watch(audit)
        self._lock = HeldToLock(lock, locked=locked)
        self.last: Mapping[str, AnyPlugin] = {}
        """The plugins that it had as it was closed, as long as it has got no others."""

    # ------------------------------------------------------------------ plugins

    @property
    def plugins(self) -> Mapping[str, AnyPlugin]:
        """The registered plugins by name, in the order in which they are called."""
        return MappingProxyType({name: entry.plugin for name, entry in self._settled().items()})

    def rows(self) -> list[dict[str, str]]:
        """What a list of the plugins says of each, as texts."""
        return [entry.row(name) for name, entry in self._settled().items()]

    async def load(
        self,
        spec: object,
        name: str | None = None,
        policy: Policy | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        locked: bool = False,
    ) -> SandboxedPlugin:
        """Load, start and initialize a plugin, under `name` or its own. One of that name is replaced, and closed.

        `locked` refuses what the lock doesn't pin. Raises `PinMismatch` for what isn't as it was pinned, and what
        `SandboxedPlugin` and its `start` raise; then nothing has changed.
        """
        if name is not None and (not isinstance(name, str) or not name):
            raise ContractError(f"name={name!r}: write a text of at least one character")
        try:
            source = await self._lock.source(spec, policy or self.policy, locked=locked)
        except PinMismatch as error:
            if self.audit is not None:
                self.audit.record(
                    "refuse",
                    {"spec": printable(str(getattr(spec, "spec", spec)), 200), "error": type(error).__name__},
                )
            raise
        plugin = SandboxedPlugin(source, policy or self.policy, config=config)
        plugin.given = spec
        self._watch.begin(plugin)
        try:
            async with waiting(f"loading {printable(plugin.name, 60)}"):
                await plugin.initialize()
            key = name or plugin.name
            plugin.call_it(key)
            self._watch.loaded(key, plugin, config)
        except BaseException as error:
            await plugin.close()
            self._watch.refused(plugin, error)
            raise
        before = self._registered.get(key)
        order = before.hooks.order if before is not None else self._hooks.number()
        self._registered[key] = Registration(plugin, config, PluginHooks(plugin, self.policy, order))
        self.last = {}
        if before is not None:
            await before.plugin.close()
            self._part_with(before.plugin)
        return plugin

    def register(
        self, plugin: Any, config: Mapping[str, Any] | None = None, *, trusted: bool = False
    ) -> Registration:
        """Register an object (or a `SandboxedPlugin`) and begin to initialize it; await the result, or don't.

        A plain object is shipped into a worker of its own, unless `trusted`, which runs it in the host. `process`
        waits for the initialization. If that fails the plugin isn't registered any more, and the error is raised
        where this is awaited, or else by the next `process` or by leaving the manager.

        Raises `DuplicatePlugin` for a name that is taken, and `ContractError`, `SpecError` for what is no plugin.
        """
        if trusted:
            ready: AnyPlugin = TrustedPlugin(plugin, config)
        elif isinstance(plugin, SandboxedPlugin):
            ready = plugin
        else:
            ready = SandboxedPlugin(plugin, self.policy, config=config)
        if isinstance(ready, SandboxedPlugin):
            self._lock.refuse_unpinned(ready.source)
        if ready.name in self._settled():
            raise DuplicatePlugin(f"Plugin {printable(ready.name, 100)} already registered")
        self._watch.begin(ready)
        hooks = PluginHooks(ready, self.policy, self._hooks.number())
        entry = self._registered[ready.name] = Registration(ready, config, hooks)
        self.last = {}
        entry.begin(functools.partial(self._named_itself, ready.name, entry), here=trusted)
        return entry

    def _named_itself(self, guess: str, entry: Registration) -> None:
        """A plugin that comes from a file says its name when it has started: from then on it is known by that."""
        name = entry.plugin.name
        self._watch.loaded(name, entry.plugin, entry.config)
        if name == guess or self._registered.get(guess) is not entry:
            return
        if name in self._registered:
            raise DuplicatePlugin(f"Plugin {printable(name, 100)} already registered")
        self._registered = {name if key == guess else key: value for key, value in self._registered.items()}

    async def unregister(self, name: str) -> None:
        """Close the plugin and forget it. Raises `PluginNotFound`."""
        entry = self._named(name)
        del self._registered[name]
        await entry.plugin.close()
        self._part_with(entry.plugin)

    async def reload(self, name: str) -> AnyPlugin:
        """The plugin anew, from what its spec holds now, with the same policy and configuration.

        Also ends a quarantine. If the new one can't be started the old one stays. Raises `PluginNotFound`.
        """
        entry = self._named(name)
        if isinstance(entry.plugin, TrustedPlugin):
            await entry.plugin.initialize(entry.config)
            return entry.plugin
        locked = entry.plugin.source.pinned is not None
        return await self.load(entry.plugin.given, name, entry.plugin.policy, entry.config, locked=locked)

    async def close(self) -> None:
        """Close every plugin, once observers have seen what waits for them: at most 5 seconds.

        Raises the error of an initialization that nobody has seen.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.drain(), DRAIN_S)
        failed = self._unseen_failure()
        if self._registered:
            self.last = {name: entry.plugin for name, entry in self._registered.items() if entry.failure() is None}
        entries, self._registered = list(self._registered.values()), {}
        await asyncio.gather(*(entry.plugin.close() for entry in entries))
        for entry in entries:
            self._part_with(entry.plugin)
        self._watch.close()
        if failed is not None:
            raise failed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------------ calls

    async def process(self, input_data: Any) -> Any:
        """`pre_process` hooks, each plugin in order, `post_process` hooks; each gets what the one before returned."""
        value, _ = await self._hooks.run("pre_process", (input_data,), {})
        failed = self._unseen_failure()
        if failed is not None:
            raise failed
        for entry in list(self._registered.values()):
            await entry
            value = await entry.plugin.process(value)
        value, _ = await self._hooks.run("post_process", (value,), {})
        return value

    @property
    def audit(self) -> AuditLog | None:
        """The audit log that this manager writes, if it was given one."""
        return self._watch.log

    @property
    def trace(self) -> pd.DataFrame:
        """One row a call, of all sandboxed plugins that are or were registered, oldest first: the calls frame."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import recorded_frame

        here = [plugin for plugin in self.plugins.values() if isinstance(plugin, SandboxedPlugin)]
        return attached(
            recorded_frame([*self._past.recorders(), *((plugin.recorder, plugin.about()) for plugin in here)])
        )

    @property
    def runs(self) -> list[Run]:
        """The runs of all sandboxed plugins that are registered."""
        plugins = [p for p in self.plugins.values() if isinstance(p, SandboxedPlugin)]
        return [run for plugin in plugins for run in plugin.runs]

    # ------------------------------------------------------------------ inside

    def _part_with(self, plugin: AnyPlugin) -> None:
        """Keep the figures of a plugin that goes, so that what replaces it can be compared."""
        self._watch.unloaded(plugin)
        if isinstance(plugin, SandboxedPlugin):
            self._past.keep(plugin)

    def _named(self, name: object) -> Registration:
        entry = self._settled().get(name) if isinstance(name, str) else None
        if entry is None:
            known = ", ".join(printable(key, 60) for key in self._settled()) or "none"
            raise PluginNotFound(f"No plugin {printable(str(name), 100)!r} is registered; there are: {known}")
        return entry

    def __repr__(self) -> str:
        names = ", ".join(printable(name, 60) for name in self.plugins)
        return f"<PluginManager of {names or 'no plugin'}>"

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugins_table

        return plugins_table(self.rows())
