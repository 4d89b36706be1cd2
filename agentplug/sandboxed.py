"""`SandboxedPlugin`: an agent plugin whose code lives in a confined worker (host).

It holds the source, the policy and the configuration; the worker comes and goes. A worker that was killed or died
is replaced before the next call and initialized with the same configuration, until it has been lost too often.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

from agentplug.contract import wire
from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.run import Run
from agentplug.contract.source import Source
from agentplug.contract.text import printable
from agentplug.contract.wire import BarrierReport
from agentplug.errors import (
    AgentplugError,
    BarrierUnavailable,
    ContractError,
    PluginQuarantined,
    PolicyError,
    WorkerDied,
)
from agentplug.outcome import load_error, runs_of
from agentplug.requests import call_request, load_request
from agentplug.sandbox.conversation import Turn, converse, our_loop, wait_for
from agentplug.sandbox.exchange import Exchange, Request
from agentplug.sandbox.launcher import zygote_for
from agentplug.sandbox.output import current_sink
from agentplug.sandbox.supervisor import GRACE_S, AlreadyEnded, Worker
from agentplug.sources.resolve import resolve

if TYPE_CHECKING:
    import pandas as pd

LOSSES_ALLOWED = 3
LOSSES_WITHIN_S = 300.0
RUNS_KEPT = 1_000
DECODED_HERE_BYTES = 1 << 16

_decoder = ThreadPoolExecutor(1, "agentplug-decoder")  # large replies are decoded there, so that no loop waits


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
        self.policy = _policy_with(policy, memory_limit_mb)
        self.given = source  # what to resolve again on a reload
        self.source: Source = resolve(source)
        self._config = _checked_config(config)
        self.name, self.version = _first_guess(source, self.source)
        self.hooks: dict[str, str] = {}
        self._info = self.source.info(self.name, self.version)
        self.runs: deque[Run] = deque(maxlen=RUNS_KEPT)
        self.events: deque[Event] = deque(maxlen=RUNS_KEPT)
        self._turn = Turn()
        self._worker: Worker | None = None
        self._reports: Sequence[BarrierReport] = ()
        self._initialized = False
        self._state = "new"
        self._losses: deque[float] = deque(maxlen=LOSSES_ALLOWED + 1)
        self._count = 0
        self._finalizer: weakref.finalize[..., Any] | None = None

    # ------------------------------------------------------------------ what it is

    @property
    def state(self) -> str:
        """One of new, ready, busy, failed, quarantined, closed."""
        return self._state

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        return self._worker.pid if self._worker is not None and self._worker.alive else None

    @property
    def calls(self) -> int:
        """How many calls it has had, also where `runs` keeps only the latest."""
        return self._count

    @property
    def barriers(self) -> pd.DataFrame:
        """What confines the worker: barrier, protects, status, detail. Empty until it has started once."""
        from agentplug.report.frames import barriers_frame

        return barriers_frame(self.barrier_rows())

    def barrier_rows(self) -> list[dict[str, Any]]:
        """The rows of `barriers` as plain dicts, with the promises that are `lost` and the `remedy`."""
        return [msgspec.structs.asdict(report) for report in self._reports]

    @property
    def trace(self) -> pd.DataFrame:
        """One row a call, oldest first, as far as `runs` are kept."""
        from agentplug.report.frames import calls_frame

        return calls_frame(list(self.runs))

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Start the worker, confine it and load the plugin; nothing to do if it runs.

        Raises `BarrierUnavailable` if this machine can't keep the policy, `PluginNotFound`, `ContractError` or
        `SpecError` for what the bytes hold, and the error of the verdict if the plugin's own code fails.
        """
        async with self._turn:
            await self._started()

    async def initialize(self, config: Mapping[str, Any] | None = None) -> None:
        """Give the plugin its configuration (by default the one this object was made with)."""
        if config is not None:
            self._config = _checked_config(config)
        async with self._turn:
            self._initialized = False
            await self._ready()

    async def process(self, input_data: Any) -> Any:
        """One call: the plugin's value. Raises `PluginError`, `LimitExceeded`, `WorkerDied`, `ProtocolViolation`."""
        return (await self.run(input_data)).check()

    async def run(self, input_data: Any) -> Run:
        """One call: a `Run`, whatever the plugin did. Raises `PluginQuarantined`, and what no plugin can cause."""
        request = call_request(input_data)
        async with self._turn:
            return (await self._answered([request]))[0]

    async def map(self, inputs: Iterable[Any] | AsyncIterable[Any], window: int = 1) -> AsyncIterator[Run]:
        """Runs of `inputs`, in order. A window over 1 sends that many at once, and they share one measurement."""
        if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= 1024:
            raise ContractError(f"window={window!r}: a whole number from 1 to 1024, please")
        async for batch in _batches(inputs, window):
            if len(batch) == 1:
                yield await self.run(batch[0])
                continue
            left = [call_request(item) for item in batch]
            while left:
                async with self._turn:
                    runs = await self._answered(left)
                left = left[len(runs) :]
                for run in runs:
                    yield run

    async def close(self) -> None:
        """End the plugin: its `shutdown()` gets a second, a running call is stopped. Nothing of it stays behind."""
        if self._state == "closed":
            return
        self._state = "closed"
        worker = self._worker
        if worker is not None and worker.exchange is not None:
            worker.stop("close")
        try:
            await asyncio.wait_for(self._turn.__aenter__(), GRACE_S)
        except TimeoutError:
            # The call that has the turn waits on a loop that stands still, perhaps because our caller blocks it: a
            # notebook's magic does. End the worker now; its descriptors close when that call has let go of them.
            if worker is not None:
                worker.stop("close")
                await asyncio.shield(asyncio.wrap_future(worker.exited))
                await asyncio.shield(asyncio.wrap_future(worker.wiped))
            asyncio.run_coroutine_threadsafe(self._let_go(), our_loop())
            return
        try:
            await self._drop_worker(gently=True)
        finally:
            await self._turn.__aexit__()

    async def _let_go(self) -> None:
        async with self._turn:
            await self._drop_worker(gently=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def run_sync(self, input_data: Any) -> Run:
        """`run`, for scripts; also works where a loop is running already."""
        return wait_for(self.run(input_data))

    def close_sync(self) -> None:
        """`close`, for scripts; also works where a loop is running already."""
        wait_for(self.close())

    def stop(self, by: str = "kill") -> None:
        """End the running call at once, from any thread: `kill`, or `interrupt` to let the plugin clean up."""
        worker = self._worker
        if worker is None or worker.exchange is None:
            return
        if by == "interrupt":
            worker.interrupt()
        else:
            worker.stop("kill")

    # ------------------------------------------------------------------ inside a turn

    async def _answered(self, requests: Sequence[Request]) -> list[Run]:
        """Runs of as many of `requests` as were begun: one at least."""
        while True:
            worker = self._worker
            try:
                if worker is None or not self._initialized or not worker.alive:
                    worker = await self._ready()
                return await self._exchange(worker, requests)
            except AlreadyEnded:
                continue  # between two calls: nothing was sent, and another worker takes it
            except AgentplugError as error:
                if error.run is None:
                    raise
                return self._kept([error.run])  # its code or its `initialize` failed in the new worker

    async def _ready(self) -> Worker:
        worker = await self._started()
        if not self._initialized:
            await self._initialize(worker)
        return worker

    async def _started(self) -> Worker:
        if self._state == "closed":
            raise WorkerDied(f"Plugin {self._shown} is closed; make or load a new one")
        if self._worker is not None and self._worker.alive:
            return self._worker
        await self._drop_worker(gently=False)
        if self._state == "quarantined":
            raise PluginQuarantined(
                f"Plugin {self._shown} lost {len(self._losses)} workers within {LOSSES_WITHIN_S / 60:.0f} minutes "
                "and is quarantined; reload it to try again"
            )
        worker = await self._confined()
        try:
            await self._load(worker)
        except BaseException:
            self._fail()
            await self._drop_worker(gently=False)
            raise
        self._state = "ready"
        return worker

    async def _confined(self) -> Worker:
        """A confined worker that waits for the plugin's bytes."""
        worker, future = Worker.spawn(self.policy, zygote_for(self.policy.preload))
        try:
            worker.adopt(await asyncio.shield(asyncio.wrap_future(future)))
        except BaseException:
            future.add_done_callback(lambda done: _abandon(worker, done))
            raise
        self._worker = worker
        self._initialized = False
        worker.on_lost = weakref.WeakMethod(self._lost_between_calls)
        self._finalizer = weakref.finalize(self, _release, worker)
        try:
            exchange = await converse(worker, ())
            self._take_greeting(worker, exchange)
        except BaseException:
            self._fail()
            await self._drop_worker(gently=False)
            raise
        return worker

    def _take_greeting(self, worker: Worker, exchange: Exchange) -> None:
        frame = exchange.current.frame
        if frame is None:
            said = printable(exchange.stderr.strip(), 2_000, lines=True)
            raise BarrierUnavailable(f"A worker ended ({worker.status}) before it was confined. {said}")
        hello = wire.decode_hello(frame.structure)
        self._reports = hello.barriers
        lost = [report for report in hello.barriers if report.lost]
        if lost and not self.policy.best_effort:
            raise BarrierUnavailable(
                "; ".join(f"Barrier {r.barrier} can't protect {', '.join(r.lost)}: {r.detail}" for r in lost)
                + f". Remedy: {lost[0].remedy or 'see agentplug.doctor()'}, "
                "or accept it with Policy(best_effort=True)"
            )
        tmpfs = any(r.barrier == "namespaces" and r.status == "enforced" for r in hello.barriers)
        if tmpfs:
            worker.scratch = ""  # the kernel bounds it: nothing for the watchdog to count
        worker.settle_floor()

    async def _load(self, worker: Worker) -> None:
        exchange = await converse(worker, [load_request(self.source)], current_sink())
        frame = exchange.current.frame
        runs = runs_of(exchange, worker, self._info)
        if frame is None or frame.kind != wire.LOADED or runs[0].verdict.kind != "completed":
            raise load_error(frame, runs[0])
        loaded = wire.decode_loaded(frame.structure)
        self.name, self.version, self.hooks = loaded.name, loaded.version, dict(loaded.hooks)
        self._info = self.source.info(self.name, self.version)

    async def _initialize(self, worker: Worker) -> None:
        request = call_request(dict(self._config), wire.INITIALIZE)
        exchange = await converse(worker, [request], current_sink())
        run = runs_of(exchange, worker, self._info)[0]
        self._after(worker, [run])
        run.check()
        self._initialized = True

    async def _exchange(self, worker: Worker, requests: Sequence[Request]) -> list[Run]:
        started_at = datetime.now(UTC)
        info = self._info
        self._state = "busy"
        sink = current_sink()
        try:
            exchange = await converse(worker, requests, sink)
        except asyncio.CancelledError:
            if worker.last is not None:
                runs = runs_of(worker.last, worker, info, self._count, started_at)
                self._after(worker, self._kept(runs))
            raise
        if exchange.usage.reply_bytes > DECODED_HERE_BYTES:
            loop = asyncio.get_running_loop()
            runs = await loop.run_in_executor(_decoder, runs_of, exchange, worker, info, self._count, started_at)
        else:
            runs = runs_of(exchange, worker, info, self._count, started_at)
        self._after(worker, runs)
        return self._kept(runs)

    def _kept(self, runs: list[Run]) -> list[Run]:
        self._count += len(runs)
        self.runs.extend(runs)
        return runs

    def _after(self, worker: Worker, runs: Sequence[Run]) -> None:
        """Set the state that these runs left the plugin in."""
        if worker.alive:
            if self._state != "closed":
                self._state = "ready"
            return
        self._fail()
        if runs[-1].verdict.kind != "stopped":
            self._count_loss()

    def _fail(self) -> None:
        if self._state not in ("closed", "quarantined"):
            self._state = "failed"

    def _count_loss(self) -> None:
        now = time.monotonic()
        self._losses.append(now)
        if len(self._losses) > LOSSES_ALLOWED and now - self._losses[0] < LOSSES_WITHIN_S:
            self._state = "quarantined"

    def _lost_between_calls(self, event: Event) -> None:
        """The watchdog found the worker dead or in the wrong while nobody called it."""
        self.events.append(event)
        if self._state not in ("closed", "quarantined", "failed"):
            self._fail()
            self._count_loss()

    async def _drop_worker(self, *, gently: bool) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.on_lost = None
        if self._finalizer is not None:
            self._finalizer.detach()
        if gently and worker.alive:
            worker.ask_to_close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(worker.exited)), GRACE_S)
        if worker.status is None:
            worker.stop("close")
        try:
            await asyncio.shield(asyncio.wrap_future(worker.exited))
            await asyncio.shield(asyncio.wrap_future(worker.wiped))
        finally:
            worker.exited.add_done_callback(lambda _: worker.dispose())

    @property
    def _shown(self) -> str:
        return printable(self.name, 80)

    def __repr__(self) -> str:
        return f"<SandboxedPlugin {self._shown} {printable(self.version, 40)}: {self._state}>"

    def _repr_html_(self) -> str:
        from agentplug.report.cards import plugin_card

        return plugin_card(
            name=self.name,
            version=self.version,
            digest=self.source.digest,
            spec=self.source.spec,
            state=self._state,
            policy=self.policy,
            barriers=self.barrier_rows(),
            calls=self._count,
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


def _policy_with(policy: object, memory_limit_mb: object) -> Policy:
    if policy is None:
        policy = Policy()
    if not isinstance(policy, Policy):
        raise PolicyError(f"policy={printable(repr(policy), 100)}: write a Policy, as in Policy(memory='256M')")
    if memory_limit_mb is None:
        return policy
    if isinstance(memory_limit_mb, bool) or not isinstance(memory_limit_mb, (int, float)):
        raise PolicyError(f"memory_limit_mb={memory_limit_mb!r}: write a number of megabytes")
    if not 1 <= memory_limit_mb <= 1 << 30:
        raise PolicyError(f"memory_limit_mb={memory_limit_mb!r}: between 1 and {1 << 30}, please")
    return policy.replace(memory=int(memory_limit_mb * (1 << 20)))


def _checked_config(config: object) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ContractError(f"config is a {type(config).__name__}; write a dict")
    return dict(config)


def _first_guess(given: object, source: Source) -> tuple[str, str]:
    """Name and version before the worker has said them: of the user's own object, else from the spec."""
    name, version = getattr(given, "name", None), getattr(given, "version", None)
    if source.kind == "object" and isinstance(name, str) and name and isinstance(version, str):
        return name, version
    return source.attribute or source.entry.rpartition(".")[2] or source.spec, ""


async def _batches(inputs: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    batch: list[Any] = []
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    elif isinstance(inputs, Iterable):
        for item in inputs:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    else:
        raise ContractError(f"map() takes an iterable of inputs, not a {type(inputs).__name__}")
    if batch:
        yield batch


def _release(worker: Worker) -> None:
    """The plugin object was dropped without `close`: its worker ends all the same."""
    worker.on_lost = None
    worker.stop("close")
    worker.exited.add_done_callback(lambda _: worker.dispose())


def _abandon(worker: Worker, future: Any) -> None:
    """Nobody waits for this worker any more."""
    if future.cancelled() or future.exception() is not None:
        worker.never_started()
    else:
        worker.adopt(future.result())
        _release(worker)
