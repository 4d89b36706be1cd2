"""Start, load, initialize, replace and end a plugin's worker (host).

A worker that was killed or died is replaced before the next call and initialized with the same configuration. After
too many losses the plugin is quarantined. Callers of `ensure_loaded`, `ensure_initialized` and `drop` must have the
plugin's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from agentplug.contract.events import OBSERVATIONS, Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.frames import BarrierReport, Frame, Hello
from agentplug.core.decode import decoded, events_to_carry, load_error
from agentplug.core.decoders import Share
from agentplug.core.encode import call_request, load_request
from agentplug.core.host.conversation import converse
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.launcher import zygote_for
from agentplug.core.host.output import current_sink
from agentplug.core.host.own_limits import low_limits
from agentplug.core.host.plans import places_readable_by_all, plan_for, preloaded
from agentplug.core.host.process import AlreadyEnded
from agentplug.core.host.supervisor import GRACE_S, Worker
from agentplug.core.run import Run
from agentplug.core.sources.source import Source
from agentplug.errors import BarrierUnavailable, PluginQuarantined, PolicyError, WorkerDied

MAX_LOSSES = 3
LOSSES_WITHIN_S = 300.0
MAX_EVENTS = 1_000


class Identity(NamedTuple):
    """A plugin's own name and version, and the hook points it asks for: a guess at first, then its worker's claim."""

    name: str
    version: str
    hooks: dict[str, str]


class Lifecycle:
    """One plugin's state and worker. `state` is new, ready, busy, failed, quarantined or closed.

    `starts` counts its workers so far. Unless `quarantines` is false, too many losses quarantine it.
    """

    def __init__(self, source: Source, policy: Policy, config: dict[str, Any], identity: Identity) -> None:
        self._source = source
        self._policy = policy
        self.config = config
        self.identity = identity
        self.share = Share()
        self.known_as = ""
        self.update_info()
        self.state = "new"
        self.worker: Worker | None = None
        self.initialized = False
        self._loaded = False
        self.starts = 0
        self.quarantines = True
        self.reports: Sequence[BarrierReport] = ()
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._losses: deque[float] = deque(maxlen=MAX_LOSSES + 1)
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._banned = False  # by the user, not by its losses

    async def ensure_initialized(self) -> Worker:
        """Return a worker with the plugin loaded and initialized, a new one if needed. Raises as `ensure_loaded`."""
        while True:
            worker = await self.ensure_loaded()
            if self.initialized:
                return worker
            try:
                await self._initialize(worker)
            except AlreadyEnded:
                continue  # lost after its load: the loss was counted, so this ends
            await self._check_open()

    async def ensure_loaded(self) -> Worker:
        """Return a worker with the plugin loaded, a new one if needed.

        Raises `PluginQuarantined`, `BarrierUnavailable`, `PolicyError` if a granted path names something else now,
        `WorkerDied` if closed, and the errors of loading.
        """
        await self._check_open()
        if self.worker is not None and not self.worker.process.ending and self._loaded:
            return self.worker
        await self.drop(gently=False)
        if self.state == "quarantined" or self._banned:
            self.state = "quarantined"
            why = f"lost {len(self._losses)} workers within {LOSSES_WITHIN_S / 60:.0f} minutes and is quarantined"
            if self._banned:
                why = "was quarantined by hand"
            raise PluginQuarantined(f"Plugin {printable(self.info.name, 80)} {why}; reload it to try again")
        self._loaded = False
        worker = await self._start_worker()
        try:
            await self._check_open()
            await self._load(worker)
            self._loaded = True
            await self._check_open()
        except BaseException:
            self._fail()
            await self.drop(gently=False)
            raise
        self.state = "ready"
        return worker

    async def _check_open(self) -> None:
        """End the worker and raise `WorkerDied` if somebody closed the plugin meanwhile."""
        if self.state == "closed":
            await self.drop(gently=False)
            raise WorkerDied(f"Plugin {printable(self.info.name, 80)} is closed; make or load a new one")

    async def _start_worker(self) -> Worker:
        """Start a worker that has confined itself and waits for the plugin's bytes."""
        worker, future = Worker.spawn(self._policy, zygote_for(preloaded(self._policy)), len(self._descriptors()))
        try:
            worker.adopt(await asyncio.shield(asyncio.wrap_future(future)))
        except BaseException:
            future.add_done_callback(lambda done: _abandon(worker, done))
            raise
        self.worker = worker
        self.starts += 1
        self.initialized = False
        worker.report_to(self._between_calls)
        self._finalizer = weakref.finalize(self, worker.release)
        try:
            try:
                exchange = await converse(worker, ())
            except AlreadyEnded:
                raise await self._ended_early(worker) from None
            with worker.lock:
                ended_unread = worker.process.readings is None and worker.process.has_ended
            if exchange.current.frame is None or ended_unread:
                raise await self._ended_early(worker)
            self._accept_hello(worker, exchange)
        except BaseException:
            self._fail()
            await self.drop(gently=False)
            raise
        return worker

    def _accept_hello(self, worker: Worker, exchange: Exchange) -> None:
        """Accept the worker's barriers. Raises `BarrierUnavailable` if a promise of the policy is lost."""
        frame = exchange.current.frame
        assert frame is not None
        if worker.process.readings is None:
            raise BarrierUnavailable(
                "No limit can be held: this process can't open a worker's files in /proc. It may have too many files "
                f"open (ulimit -n), or /proc hides them (hidepid){low_limits()}"
            )
        hello = _decode_hello(frame)
        self.reports = hello.barriers
        _check_grants(hello, self._policy)
        lost = [report for report in hello.barriers if report.lost]
        if lost and not self._policy.best_effort:
            remedies = "; ".join(r.remedy for r in lost if r.remedy) or "see agentplug.doctor()"
            raise BarrierUnavailable(
                "; ".join(f"Barrier {r.barrier} can't protect {', '.join(r.lost)}: {r.detail}" for r in lost)
                + f". Remedy: {remedies}, or accept it with Policy(best_effort=True)"
            )
        worker.accept_barriers({report.barrier: report.status for report in hello.barriers})

    def _descriptors(self) -> Sequence[int]:
        return self._source.closure.descriptors if self._source.closure is not None else ()

    async def _load(self, worker: Worker) -> None:
        try:
            worker.process.give(self._descriptors())
            exchange = await converse(worker, [self._load_request(worker)], current_sink())
        except AlreadyEnded:
            raise await self._ended_early(worker) from None
        frame = exchange.current.frame
        runs = await self._runs(exchange, worker)
        if frame is None or frame.kind != wire.LOADED or runs[0].verdict.kind != "completed":
            self.update_state(worker, runs)
            await self._check_open()
            raise load_error(frame, runs[0])
        loaded = wire.decode_loaded(frame.structure)
        if self._source.pinned is not None:
            has_metadata = self._source.closure is not None
            self._source.pinned.refuse_other_claims(loaded, has_metadata=has_metadata)
        self.identity = Identity(loaded.name, loaded.version, dict(loaded.hooks))
        self.update_info()
        worker.begin_next_with(events_to_carry(runs[0], "load"))

    async def _runs(self, exchange: Exchange, worker: Worker) -> list[Run]:
        runs, _, cancellation = await decoded(exchange, worker, self.info, self.share)
        if cancellation is not None:
            raise cancellation
        return runs

    def _load_request(self, worker: Worker) -> Request:
        claims = None
        if worker.listener is None:  # no kernel reports refused calls: the worker's own claims have to do
            claims = list(places_readable_by_all()) if self._policy.observe else []
        return load_request(self._source, self._policy.env, claims)

    async def _ended_early(self, worker: Worker) -> BarrierUnavailable:
        """Return the error for a worker that ended before it had a plugin. Raises `WorkerDied` if we closed it."""
        process = worker.process
        await asyncio.shield(asyncio.wrap_future(process.exited))
        await self._check_open()
        text = printable(worker.last.stderr.strip(), 2_000, lines=True) if worker.last is not None else ""
        return BarrierUnavailable(
            f"A worker ended ({process.status}) before it was given a plugin. {text}".rstrip() + low_limits()
        )

    def update_info(self) -> None:
        """Set the source's identity that later runs carry, from `identity` and `known_as`."""
        known_as = self.known_as if self.known_as != self.identity.name else ""
        self.info = self._source.info(self.identity.name, self.identity.version, known_as)

    async def _initialize(self, worker: Worker) -> None:
        request = call_request(dict(self.config), wire.INITIALIZE)
        exchange = await converse(worker, [request], current_sink())
        [run] = await self._runs(exchange, worker)
        self.update_state(worker, [run])
        run.check()
        worker.begin_next_with(events_to_carry(run, "initialize"))
        self.initialized = True

    def update_state(self, worker: Worker, runs: Sequence[Run]) -> None:
        """Set the plugin's state after these runs."""
        if not worker.process.ending:
            if self.state != "closed":
                self.state = "ready"
            return
        self._fail()
        if runs[-1].verdict.kind != "stopped":
            self._count_loss()

    def quarantine(self) -> None:
        """Kill the worker, from any thread, and start no other: the user said so."""
        if self.state == "closed":
            return
        self._banned, self.state = True, "quarantined"
        if self.worker is not None:
            self.worker.stop("kill")

    def _fail(self) -> None:
        if self._banned and self.state != "closed":
            self.state = "quarantined"
        elif self.state not in ("closed", "quarantined"):
            self.state = "failed"

    def _count_loss(self) -> None:
        now = time.monotonic()
        self._losses.append(now)
        if self.quarantines and len(self._losses) > MAX_LOSSES and now - self._losses[0] < LOSSES_WITHIN_S:
            self.state = "quarantined"

    def _between_calls(self, event: Event) -> None:
        """Store an event of a worker that nobody called; most such events mean that the worker is lost."""
        self.events.append(event)
        if event.kind not in OBSERVATIONS and self.state not in ("closed", "quarantined", "failed"):
            self._fail()
            self._count_loss()

    async def drop(self, *, gently: bool) -> None:
        """End the worker and wait until no process or file of it is left. `gently` gives its `shutdown` a second."""
        worker, self.worker = self.worker, None
        if worker is None:
            return
        worker.report_to(None)
        if self._finalizer is not None:
            self._finalizer.detach()
        process = worker.process
        shutdown = worker.ask_to_close() if gently and not process.ending else None
        if shutdown is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(process.exited)), GRACE_S)
        if process.status is None:
            worker.stop("close")
        process.exited.add_done_callback(lambda _: worker.dispose())  # even if this coroutine is cancelled
        await asyncio.shield(asyncio.wrap_future(process.exited))
        if shutdown is not None:
            for event in shutdown.current.events:
                if event.kind == "limit" or event.kind in OBSERVATIONS:
                    self.events.append(event._replace(detail={"during": "shutdown", **event.detail}))
        await asyncio.shield(asyncio.wrap_future(process.wiped))


