"""Measure a worker's memory that no footprint shows (host): shared memory, page tables, threads, buffers and locks.

Page tables, threads and locks take CPU time to make, so they are read again when enough of it has passed. Sockets and
pipes are read now and then, unless a policy keeps them below a twentieth of the plugin's memory. What is below that
in sum is a trifle. Callers hold the worker's lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator

from agentplug.contract.policy import Policy
from agentplug.core.host.kernel_buffers import RECORD_BYTES, buffers_bytes, records_bytes, socket_bytes
from agentplug.core.host.readings import folder_of
from agentplug.core.host.shared_memory import SharedMemory
from agentplug.core.host.tcp_memory import TcpMemory

EVERY_NS = 10_000_000
_THREAD_BYTES = 24 << 10  # its stack in the kernel, and the kernel's record of it
_TABLES_BYTES_PER_NS = 8  # faster than any processor makes page tables: 4 KiB in 500 ns
_RECORD_NS = 500  # a lock takes some 11 us to make, a file that is waited for 1.5
_SHARE = 50  # at most a fiftieth of the watchdog's time
_CROWDED_SHARE = 4  # while a part may hold more than is left of the limit
_PIECE_NS = 3_000_000  # of a reading
_MOST_PASSED = 253  # descriptors in one message, beyond what a user may have in transit: unix(7)
_TRIFLE = 20  # part of the policy's memory


class _Part:
    """A part of the kernel's memory. It is read again once the processes have used `worth_ns` of CPU time, but not
    before `least_ns` have passed, or longer if it takes long.

    `read` yields how much it has found so far, so that other workers' checks don't wait for many files: until it is
    through, the last complete reading counts, if it was more.
    """

    def __init__(self, read: Callable[[Collection[int]], Iterator[int]], worth_ns: int, least_ns: int = 0) -> None:
        self._read = read
        self._steps: Iterator[int] | None = None  # of a reading under way
        self._worth_ns = self._due_cpu_ns = worth_ns
        self._least_ns, self._due_ns = least_ns, 0
        self.size_bytes = 0

    def measure(self, pids: Collection[int], now_ns: int, cpu_ns: int, share: int, *, urgent: bool) -> bool:
        """Read it if that is due, or urgent and there is something. Return false if there is more to read."""
        if not (urgent and self.size_bytes):
            if self._steps is None and cpu_ns < self._due_cpu_ns:
                return True
            if now_ns < self._due_ns:
                return False
        began_ns = time.thread_time_ns()
        if self._steps is None:
            self._steps, self._due_cpu_ns = self._read(pids), cpu_ns + self._worth_ns
        size_bytes = spent_ns = 0
        for size_bytes in self._steps:
            spent_ns = time.thread_time_ns() - began_ns
            if spent_ns > _PIECE_NS:
                self.size_bytes = max(self.size_bytes, size_bytes)
                break
        else:
            self._steps, self.size_bytes = None, size_bytes
        self._due_ns = now_ns + max(self._least_ns, share * spent_ns)
        return self._steps is None and cpu_ns <= self._due_cpu_ns  # nothing has changed since it began


class HiddenMemory:
    """The hidden memory of one worker and its children."""

    def __init__(self, policy: Policy) -> None:
        self._memory_bytes = memory_bytes = int(policy.memory)
        self.shared = SharedMemory(memory_bytes)
        self.size_bytes = 0  # as measured last
        self._tcp = TcpMemory() if policy.network is not False else None
        self._in_transit = policy.open_files + _MOST_PASSED if policy.network is True else 0
        self._each_bytes = socket_bytes()
        most_bytes = policy.open_files * self._each_bytes * (policy.processes + 1)
        self.is_sampled = self._tcp is not None or most_bytes * _TRIFLE > memory_bytes
        """True if sockets and pipes are read now and then."""
        worth_bytes = memory_bytes // _TRIFLE
        self._tables = _Part(_tables_bytes, worth_bytes // _TABLES_BYTES_PER_NS)
        self._records = _Part(records_bytes, worth_bytes // RECORD_BYTES * _RECORD_NS)
        self._buffers = _Part(self._buffers_bytes, 0, EVERY_NS)
        self._kernel_bytes = 0
        self._cpu_ns = -1

    @property
    def grows_by_others(self) -> bool:
        """True if it may grow while no process of the worker runs."""
        return self._tcp is not None and self._tcp.is_open

    def measure(self, pid: int, children: Collection[int], room_bytes: int, now_ns: int, cpu_ns: int) -> int:
        """Measure it in bytes, with care if it is more than `room_bytes`.

        `cpu_ns` is the CPU time of the processes: nothing is read again before it changes, unless there is no room.
        """
        if cpu_ns == self._cpu_ns and room_bytes >= 0:
            return self.size_bytes
        size_bytes = 0
        pids = (pid, *children)
        if self.shared.used:
            resident_bytes = sum(_status(pid, b"RssShmem")[0] for pid in pids) << 10
            size_bytes = self.shared.hidden_bytes(pids, resident_bytes, room_bytes, now_ns)
        urgent = self._kernel_bytes + size_bytes > room_bytes
        complete = self._tables.measure(pids, now_ns, cpu_ns, _SHARE, urgent=urgent)
        complete = self._records.measure(pids, now_ns, cpu_ns, _CROWDED_SHARE, urgent=urgent) and complete
        if self.is_sampled:
            share = _CROWDED_SHARE if _open_files(pids) * self._each_bytes > room_bytes else _SHARE
            complete = self._buffers.measure(pids, now_ns, cpu_ns, share, urgent=urgent) and complete
        complete = complete and not self.grows_by_others
        if complete and (self.shared.scanned_ns == now_ns or not self.shared.used):
            self._cpu_ns = cpu_ns  # nothing has to be read again before they run
        kernel_bytes = self._tables.size_bytes + self._records.size_bytes + self._buffers.size_bytes
        self._kernel_bytes = kernel_bytes if kernel_bytes > self._memory_bytes // _TRIFLE else 0
        self.size_bytes = size_bytes + self._kernel_bytes
        return self.size_bytes

    def _buffers_bytes(self, pids: Collection[int]) -> Iterator[int]:
        if self._tcp is not None or _open_files(pids) * self._each_bytes * _TRIFLE > self._memory_bytes:
            yield from buffers_bytes(pids, self._each_bytes, self._tcp, self._in_transit)


def _tables_bytes(pids: Collection[int]) -> Iterator[int]:
    """Yield the size of all page tables, of what the kernel has for each thread, and of pages in swap: a plugin can
    send its own there."""
    total = 0
    for pid in pids:
        tables, swapped, threads = _status(pid, b"VmPTE", b"VmSwap", b"Threads")
        total += (tables + swapped << 10) + threads * _THREAD_BYTES
        yield total


def _open_files(pids: Collection[int]) -> int:
    """Count the open descriptors: the size of /proc/PID/fd since Linux 6.2, or else its entries."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            folder = f"{folder_of(pid)}/fd"
            count += os.stat(folder).st_size or len(os.listdir(folder))
    return count


def _status(pid: int, *names: bytes) -> list[int]:
    """Read numbers in /proc/PID/status; zero where the kernel shows none, as of a process that has ended. A process's
    name can't hold a line break: the kernel escapes it."""
    text = b""
    with contextlib.suppress(OSError), open(f"{folder_of(pid)}/status", "rb", buffering=0) as file:
        text = file.read()  # of any length: the list of a user's groups comes first
    return [int((text.partition(b"\n%b:" % name)[2].split(None, 1) or [b"0"])[0]) for name in names]
