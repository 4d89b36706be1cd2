"""Make runs from an exchange (host): decode the replies, and add the events that decide the verdicts."""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec

from agentplug.contract.events import OBSERVATIONS, Event
from agentplug.contract.record import ErrorText, SourceInfo, added_memory_bytes
from agentplug.contract.text import printable
from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.frames import Frame
from agentplug.core.host.exchange import Exchange, Record
from agentplug.core.host.supervisor import Worker
from agentplug.core.run import Run
from agentplug.errors import AgentplugError, ContractError, PluginNotFound, SpecError

_DECIDED = frozenset(("limit", "stop", "protocol", "exit"))
_REFUSED = {"not_found": PluginNotFound, "contract": ContractError, "syntax": SpecError}


def runs_of(
    exchange: Exchange, worker: Worker, source: SourceInfo, number: int = 0, started_at: datetime | None = None
) -> list[Run]:
    """Return a run for each call that was answered, and for the one in which the exchange ended.

    Later calls of a window were never begun: they have no run, and can be sent again.
    """
    records = exchange.records
    if len(records) > 1:
        records = records[: exchange.head + (exchange.head < len(records))]
    readings = exchange.samples.all()
    runs: list[Run] = []
    for record in records:
        value, error, value_bytes = None, None, 0
        if (frame := record.frame) is not None:
            value, error = _outcome(frame, record, worker, exchange)
            value_bytes = len(frame.blobs) + values.value_bytes(frame.structure)
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
                value_bytes,
            )
        )
    return runs


def decode_on_thread(
    exchange: Exchange, worker: Worker, source: SourceInfo, number: int, started_at: datetime
) -> Future[list[Run]]:
    """Call `runs_of` on a thread of its own: a large reply takes long, and no event loop must wait for it."""
    return _decoder().submit(runs_of, exchange, worker, source, number, started_at)


@functools.cache
def _decoder() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "agentplug-decoder")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_decoder.cache_clear)  # a forked child lacks its thread


def _outcome(frame: Frame, record: Record, worker: Worker, exchange: Exchange) -> tuple[Any, ErrorText | None]:
    """Return the value or the error of an answered call; add the event that decides its verdict."""
    if exchange.nonce is not None and record is exchange.records[-1]:
        return None, None  # the worker answered, but never came back into its own loop: its end says why
    try:
        return _decode(frame, record, worker, exchange)
    except (values.DecodeError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        _emit(record, exchange, "protocol", reason=f"a reply that can't be decoded: {printable(str(error), 300)}")
        worker.stop("protocol")
        return None, None


def _decode(frame: Frame, record: Record, worker: Worker, exchange: Exchange) -> tuple[Any, ErrorText | None]:
    if frame.kind == wire.REPLY:
        if any(event.kind in _DECIDED for event in record.events):
            return None, None  # the reply came too late
        value = values.decode(frame.structure, frame.blobs)
        _emit(record, exchange, "reply")
        return value, None
    if frame.kind == wire.LOADED:
        wire.decode_loaded(frame.structure)
        _emit(record, exchange, "reply")
        return None, None
    if frame.kind == wire.UNSERIALIZABLE:
        misfit = wire.decode_misfit(frame.structure)
        _emit(record, exchange, "unserializable", type=misfit.type, where=misfit.where)
        return None, None
    from agentplug.core.host.limit_evidence import limit_behind

    failure = wire.decode_failure(frame.structure)
    detail = {"type": failure.type, **limit_behind(failure, exchange, worker)}
    _emit(record, exchange, "error", **detail)
    return None, ErrorText(failure.type, failure.message, failure.traceback)


def _emit(record: Record, exchange: Exchange, kind: str, **detail: Any) -> None:
    record.events.append(Event((exchange.ended_ns - exchange.started_ns) / 1e9, kind, detail))


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
            return _REFUSED[failure.reason](printable(failure.message, 4_000))
    try:
        run.check()
    except AgentplugError as error:
        return error
    return ContractError("The worker answered without a plugin")
