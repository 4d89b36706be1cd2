"""`SandboxedPlugin`: an agent plugin whose code lives in a confined worker (host).

A face: it shows what a user may want of a plugin, and the words for it. The work is done in `inside`, its worker's
coming and going in `lifecycle`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Self

from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.boundary import frames as wire
from agentplug.core.encode import call_request
from agentplug.core.host.conversation import wait_for
from agentplug.core.inside import Inside
from agentplug.core.run import Run
from agentplug.core.sources.resolve import resolve
from agentplug.core.user_input import batches, checked_config, policy_with
from agentplug.errors import ContractError

if TYPE_CHECKING:
    import pandas as pd


class SandboxedPlugin:
    """A plugin in a confined worker process. It is itself an `AgentPlugin`.

    `source` is a spec (`pkg.mod`, `pkg.mod:Class`, `./file.py:Class`, an entry point's name), a path, a class or an
    instance (also one defined in a notebook cell), or another `SandboxedPlugin`, for the same bytes in a worker with
    another policy. `memory_limit_mb` is short for `Policy(memory=...)`; `config` goes to `initialize`, before the
    first call and again in each worker that replaces a lost one.

    Its bytes are read when this object is made; the worker starts with the first call, or with `start()`.
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
        policy = policy_with(policy, memory_limit_mb)
        spec = source
        if isinstance(source, SandboxedPlugin):
            spec, source = source._inside.spec, source._inside.source
        self._inside: Inside = Inside(spec, resolve(source), policy, checked_config(config))

    # ------------------------------------------------------------------ what it is

    @property
    def name(self) -> str:
        """Its own name: the object's until it has started, then what the worker says."""
        return self._inside.life.identity.name

    @property
    def version(self) -> str:
        """Its own version, as it says."""
        return self._inside.life.identity.version

    @property
    def hooks(self) -> dict[str, str]:
        """The hook points it asks for, and of which kind."""
        return self._inside.life.identity.hooks

    @property
    def policy(self) -> Policy:
        """Its rights and limits."""
        return self._inside.policy

    @property
    def state(self) -> str:
        """One of new, ready, busy, failed, quarantined, closed."""
        return self._inside.life.state

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        worker = self._inside.life.worker
        return worker.process.pid if worker is not None and not worker.process.ending else None

    @property
    def barriers(self) -> pd.DataFrame:
        """What confines the worker: barrier, protects, status, detail. Empty until it has started once."""
        from agentplug.report.frames import barriers_frame

        return barriers_frame(self._inside.barrier_rows())

    @property
    def runs(self) -> Sequence[Run]:
        """Its latest runs, oldest first: at most a thousand, and 256 MiB."""
        return self._inside.history.latest

    @property
    def trace(self) -> pd.DataFrame:
        """One row a call, oldest first: the calls frame. It keeps a million; `attrs["dropped"]` counts others."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import recorded_frame

        return attached(recorded_frame([(self._inside.recorder, self._inside.about())]))

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Start the worker, confine it and load the plugin; nothing to do if it runs.

        Raises `BarrierUnavailable` if this machine can't keep the policy, `PluginNotFound`, `ContractError` or
        `SpecError` for what the bytes hold, and the error of the verdict if the plugin's own code fails.
        """
        async with self._inside.turn:
            await self._inside.life.started()

    async def initialize(self, config: Mapping[str, Any] | None = None) -> None:
        """Give the plugin its configuration (by default the one this object was made with)."""
        await self._inside.initialize(checked_config(config) if config is not None else None)

    async def process(self, input_data: Any) -> Any:
        """One call: the plugin's value. Raises `PluginError`, `LimitExceeded`, `WorkerDied`, `ProtocolViolation`."""
        return (await self.run(input_data)).check()

    async def run(self, input_data: Any) -> Run:
        """One call: a `Run`, whatever the plugin did. Raises `PluginQuarantined`, and what no plugin can cause."""
        return await self._inside.answer(call_request(input_data))

    async def on_message(self, point: str, message: Mapping[str, Any]) -> Any:
        """What the plugin's own `on_message` returns. Raises as `process` does; its run is one of `runs`."""
        return (await self._inside.answer(call_request([point, message], wire.ON_MESSAGE))).check()

    async def map(self, inputs: Iterable[Any] | AsyncIterable[Any], window: int = 1) -> AsyncIterator[Run]:
        """Runs of `inputs`, in order. A window over 1 sends that many at once, and they share one measurement."""
        if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= 1024:
            raise ContractError(f"window={window!r}: a whole number from 1 to 1024, please")
        from agentplug.core.progress import Progress

        total = len(inputs) if isinstance(inputs, Sized) else None
        with Progress(f"calls of {printable(self.name, 60)}", total) as progress:
            async for batch in batches(inputs, window):
                left = [call_request(item) for item in batch]
                while left:
                    runs = await self._inside.answers(left)
                    left = left[len(runs) :]
                    progress.step(len(runs))
                    for run in runs:
                        yield run

    async def close(self) -> None:
        """End the plugin: its `shutdown()` gets a second, a running call is stopped. Nothing of it stays behind."""
        await self._inside.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def run_sync(self, input_data: Any) -> Run:
        """`run`, for scripts; also works where a loop is running already.

        Raises `RuntimeError` where that loop has a call of this plugin under way, which couldn't end meanwhile.
        """
        return wait_for(self.run(input_data))

    def close_sync(self) -> None:
        """`close`, for scripts; also works where a loop is running already."""
        wait_for(self.close())

    def __repr__(self) -> str:
        return f"<SandboxedPlugin {printable(self.name, 80)} {printable(self.version, 40)}: {self.state}>"

    def _repr_html_(self) -> str:
        return self._inside.card(self.name, self.version)


def load_plugin_from_module(
    module_path: str, policy: Policy | None = None, config: Mapping[str, Any] | None = None
) -> SandboxedPlugin:
    """The plugin of a module, by dotted path (or any other spec), started and ready to be called.

    The host never imports the module: its source is read, and runs in a worker. Raises `PluginNotFound` (a
    ValueError) when there is no plugin class in it, and what `SandboxedPlugin.start` raises.
    """
    plugin = SandboxedPlugin(module_path, policy, config=config)
    try:
        wait_for(plugin.start())
    except BaseException:
        plugin.close_sync()
        raise
    return plugin
