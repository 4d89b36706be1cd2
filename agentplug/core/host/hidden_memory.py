"""Measure a worker's memory that no footprint shows (host): shared memory, page tables, sockets, pipes and locks.

Page tables, sockets and pipes aren't measured where a policy's own limits keep them below a tenth of the plugin's
memory. Callers hold the worker's lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection

from agentplug.contract.policy import Policy
from agentplug.core.boundary.bounds import ROOMY_BYTES, data_allowance_bytes
from agentplug.core.host.kernel_buffers import LOCK_BYTES, buffers_bytes, locks_bytes, socket_bytes
from agentplug.core.host.readings import folder_of
from agentplug.core.host.shared_memory import SharedMemory

EVERY_NS = 10_000_000
_LOCK_CPU_NS = 4_000  # a lock takes longer to make: some 11 us
_SHARE = 50  # at most a fiftieth of the watchdog's time
_CROWDED_SHARE = 4  # while what is open may hold more than is left of the limit
_MOST_PASSED = 253  # descriptors in one message, beyond what a user may have in transit: unix(7)
_TABLE_COVERS = 512  # bytes of address space for one byte of page tables
_WORTH, _TRIFLE = 10, 20  # parts of the policy's memory


class HiddenMemory:
    """The hidden memory of one worker and its children."""

    def __init__(self, policy: Policy) -> None:
        self.shared = SharedMemory(int(policy.memory))
        self.size_bytes = 0  # as measured last
        self._memory_bytes = int(policy.memory)
        self._network = policy.network is not False
        self._in_transit = policy.open_files + _MOST_PASSED if policy.network is True else 0
        self._each_bytes = socket_bytes()
        address_space = data_allowance_bytes(self._memory_bytes, policy.threads) + ROOMY_BYTES
        processes = policy.processes + 1
        most = (policy.open_files * self._each_bytes + address_space // _TABLE_COVERS) * processes
        self._counts_kernel = most * _WORTH > self._memory_bytes
        self.is_sampled = self._counts_kernel or self._network
        """True if more of the kernel's part than locks is measured now and then."""
        self._kernel_bytes = self._locks_bytes = 0
        self._locks_worth_ns = self._memory_bytes // _TRIFLE // LOCK_BYTES * _LOCK_CPU_NS
        self._locks_due_ns = self._locks_worth_ns  # of CPU time
        self._measured_ns = self._cost_ns = 0
        self._cpu_ns = -1

    def measure(self, pid: int, children: Collection[int], room_bytes: int, now_ns: int, cpu_ns: int) -> int:
        """Measure it in bytes, with care if it is more than `room_bytes`.

        `cpu_ns` is the CPU time of the processes: nothing is read again before it changes, unless there is no room.
        """
        if cpu_ns == self._cpu_ns and room_bytes >= 0:
            return self.size_bytes
        size_bytes = 0
        pids = (pid, *children)
        crowded = self._counts_kernel and _open_files(pids) * self._each_bytes > room_bytes
        pace_ns = max(EVERY_NS, (_CROWDED_SHARE if crowded else _SHARE) * self._cost_ns)
        is_due = now_ns - self._measured_ns >= pace_ns
        if self.shared.used:
            resident_bytes = _sum_of(b"RssShmem", pids)
            size_bytes = self.shared.hidden_bytes(pids, resident_bytes, room_bytes, now_ns)
        if self.is_sampled and is_due:
            began_ns = time.thread_time_ns()
            self._kernel_bytes = self._measure_kernel(pids)
            self._measured_ns, self._cost_ns = now_ns, time.thread_time_ns() - began_ns
        if cpu_ns >= self._locks_due_ns or (room_bytes < 0 and self._locks_bytes):
            began_ns = time.thread_time_ns()
            self._locks_bytes = self._worth_counting(locks_bytes(pids))
            cost_ns = time.thread_time_ns() - began_ns
            self._locks_due_ns = cpu_ns + (max(cost_ns, EVERY_NS) if self._locks_bytes else self._locks_worth_ns)
        if (is_due or not self.is_sampled) and (self.shared.scanned_ns == now_ns or not self.shared.used):
            self._cpu_ns = cpu_ns  # all of it was read just now
        self.size_bytes = size_bytes + self._kernel_bytes + self._locks_bytes
        return self.size_bytes

    def _measure_kernel(self, pids: Collection[int]) -> int:
        """Measure page tables and buffers; zero for a trifle, which every process has."""
        total = _sum_of(b"VmPTE", pids) if self._counts_kernel else 0
        if self._network or _open_files(pids) * self._each_bytes * _TRIFLE > self._memory_bytes:
            total += buffers_bytes(pids, self._each_bytes, network=self._network, in_transit=self._in_transit)
        return self._worth_counting(total)

    def _worth_counting(self, size_bytes: int) -> int:
        return size_bytes if size_bytes * _TRIFLE > self._memory_bytes else 0


def _open_files(pids: Collection[int]) -> int:
    """Count the open descriptors: the size of /proc/PID/fd since Linux 6.2, or else its entries."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            folder = f"{folder_of(pid)}/fd"
            count += os.stat(folder).st_size or len(os.listdir(folder))
    return count


def _sum_of(name: bytes, pids: Collection[int]) -> int:
    """Sum a size in /proc/PID/status up. A process's name can't hold a line break: the kernel escapes it."""
    total = 0
    for pid in pids:
        try:
            with open(f"{folder_of(pid)}/status", "rb", buffering=0) as file:
                text = file.read(8192)
            total += int(text.partition(b"\n%b:" % name)[2].split(b" kB", 1)[0]) << 10
        except (OSError, ValueError):
            continue  # it has ended; the footprint finds out
    return total
