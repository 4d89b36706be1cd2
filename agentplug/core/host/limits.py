"""Compare a worker's use with the policy's limits, during a call and between calls (host).

Use is what the kernel reads for the worker and its children, its scratch directory, and the time that an incomplete
frame takes. A limit reached is returned as a `Finding`; nothing is ended here. Callers hold the worker's lock.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

from agentplug.contract.limits import LIMITS
from agentplug.contract.policy import Policy
from agentplug.contract.record import Sample
from agentplug.core.boundary.bounds import PROFILER_THREADS, data_allowance_bytes, scratch_bytes, scratch_inodes
from agentplug.core.boundary.channel import FrameReader, Violation
from agentplug.core.boundary.child_processes import descendants
from agentplug.core.boundary.frames import ZygoteNews
from agentplug.core.host.exchange import Exchange
from agentplug.core.host.hidden_memory import EVERY_NS, HiddenMemory
from agentplug.core.host.process import Process
from agentplug.core.host.quick_check import QuickCheck
from agentplug.core.host.readings import Gone, Readings, arm_cpu_limit, footprint_of, share_of_processor
from agentplug.core.host.scratch import ScratchCount
from agentplug.core.host.watchdog import BUSY_S

IDLE_CPU_S = 1.0
_SETTLING_NS = 1_000_000  # the worker's own work between two calls
_MIB = 1 << 20
_FRAME_S = 1.0
_FRAME_BYTES_PER_S = 8 * _MIB
_DISK_EVERY_NS = 50_000_000
_DISK_PIECE_NS = 3_000_000  # of a count: thousands of files; more of them are counted less often
_CPU_SLACK_S = 10
_BY_TICKS = 0.9  # the kernel enforces RLIMIT_CPU by ticks, and reports what was used more exactly
_QUICK_NS, _QUICK_CPU_NS = 1_000_000_000, 10_000_000
_NEAR = 0.9
_MOST_SAMPLED_NS = 50_000_000
_SAMPLED_SHARE, _SAMPLED_SLACK_NS = 0.8, 50_000_000
_TICK_S = 0.010
_TICK_EACH_S = 0.0025  # many workers are each checked less often, so that checking all costs the same


class Finding(NamedTuple):
    """A limit that was reached: its name, the measured and the allowed value, their unit.

    Nothing is measured where the kernel itself ended the process at the bound.
    """

    by: str
    measured: float | None
    bound: float
    unit: str

    @classmethod
    def of(cls, by: str, measured: float | None, policy: Policy) -> Finding:
        """Build the finding that `policy`'s limit `by` was reached, in the unit of the table of limits."""
        row = LIMITS[by]
        return cls(by, measured, getattr(policy, row.name), row.unit)

    def detail(self) -> dict[str, Any]:
        """Return the detail of an event."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def _over(by: str, measured: float, policy: Policy) -> Finding | None:
    return Finding.of(by, measured, policy) if measured > getattr(policy, LIMITS[by].name) else None


class _Children:
    """The use of a worker's child processes, ended ones included. Reads nothing if there can be none.

    Children that live for a moment end between two readings. The kernel adds their time to their parent's, but not if
    the parent ignores SIGCHLD. So each reading also takes a sample: a child that is new and runs stands for the time
    since the last one. The sum is right on average; a fifth is left off, so that chance ends nobody.
    """

    def __init__(self, policy: Policy) -> None:
        self.possible = policy.processes > 0 or policy.best_effort  # best effort may lack the barrier against forks
        self.seen_ns: dict[int, int] = {}  # CPU time of each at the last reading, by pid
        self._ended_ns = 0
        self._sampled_ns = 0.0
        self._read_at_ns = 0
        self.count = 0
        self.rss_bytes = 0
        self.threads = 0
        self.cpu_ns = 0  # since the worker began

    def read(self, readings: Readings) -> None:
        """Read the present child processes. Raises `Gone`."""
        if not self.possible:
            return
        below = descendants(readings.pid)
        at_ns = time.perf_counter_ns()
        since_ns, self._read_at_ns = min(at_ns - self._read_at_ns, _MOST_SAMPLED_NS), at_ns
        now: dict[int, int] = {}
        self.count, self.rss_bytes, self.threads = len(below), 0, 0
        for pid in below:
            with contextlib.suppress(Gone):
                footprint = footprint_of(pid)
                now[pid] = footprint.cpu_ns
                before_ns = self.seen_ns.get(pid)
                if before_ns is None:
                    self._sampled_ns += since_ns * share_of_processor(pid)
                else:
                    self._sampled_ns += max(0, footprint.cpu_ns - before_ns)
                self.rss_bytes += footprint.rss_bytes
                self.threads += footprint.threads
        for pid, cpu_ns in self.seen_ns.items():
            if now.get(pid, -1) < cpu_ns:
                self._ended_ns += cpu_ns
        self.seen_ns = now
        # The kernel's own sum is exact, but empty where the worker ignores SIGCHLD.
        ended_ns = max(self._ended_ns, readings.waited_cpu_ns())
        sampled_ns = int(self._sampled_ns * _SAMPLED_SHARE) - _SAMPLED_SLACK_NS
        self.cpu_ns = max(self.cpu_ns, ended_ns + sum(now.values()), sampled_ns)


class Limits:
    """One worker's limits and what has been counted against them."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._children = _Children(policy)
        self.hidden = HiddenMemory(policy)
        self._profilers = PROFILER_THREADS if policy.profile else 0
        self._children0_ns = 0
        self._idle_ns = 0
        self._idle_from_ns: int | None = None
        self._idle_seen_ns = 0  # used between calls, at the last check
        self._last_tick_ns = 0
        self._last_rss = 0
        self._partial_ns = 0
        self._disk_at_ns = 0
        self._count: ScratchCount | None = None  # of the scratch directory, under way
        self._cpu_armed_ns = -1  # the kernel's limit leaves room for a call that begins below this
        self._cpu_limit_s = float("inf")  # the kernel's limit, for all calls together
        self.floor_bytes = 0  # the footprint from which the plugin's memory is counted; 0 before
        self._reserved0_bytes = 0
        self.counts_scratch = True  # false if a sized tmpfs bounds it

    def start_counting(self, readings: Readings, *, counts_scratch: bool) -> None:
        """Count the plugin's memory from the present footprint on; set `counts_scratch`."""
        self.counts_scratch = counts_scratch
        with contextlib.suppress(Gone):
            self.floor_bytes = readings.footprint_bytes()
            self._reserved0_bytes = readings.reserved_bytes()

    def has_reserved_all(self, process: Process) -> bool:
        """Return true if the plugin has reserved so much address space that the kernel refuses more of it."""
        if process.readings is None:
            return False
        most = data_allowance_bytes(int(self._policy.memory), self._policy.threads + self._profilers)
        with contextlib.suppress(Gone):
            return process.readings.reserved_bytes() - self._reserved0_bytes >= _NEAR * most
        return False

    def stop_counting(self) -> None:
        """Close what a count under way has open."""
        if self._count is not None:
            self._count.close()
            self._count = None

    # ------------------------------------------------------------------ between calls

    def enter_idle(self, cpu_ns: int) -> None:
        """Begin to count as between calls, from the worker's CPU time `cpu_ns`."""
        self._idle_from_ns = cpu_ns or None
        self._idle_seen_ns = self._idle_ns
        self._children0_ns = self._children.cpu_ns

    def check_idle(self, process: Process, readings: Readings, now_ns: int) -> Finding | None:
        """Return the first limit reached between calls. Raises `Gone`."""
        if self._idle_from_ns is None:
            return None
        children = self._children
        children.read(readings)
        used_ns = self._idle_ns + readings.cpu_ns() - self._idle_from_ns + children.cpu_ns - self._children0_ns
        used_s = used_ns / 1e9
        if used_s > IDLE_CPU_S:
            return Finding("cpu", used_s, IDLE_CPU_S, "s between calls")
        bytes_now = self._footprint_bytes(readings, now_ns, readings.cpu_ns())
        if used_ns != self._idle_seen_ns:  # it has run: a peak may lie between two checks
            self._idle_seen_ns, memory = used_ns, readings.memory()
            bytes_now += memory.peak_bytes - memory.footprint_bytes
        return (
            self.over_memory(bytes_now)
            or _over("processes", children.count, self._policy)
            or self._disk(process, now_ns)
        )

    @property
    def may_change_unseen(self) -> bool:
        """True if the worker has child processes or connections, or a count is under way: a look at itself is not
        enough."""
        return self._children.count > 0 or self._count is not None or self.hidden.grows_by_others

    # ------------------------------------------------------------------ during a call

    def begin(self, exchange: Exchange, process: Process) -> None:
        """Begin to count as during a call."""
        if self._idle_from_ns is not None:
            used_ns = exchange.cpu0_ns - self._idle_from_ns + self._children.cpu_ns - self._children0_ns
            self._idle_ns += used_ns if used_ns > _SETTLING_NS else 0
            self._idle_from_ns = None
        self._children0_ns = self._children.cpu_ns
        self._last_tick_ns = exchange.started_ns
        if self.hidden.size_bytes and process.readings is not None:
            # It may be gone since the last call's last check, so it is measured anew.
            pids, cpu_ns = self._children.seen_ns, exchange.cpu0_ns + self._children.cpu_ns
            exchange.add_hidden(self.hidden.measure(process.pid, pids, -1, exchange.started_ns, cpu_ns))
        self._last_rss = exchange.baseline_bytes
        self._partial_ns = 0
        if exchange.cpu0_ns > self._cpu_armed_ns and not process.ending:
            # Move the kernel's own CPU limit, the backstop, ahead of what this call may use.
            seconds = int(exchange.cpu0_ns / 1e9 + self._policy.cpu_s) + 1 + _CPU_SLACK_S
            self._cpu_limit_s = arm_cpu_limit(process.pid, seconds)
            self._cpu_armed_ns = exchange.cpu0_ns + _CPU_SLACK_S * 1_000_000_000

    def check(
        self, exchange: Exchange, process: Process, readings: Readings, now_ns: int, crowd: int
    ) -> tuple[Finding | None, float, QuickCheck | None]:
        """Read the kernel's counters. Raises `Gone`.

        Returns the first limit reached, seconds until the next check, and the quick check if that one may be quick.
        """
        policy, children, reader = self._policy, self._children, process.reader
        children.read(readings)
        children_ns = children.cpu_ns - self._children0_ns
        own_ns = readings.cpu_ns()
        cpu_ns = own_ns + children_ns
        rss = self._footprint_bytes(readings, now_ns, own_ns)
        threads = readings.threads() + children.threads
        exchange.sample(now_ns, rss, cpu_ns, threads, children_ns)
        cpu_s, wall_s = (cpu_ns - exchange.head_cpu_ns) / 1e9, (now_ns - exchange.head_ns) / 1e9
        finding = (
            self.over_memory(rss)
            or _over("cpu", cpu_s, policy)
            or _over("wall", wall_s, policy)
            or _over("threads", threads - self._profilers, policy)
            or _over("processes", children.count, policy)
            or self._slow_frame(reader, now_ns)
            or self._disk(process, now_ns)
        )
        headroom = int(policy.memory) + self.floor_bytes - rss
        usual_s = min(max(_TICK_S, crowd * _TICK_EACH_S), BUSY_S)
        wait_s = self._next(exchange, rss, headroom, now_ns) or usual_s
        self._last_tick_ns, self._last_rss = now_ns, rss
        quick_check = None
        eventful = exchange.outgoing or exchange.grace_until_ns or reader.partial or reader.eof or children.possible
        eventful = eventful or self.hidden.shared.used or self.hidden.size_bytes
        if wait_s == usual_s and not eventful:
            last = Sample(now_ns, rss, cpu_ns, threads)
            quick_check = self._quick_check_after(last, exchange, process, readings, headroom, usual_s)
        return finding, min(wait_s, max(policy.wall_s - wall_s, 0.0), max(policy.cpu_s - cpu_s, 0.002)), quick_check

    def _quick_check_after(
        self, last: Sample, exchange: Exchange, process: Process, readings: Readings, headroom: int, wait_s: float
    ) -> QuickCheck:
        """Build a quick check that ends before a limit is near.

        It counts no threads. Starting a thread takes CPU time, and that is bounded here, so few can go uncounted.
        """
        policy, wait_ns = self._policy, int(wait_s * 1e9)
        until_ns = last.t_ns + (_DISK_EVERY_NS if self.counts_scratch else _QUICK_NS)
        if self.hidden.is_sampled:
            until_ns = min(until_ns, last.t_ns + EVERY_NS)
        return QuickCheck(
            exchange,
            process,
            readings,
            last,
            wait_s,
            least_bytes=last.rss_bytes - _MIB,
            most_bytes=last.rss_bytes + min(_MIB, headroom),
            most_cpu_ns=min(last.cpu_ns + _QUICK_CPU_NS, exchange.head_cpu_ns + int(policy.cpu_s * 1e9) - wait_ns),
            until_ns=min(until_ns, exchange.head_ns + int(policy.wall_s * 1e9) - wait_ns),
        )

    def _footprint_bytes(self, readings: Readings, now_ns: int, own_cpu_ns: int) -> int:
        """Return the memory of the worker and of its children, as they were read last."""
        children = self._children
        footprint_bytes = readings.footprint_bytes() + children.rss_bytes
        room_bytes = int(self._policy.memory) + self.floor_bytes - footprint_bytes
        cpu_ns = own_cpu_ns + children.cpu_ns
        return footprint_bytes + self.hidden.measure(readings.pid, children.seen_ns, room_bytes, now_ns, cpu_ns)

    def over_peak(self, exchange: Exchange, readings: Readings) -> Finding | None:
        """Return the memory limit if the call's peak is beyond it, by the kernel's high-water mark."""
        if self.hidden.shared.used or self.hidden.size_bytes:
            exchange.raise_peak(self._footprint_bytes(readings, exchange.ended_ns, exchange.last_cpu_ns))
        return self.over_memory(exchange.peak_bytes)

    def over_memory(self, footprint_bytes: int) -> Finding | None:
        """Return the memory limit if this footprint is beyond it."""
        growth = footprint_bytes - self.floor_bytes
        return _over("memory", growth, self._policy) if self.floor_bytes else None

    def finding_for(self, exchange: Exchange, violation: Violation) -> Finding:
        """Return the reply limit if more than it has come; else the protocol."""
        if violation.oversize is not None and not exchange.greeting:
            return Finding("reply", *violation.oversize, "bytes")
        return Finding("protocol", 0, 0, str(violation))

    def limit_of_exit(self, news: ZygoteNews, exchange: Exchange | None) -> Finding | None:
        """Return the limit for which the kernel itself ended the process, if it did."""
        policy = self._policy
        if news.out_of_memory:
            growth = exchange.peak_bytes - self.floor_bytes if exchange is not None else 0
            return Finding.of("memory", growth if growth > int(policy.memory) else None, policy)
        before_ns = exchange.cpu0_ns if exchange is not None else 0
        total_s = news.user_s + news.system_s
        used_s = total_s - before_ns / 1e9
        if news.status == "SIGXCPU" and used_s >= policy.cpu_s:  # a plugin may send itself this signal
            return Finding.of("cpu", used_s, policy)
        if news.status == "SIGXCPU" and total_s >= _BY_TICKS * self._cpu_limit_s:
            return Finding("cpu", total_s, self._cpu_limit_s, "s (ulimit -t)")
        return None

    def _next(self, exchange: Exchange, rss: int, headroom: int, now_ns: int) -> float:
        """Return a short wait at a call's start and after a change of memory, shortest near its limit; else zero."""
        grown = rss - self._last_rss
        if grown > _MIB and (headroom < 8 * grown or headroom < 64 * _MIB):
            return 0.001
        if abs(grown) > _MIB:
            return 0.003
        return 0.002 if now_ns - exchange.started_ns < 30_000_000 else 0.0

    def _slow_frame(self, reader: FrameReader, now_ns: int) -> Finding | None:
        """Return a finding for a frame that stays incomplete too long; at most 50 ms count for each check."""
        if not reader.partial:
            self._partial_ns = 0
            return None
        self._partial_ns += min(now_ns - self._last_tick_ns, 50_000_000)
        allowed_s = _FRAME_S + reader.expected_bytes / _FRAME_BYTES_PER_S
        if self._partial_ns / 1e9 > allowed_s:
            return Finding("protocol", 0, 0, f"a frame began {self._partial_ns / 1e9:.1f} s ago and isn't whole")
        return None

    def _disk(self, process: Process, now_ns: int) -> Finding | None:
        """Return the disk limit if the scratch directory is beyond it, unless a tmpfs bounds that. Before there is a
        plugin, the worker itself passes a descriptor."""
        if not self.counts_scratch or not self.floor_bytes or now_ns - self._disk_at_ns < _DISK_EVERY_NS:
            return None
        disk = scratch_bytes(int(self._policy.disk), self._policy.profile)
        most = scratch_inodes(disk)
        if self._count is None:
            pids = (process.pid, *self._children.seen_ns)
            self._count = ScratchCount(process.open_scratch, pids, disk, most, process.scratch)
        count = self._count
        if count.go_on(_DISK_PIECE_NS):
            self._count = None
        self._disk_at_ns = now_ns
        used, inodes = count.use
        if used > disk:
            return Finding("disk", used, disk, "bytes")
        return Finding("disk", inodes, most, "files") if inodes > most else None
