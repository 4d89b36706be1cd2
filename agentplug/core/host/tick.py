"""What the watchdog does on its rounds to one worker (host): hold its limits, in a call and between calls.

Every function is called with the worker's lock held.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from agentplug.contract.events import Event
from agentplug.core.boundary.channel import Violation
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.limits import Finding
from agentplug.core.host.readings import Gone, Readings

if TYPE_CHECKING:
    from agentplug.core.host.supervisor import Worker

BUSY_TICK_S = 0.010
_IDLE_TICK_S = 0.250
_WARM_NS = 100_000_000
_EOF_NS = 250_000_000


def tick(worker: Worker, crowd: int) -> float:
    """Check the limits now; seconds until the next check is due (infinite once it has ended)."""
    now_ns = time.perf_counter_ns()  # not before the lock was had: a call may have begun meanwhile
    calm = worker.calm
    try:
        if calm is not None and (wait_s := calm.glance(now_ns)):
            return wait_s
        if worker.status is not None or worker.pid == 0:
            return float("inf")
        return _look(worker, worker.exchange, worker.readings, now_ns, crowd)
    except Gone as gone:
        worker.pump()  # what it sent before still counts
        worker.vanished(gone)
        return _IDLE_TICK_S
    except Exception:
        worker.kill("unwatched")  # no limit holds for it any more
        raise


def _look(worker: Worker, exchange: Exchange | None, readings: Readings | None, now_ns: int, crowd: int) -> float:
    if worker.attempts is not None:
        worker.attempts.wake(now_ns)
    if worker.ending or readings is None:
        return _IDLE_TICK_S
    if exchange is None:
        return _tick_idle(worker, readings, now_ns)
    if (exchange.outgoing or worker.has_spoken) and worker.pump():
        return BUSY_TICK_S
    return _tick_busy(worker, exchange, readings, time.perf_counter_ns(), crowd)  # samples stand in order


def _tick_busy(worker: Worker, exchange: Exchange, readings: Readings, now_ns: int, crowd: int) -> float:
    if exchange.grace_until_ns is not None and now_ns > exchange.grace_until_ns:
        worker.kill("grace")
        return _IDLE_TICK_S
    finding, wait_s = worker.limits.check(exchange, readings, worker.reader, worker, now_ns, crowd)
    if finding is not None:
        _over(worker, exchange, readings, finding)
    elif worker.reader.eof:
        worker.eof_ns = worker.eof_ns or now_ns
        if now_ns - worker.eof_ns > _EOF_NS:  # a process that is exiting closes it too, a moment earlier
            exchange.emit("protocol", {"reason": "it closed its end of the channel"})
            worker.kill("protocol")
    return wait_s


def _over(worker: Worker, exchange: Exchange, readings: Readings, finding: Finding) -> None:
    if finding.by == "protocol":
        exchange.emit("protocol", {"reason": finding.unit})
    else:
        exchange.emit("limit", finding._asdict())
    with contextlib.suppress(Gone):
        exchange.measure_peak(readings)
    worker.kill(finding.by)


def _tick_idle(worker: Worker, readings: Readings, now_ns: int) -> float:
    _look_for_stray_frames(worker)
    if not worker.ending:
        finding = worker.limits.check_idle(readings, worker, now_ns)
        if finding is not None:
            worker.lose(Event(0.0, "limit", finding._asdict()))
    return BUSY_TICK_S if now_ns - worker.last_active_ns < _WARM_NS else _IDLE_TICK_S


def _look_for_stray_frames(worker: Worker) -> None:
    """Between calls a worker has nothing to say."""
    if worker.last is None or not worker.ready.poll(0):
        return  # its greeting is still to be taken; or no frame is there, and no output either
    try:
        if worker.reader.next() is None and not worker.reader.partial:
            return
        reason = "a frame between calls"
    except Violation as violation:
        reason = str(violation)
    worker.lose(Event(0.0, "protocol", {"reason": reason}))
