"""`PluginManager`: the plugins of a session by name (host).

It loads, registers and calls them. `registry` holds them, `dispatching` takes messages to hooks, `audit.watching`
writes down what happens, `retired` keeps the figures of those that went.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.progress import waiting
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.trusted import TrustedPlugin
from agentplug.errors import ContractError, PinMismatch, PolicyError
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.audit.watching import Watch
from agentplug.manager.dispatching import Dispatching
from agentplug.manager.hooks import Dispatch, HookHandle
from agentplug.manager.pins.lock_guard import LockGuard
from agentplug.manager.plugin_hooks import PluginHooks
from agentplug.manager.registration import AnyPlugin, Registration
from agentplug.manager.registry import Registry
from agentplug.manager.retired import Retired

if TYPE_CHECKING:
    import pandas as pd
__all__ = ["AnyPlugin", "PluginManager"]

DRAIN_S = 5.0


class Inside(NamedTuple):
    """A manager's one internal door: what notebook, dashboard and adapters need beside its public names."""

    registry: Registry
    dispatching: Dispatching
    retired: Retired


class PluginManager:
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
        self._policy = policy or Policy()
        self._watch = Watch(audit)
        self._lock = LockGuard(lock, locked=locked)
        registry = Registry()
        self._inside = Inside(registry, Dispatching(registry, self._watch.log), Retired())

    # ------------------------------------------------------------------ plugins

    @property
    def plugins(self) -> Mapping[str, AnyPlugin]:
        """The registered plugins by name, in the order in which they are called."""
        return self._inside.registry.plugins()

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
            source = await self._lock.source(spec, policy or self._policy, locked=locked)
        except PinMismatch as error:
            if self.audit is not None:
                self.audit.record(
                    "refuse",
                    {"spec": printable(str(getattr(spec, "spec", spec)), 200), "error": type(error).__name__},
                )
            raise
        plugin = SandboxedPlugin(source, policy or self._policy, config=config)
        if source is not spec:
            plugin._inside.spec = spec
        self._watch.begin(plugin)
        try:
            async with waiting(f"loading {printable(plugin.name, 60)}"):
                await plugin.initialize()
            key = name or plugin.name
            plugin._inside.rename(key)
            self._watch.loaded(key, plugin, config)
        except BaseException as error:
            await plugin.close()
            self._watch.refused(plugin, error)
            raise
        registry = self._inside.registry
        before = registry.entries.get(key)
        registry.add(key, self._registration(plugin, config, before.hooks.order if before is not None else None))
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
            ready = SandboxedPlugin(plugin, self._policy, config=config)
        if isinstance(ready, SandboxedPlugin):
            self._lock.refuse_unpinned(ready._inside.source)
        name = ready.name
        self._inside.registry.refuse(name)
        self._watch.begin(ready)
        entry = self._registration(ready, config)
        self._inside.registry.add(name, entry)
        entry.begin(functools.partial(self._named_itself, name, entry), here=trusted)
        return entry

    def _registration(
        self, plugin: AnyPlugin, config: Mapping[str, Any] | None, order: int | None = None
    ) -> Registration:
        order = self._inside.dispatching.table.number() if order is None else order
        return Registration(plugin, config, PluginHooks(plugin, self._policy, order))

    def _named_itself(self, guess: str, entry: Registration) -> None:
        """A plugin that comes from a file says its name when it has started: from then on it is known by that."""
        name, registry = entry.plugin.name, self._inside.registry
        self._watch.loaded(name, entry.plugin, entry.config)
        if name != guess and registry.entries.get(guess) is entry:
            registry.rename(guess, name)

    async def unregister(self, name: str) -> None:
        """Close the plugin and forget it. Raises `PluginNotFound`."""
        entry = self._inside.registry.named(name)
        del self._inside.registry.entries[name]
        await entry.plugin.close()
        self._part_with(entry.plugin)

    async def reload(self, name: str) -> AnyPlugin:
        """The plugin anew, from what its spec holds now, with the same policy and configuration.

        Also ends a quarantine. If the new one can't be started the old one stays. Raises `PluginNotFound`.
        """
        entry = self._inside.registry.named(name)
        plugin = entry.plugin
        if isinstance(plugin, TrustedPlugin):
            await plugin.initialize(entry.config)
            return plugin
        inside = plugin._inside
        locked = inside.source.pinned is not None
        return await self.load(inside.spec, name, plugin.policy, entry.config, locked=locked)

    async def close(self) -> None:
        """Close every plugin, once observers have seen what waits for them: at most 5 seconds.

        Raises the error of an initialization that nobody has seen.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.drain(), DRAIN_S)
        failure = self._inside.registry.unseen_failure()
        entries = self._inside.registry.clear()
        await asyncio.gather(*(entry.plugin.close() for entry in entries))
        for entry in entries:
            self._part_with(entry.plugin)
        self._watch.close()
        if failure is not None:
            raise failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------------ calls

    async def process(self, input_data: Any) -> Any:
        """`pre_process` hooks, each plugin in order, `post_process` hooks; each gets what the one before returned."""
        table, registry = self._inside.dispatching.table, self._inside.registry
        value, _ = await table.run("pre_process", (input_data,), {})
        failure = registry.unseen_failure()
        if failure is not None:
            raise failure
        for entry in list(registry.entries.values()):
            await entry
            value = await entry.plugin.process(value)
        value, _ = await table.run("post_process", (value,), {})
        return value

    # ------------------------------------------------------------------ hooks

    def register_hook(
        self, point: str, callback: Callable[..., Any], kind: str | None = None, *, fail_open: bool = False
    ) -> HookHandle:
        """Call `callback`, a function or a coroutine function, at `point`.

        At an agent point it is asked by `dispatch`, with a copy of the message. `kind`: `observe` (the default; it
        may take the `Dispatch` as a second argument), `transform` or `veto`, which return what a plugin's
        `on_message` may, or a message with other parts. A transform or veto that fails denies the message, unless
        `fail_open`. A coroutine has 5 seconds; a plain function can't be interrupted and holds up the loop that it is
        called on, an agent's own: for what takes long, `await asyncio.to_thread(...)` in a coroutine.

        Raises `UnknownHook`, and `ContractError` for another kind.
        """
        return self._inside.dispatching.table.register(point, callback, kind, fail_open=fail_open)

    async def run_hooks(self, point: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Run the callbacks at `point`: what each returned, in order.

        A value other than None replaces the first argument for those that follow. Raises `UnknownHook`, and an
        `ExceptionGroup` of what callbacks raised once all have run.
        """
        return (await self._inside.dispatching.table.run(point, args, kwargs))[1]

    async def dispatch(self, message: AgentMessage, *, evaluate_only: bool = False) -> Dispatch:
        """Take a message to the hooks at its point: transforms, then vetoes, then observers, which it doesn't wait
        for.

        `dispatch(m).check()` is the message to go on with, or raises `HookDenied`. `evaluate_only` asks all hooks and
        enforces nothing. Never raises for what a hook did; raises the error of a plugin's initialization that nobody
        has seen: a veto that couldn't start doesn't count as none.
        """
        return await self._inside.dispatching.dispatch(message, evaluate_only=evaluate_only)

    async def drain(self) -> None:
        """Wait until observers have seen all that was dispatched."""
        await self._inside.dispatching.drain()

    def hooks_frame(self) -> pd.DataFrame:
        """One row a hook: whose, where, of which kind, whether it is granted, and what it did so far.

        `failed` counts calls without an answer, `dropped` what found an observer's queue full; `detail` says why what
        a plugin asks for isn't granted.
        """
        return self._inside.dispatching.hooks_frame()

    # ------------------------------------------------------------------ what happened

    @property
    def audit(self) -> AuditLog | None:
        """The audit log that this manager writes, if it was given one."""
        return self._watch.log

    @property
    def trace(self) -> pd.DataFrame:
        """One row a call, of all sandboxed plugins that are or were registered, oldest first: the calls frame."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import recorded_frame

        insides = [p._inside for p in self.plugins.values() if isinstance(p, SandboxedPlugin)]
        here = [(inside.recorder, inside.about()) for inside in insides]
        return attached(recorded_frame([*self._inside.retired.recorders(), *here]))

    # ------------------------------------------------------------------ inside

    def _part_with(self, plugin: AnyPlugin) -> None:
        """Keep the figures of a plugin that goes, so that what replaces it can be compared."""
        self._watch.unloaded(plugin)
        if isinstance(plugin, SandboxedPlugin):
            self._inside.retired.keep(plugin._inside)

    def __repr__(self) -> str:
        names = ", ".join(printable(name, 60) for name in self.plugins)
        return f"<PluginManager of {names or 'no plugin'}>"

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugins_table

        return plugins_table(self._inside.registry.rows())
