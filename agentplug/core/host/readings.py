"""Read a worker's and its children's counters from the kernel, and set its CPU limit (host).

A worker's files of proc(5) stay open, so that a reading costs one pread of 1 to 7 microseconds. A process that has
ended raises `Gone`; it never reads as zero. No number here comes from the worker itself.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from typing import NamedTuple

from agentplug.core.boundary.bounds import least_cpu_limit

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
HARDLY_NS = 150_000
"""CPU time too short to read or write an amount that matters."""
_STATUS_BYTES = 1 << 16  # the list of a user's groups, which may be thousands, comes before the figures
_OWN_LINKS = 2  # links of a directory without subdirectories
_RECVFROM = {"x86_64": 45, "aarch64": 207}.get(platform.machine(), -1)


class Gone(Exception):
    """The process ended, or its readings are hidden. Either way it is killed: no worker runs unmeasured."""


class Memory(NamedTuple):
    """Fields of /proc/PID/status: high-water mark and current footprint in bytes, number of threads."""

    peak_bytes: int
    footprint_bytes: int
    threads: int


class Counters(NamedTuple):
    """Fields of /proc/PID/stat and /proc/PID/io, since the process began (`threads` and `counted_bytes`: now).

    `counted_bytes` is the resident memory without the last pages, up to 32 for each processor, that the kernel adds
    late. The high-water mark comes from this sum, while statm and status include those pages.
    """

    counted_bytes: int
    threads: int
    faults: int
    user_ticks: int
    system_ticks: int
    read_bytes: int
    write_bytes: int


def footprint_in(statm: bytes) -> int:
    """Return resident memory in bytes from the text of /proc/PID/statm. Raises `Gone`."""
    return _bytes_in(statm, 1)


def _bytes_in(statm: bytes, field: int) -> int:
    try:
        pages = int(statm.split(b" ", field + 1)[field])
    except IndexError:
        raise Gone("no readings") from None
    if pages == 0:
        raise Gone("statm")
    return pages * _PAGE


class Readings:
    """The counters of one process. Close it after use. Methods raise `Gone` once the process has ended."""

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
        with contextlib.suppress(OSError):  # a kernel may hide it; then `Exchange.settle` asks the worker
            self._syscall = self._fds["syscall"] = os.open(f"/proc/{pid}/syscall", os.O_RDONLY | os.O_CLOEXEC)
        self.statm, self._status = self._fds["statm"], self._fds["status"]
        self._stat, self._io, self._task = self._fds["stat"], self._fds["io"], self._fds["task"]

    def close(self) -> None:
        """Close the files; every later reading raises `Gone`."""
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
        """Return resident memory in bytes: private, shared and mapped files."""
        try:
            return footprint_in(os.pread(self.statm, 64, 0))
        except OSError:
            raise Gone("no readings") from None

    def reserved_bytes(self) -> int:
        """Return the private address space in bytes, touched or not: about what RLIMIT_DATA counts."""
        return _bytes_in(self._read(self.statm, 128), 5)

    def memory(self) -> Memory:
        """Read the high-water mark since `reset_peak`, resident memory and threads."""
        text = self._read(self._status, _STATUS_BYTES)
        try:  # by line: the first one is the process's name, which a plugin chooses and which can't hold a line end
            peak = text.index(b"\nVmHWM:") + 7
            rss = text.index(b"\nVmRSS:", peak) + 7
            swap = text.index(b"\nVmSwap:", rss) + 8
            threads = text.index(b"\nThreads:", swap) + 9
        except ValueError:
            raise Gone("status") from None
        swapped = int(text[swap : text.index(b" kB", swap)]) << 10
        return Memory(
            (int(text[peak : text.index(b" kB", peak)]) << 10) + swapped,
            (int(text[rss : text.index(b" kB", rss)]) << 10) + swapped,
            int(text[threads : text.index(b"\n", threads)]),
        )

    def reset_peak(self) -> None:
        """Reset the high-water mark to the present footprint (`5` to clear_refs, see proc(5))."""
        try:
            os.pwrite(self._clear_refs, b"5", 0)
        except OSError:
            raise Gone("clear_refs") from None

    def cpu_ns(self) -> int:
        """Return the CPU time of all threads, ended ones included, in nanoseconds."""
        try:
            return time.clock_gettime_ns(self.clock)
        except OSError:
            raise Gone("clock") from None

    def waited_cpu_ns(self) -> int:
        """Return the CPU time of the children that it has waited for, to the precision of a tick."""
        fields = self._stat_fields()
        return (int(fields[13]) + int(fields[14])) * (1_000_000_000 // HZ)

    def threads(self) -> int:
        """Count its threads: the links of /proc/PID/task. Ten times faster than /proc/PID/stat."""
        try:
            count = os.fstat(self._task).st_nlink - _OWN_LINKS
        except OSError:
            raise Gone("task") from None
        if count <= 0:
            raise Gone("task")
        return count

    def _stat_fields(self) -> list[bytes]:
        """Return what follows the name in /proc/PID/stat: state first, threads at 17, resident pages at 21."""
        stat = self._read(self._stat)
        return stat[stat.rindex(b")") + 2 :].split(b" ", 22)

    def counters(self, cpu_ns: int, *, hardly_ns: int = 0) -> Counters:
        """Read the counters at CPU time `cpu_ns`. The last reading is returned if the process hasn't run since; its
        bytes read and written are, if it has run for less than `hardly_ns`."""
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
        """Return true if the kernel sees the main thread wait in recv(2) on descriptor `fd`; false where hidden."""
        try:
            return os.pread(self._syscall, 24, 0).startswith(b"%d 0x%x " % (_RECVFROM, fd))
        except OSError:
            return False


def arm_cpu_limit(pid: int, seconds: int) -> int:
    """Set the soft RLIMIT_CPU of a worker: prlimit(2), and return it. Errors are ignored: it is a backstop."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(OSError, ValueError):
            hard = resource.prlimit(pid, resource.RLIMIT_CPU)[1]
            seconds = least_cpu_limit(seconds, hard)
            resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, hard))
    return seconds


