"""`SandboxedPlugin`: an agent plugin whose code lives in a confined worker (host).

It turns calls into runs, one at a time and in the order they came. Its worker, which comes and goes, is the business
of `lifecycle`; what is kept of the runs, that of `kept`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence, Sized
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.boundary import frames as wire
from agentplug.core.decode import decode_elsewhere, runs_of
from agentplug.core.encode import call_request
from agentplug.core.history import KeptRuns
from agentplug.core.host.conversation import converse, on_our_loop, wait_for
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.fair_lock import Turn, WaitsForItself
from agentplug.core.host.output import current_sink
from agentplug.core.host.process import AlreadyEnded
from agentplug.core.host.supervisor import GRACE_S, Worker
from agentplug.core.lifecycle import Identity, Lifecycle
from agentplug.core.progress import Progress
from agentplug.core.run import Run
from agentplug.core.sources.resolve import resolve
from agentplug.core.sources.source import Source
from agentplug.core.user_input import batches, checked_config, first_guess, policy_with
from agentplug.errors import AgentplugError, ContractError

if TYPE_CHECKING:
    import pandas as pd

DECODED_HERE_BYTES = 1 << 16


class SandboxedPlugin:
    """A plugin in a confined worker process. It is itself an `AgentPlugin`.

    `source` is a spec (`pkg.mod`, `pkg.mod:Class`, `./file.py:Class`, an entry point's name), a path, a class or an
    instance (also one defined in a notebook cell). `memory_limit_mb` is short for `Policy(memory=...)`; `config` goes
    to `initialize`, before the first call and again in each worker that replaces a lost one.

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
        self.policy = policy_with(policy, memory_limit_mb)
        self.given = source  # what to resolve again on a reload
        self.source: Source = resolve(source)
        identity = Identity(*first_guess(source, self.source), {})
        self._life = Lifecycle(self.source, self.policy, checked_config(config), identity)
        self.kept = KeptRuns()
        self.runs = self.kept.latest
        self.recorder = self.kept.recorder
        self.on_quarantine: Callable[[], None] | None = None  # told of the user's word, for an audit
        self._turn = Turn()

    # ------------------------------------------------------------------ what it is

    @property
    def name(self) -> str:
        """Its own name: the object's until it has started, then what the worker says."""
        return self._life.identity.name

    @property
    def version(self) -> str:
        """Its own version, as it says."""
        return self._life.identity.version

    @property
    def hooks(self) -> dict[str, str]:
        """The hook points it asks for, and of which kind."""
        return self._life.identity.hooks

    @property
    def state(self) -> str:
        """One of new, ready, busy, failed, quarantined, closed."""
        return self._life.state

    @property
    def is_over(self) -> bool:
        """Closed, and no call is under way that could still end: there will be no other run."""
        return self.state == "closed" and self._turn.is_free

    @property
    def events(self) -> Sequence[Event]:
        """What happened to its workers between calls, oldest first."""
        return tuple(self._life.events)

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        worker = self._life.worker
        return worker.process.pid if worker is not None and not worker.process.ending else None

    @property
    def calls(self) -> int:
        """How many calls it has had, also where `runs` keeps only the latest."""
        return self.kept.count

    @property
    def barriers(self) -> pd.DataFrame:
        """What confines the worker: barrier, protects, status, detail. Empty until it has started once."""
        from agentplug.report.frames import barriers_frame

        return barriers_frame(self.barrier_rows())

    def barrier_rows(self) -> list[dict[str, Any]]:
        """The rows of `barriers` as plain dicts, with the promises that are `lost` and the `remedy`."""
        return [msgspec.structs.asdict(report) for report in self._life.reports]

    @property
    def trace(self) -> pd.DataFrame:
        """One row a call, oldest first: the calls frame. It keeps a million; `attrs["dropped"]` counts others."""
        from agentplug.report.accessor import attached
        from agentplug.report.frames import recorded_frame

        return attached(recorded_frame([(self.recorder, self.about())]))

    def about(self) -> dict[str, dict[str, Any]]:
        """What the `attrs` of its trace say of it, by each name that it has had there: limits, digest, barriers."""
        from agentplug.report.frames import about

        barriers = {report.barrier: report.status for report in self._life.reports}
        told = about(self.policy, self.source.digest, barriers)
        return dict.fromkeys(self.recorder.names() or {printable(self.name, 100)}, told)

    def call_it(self, name: str) -> None:
        """Have its trace, and the runs to come, carry the name that a manager gave it."""
        self.recorder.known_as = printable(name, 100)
        self._life.known_as = name
        self._life.tell_identity()

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Start the worker, confine it and load the plugin; nothing to do if it runs.

        Raises `BarrierUnavailable` if this machine can't keep the policy, `PluginNotFound`, `ContractError` or
        `SpecError` for what the bytes hold, and the error of the verdict if the plugin's own code fails.
        """
        async with self._turn:
            await self._life.started()

    async def initialize(self, config: Mapping[str, Any] | None = None) -> None:
        """Give the plugin its configuration (by default the one this object was made with)."""
        if config is not None:
            self._life.config = checked_config(config)
        async with self._turn:
            self._life.initialized = False
            await self._life.ready()

    async def process(self, input_data: Any) -> Any:
        """One call: the plugin's value. Raises `PluginError`, `LimitExceeded`, `WorkerDied`, `ProtocolViolation`."""
        return (await self.run(input_data)).check()

    async def run(self, input_data: Any) -> Run:
        """One call: a `Run`, whatever the plugin did. Raises `PluginQuarantined`, and what no plugin can cause."""
        return await self.answer(call_request(input_data))

    async def on_message(self, point: str, message: Mapping[str, Any]) -> Any:
        """What the plugin's own `on_message` returns. Raises as `process` does; its run is one of `runs`."""
        return (await self.answer(call_request([point, message], wire.ON_MESSAGE))).check()

    async def answer(self, request: Request) -> Run:
        """One call that is encoded already, so that several plugins can be sent the same. Raises as `run` does."""
        async with self._turn:
            return (await self._answered([request]))[0]

    async def map(self, inputs: Iterable[Any] | AsyncIterable[Any], window: int = 1) -> AsyncIterator[Run]:
        """Runs of `inputs`, in order. A window over 1 sends that many at once, and they share one measurement."""
        if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= 1024:
            raise ContractError(f"window={window!r}: a whole number from 1 to 1024, please")
        total = len(inputs) if isinstance(inputs, Sized) else None
        with Progress(f"calls of {printable(self.name, 60)}", total) as progress:
            async for batch in batches(inputs, window):
                left = [call_request(item) for item in batch]
                while left:
                    async with self._turn:
                        runs = await self._answered(left)
                    left = left[len(runs) :]
                    progress.step(len(runs))
                    for run in runs:
                        yield run

    async def close(self) -> None:
        """End the plugin: its `shutdown()` gets a second, a running call is stopped. Nothing of it stays behind."""
        if self._life.state == "closed":
            return
        self._life.state = "closed"
        worker = self._life.worker
        if worker is not None and worker.exchange is not None:
            worker.stop("close")
        try:
            async with asyncio.timeout(GRACE_S):
                await self._turn.__aenter__()
        except (TimeoutError, WaitsForItself):
            # The call that has the turn waits on a loop that stands still, perhaps because our caller blocks it: a
            # notebook's magic does. End the worker now; its descriptors close when that call has let go of them.
            if worker is not None:
                worker.stop("close")
                await asyncio.shield(asyncio.wrap_future(worker.process.exited))
                await asyncio.shield(asyncio.wrap_future(worker.process.wiped))
            on_our_loop(self._let_go())
            return
        try:
            await self._life.drop(gently=True)
        finally:
            await self._turn.__aexit__()

    async def _let_go(self) -> None:
        async with self._turn:
            await self._life.drop(gently=False)

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

    def stop(self, by: str = "kill") -> None:
        """End the running call at once, from any thread: `kill`, or `interrupt` to let the plugin clean up."""
        worker = self._life.worker
        if worker is None or worker.exchange is None:
            return
        if by == "interrupt":
            worker.interrupt()
        else:
            worker.stop("kill")

    def quarantine(self) -> None:
        """Kill its worker, and the call with it, and refuse every other until it is reloaded. From any thread."""
        self._life.quarantine()
        if self.on_quarantine is not None:
            self.on_quarantine()

    def exchange(self) -> Exchange | None:
        """The call under way, or its present worker's last, with what the watchdog has read of it so far.

        For those who watch: it is read while others write it.
        """
        worker = self._life.worker
        return None if worker is None else worker.exchange or worker.last

    # ------------------------------------------------------------------ inside a turn

    async def _answered(self, requests: Sequence[Request]) -> list[Run]:
        """Runs of as many of `requests` as were begun: one at least."""
        life = self._life
        while True:
            worker = life.worker
            try:
                if worker is None or not life.initialized or worker.process.ending:
                    worker = await life.ready()
                return await self._exchange(worker, requests)
            except AlreadyEnded:
                continue  # between two calls: nothing was sent, and another worker takes it
            except AgentplugError as error:
                if error.run is None:
                    raise
                return self.kept.add([error.run])  # its code or its `initialize` failed in the new worker

    async def _exchange(self, worker: Worker, requests: Sequence[Request]) -> list[Run]:
        started_at = datetime.now(UTC)
        life = self._life
        life.state = "busy"
        try:
            exchange = await converse(worker, requests, current_sink())
        except asyncio.CancelledError:
            if worker.last is not None:
                runs = runs_of(worker.last, worker, life.info, self.kept.count, started_at)
                life.after(worker, self.kept.add(runs))
            raise
        if exchange.usage.reply_bytes <= DECODED_HERE_BYTES:
            runs = runs_of(exchange, worker, life.info, self.kept.count, started_at)
        else:
            decoding = decode_elsewhere(exchange, worker, life.info, self.kept.count, started_at)
            try:
                runs = await asyncio.shield(asyncio.wrap_future(decoding))
            except asyncio.CancelledError:
                life.after(worker, self.kept.add(decoding.result()))
                raise
        life.after(worker, runs)
        return self.kept.add(runs)

    def __repr__(self) -> str:
        return f"<SandboxedPlugin {printable(self.name, 80)} {printable(self.version, 40)}: {self.state}>"

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugin_card

        return plugin_card(
            name=self.name,
            version=self.version,
            digest=self.source.digest,
            spec=self.source.spec,
            state=self.state,
            policy=self.policy,
            barriers=self.barrier_rows(),
            calls=self.kept.count,
            last_verdict=self.runs[-1].verdict if self.runs else None,
        )


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