def _decode_hello(frame: Frame) -> Hello:
    """Decode a worker's report of its barriers. Raises `BarrierUnavailable`: unread, no barrier can be relied on."""
    try:
        hello = wire.decode_hello(frame.structure)
        fact = f"it speaks protocol {hello.protocol}, and this process {wire.PROTOCOL}"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fact = printable(str(error), 300)
    else:
        if hello.protocol == wire.PROTOCOL:
            return hello
    raise BarrierUnavailable(
        f"A worker's greeting can't be read, so nobody knows what confines it: {fact}. agentplug was perhaps "
        "replaced while this process ran: start it again (in a notebook, restart the kernel)"
    )


def _check_grants(hello: Hello, policy: Policy) -> None:
    """Raise `PolicyError` if the worker didn't find under a path what was granted, `best_effort` or not."""
    changed = [report.detail for report in hello.barriers if wire.GRANTS in report.lost]
    if changed:
        plan_for(policy)  # with the fact, unless all is as it was again
        raise PolicyError(
            f"{printable(changed[0], 300)} was something else than what was granted, while the worker started; see "
            "that nobody replaces it, and start again"
        )


def _abandon(worker: Worker, future: Any) -> None:
    """End a worker that nobody waits for any more."""
    if future.cancelled() or future.exception() is not None:
        worker.never_started()
    else:
        worker.adopt(future.result())
        worker.release()