class Footprint(NamedTuple):
    """Resident bytes, CPU time and threads of a process."""

    rss_bytes: int
    cpu_ns: int
    threads: int


def folder_of(pid: int) -> str:
    """Return the folder in /proc that shows a process's memory and files: /proc/PID, or that of another thread if
    the first one has ended, whose own folder shows nothing of what the others go on using."""
    folder = f"/proc/{pid}"
    with contextlib.suppress(OSError):
        if _pages_in(folder):
            return folder
        for thread in os.listdir(f"{folder}/task"):
            with contextlib.suppress(OSError):
                if _pages_in(f"{folder}/task/{thread}"):
                    return f"{folder}/task/{thread}"
    return folder


def _pages_in(folder: str) -> int:
    with open(f"{folder}/statm", "rb") as file:
        return int(file.read().split(b" ", 2)[1])


def footprint_of(pid: int) -> Footprint:
    """Read the footprint of a process whose files aren't open. Raises `Gone`."""
    try:
        pages = _pages_in(f"/proc/{pid}") or _pages_in(folder_of(pid))
        threads = len(os.listdir(f"/proc/{pid}/task"))
        return Footprint(pages * _PAGE, time.clock_gettime_ns((~pid << 3) | 2), threads)
    except (OSError, IndexError):
        raise Gone(f"process {pid}") from None


def share_of_processor(pid: int) -> float:
    """Return the share of its running time for which a process had a processor; 0 if it isn't running now.

    See /proc/PID/schedstat: nanoseconds on a processor, and waiting for one.
    """
    folder = folder_of(pid)
    try:
        with open(f"{folder}/stat", "rb") as file:
            stat = file.read()
        if stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] != b"R":
            return 0.0
        with open(f"{folder}/schedstat", "rb") as file:
            ran, waited, _ = map(int, file.read().split())
    except (OSError, ValueError):
        return 0.0
    return ran / (ran + waited) if ran else 1.0
