"""Make runs from an exchange (host): decode the replies, and add the events that decide the verdicts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agentplug.contract.display import DisplayRecord
from agentplug.contract.events import OBSERVATIONS, Event
from agentplug.contract.record import ErrorText, SourceInfo, added_memory_bytes
from agentplug.contract.text import printable
from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.frames import MAX_TRACEBACK, Frame
from agentplug.core.decoders import AtOnce, InTurns, Share, in_turns
from agentplug.core.host.exchange import Exchange, Record
from agentplug.core.host.supervisor import Worker
from agentplug.core.run import Run
from agentplug.errors import AgentplugError, ContractError, PluginNotFound, SpecError

if TYPE_CHECKING:
    from agentplug.core.boundary.codec.layout import Pace

AT_ONCE_BYTES = 1 << 16
"""Longer replies, and runs with longer output, aren't looked at on an event loop."""
_DECIDED = frozenset(("limit", "stop", "protocol", "exit"))
_REFUSED = {"not_found": PluginNotFound, "contract": ContractError, "syntax": SpecError}


class Decoded(NamedTuple):
    """The runs of an exchange; the audit's text for each, unless that is still to be made; and a cancellation of the
    waiting task, to be raised once the runs are recorded."""

    runs: list[Run]
    texts: Sequence[str]
    cancellation: asyncio.CancelledError | None = None


async def decoded(
    exchange: Exchange,
    worker: Worker,
    source: SourceInfo,
    share: Share,
    number: int = 0,
    started_at: datetime | None = None,
    describe: Callable[[Run, Pace], str] | None = None,
) -> Decoded:
    """Decode an exchange without holding the loop up; `describe` makes an audit's text of each run.

    A short one whose decoding costs little is decoded here, any other on a thread, in fair turns by `share`.
    """
    usage = exchange.usage
    cancellation = await _displays_are_there(exchange)
    if usage.reply_bytes <= AT_ONCE_BYTES and (describe is None or usage.output_bytes <= AT_ONCE_BYTES):
        with contextlib.suppress(values.Costly):
            return Decoded(runs_of(exchange, worker, source, number, started_at, AtOnce()), (), cancellation)

    def work(pace: InTurns) -> Decoded:
        runs = runs_of(exchange, worker, source, number, started_at, pace)
        pace.without_budget()
        return Decoded(runs, () if describe is None else [describe(run, pace) for run in runs])

    decoding = in_turns(share, usage.reply_bytes, work)
    cancellation = await _is_done(decoding) or cancellation
    return decoding.result()._replace(cancellation=cancellation)


async def _displays_are_there(exchange: Exchange) -> asyncio.CancelledError | None:
    """Wait until all that the calls displayed is decoded and shown. Return a cancellation as `_is_done` does."""
    return None if exchange.displays is None else await _is_done(exchange.displays.relay.finished)


async def _is_done(future: Future[Any]) -> asyncio.CancelledError | None:
    """Wait for `future`. Return a cancellation that came meanwhile."""
    cancellation = None
    while not future.done():
        try:
            await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError as error:
            cancellation = error
    return cancellation


def runs_of(
    exchange: Exchange,
    worker: Worker,
    source: SourceInfo,
    number: int = 0,
    started_at: datetime | None = None,
    pace: Pace = values.HURRY,
) -> list[Run]:
    """Return a run for each call that was answered, and for the one in which the exchange ended.

    Later calls of a window were never begun: they have no run, and can be sent again. If `pace` raises `Costly`,
    nothing has changed, and another thread can do it all.
    """
    records = exchange.records
    if len(records) > 1:
        records = records[: exchange.head + (exchange.head < len(records))]
    outcomes = [_outcome(record, worker, exchange, pace) for record in records]
    readings = exchange.samples.all()
    displays = _displays_of(exchange)
    runs: list[Run] = []
    for record, (value, error, event) in zip(records, outcomes, strict=True):
        if event is not None:
            record.events.append(event)
        value_bytes = 0
        if (frame := record.frame) is not None:
            value_bytes = len(frame.blobs) + values.value_bytes(frame.structure)
        displayed, dropped = displays.get(len(runs), _NO_DISPLAYS)
        if dropped:
            record.events.append(Event(exchange.usage.wall_s, "dropped", {"what": "displays", "count": dropped}))
        runs.append(
            Run(
                value,
                exchange.usage,
                tuple(record.events),
                worker.policy,
                source,
                number + len(runs),
                started_at,
                exchange.stdout if not runs else "",
                exchange.stderr if not runs else "",
                error,
                readings,
                worker.barriers,
                record.profile,
                value_bytes + sum(display.size_bytes() for display in displayed),
                displayed,
            )
        )
    return runs


