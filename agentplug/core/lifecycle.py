"""The life of a plugin's worker (host): started, confined, loaded, initialized, replaced when lost, ended.

A worker that was killed or died is replaced before the next call and initialized with the same configuration, until
it has been lost too often. Whoever calls `started`, `ready` or `drop` holds the plugin's turn.
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
from agentplug.core.decode import carried, load_error, runs_of
from agentplug.core.encode import call_request, load_request
from agentplug.core.host.conversation import converse
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.launcher import zygote_for
from agentplug.core.host.output import current_sink
from agentplug.core.host.plans import places_readable_by_all, preloaded
from agentplug.core.host.process import AlreadyEnded
from agentplug.core.host.supervisor import GRACE_S, Worker
from agentplug.core.run import Run
from agentplug.core.sources.source import Source
from agentplug.errors import BarrierUnavailable, PluginQuarantined, WorkerDied

LOSSES_ALLOWED = 3
LOSSES_WITHIN_S = 300.0
EVENTS_KEPT = 1_000


class Identity(NamedTuple):
    """What a plugin calls itself, and the hook points it asks for: a guess at first, then its worker's claim."""

    name: str
    version: str
    hooks: dict[str, str]


class Lifecycle:
    """One plugin's state and worker. `state` is new, ready, busy, failed, quarantined or closed."""

    def __init__(self, source: Source, policy: Policy, config: dict[str, Any], identity: Identity) -> None:
        self._source = source
        self._policy = policy
        self.config = config
        self.identity = identity
        self.known_as = ""
        self.tell_identity()
        self.state = "new"
        self.worker: Worker | None = None
        self.initialized = False
        self._loaded = False
        self.reports: Sequence[BarrierReport] = ()
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._losses: deque[float] = deque(maxlen=LOSSES_ALLOWED + 1)
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._banned = False  # by the user, not by its losses

    async def ready(self) -> Worker:
        """A worker with the plugin in it, initialized: the present one or a new one. Raises as `started` does."""
        while True:
            worker = await self.started()
            if self.initialized:
                return worker
            try:
                await self._initialize(worker)
            except AlreadyEnded:
                continue  # lost between its load and this: a loss that was counted, so there is an end to it
            await self._unless_closed()

    async def started(self) -> Worker:
        """A worker with the plugin in it: the present one or a new one.

        Raises `PluginQuarantined`, `BarrierUnavailable`, `WorkerDied` when closed, and for what the bytes hold.
        """
        await self._unless_closed()
        if self.worker is not None and not self.worker.process.ending and self._loaded:
            return self.worker
        await self.drop(gently=False)
        if self.state == "quarantined" or self._banned:
            self.state = "quarantined"
            why = f"lost {len(self._losses)} workers within {LOSSES_WITHIN_S / 60:.0f} minutes and is quarantined"
            if self._banned:
                why = "was quarantined by hand"
            raise PluginQuarantined(f"Plugin {printable(self.identity.name, 80)} {why}; reload it to try again")
        self._loaded = False
        worker = await self._confined()
        try:
            await self._unless_closed()
            await self._load(worker)
            self._loaded = True
            await self._unless_closed()
        except BaseException:
            self._fail()
            await self.drop(gently=False)
            raise
        self.state = "ready"
        return worker

    async def _unless_closed(self) -> None:
        """Go on, unless somebody closed the plugin meanwhile; then end its worker and raise `WorkerDied`."""
        if self.state == "closed":
            await self.drop(gently=False)
            raise WorkerDied(f"Plugin {printable(self.identity.name, 80)} is closed; make or load a new one")

    async def _confined(self) -> Worker:
        """A confined worker that waits for the plugin's bytes."""
        worker, future = Worker.spawn(self._policy, zygote_for(preloaded(self._policy)), len(self._given_files()))
        try:
            worker.adopt(await asyncio.shield(asyncio.wrap_future(future)))
        except BaseException:
            future.add_done_callback(lambda done: _abandon(worker, done))
            raise
        self.worker = worker
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
            self._take_greeting(worker, exchange)
        except BaseException:
            self._fail()
            await self.drop(gently=False)
            raise
        return worker

    def _take_greeting(self, worker: Worker, exchange: Exchange) -> None:
        frame = exchange.current.frame
        assert frame is not None
        if worker.process.readings is None:
            raise BarrierUnavailable(
                "No limit can be held: this process can't open a worker's files in /proc. It may have too many files "
                "open (ulimit -n), or /proc hides them (hidepid)"
            )
        hello = _hello(frame)
        self.reports = hello.barriers
        lost = [report for report in hello.barriers if report.lost]
        if lost and not self._policy.best_effort:
            remedies = "; ".join(r.remedy for r in lost if r.remedy) or "see agentplug.doctor()"
            raise BarrierUnavailable(
                "; ".join(f"Barrier {r.barrier} can't protect {', '.join(r.lost)}: {r.detail}" for r in lost)
                + f". Remedy: {remedies}, or accept it with Policy(best_effort=True)"
            )
        worker.accept_barriers({report.barrier: report.status for report in hello.barriers})

    def _given_files(self) -> Sequence[int]:
        return self._source.closure.descriptors if self._source.closure is not None else ()

    async def _load(self, worker: Worker) -> None:
        try:
            worker.process.give(self._given_files())
            exchange = await converse(worker, [self._load_request(worker)], current_sink())
        except AlreadyEnded:
            raise await self._ended_early(worker) from None
        frame = exchange.current.frame
        runs = runs_of(exchange, worker, self.info)
        if frame is None or frame.kind != wire.LOADED or runs[0].verdict.kind != "completed":
            self.after(worker, runs)
            await self._unless_closed()
            raise load_error(frame, runs[0])
        loaded = wire.decode_loaded(frame.structure)
        if self._source.pinned is not None:
            has_metadata = self._source.closure is not None
            self._source.pinned.refuse_other_claims(loaded, has_metadata=has_metadata)
        self.identity = Identity(loaded.name, loaded.version, dict(loaded.hooks))
        self.tell_identity()
        worker.begin_next_with(carried(runs[0], "load"))

    def _load_request(self, worker: Worker) -> Request:
        claims = None
        if worker.listener is None:  # no kernel tells: the worker's own report has to do
            claims = list(places_readable_by_all()) if self._policy.observe else []
        return load_request(self._source, self._policy.env, claims)

    async def _ended_early(self, worker: Worker) -> BarrierUnavailable:
        """The error for a worker that no plugin can have ended: none was there yet. Raises if we closed it."""
        process = worker.process
        await asyncio.shield(asyncio.wrap_future(process.exited))
        await self._unless_closed()
        said = printable(worker.last.stderr.strip(), 2_000, lines=True) if worker.last is not None else ""
        return BarrierUnavailable(f"A worker ended ({process.status}) before it was given a plugin. {said}".rstrip())

    def tell_identity(self) -> None:
        """Have the runs that are made from now on carry what it says of itself, and what it is known as."""
        known_as = self.known_as if self.known_as != self.identity.name else ""
        self.info = self._source.info(self.identity.name, self.identity.version, known_as)

    async def _initialize(self, worker: Worker) -> None:
        request = call_request(dict(self.config), wire.INITIALIZE)
        exchange = await converse(worker, [request], current_sink())
        run = runs_of(exchange, worker, self.info)[0]
        self.after(worker, [run])
        run.check()
        worker.begin_next_with(carried(run, "initialize"))
        self.initialized = True

    def after(self, worker: Worker, runs: Sequence[Run]) -> None:
        """Set the state that these runs left the plugin in."""
        if not worker.process.ending:
            if self.state != "closed":
                self.state = "ready"
            return
        self._fail()
        if runs[-1].verdict.kind != "stopped":
            self._count_loss()

    def quarantine(self) -> None:
        """By the user's word: its worker is killed, from any thread, and none is started any more."""
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
        if len(self._losses) > LOSSES_ALLOWED and now - self._losses[0] < LOSSES_WITHIN_S:
            self.state = "quarantined"

    def _between_calls(self, event: Event) -> None:
        """Something happened while nobody called it; most of what can means that the worker is lost."""
        self.events.append(event)
        if event.kind not in OBSERVATIONS and self.state not in ("closed", "quarantined", "failed"):
            self._fail()
            self._count_loss()

    async def drop(self, *, gently: bool) -> None:
        """End the worker, wait until nothing of it is left, and let go. Gently: its `shutdown` gets a second."""
        worker, self.worker = self.worker, None
        if worker is None:
            return
        worker.report_to(None)
        if self._finalizer is not None:
            self._finalizer.detach()
        process = worker.process
        if gently and not process.ending:
            worker.ask_to_close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(process.exited)), GRACE_S)
        if process.status is None:
            worker.stop("close")
        process.exited.add_done_callback(lambda _: worker.dispose())  # also if this coroutine never gets any further
        await asyncio.shield(asyncio.wrap_future(process.exited))
        await asyncio.shield(asyncio.wrap_future(process.wiped))


def _hello(frame: Frame) -> Hello:
    """What a worker says of its barriers. Raises `BarrierUnavailable`: unread, none of them can be relied on."""
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


def _abandon(worker: Worker, future: Any) -> None:
    """Nobody waits for this worker any more."""
    if future.cancelled() or future.exception() is not None:
        worker.never_started()
    else:
        worker.adopt(future.result())
        worker.release()
