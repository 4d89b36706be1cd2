"""The ledger: what the machine lost to a hoarder is what its run tells, or its limit.

Each hoarder runs in a host of its own, inside a cgroup that only counts: whatever host, zygote, worker and children
take of the machine is charged to it, kernel memory and ended processes included, and nothing of other programs. The
host runs as root and as uid 1000 in a container-like environment, where it can make no cgroup of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplug.core.boundary import cgroups

pytestmark = pytest.mark.need("landlock", "seccomp", "root", "cgroup")

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
LIMIT = 128 * MIB
TENTH = LIMIT // 10
DISK = 32 * MIB
POLICY: dict[str, Any] = {"memory": LIMIT, "cpu_s": 6.0, "wall_s": 20.0, "disk": DISK}

HOST = """
import asyncio, json, sys, time
from agentplug import Policy, SandboxedPlugin

def wait(word):
    print(word, flush=True)
    assert sys.stdin.readline()

async def main():
    spec, policy, argument = json.loads(sys.argv[1])
    async with SandboxedPlugin("agentplug.plugins.word_count") as plugin:
        await plugin.process("warm")
    async with SandboxedPlugin(spec, Policy(**policy)) as plugin:
        await plugin.start()
        wait("ready")
        own_s = time.process_time()
        run = await plugin.run(argument)
        usage, own_s = run.usage, time.process_time() - own_s
        added = usage.peak_memory_bytes - usage.baseline_memory_bytes
        wait(json.dumps([str(run.verdict), added, usage.cpu_s, own_s]))
    wait("closed")

asyncio.run(main())
"""


class Account:
    """Cgroups that count, and what memory and processor time have risen by while they were watched."""

    def __init__(self, memory: Path, processor: Path) -> None:
        self.memory, self.processor = memory, processor
        self.before = self.most = 0
        self.cpu_s = 0.0
        self._over = threading.Event()

    def in_use(self) -> int:
        """Bytes in use, without the page cache of files on a disk."""
        stat = dict(line.split() for line in (self.memory / "memory.stat").read_text().splitlines())
        if "total_cache" in stat:  # version 1
            cached = int(stat["total_cache"]) - int(stat.get("total_shmem", 0))
            return int((self.memory / "memory.usage_in_bytes").read_text()) - cached
        cached = int(stat["file"]) - int(stat["shmem"])
        return int((self.memory / "memory.current").read_text()) - cached - int(stat.get("slab_reclaimable", 0))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look at it every few milliseconds."""
        self.before, before_s = self.in_use(), self._cpu_s()
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self.cpu_s = self._cpu_s() - before_s

    def _cpu_s(self) -> float:
        if (usage := self.processor / "cpuacct.usage").exists():
            return int(usage.read_text()) / 1e9
        stat = dict(line.split() for line in (self.processor / "cpu.stat").read_text().splitlines())
        return int(stat["usage_usec"]) / 1e6

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.most = max(self.most, self.in_use() - self.before)

    def rise_that_stays(self) -> int:
        """The rise once the kernel has had time for what it frees late."""
        until = time.monotonic() + 5
        while (rise := self.in_use() - self.before) > TENTH and time.monotonic() < until:
            time.sleep(0.02)
        return rise


@pytest.fixture
def account() -> Iterator[Account]:
    name = f"ledger-{os.getpid()}-{time.monotonic_ns()}"
    memory = Path(cgroups.parents()["memory"], name)
    processor = Path(cgroups._own_folder("cpuacct") or memory.parent, name)  # version 2 has one folder for both
    for folder in {memory, processor}:
        folder.mkdir()
    yield Account(memory, processor)
    until = time.monotonic() + 10
    for folder in {memory, processor}:
        while folder.exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
            assert time.monotonic() < until, "processes are left in the cgroup"


