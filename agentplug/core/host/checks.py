"""The watchdog's checks of one worker (host): they hold its limits, in a call and between calls.

Every method is called with the worker's lock held. `Checks` alone writes what is remembered from check to check.
"""

from __future__ import annotations

import contextlib
import time

from agentplug.contract.events import Event
from agentplug.core.boundary.channel import Violation
from agentplug.core.host.calm import Calm
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.limits import Limits
from agentplug.core.host.readings import Gone, Readings
from agentplug.core.host.refused_calls.listener import Listener
from agentplug.core.host.supervised import Supervised

BUSY_TICK_S = 0.010
_IDLE_TICK_S = 0.250
_WARM_NS = 100_000_000
_EOF_NS = 250_000_000


class Checks:
    """Checks of one worker against `limits`, with what the watchdog remembers between them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calm: Calm | None = None  # while a glance will do
        self._eof_ns = 0
        self._last_active_ns = 0

    def look_closely(self) -> None:
        """Make the next check a whole one: a glance would miss what is going on."""
        self._calm = None

    def end_call(self, exchange: Exchange) -> None:
        """Check from now on as between calls."""
        self._calm = None
        self._last_active_ns = time.perf_counter_ns()
        self._limits.enter_idle(exchange.last_cpu_ns)

    def tick(self, worker: Supervised, listener: Listener | None, crowd: int) -> float:
        """Check the limits now. Returns seconds until the next check (infinite once the process has ended)."""
        now_ns = time.perf_counter_ns()  # not before the lock was had: a call may have begun meanwhile
        calm = self._calm
        try:
            if calm is not None and (wait_s := calm.glance(now_ns)):
                return wait_s
            process, exchange = worker.process, worker.exchange
            if process.status is not None or process.pid == 0:
                return float("inf")
            paused = listener is not None and listener.stays_paused(now_ns)
            if process.ending or process.readings is None:
                return _IDLE_TICK_S
            if exchange is None:
                return self._tick_idle(worker, process.readings, now_ns)
            if (exchange.outgoing or process.has_spoken) and worker.pump():
                return BUSY_TICK_S
            now_ns = time.perf_counter_ns()  # samples stand in order
            wait_s = self._tick_busy(worker, exchange, process.readings, now_ns, crowd)
            if paused:
                self._calm = None
            return wait_s
        except Gone as gone:
            worker.pump()  # what it sent before still counts
            worker.kill(f"gone: {gone}")
            return _IDLE_TICK_S
        except Exception:
            worker.kill("unwatched")  # no limit holds for it any more
            raise

    def _tick_busy(
        self, worker: Supervised, exchange: Exchange, readings: Readings, now_ns: int, crowd: int
    ) -> float:
        if exchange.grace_until_ns is not None and now_ns > exchange.grace_until_ns:
            worker.kill("grace")
            return _IDLE_TICK_S
        process = worker.process
        finding, wait_s, self._calm = self._limits.check(exchange, process, readings, now_ns, crowd)
        if finding is not None:
            with contextlib.suppress(Gone):
                exchange.measure_peak(readings)
            worker.exceed(exchange, finding)
        elif process.reader.eof:
            self._eof_ns = self._eof_ns or now_ns
            if now_ns - self._eof_ns > _EOF_NS:  # a process that is exiting closes it too, a moment earlier
                exchange.emit("protocol", {"reason": "it closed its end of the channel"})
                worker.kill("protocol")
        return wait_s

    def _tick_idle(self, worker: Supervised, readings: Readings, now_ns: int) -> float:
        _look_for_stray_frames(worker)
        if not worker.process.ending:
            finding = self._limits.check_idle(worker.process, readings, now_ns)
            if finding is not None:
                worker.lose(Event(0.0, "limit", finding._asdict()))
        return BUSY_TICK_S if now_ns - self._last_active_ns < _WARM_NS else _IDLE_TICK_S


def _look_for_stray_frames(worker: Supervised) -> None:
    """End a worker that speaks between calls: there is nothing for it to say."""
    process = worker.process
    if worker.last is None or not process.ready.poll(0):
        return  # its greeting is still to be taken; or no frame is there, and no output either
    try:
        if process.reader.next() is None and not process.reader.partial:
            return
        reason = "a frame between calls"
    except Violation as violation:
        reason = str(violation)
    worker.lose(Event(0.0, "protocol", {"reason": reason}))
