"""`SandboxedPlugin`: an agent plugin whose code lives in a confined worker (host).

This is the public class alone: `inside` makes the calls, `lifecycle` starts, replaces and ends the worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Self

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.boundary import frames as wire
from agentplug.core.encode import call_request
from agentplug.core.host.conversation import wait_for
from agentplug.core.inside import Inside
from agentplug.core.run import Run
from agentplug.core.sources.resolve import resolve
from agentplug.errors import ContractError, PolicyError

if TYPE_CHECKING:
    import pandas as pd


class SandboxedPlugin:
    """A plugin in a confined worker process, itself an `AgentPlugin`.

    `source` is a spec (`pkg.mod`, `pkg.mod:Class`, `./file.py:Class`, an entry point's name), a path, a class or an
    instance (also one defined in a notebook cell), or another `SandboxedPlugin`, for the same bytes in a worker with
    another policy. `memory_limit_mb` is short for `Policy(memory=...)`; `config` goes to `initialize`, before the
    first call and again in each worker that replaces a lost one.

    The constructor reads the plugin's bytes; the worker starts with the first call, or with `start()`.
    Raises `SpecError`, `PluginNotFound`, `ContractError` and `PolicyError`.
    """

    def __init__(
        self,
        source: object,
        policy: Policy | None = None,
        *,
        memory_limit_mb: float | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        policy = _policy_with(policy, memory_limit_mb)
        spec = source
        if isinstance(source, SandboxedPlugin):
            spec, source = source._inside.spec, source._inside.source
        self._inside: Inside = Inside(spec, resolve(source), policy, _checked_config(config))

    # ------------------------------------------------------------------ properties

    @property
    def name(self) -> str:
        """The plugin's own name, also in a manager that calls it otherwise.

        A guess from object or spec until it is loaded, then the worker's claim.
        """
        return self._inside.life.identity.name

    @property
    def version(self) -> str:
        """The plugin's own version, as it claims."""
        return self._inside.life.identity.version

    @property
    def hooks(self) -> dict[str, str]:
        """The hook points that the plugin asks for, with the kind of each."""
        return self._inside.life.identity.hooks

    @property
    def policy(self) -> Policy:
        """The plugin's rights and limits."""
        return self._inside.policy

    @property
    def state(self) -> str:
        """The plugin's state: new, ready, busy, failed, quarantined or closed."""
        return self._inside.life.state

    @property
    def pid(self) -> int | None:
        """The worker's process id, None without a worker."""
        worker = self._inside.life.worker
        return worker.process.pid if worker is not None and not worker.process.ending else None

    @property
    def barriers(self) -> pd.DataFrame:
        """The worker's barriers, a row each: barrier, protects, status, detail. Empty before the first start."""
        from agentplug.report.frames import barriers_frame

        return barriers_frame(self._inside.barrier_rows())

    @property
    def runs(self) -> Sequence[Run]:
        """The plugin's latest runs, oldest first: at most a thousand, and 64 MiB."""
        return self._inside.history.latest

    @property
    def events(self) -> Sequence[Event]:
        """The events between calls and in `shutdown`, oldest first: why a worker was lost while nobody called it."""
        return self._inside.events

    def __dir__(self) -> Iterable[str]:
        """List the names for Tab: those of everyday use, without `events`."""
        return [name for name in super().__dir__() if name != "events"]

    @property
    def trace(self) -> pd.DataFrame:
        """The calls table: one row a call, oldest first, a million at most; `attrs["dropped"]` counts the others."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import recorded_frame

        return attached(recorded_frame([(self._inside.recorder, self._inside.about())]))

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Start the worker, confine it and load the plugin, unless the worker runs already.

        Raises `BarrierUnavailable` if this machine can't keep the policy, `PluginNotFound`, `ContractError` or
        `SpecError` for a plugin that can't be used, and the error of the verdict if the plugin's own code fails.
        """
        async with self._inside.turn:
            await self._inside.life.ensure_loaded()

    async def initialize(self, config: Mapping[str, Any] | None = None) -> None:
        """Call the plugin's `initialize` with `config`, by default with the one given to the constructor."""
        await self._inside.initialize(_checked_config(config) if config is not None else None)

    async def process(self, input_data: Any) -> Any:
        """Call the plugin and return its value.

        Raises `PluginError`, `LimitExceeded`, `WorkerDied` or `ProtocolViolation`, by the verdict.
        """
        return (await self.run(input_data)).check()

    async def run(self, input_data: Any) -> Run:
        """Call the plugin and return a `Run`. Raises `PluginQuarantined`, and errors that no plugin can cause."""
        return await self._inside.answer(call_request(input_data))

    async def on_message(self, point: str, message: Mapping[str, Any]) -> Any:
        """Call the plugin's own `on_message` and return its value. Raises as `process`; the run is one of `runs`."""
        return (await self._inside.answer(call_request([point, message], wire.ON_MESSAGE))).check()

    async def map(self, inputs: Iterable[Any] | AsyncIterable[Any], window: int = 1) -> AsyncIterator[Run]:
        """Yield a run for each of `inputs`, in order. A `window` over 1 sends so many at once, measured together."""
        if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= 1024:
            raise ContractError(f"window={window!r}: a whole number from 1 to 1024, please")
        from agentplug.core.progress import Progress, batches

        total = len(inputs) if isinstance(inputs, Sized) else None
        with Progress(f"calls of {self._inside.name}", total) as progress:
            async for batch in batches(inputs, window):
                requests = [call_request(item) for item in batch]
                while requests:
                    runs = await self._inside.answers(requests)
                    requests = requests[len(runs) :]
                    progress.step(len(runs))
                    for run in runs:
                        yield run

    async def close(self) -> None:
        """End the plugin: stop a running call, give `shutdown()` a second, wait until no process or file is left."""
        await self._inside.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def run_sync(self, input_data: Any) -> Run:
        """Call the plugin as `run` does, for scripts; works where a loop is running too.

        Raises `RuntimeError` if a call of this plugin is under way on that loop: it couldn't end meanwhile.
        """
        return wait_for(self.run(input_data))

    def close_sync(self) -> None:
        """End the plugin as `close` does, for scripts; works where a loop is running too."""
        wait_for(self.close())

    def __repr__(self) -> str:
        return f"<SandboxedPlugin {self._inside.name} {printable(self.version, 40)}: {self.state}>"

    def _repr_html_(self) -> str:
        return self._inside.card()


Inside.confined = SandboxedPlugin


def _policy_with(policy: object, memory_limit_mb: object) -> Policy:
    """Return `policy` or the default one, with `memory_limit_mb` for its memory unless None. Raises `PolicyError`."""
    if policy is None:
        policy = Policy()
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy={printable(repr(policy), 100)}: write a Policy, as in Policy(memory='256M')")
    policy = policy.hold()
    if memory_limit_mb is None:
        return policy
    if isinstance(memory_limit_mb, bool) or not isinstance(memory_limit_mb, (int, float)):
        raise PolicyError(f"memory_limit_mb={memory_limit_mb!r}: write a number of megabytes")
    if not 1 <= memory_limit_mb <= 1 << 30:
        raise PolicyError(f"memory_limit_mb={memory_limit_mb!r}: between 1 and {1 << 30}, please")
    return policy.replace(memory=int(memory_limit_mb * (1 << 20)))


def _checked_config(config: object) -> dict[str, Any]:
    """Return a plugin's configuration as a dict. Raises `ContractError`."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ContractError(f"config is a {type(config).__name__}; write a dict")
    return dict(config)


def load_plugin_from_module(
    module_path: str, policy: Policy | None = None, config: Mapping[str, Any] | None = None
) -> SandboxedPlugin:
    """Load the plugin of a module, by dotted path (or any other spec), and start its worker.

    The host never imports the module: it reads the source, which runs in the worker. Raises `PluginNotFound` (a
    ValueError) if the module has no plugin class, and what `SandboxedPlugin.start` raises.
    """
    plugin = SandboxedPlugin(module_path, policy, config=config)
    try:
        wait_for(plugin.start())
    except BaseException:
        plugin.close_sync()
        raise
    return plugin
