"""The quick check of a worker that is far from its limits (host): it takes a sample and does nothing else.

Most checks of busy workers are quick ones. The workers empty the processor's caches between two checks, so a check
costs less for the kernel's answer than for the memory it touches: hence few objects, and no text parsed twice.
"""

from __future__ import annotations

from os import pread
from time import clock_gettime_ns as clock_ns

from agentplug.contract.record import Sample
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.process import Process
from agentplug.core.host.readings import Gone, Readings, footprint_in


class QuickCheck:
    """Bounds on a worker's readings: within them no limit is near, and a full check isn't due.

    `last` is the full check's sample, with a time of the host's clock and the worker's own CPU clock; the bounds have
    the same units. `wait_s` is the time until the next check. The worker's lock guards this object.
    """

    __slots__ = (
        "_append _channel _clock _cpu0_ns _watchdog _exchange _last_cpu_ns _last_statm _least_bytes _most_bytes "
        "_most_cpu_ns _rss_bytes _started_ns _statm _threads _until_ns _wait_s"
    ).split()

    def __init__(
        self,
        exchange: Exchange,
        process: Process,
        readings: Readings,
        last: Sample,
        wait_s: float,
        *,
        least_bytes: int,
        most_bytes: int,
        most_cpu_ns: int,
        until_ns: int,
    ) -> None:
        self._exchange = exchange
        self._clock, self._statm = readings.clock, readings.statm
        self._channel, self._watchdog = process.sock.fileno(), process.watchdog
        self._append = exchange.samples.append
        self._wait_s = wait_s
        self._least_bytes, self._most_bytes = least_bytes, most_bytes
        self._most_cpu_ns, self._until_ns = most_cpu_ns, until_ns
        self._started_ns, self._cpu0_ns = exchange.started_ns, exchange.cpu0_ns
        self._rss_bytes, self._last_cpu_ns, self._threads = last.rss_bytes, last.cpu_ns, last.threads
        self._last_statm = b"nothing yet"

    def sample(self, now_ns: int) -> float:
        """Take a sample. Returns seconds until the next check; zero if a full check is needed now."""
        if now_ns > self._until_ns or self._channel in self._watchdog.readable:
            return 0.0
        try:
            cpu_ns = clock_ns(self._clock)
            if cpu_ns > self._most_cpu_ns:
                return 0.0
            if cpu_ns != self._last_cpu_ns:  # else it hasn't run since, so nothing has changed
                statm = pread(self._statm, 64, 0)
                if statm != self._last_statm:
                    rss_bytes = footprint_in(statm)
                    if not self._least_bytes < rss_bytes < self._most_bytes:
                        return 0.0
                    self._last_statm, self._rss_bytes = statm, rss_bytes
                    self._exchange.raise_peak(rss_bytes)
                self._last_cpu_ns = cpu_ns
        except (OSError, Gone):
            return 0.0  # it has ended: the full check takes what it sent before
        self._append((now_ns - self._started_ns, self._rss_bytes, cpu_ns - self._cpu0_ns, self._threads))
        return self._wait_s


class StillCheck:
    """The check of an idle worker that hasn't run since its last full check: then nothing else of it has changed.

    Nothing of it may run but itself: no child process. `cpu_ns` was read before what the full check looked at.
    """

    __slots__ = ("_clock", "_cpu_ns", "_wait_s")

    def __init__(self, clock: int, cpu_ns: int, wait_s: float) -> None:
        self._clock, self._cpu_ns, self._wait_s = clock, cpu_ns, wait_s

    def sample(self) -> float:
        """Return seconds until the next check; zero if a full check is needed now, as the worker has run."""
        try:
            return self._wait_s if clock_ns(self._clock) == self._cpu_ns else 0.0
        except OSError:
            return 0.0  # it has ended
