"""What the kernel says about a worker, read from outside it (host).

Files of proc(5) stay open, so that a reading costs one pread of 1 to 7 microseconds. A vanished process reads as
`Gone`, never as zero. No number here comes from the worker itself.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Gone(Exception):
    """The process ended, or its readings are hidden."""


class Memory(NamedTuple):
    """Of /proc/PID/status: high-water mark and current footprint in bytes, and the number of threads."""

    peak_bytes: int
    footprint_bytes: int
    threads: int


class Readings:
    """The counters of one process. Close it after use. Raises `Gone` once the process has ended."""

    def __init__(self, pid: int) -> None:
        self._fds: dict[str, int] = {}
        self._clock = (~pid << 3) | 2  # the kernel's clockid of a process's CPU time, see clock_getcpuclockid(3)
        self.pid = pid
        try:
            for name in ("statm", "status", "stat", "io"):
                self._fds[name] = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            self._clear_refs = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise Gone(f"process {pid}: {error.strerror}") from None
        self._fds["clear_refs"] = self._clear_refs
        self._statm, self._status = self._fds["statm"], self._fds["status"]
        self._stat, self._io = self._fds["stat"], self._fds["io"]

    def close(self) -> None:
        """Close the files."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}

    def _read(self, name: str, fd: int) -> bytes:
        if name not in self._fds:
            raise Gone("closed")
        try:
            data = os.pread(fd, 4096, 0)
        except OSError:
            raise Gone(name) from None
        if not data:
            raise Gone(name)
        return data

    def footprint_bytes(self) -> int:
        """Resident memory now: private, shared and mapped files."""
        pages = int(self._read("statm", self._statm).split(b" ", 2)[1])
        if pages == 0:
            raise Gone("statm")
        return pages * _PAGE

    def memory(self) -> Memory:
        """Resident high-water mark since `reset_peak`, resident memory now, threads now."""
        text = self._read("status", self._status)
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
        if "clear_refs" not in self._fds:
            raise Gone("closed")
        try:
            os.pwrite(self._clear_refs, b"5", 0)
        except OSError:
            raise Gone("clear_refs") from None

    def cpu_ns(self) -> int:
        """CPU time of all its threads, dead ones included, in nanoseconds."""
        try:
            return time.clock_gettime_ns(self._clock)
        except OSError:
            raise Gone("clock") from None

    def cpu_ticks(self) -> tuple[int, int, int]:
        """User and system CPU in clock ticks (their sum is less exact than `cpu_ns`), and threads."""
        rest = self._read("stat", self._stat).rpartition(b")")[2].split()
        return int(rest[11]), int(rest[12]), int(rest[17])

    def io_bytes(self) -> tuple[int, int]:
        """Bytes that went through its read and write calls (rchar, wchar)."""
        lines = self._read("io", self._io).split(b"\n", 2)
        return int(lines[0][7:]), int(lines[1][7:])


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, nearest first, as far as they are alive now."""
    found: list[int] = []
    queue = [pid]
    while queue and len(found) < 10_000:
        parent = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                with open(f"/proc/{parent}/task/{task}/children", "rb") as file:
                    children = [int(child) for child in file.read().split()]
            except OSError:
                continue
            found += children
            queue += children
    return found


def footprint_of(pid: int) -> tuple[int, int]:
    """Resident bytes and CPU nanoseconds of a process that is read only now and then. Raises `Gone`."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split(b" ", 2)[1])
        return pages * _PAGE, time.clock_gettime_ns((~pid << 3) | 2)
    except (OSError, IndexError):
        raise Gone(f"process {pid}") from None