_NO_DISPLAYS: tuple[tuple[DisplayRecord, ...], int] = ((), 0)


def _displays_of(exchange: Exchange) -> Mapping[int, tuple[tuple[DisplayRecord, ...], int]]:
    """Return the displays of each call, and how many of it there are not."""
    return {} if exchange.displays is None else exchange.displays.relay.finished.result()


_Outcome = tuple[Any, ErrorText | None, Event | None]


def _outcome(record: Record, worker: Worker, exchange: Exchange, pace: Pace) -> _Outcome:
    """Return the value or the error of a call, and the event that decides its verdict, if it is to be added."""
    frame = record.frame
    if frame is None or (exchange.nonce is not None and record is exchange.records[-1]):
        return None, None, None  # no answer, or its worker never came back into its own loop: its end says why
    try:
        value, error, kind, detail = _decode(frame, record, worker, exchange, pace)
    except (values.DecodeError, msgspec.MsgspecError, UnicodeDecodeError) as refused:
        worker.stop("protocol")
        reason = f"a reply that can't be decoded: {printable(str(refused), 300)}"
        value, error, kind, detail = None, None, "protocol", {"reason": reason}
    if not kind:
        return value, error, None
    return value, error, Event((exchange.ended_ns - exchange.started_ns) / 1e9, kind, detail)


def _decode(
    frame: Frame, record: Record, worker: Worker, exchange: Exchange, pace: Pace
) -> tuple[Any, ErrorText | None, str, dict[str, Any]]:
    """Return value, error, and kind and detail of the event of an answer. Raises its decoder's errors."""
    if frame.kind == wire.REPLY:
        if any(event.kind in _DECIDED for event in record.events):
            return None, None, "", {}  # the reply came too late
        return values.decode(frame.structure, frame.blobs, pace=pace), None, "reply", {}
    if frame.kind == wire.LOADED:
        wire.decode_loaded(frame.structure)
        return None, None, "reply", {}
    if frame.kind == wire.UNSERIALIZABLE:
        misfit = wire.decode_misfit(frame.structure)
        return None, None, "unserializable", {"type": misfit.type, "where": misfit.where}
    from agentplug.core.host.limit_evidence import limit_behind

    failure = wire.decode_failure(frame.structure)
    detail = {"type": failure.type, **limit_behind(failure, exchange, worker)}
    return None, ErrorText(failure.type, failure.message, failure.traceback), "error", detail


def events_to_carry(run: Run, during: str) -> list[Event]:
    """Return what the next run reports of a load or an initialize: calls that were seen; if observed, the cost."""
    seen = [event for event in run.events if event.kind in OBSERVATIONS and event.detail.get("what") != "output"]
    events = [Event(0.0, event.kind, {"during": during, **event.detail}) for event in seen]
    if run.policy.observe:
        usage = run.usage
        cost = {
            "cpu_s": usage.cpu_s,
            "wall_s": usage.wall_s,
            "added_memory_bytes": added_memory_bytes(run),
            "threads": usage.threads,
            "write_bytes": usage.write_bytes,
        }
        events.append(Event(0.0, "loaded", {"during": during, **cost}))
    return events


def load_error(frame: Frame | None, run: Run) -> AgentplugError:
    """Return the error to raise for a plugin that couldn't be loaded."""
    if frame is not None and frame.kind == wire.ERROR and run.error is not None:
        failure = wire.decode_failure(frame.structure)
        if failure.reason in _REFUSED:
            error = _REFUSED[failure.reason](printable(failure.message, 4_000))
            if failure.traceback:
                error.add_note(printable(failure.traceback.rstrip(), MAX_TRACEBACK, lines=True))
            return error
    try:
        run.check()
    except AgentplugError as error:
        return error
    return ContractError("The worker answered without a plugin")