def hoard(
    account: Account, place: str, name: str, policy: dict[str, Any], argument: Any
) -> tuple[str, int, float, float]:
    """Run one attack of the zoo in a host of its own.

    Returns its verdict, the memory that it added at its peak, its CPU seconds and those of the host.
    """
    argv = [sys.executable, "-c", HOST, json.dumps([f"agentplug.zoo.{name}", policy, argument])]
    if place == "container":
        argv = [sys.executable, str(ROOT / "tests" / "container.py"), "--", *argv]
    enter = f'echo $$ > {account.memory}/cgroup.procs && echo $$ > {account.processor}/cgroup.procs && exec "$@"'
    host = subprocess.Popen(
        ["/bin/sh", "-c", enter, "sh", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    )
    with host:
        assert host.stdin is not None
        assert host.stdout is not None

        def go(word: str = "") -> str:
            line = host.stdout.readline().strip()
            assert line == word or not word, line
            return line

        def on() -> None:
            host.stdin.write("on\n")
            host.stdin.flush()

        go("ready")
        with account.watched():
            on()
            verdict, added, cpu_s, host_s = json.loads(go())
        on()
        go("closed")
        stays = account.rise_that_stays()
        on()
    assert stays <= TENTH, (verdict, stays / MIB)
    return verdict, max(0, added), cpu_s, host_s


MEMORY: dict[str, tuple[dict[str, Any], Any]] = {
    "Hoarder": ({}, 1024),
    "SharedHoarder": ({}, 1024),
    "HiddenHoarder": ({}, 1024),
    "StubbornHoarder": ({}, None),
    "Burster": ({}, None),
    "Misnomer": ({}, None),
    "PrivateMapper": ({}, 4000),
    "PageTableHoarder": ({}, None),
    "TableHoarder": ({}, None),
    "StackHoarder": ({}, None),
    "LockedHoarder": ({}, None),
    "LockHoarder": ({}, None),
    "Splicer": ({}, None),
    "PagePinner": ({}, None),
    "SegmentHoarder": ({}, None),
}


@pytest.mark.parametrize("place", ["root", "container"])
@pytest.mark.parametrize("name", MEMORY)
def test_memory_that_the_machine_lost_is_in_the_figures(account: Account, name: str, place: str) -> None:
    """While it ran, the machine lost no more than the run tells, and a tenth of the limit."""
    more, argument = MEMORY[name]

    verdict, added, *_ = hoard(account, place, f"memory:{name}", POLICY | more, argument)

    assert account.most <= added + (POLICY | more)["memory"] / 10, (verdict, account.most / MIB, added / MIB)


@pytest.mark.parametrize("place", ["root", "container"])
@pytest.mark.parametrize("name", ["memory:PipeHoarder", "memory:SocketHoarder"])
def test_memory_in_the_kernels_buffers_is_within_the_limit(account: Account, name: str, place: str) -> None:
    """No high-water mark has it: it is read every few milliseconds, and may be gone again before it is told."""
    policy = POLICY | {"open_files": 2000, "memory": 4 * LIMIT}

    verdict, *_ = hoard(account, place, name, policy, None)

    assert account.most <= 4 * LIMIT * 1.1, (verdict, account.most / MIB)


@pytest.mark.parametrize("place", ["root", "container"])
@pytest.mark.parametrize("name", ["memory:PageCacheHoarder", "files:DiskFiller", "scratch:OneFileFiller"])
def test_memory_of_a_scratch_directory_is_within_its_limit(account: Account, name: str, place: str) -> None:
    """Where it is a sized tmpfs, its files are memory, under the limit on the disk; elsewhere nothing of it stays."""
    verdict, added, *_ = hoard(account, place, name, POLICY, None)

    if place == "root":
        assert account.most <= added + DISK + TENTH, (verdict, account.most / MIB, added / MIB)


@pytest.mark.parametrize("place", ["root", "container"])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("cpu:Spinner", {}),
        ("cpu:ThreadSpinner", {}),
        ("processes:Mayfly", {"processes": 4}),
        ("protocol:SpinningForger", {}),
    ],
)
def test_processor_time_that_the_machine_lost_is_in_the_figures(
    account: Account, name: str, more: dict[str, Any], place: str
) -> None:
    """Of all that ran meanwhile, what isn't the host's own is the run's, but for the zygote's part and, with children
    that nobody waits for, a sample's error."""
    verdict, _, cpu_s, host_s = hoard(account, place, name, POLICY | {"cpu_s": 1.0} | more, None)

    assert verdict == "limited:cpu"
    most = 1.5 if name == "processes:Mayfly" else 1.25
    assert account.cpu_s - host_s <= most * cpu_s, (account.cpu_s, host_s, cpu_s)
