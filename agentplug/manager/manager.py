"""`PluginManager`: the plugins of a session by name (host).

The manager loads, registers and calls plugins. `registry` holds them, `dispatching` sends messages to hooks,
`audit.watching` records what happens, `retired` keeps the figures of unloaded plugins.
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
    """The internals of a manager that notebook, dashboard and adapters use."""

    registry: Registry
    dispatching: Dispatching
    retired: Retired


class PluginManager:
    """A manager that loads, registers, calls, reloads and unloads plugins. Leaving its async context closes them all.

    `policy` applies to every plugin without a policy of its own. `audit` is a path or an `AuditLog`: loads, calls and
    dispatches are recorded there, and a call that can't be recorded raises `AuditError`.

    `lock` is the path of an `agentplug.lock`: a plugin that it pins loads only if it matches its pin. With `locked`
    no other plugin loads.
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
        """The registered plugins by name, in the order of their calls."""
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
        """Load, start and initialize a plugin, under `name` or its own name. It replaces a plugin of that name.

        `locked` refuses a plugin that the lock doesn't pin. Raises `PinMismatch` if the plugin doesn't match its pin,
        and the errors of `SandboxedPlugin` and its `start`; then nothing has changed.
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
            self._retire(before.plugin)
        return plugin

    def register(
        self, plugin: Any, config: Mapping[str, Any] | None = None, *, trusted: bool = False
    ) -> Registration:
        """Register an object (or a `SandboxedPlugin`) and begin to initialize it. Awaiting the result is optional.

        A plain object runs in a worker of its own, or with `trusted` in the host. `process` waits for the
        initialization. If that fails, the plugin is no longer registered, and the error is raised by awaiting the
        result, or else by the next `process` or by leaving the manager.

        Raises `DuplicatePlugin` if the name is in use, and `ContractError` or `SpecError` if the object is no plugin.
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
        entry.begin(functools.partial(self._use_reported_name, name, entry), here=trusted)
        return entry

    def _registration(
        self, plugin: AnyPlugin, config: Mapping[str, Any] | None, order: int | None = None
    ) -> Registration:
        order = self._inside.dispatching.table.number() if order is None else order
        return Registration(plugin, config, PluginHooks(plugin, self._policy, order))

    def _use_reported_name(self, guess: str, entry: Registration) -> None:
        """Use the name that a plugin from a file has reported once it started."""
        name, registry = entry.plugin.name, self._inside.registry
        self._watch.loaded(name, entry.plugin, entry.config)
        if name != guess and registry.entries.get(guess) is entry:
            registry.rename(guess, name)

    async def unregister(self, name: str) -> None:
        """Close the plugin and forget it. Raises `PluginNotFound`."""
        entry = self._inside.registry.named(name)
        del self._inside.registry.entries[name]
        await entry.plugin.close()
        self._retire(entry.plugin)

    async def reload(self, name: str) -> AnyPlugin:
        """Load the plugin again from its spec, with the same policy and configuration.

        This also ends a quarantine. If the new plugin can't start, the old one stays. Raises `PluginNotFound`.
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
        """Wait for observers, at most 5 seconds, and close every plugin.

        Raises the error of a failed initialization, if nobody has seen it.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.drain(), DRAIN_S)
        failure = self._inside.registry.unseen_failure()
        entries = self._inside.registry.clear()
        await asyncio.gather(*(entry.plugin.close() for entry in entries))
        for entry in entries:
            self._retire(entry.plugin)
        self._watch.close()
        if failure is not None:
            raise failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ------------------------------------------------------------------ calls

    async def process(self, input_data: Any) -> Any:
        """Call `pre_process` hooks, all plugins, `post_process` hooks, each with the result of the one before."""
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

        At an agent point `dispatch` calls it with a copy of the message. `kind`: `observe` (the default; the callback
        may take the `Dispatch` as a second argument), `transform` or `veto`, which return what a plugin's
        `on_message` may, or a message with other parts. A transform or veto that fails denies the message, unless
        `fail_open`. A coroutine has 5 seconds. A plain function can't be interrupted and blocks the loop that it is
        called on, an agent's own; for slow work, `await asyncio.to_thread(...)` in a coroutine.

        Raises `UnknownHook`, and `ContractError` for another kind.
        """
        return self._inside.dispatching.table.register(point, callback, kind, fail_open=fail_open)

    async def run_hooks(self, point: str, *args: Any, **kwargs: Any) -> list[Any]:
        """Run the callbacks at `point`, and return their values in order.

        A value other than None replaces the first argument for the callbacks that follow. Raises `UnknownHook`, and
        after all have run an `ExceptionGroup` of the callbacks' errors.
        """
        return (await self._inside.dispatching.table.run(point, args, kwargs))[1]

    async def dispatch(self, message: AgentMessage, *, evaluate_only: bool = False) -> Dispatch:
        """Send a message to the hooks at its point: transforms, then vetoes, then observers, which aren't awaited.

        `(await dispatch(m)).check()` returns the message to use from now on, or raises `HookDenied`. `evaluate_only`
        calls all hooks and enforces nothing. Never raises for what a hook did, but raises the error of a failed
        initialization that nobody has seen: a veto that couldn't start must not be ignored.
        """
        return await self._inside.dispatching.dispatch(message, evaluate_only=evaluate_only)

    async def drain(self) -> None:
        """Wait until observers have seen all messages."""
        await self._inside.dispatching.drain()

    def hooks_frame(self) -> pd.DataFrame:
        """Return a table with one row a hook: its name, point and kind, if it is granted, and its statistics.

        `failed` counts calls without an answer, `dropped` messages that found an observer's queue full; `detail` says
        why a hook isn't granted.
        """
        return self._inside.dispatching.hooks_frame()

    # ------------------------------------------------------------------ what happened

    @property
    def audit(self) -> AuditLog | None:
        """The audit log that this manager writes, or None."""
        return self._watch.log

    @property
    def trace(self) -> pd.DataFrame:
        """The calls table: one row a call of all sandboxed plugins that are or were registered, oldest first."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import recorded_frame

        insides = [p._inside for p in self.plugins.values() if isinstance(p, SandboxedPlugin)]
        here = [(inside.recorder, inside.about()) for inside in insides]
        return attached(recorded_frame([*self._inside.retired.recorders(), *here]))

    # ------------------------------------------------------------------ inside

    def _retire(self, plugin: AnyPlugin) -> None:
        """Record that a plugin is closed, and keep its figures for a comparison with its successor."""
        self._watch.unloaded(plugin)
        if isinstance(plugin, SandboxedPlugin):
            self._inside.retired.keep(plugin._inside)

    def __repr__(self) -> str:
        names = ", ".join(printable(name, 60) for name in self.plugins)
        return f"<PluginManager of {names or 'no plugin'}>"

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugins_table

        return plugins_table(self._inside.registry.rows())
