"""The internals of a `SandboxedPlugin` (host): its source, its worker, its lock, the history of its runs.

Manager, dashboard and doctor reach them as `plugin._inside`. Nothing here refers to the `SandboxedPlugin`, so its
worker ends as soon as the last reference to it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.decode import decoded
from agentplug.core.history import History
from agentplug.core.host.conversation import converse, on_our_loop
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.fair_lock import Turn, WaitsForItself
from agentplug.core.host.output import current_sink
from agentplug.core.host.process import AlreadyEnded
from agentplug.core.host.supervisor import GRACE_S, Worker
from agentplug.core.lifecycle import Identity, Lifecycle
from agentplug.core.run import Run
from agentplug.core.sources.source import Source
from agentplug.errors import AgentplugError

if TYPE_CHECKING:
    from agentplug.core.displays import DisplayRelay
    from agentplug.core.host.output import Sink


class Inside:
    """One plugin's parts. It makes calls into runs, one at a time and in the order of the calls.

    A reload resolves `spec` again; `source` holds the present bytes. `on_quarantine` is called after the user has
    quarantined the plugin, for an audit.
    """

    on_quarantine: Callable[[], None] | None = None
    confined: ClassVar[Callable[..., Any]]
    """`SandboxedPlugin`, which stands above: pictures that a plugin displays are decoded in one."""

    def __init__(self, spec: object, source: Source, policy: Policy, config: dict[str, Any]) -> None:
        self.spec = spec
        self.source = source
        self.policy = policy
        self.life = Lifecycle(source, policy, config, Identity(*_guess_identity(spec, source), {}))
        self.history = History()
        self.recorder = self.history.recorder
        self.turn = Turn()

    # ------------------------------------------------------------------ properties

    @property
    def calls(self) -> int:
        """The number of calls so far, including those that the history has dropped."""
        return self.history.count

    @property
    def events(self) -> Sequence[Event]:
        """The events between calls, oldest first."""
        return tuple(self.life.events)

    @property
    def is_over(self) -> bool:
        """True if the plugin is closed and no call is under way, so that no other run follows."""
        return self.life.state == "closed" and self.turn.is_free

    @property
    def exchange(self) -> Exchange | None:
        """The call under way, or the present worker's last, with the watchdog's readings so far.

        For live views: other threads write to it meanwhile.
        """
        worker = self.life.worker
        return None if worker is None else worker.exchange or worker.last

    def barrier_rows(self) -> list[dict[str, Any]]:
        """Return the rows of `barriers` as plain dicts, with the `lost` promises and the `remedy`."""
        return [msgspec.structs.asdict(report) for report in self.life.reports]

    def about(self) -> dict[str, dict[str, Any]]:
        """Return limits, digest and barriers for the `attrs` of a trace, by each of the plugin's names there."""
        from agentplug.report.frames import about

        barriers = {report.barrier: report.status for report in self.life.reports}
        facts = about(self.policy, self.source.digest, barriers)
        return dict.fromkeys(self.recorder.names() or {self.name}, facts)

    def rename(self, name: str) -> None:
        """Use the name that a manager gave the plugin in the trace and in later runs."""
        self.recorder.known_as = printable(name, 100)
        self.life.known_as = name
        self.life.update_info()

    # ------------------------------------------------------------------ life and calls

    async def initialize(self, config: dict[str, Any] | None) -> None:
        """Initialize the plugin again, and later workers too, with `config` unless it is None."""
        if config is not None:
            self.life.config = config
        async with self.turn:
            self.life.initialized = False
            await self.life.ensure_initialized()

    async def answer(self, request: Request, finish: Callable[[Run], Run] | None = None) -> Run:
        """Make one call of an encoded request, which may go to several plugins. Raises as `SandboxedPlugin.run`.

        `finish` makes another run of it, before anybody sees it.
        """
        return (await self.answers([request], finish))[0]

    async def answers(self, requests: Sequence[Request], finish: Callable[[Run], Run] | None = None) -> list[Run]:
        """Make the calls of `requests`, together, and return a run for each that was begun: one at least."""
        life = self.life
        async with self.turn:
            while True:
                worker = life.worker
                try:
                    if worker is None or not life.initialized or worker.process.ending:
                        worker = await life.ensure_initialized()
                    return await self._exchange(worker, requests, finish)
                except AlreadyEnded:
                    continue  # between two calls: nothing was sent, and another worker takes it
                except AgentplugError as error:
                    if error.run is None:
                        raise
                    return self.history.add([error.run])  # its code or its `initialize` failed in the new worker

    async def close(self) -> None:
        """End the plugin, as `SandboxedPlugin.close` says."""
        if self.life.state == "closed":
            return
        self.life.state = "closed"
        worker = self.life.worker
        if worker is not None and worker.exchange is not None:
            worker.stop("close")
        try:
            async with asyncio.timeout(GRACE_S):
                await self.turn.__aenter__()
        except (TimeoutError, WaitsForItself):
            # The call under way waits on a loop that stands still, perhaps because our caller blocks it, as a
            # notebook's magic does. End the worker now; its descriptors close once that call lets go of them.
            if worker is not None:
                worker.stop("close")
                await asyncio.shield(asyncio.wrap_future(worker.process.exited))
                await asyncio.shield(asyncio.wrap_future(worker.process.wiped))
            on_our_loop(self._drop_later())
            return
        try:
            await self.life.drop(gently=True)
        finally:
            await self.turn.__aexit__()

    def stop(self, by: str = "kill") -> None:
        """End the running call, from any thread: at once, or by `interrupt`, which lets the plugin clean up."""
        worker = self.life.worker
        if worker is None or worker.exchange is None:
            return
        if by == "interrupt":
            worker.interrupt()
        else:
            worker.stop("kill")

    def quarantine(self) -> None:
        """Kill the worker and the running call, from any thread, and refuse all calls until a reload."""
        self.life.quarantine()
        if self.on_quarantine is not None:
            self.on_quarantine()

    @property
    def name(self) -> str:
        """The plugin's name wherever people read it: the manager's, if that gave it another, else its own."""
        return printable(self.life.info.name, 100)

    def card(self) -> str:
        """Return the plugin's card as HTML."""
        from agentplug.report.cards import plugin_card

        runs = self.history.latest
        return plugin_card(
            self.life.info,
            state=self.life.state,
            policy=self.policy,
            barriers=self.barrier_rows(),
            calls=self.calls,
            last_verdict=runs[-1].verdict if runs else None,
        )

    def _relay(self, sink: Sink | None) -> DisplayRelay:
        from agentplug.core.displays import DisplayRelay  # loaded with the first display

        return DisplayRelay(sink, self.life.share, type(self).confined)

    async def _drop_later(self) -> None:
        async with self.turn:
            await self.life.drop(gently=False)

    async def _exchange(
        self, worker: Worker, requests: Sequence[Request], finish: Callable[[Run], Run] | None
    ) -> list[Run]:
        started_at = datetime.now(UTC)
        life, history = self.life, self.history
        life.state = "busy"
        cancellation = None
        try:
            exchange = await converse(worker, requests, current_sink(), self._relay)
        except asyncio.CancelledError as error:
            if worker.last is None:
                raise
            exchange, cancellation = worker.last, error
        runs, texts, later = await decoded(
            exchange, worker, life.info, life.share, history.count, started_at, history.describe
        )
        if finish is not None:
            runs = [finish(run) for run in runs]
        life.update_state(worker, runs)
        history.add(runs, texts)
        if (cancellation := cancellation or later) is not None:
            raise cancellation
        return runs


def _guess_identity(spec: object, source: Source) -> tuple[str, str]:
    """Return name and version before the worker has claimed them: of the user's own object, else from the spec."""
    name, version = getattr(spec, "name", None), getattr(spec, "version", None)
    if source.kind == "object" and isinstance(name, str) and name and isinstance(version, str):
        return name, version
    return source.attribute or source.entry.rpartition(".")[2] or source.spec, ""
