"""The watchdog's checks of one worker (host): they enforce its limits, during a call and between calls.

Callers hold the worker's lock. Only `Checks` writes the state that lasts from one check to the next.
"""

from __future__ import annotations

import contextlib
import time

from agentplug.contract.events import Event
from agentplug.core.boundary.channel import Violation
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.limits import Limits
from agentplug.core.host.quick_check import QuickCheck, StillCheck
from agentplug.core.host.readings import Gone, Readings
from agentplug.core.host.refused_calls.listener import Listener
from agentplug.core.host.supervised import Supervised

BUSY_TICK_S = 0.010
_IDLE_TICK_S = 0.250
_WARM_NS = 100_000_000
_EOF_NS = 250_000_000


class Checks:
    """Checks of one worker against `limits`, with the state between two checks."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._quick_check: QuickCheck | None = None  # while quick checks suffice
        self._still_check: StillCheck | None = None  # while the idle worker doesn't run
        self._eof_ns = 0
        self._last_active_ns = 0

    def stands_still(self) -> float:
        """Return seconds until the next check of a worker that hasn't run since the last one, else zero. Needs no
        lock: a call that begins meanwhile asks for its own checks."""
        return still_check.sample() if (still_check := self._still_check) is not None else 0.0

    def require_full_check(self) -> None:
        """Make the next check a full one."""
        self._quick_check = self._still_check = None

    def end_call(self, exchange: Exchange) -> None:
        """Begin to check as between calls."""
        self.require_full_check()
        self._last_active_ns = time.perf_counter_ns()
        self._limits.enter_idle(exchange.last_cpu_ns)

    def tick(self, worker: Supervised, listener: Listener | None, crowd: int) -> float:
        """Check the limits now. Returns seconds until the next check (infinite once the process has ended)."""
        now_ns = time.perf_counter_ns()  # with the lock: a call may have begun while we waited for it
        quick_check = self._quick_check
        try:
            if quick_check is not None and (wait_s := quick_check.sample(now_ns)):
                return wait_s
            process, exchange = worker.process, worker.exchange
            if process.status is not None or process.pid == 0:
                return float("inf")
            paused = listener is not None and listener.stays_paused(now_ns)
            if process.ending or process.readings is None:
                return _IDLE_TICK_S
            if exchange is None:
                wait_s = self._tick_idle(worker, process.readings, now_ns)
                if paused:
                    self.require_full_check()
                return wait_s
            if (exchange.outgoing or process.has_spoken) and worker.pump():
                return BUSY_TICK_S
            now_ns = time.perf_counter_ns()  # `pump` took time, and samples are in order of time
            wait_s = self._tick_busy(worker, exchange, process.readings, now_ns, crowd)
            if paused:
                self._quick_check = None
            return wait_s
        except Gone as gone:
            worker.pump()  # what it sent before it ended still counts
            worker.kill(f"gone: {gone}")
            return _IDLE_TICK_S
        except Exception:
            worker.kill("unwatched")  # its limits can't be enforced any more
            raise

    def _tick_busy(
        self, worker: Supervised, exchange: Exchange, readings: Readings, now_ns: int, crowd: int
    ) -> float:
        if exchange.grace_until_ns is not None and now_ns > exchange.grace_until_ns:
            worker.kill("grace")
            return _IDLE_TICK_S
        process = worker.process
        finding, wait_s, self._quick_check = self._limits.check(exchange, process, readings, now_ns, crowd)
        if finding is not None:
            with contextlib.suppress(Gone):
                exchange.measure_peak(readings)
            worker.exceed(exchange, finding)
        elif process.reader.eof:
            self._eof_ns = self._eof_ns or now_ns
            if now_ns - self._eof_ns > _EOF_NS:  # a process that exits closes it too, a moment before its end
                exchange.emit("protocol", {"reason": "it closed its end of the channel"})
                worker.kill("protocol")
        return wait_s

    def _tick_idle(self, worker: Supervised, readings: Readings, now_ns: int) -> float:
        _look_for_stray_frames(worker)
        if now_ns - self._last_active_ns < _WARM_NS:
            wait_s = BUSY_TICK_S
        else:
            wait_s = _IDLE_TICK_S
            self._still_check = StillCheck(readings.clock, readings.cpu_ns(), wait_s)
        if not worker.process.ending:
            finding = self._limits.check_idle(worker.process, readings, now_ns)
            if finding is not None:
                worker.lose(Event(0.0, "limit", finding.detail()))
            if self._limits.may_change_unseen:
                self.require_full_check()
        return wait_s


def _look_for_stray_frames(worker: Supervised) -> None:
    """End a worker that sends a frame between calls: the protocol has none."""
    process = worker.process
    if worker.last is None or not process.ready.poll(0):
        return  # its greeting is unread yet; or neither a frame nor output has come
    try:
        if process.reader.next() is None and not process.reader.partial:
            return
        reason = "a frame between calls"
    except Violation as violation:
        reason = str(violation)
    worker.lose(Event(0.0, "protocol", {"reason": reason}))
