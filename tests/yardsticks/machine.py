"""What the machine feels while a stressor runs: memory of all kinds, delays of a loop, and what is left (host).

The memory is what the kernel charges this process's memory cgroup, be it a process's or the kernel's own; not what a
worker owns up to. Without a cgroup of its own it is the whole machine's, with what else goes on there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agentplug.core.boundary import cgroups
from agentplug.doctor.battery.stock import below

MIB = 1 << 20
TICK_S = 0.005
_READ_S = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_BYTES = 3 << 30  # that a run may cost before all below this process is killed
_MOST_TASKS = 2000


@dataclass(frozen=True)
class Memory:
    """Bytes given out: pages of processes and shared ones, and what the kernel uses for them (sockets, pipes, tables,
    names)."""

    pages: int
    kernel: int

    @classmethod
    def read(cls, account: Path | None) -> Memory:
        """Read the cgroup's account, of either version, or the machine's."""
        if account is None:
            names = _figures(Path("/proc/meminfo"))
            sockets = sum(int(pages) for pages in re.findall(r"\bmem (\d+)", Path("/proc/net/sockstat").read_text()))
            kernel_kib = sum(names[name] for name in ("SUnreclaim", "PageTables", "KernelStack"))
            return cls((names["AnonPages"] + names["Shmem"]) * 1024, kernel_kib * 1024 + sockets * _PAGE)
        names = _figures(account / "memory.stat")
        if "total_rss" in names:
            kernel = int((account / "memory.kmem.usage_in_bytes").read_text())
            return cls(names["total_rss"] + names["total_shmem"], kernel)
        return cls(names["anon"] + names["shmem"], names["kernel"] + names["sock"])


def _figures(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+):?\s+(\d+)", path.read_text(), re.MULTILINE)}


@contextlib.contextmanager
def own_account() -> Iterator[Path | None]:
    """Have a memory cgroup for this process alone during the block: a new one, or one that it is alone in already."""
    folder = cgroups._own_folder("memory")
    if folder is None:
        yield None
        return
    parent, own = Path(folder), Path(folder, f"agentplug-yardsticks-{os.getpid()}")
    if not cgroups.parents().get("memory"):
        yield parent if _alone(parent) else None
        return
    own.mkdir()
    try:
        (own / "cgroup.procs").write_text(str(os.getpid()))
        cgroups.parents.cache_clear()
        yield own
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))
        for pid in (own / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(pid)
        own.rmdir()


def _alone(folder: Path) -> bool:
    """True if nobody but this process and those that started it is in the cgroup."""
    pid, family = os.getpid(), set()
    while pid:
        family.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()} <= family


@dataclass
class Felt:
    """What was felt during a block: the most that memory rose, the longest delay of the loop, what had to be done."""

    account: Path | None
    pages_bytes: int = 0
    kernel_bytes: int = 0
    lag_s: float = 0.0
    guarded: str = ""
    _before: Memory = field(init=False)

    def __post_init__(self) -> None:
        self._before = Memory.read(self.account)

    def look(self) -> int:
        """Read the memory once, and return what it rose by. End all below this process if too much is lost."""
        now = Memory.read(self.account)
        pages_bytes, kernel_bytes = now.pages - self._before.pages, now.kernel - self._before.kernel
        self.pages_bytes = max(self.pages_bytes, pages_bytes)
        self.kernel_bytes = max(self.kernel_bytes, kernel_bytes)
        tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        if pages_bytes + kernel_bytes > _MOST_BYTES or tasks > _MOST_TASKS:
            self.guarded = f"ended by the yardstick: {(pages_bytes + kernel_bytes) // MIB} MiB, {tasks} tasks"
            for pid, _, _ in below(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return pages_bytes + kernel_bytes


@contextlib.asynccontextmanager
async def feeling(account: Path | None) -> AsyncIterator[Felt]:
    """Read the memory in a thread, and measure how late the running loop's ticks come, during the block.

    The delay is what a user feels: waits for a processor count.
    """
    felt, over = Felt(account), threading.Event()

    def read() -> None:
        while not over.wait(_READ_S):
            felt.look()

    async def tick() -> None:
        while True:
            due_s = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            felt.lag_s = max(felt.lag_s, time.monotonic() - due_s)

    thread, ticks = threading.Thread(target=read), asyncio.create_task(tick())
    thread.start()
    try:
        yield felt
    finally:
        ticks.cancel()
        over.set()
        thread.join()


def things() -> set[str]:
    """What a stressor could leave beside what a `Stock` has: files, shared memory, semaphores, queues."""
    return {*_files(), *_system_v()}


def _files() -> Iterator[str]:
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", str(Path.home())):
        with contextlib.suppress(OSError):
            yield from (entry.path for entry in os.scandir(folder) if "stress-ng" in entry.name)
    with contextlib.suppress(OSError):
        yield from (entry.path for entry in os.scandir("/dev/mqueue"))


def _system_v() -> Iterator[str]:
    for kind in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]:
                yield f"System V {kind} {line.split()[1]}"
