"""What the kernel says about a worker and its children, read from outside them (host); its CPU limit is set here too.

A worker's files of proc(5) stay open, so that a reading costs one pread of 1 to 7 microseconds. A vanished process
reads as `Gone`, never as zero. No number here comes from the worker itself.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
HARDLY_NS = 150_000
"""CPU time in which nothing worth a count goes through read and write calls."""
_OWN_LINKS = 2  # of a folder without folders
_RECVFROM = {"x86_64": 45, "aarch64": 207}.get(platform.machine(), -1)


class Gone(Exception):
    """The process ended, or its readings are hidden. A worker is killed for either: none goes on unmeasured."""


class Memory(NamedTuple):
    """Of /proc/PID/status: high-water mark and current footprint in bytes, and the number of threads."""

    peak_bytes: int
    footprint_bytes: int
    threads: int


class Counters(NamedTuple):
    """Of /proc/PID/stat and /proc/PID/io, since the process began (`threads` and `counted_bytes`: now).

    `counted_bytes` is the resident memory that all processors have handed in, each up to 32 pages late: what the
    high-water mark is taken from, while statm and status count the rest as well.
    """

    counted_bytes: int
    threads: int
    faults: int
    user_ticks: int
    system_ticks: int
    read_bytes: int
    write_bytes: int


def footprint_in(statm: bytes) -> int:
    """Resident memory in bytes, of what /proc/PID/statm says. Raises `Gone`."""
    try:
        pages = int(statm.split(b" ", 2)[1])
    except IndexError:
        raise Gone("no readings") from None
    if pages == 0:
        raise Gone("statm")
    return pages * _PAGE


class Readings:
    """The counters of one process. Close it after use. Raises `Gone` once the process has ended."""

    def __init__(self, pid: int) -> None:
        self._fds: dict[str, int] = {}
        self.clock = (~pid << 3) | 2  # the kernel's clockid of a process's CPU time, see clock_getcpuclockid(3)
        self.pid = pid
        self.statm = self._status = self._stat = self._io = self._task = self._clear_refs = self._syscall = -1
        self._last = Counters(0, 0, 0, 0, 0, 0, 0)
        self._last_ns = -HARDLY_NS - 1
        try:
            for name in ("statm", "status", "stat", "io", "task"):
                self._fds[name] = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            self._clear_refs = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise Gone(f"process {pid}: {error.strerror}") from None
        self._fds["clear_refs"] = self._clear_refs
        with contextlib.suppress(OSError):  # a kernel may hide it; then the worker is asked instead
            self._syscall = self._fds["syscall"] = os.open(f"/proc/{pid}/syscall", os.O_RDONLY | os.O_CLOEXEC)
        self.statm, self._status = self._fds["statm"], self._fds["status"]
        self._stat, self._io, self._task = self._fds["stat"], self._fds["io"], self._fds["task"]

    def close(self) -> None:
        """Close the files; from then on every reading is `Gone`."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}
        self.statm = self._status = self._stat = self._io = self._task = self._clear_refs = self._syscall = -1

    def _read(self, fd: int, most: int = 1024) -> bytes:
        try:
            data = os.pread(fd, most, 0)
        except OSError:
            raise Gone("no readings") from None
        if not data:
            raise Gone("no readings")
        return data

    def footprint_bytes(self) -> int:
        """Resident memory now: private, shared and mapped files."""
        try:
            return footprint_in(os.pread(self.statm, 64, 0))
        except OSError:
            raise Gone("no readings") from None

    def memory(self) -> Memory:
        """Resident high-water mark since `reset_peak`, resident memory now, threads now."""
        text = self._read(self._status, 4096)
        try:
            peak = text.index(b"VmHWM:") + 6
            rss = text.index(b"VmRSS:", peak) + 6
            swap = text.index(b"VmSwap:", rss) + 7
            threads = text.index(b"Threads:", swap) + 8
        except ValueError:
            raise Gone("status") from None
        swapped = int(text[swap : text.index(b" kB", swap)]) << 10
        return Memory(
            (int(text[peak : text.index(b" kB", peak)]) << 10) + swapped,
            (int(text[rss : text.index(b" kB", rss)]) << 10) + swapped,
            int(text[threads : text.index(b"\n", threads)]),
        )

    def reset_peak(self) -> None:
        """Start the high-water mark anew at the present footprint (`5` to clear_refs, see proc(5))."""
        try:
            os.pwrite(self._clear_refs, b"5", 0)
        except OSError:
            raise Gone("clear_refs") from None

    def cpu_ns(self) -> int:
        """CPU time of all its threads, dead ones included, in nanoseconds."""
        try:
            return time.clock_gettime_ns(self.clock)
        except OSError:
            raise Gone("clock") from None

    def waited_cpu_ns(self) -> int:
        """CPU time of the children that it has waited for, in ticks' precision."""
        fields = self._stat_fields()
        return (int(fields[13]) + int(fields[14])) * (1_000_000_000 // HZ)

    def threads(self) -> int:
        """How many threads it has now: the folders in /proc/PID/task, which its links count. A tenth of a `stat`."""
        try:
            count = os.fstat(self._task).st_nlink - _OWN_LINKS
        except OSError:
            raise Gone("task") from None
        if count <= 0:
            raise Gone("task")
        return count

    def _stat_fields(self) -> list[bytes]:
        """Of /proc/PID/stat, what follows the name: state first, threads at 17, resident pages at 21."""
        stat = self._read(self._stat)
        return stat[stat.rindex(b")") + 2 :].split(b" ", 22)

    def counters(self, cpu_ns: int, *, hardly_ns: int = 0) -> Counters:
        """All counters at CPU time `cpu_ns`: those of the last time if it hasn't run since. What read and write calls
        moved is taken from there also if it has run for less than `hardly_ns`.
        """
        if cpu_ns == self._last_ns:
            return self._last
        fields = self._stat_fields()
        if cpu_ns - self._last_ns < hardly_ns:
            read_bytes, write_bytes = self._last.read_bytes, self._last.write_bytes
        else:
            read, written, _ = self._read(self._io).split(b"\n", 2)
            read_bytes, write_bytes = int(read[7:]), int(written[7:])
        self._last_ns = cpu_ns
        self._last = Counters(
            int(fields[21]) * _PAGE,
            int(fields[17]),
            int(fields[7]) + int(fields[9]),
            int(fields[11]),
            int(fields[12]),
            read_bytes,
            write_bytes,
        )
        return self._last

    def receives_on(self, fd: int) -> bool:
        """Its main thread waits in recv(2) on its descriptor `fd`, as the kernel sees it. False when hidden."""
        try:
            return os.pread(self._syscall, 24, 0).startswith(b"%d 0x%x " % (_RECVFROM, fd))
        except OSError:
            return False


def arm_cpu_limit(pid: int, seconds: int) -> None:
    """Set the soft RLIMIT_CPU of another process of ours: prlimit(2). Best effort, as a backstop is."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


class Footprint(NamedTuple):
    """Resident bytes, CPU nanoseconds and threads of a process."""

    rss_bytes: int
    cpu_ns: int
    threads: int


def footprint_of(pid: int) -> Footprint:
    """Of a process that is read only now and then. Raises `Gone`."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split(b" ", 2)[1])
        threads = len(os.listdir(f"/proc/{pid}/task"))
        return Footprint(pages * _PAGE, time.clock_gettime_ns((~pid << 3) | 2), threads)
    except (OSError, IndexError):
        raise Gone(f"process {pid}") from None
