"""Attacks on the host's time: a plugin's busy children beside a host that has work to do on the same processor."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from arena import until

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

CROWD = """
import os, time

def attack(given):
    processor, how = given
    until = time.monotonic() + 1.0
    for _ in range(4):
        if os.fork() == 0:
            for _ in range(how.count("session")):
                try:
                    os.setsid()
                except PermissionError:
                    pass
                if how.endswith("fork") and os.fork():
                    os._exit(0)
            os.sched_setaffinity(0, [processor])
            while time.monotonic() < until:
                os.kill(os.getpid(), 0)
            os._exit(0)
    time.sleep(max(0, until - time.monotonic()))
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return os.times().children_user + os.times().children_system
"""
SPIN = """
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
print(flush=True)
while True:
    os.kill(os.getpid(), 0)
"""
SESSION = "import os\ndef attack(given):\n    return os.setsid()"


@pytest.fixture
def busy_host() -> Iterator[psutil.Process]:
    """A process of the host's own session that computes on one processor."""
    processor = min(os.sched_getaffinity(0))
    argv = [sys.executable, "-Ic", SPIN, str(processor)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield psutil.Process(process.pid)
        process.kill()


def used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@pytest.mark.parametrize("how", ["plain", "session", "session, fork", "session session, fork"])
def test_busy_children_leave_the_processor_to_the_host(arena: Any, busy_host: psutil.Process, how: str) -> None:
    """Four of them get a small part of what one process of the host gets beside them, in whatever session."""
    (processor,) = busy_host.cpu_affinity()

    async def compete() -> tuple[float, float]:
        async with arena.plugin(CROWD, Policy(processes=12, cpu_s=30, wall_s=60)) as plugin:
            await plugin.start()
            before_s = used_s(busy_host)
            theirs_s = await plugin.process([processor, how])
            return theirs_s, used_s(busy_host) - before_s

    theirs_s, ours_s = asyncio.run(compete())

    assert theirs_s < ours_s / 3


def test_no_session_is_granted(unconfined: Any, confined: Any) -> None:
    """A session would have an autogroup of its own, as high as the host's. The refused call is reported."""
    assert unconfined("import os\ndef attack(given):\n    if os.fork() == 0: os.setsid()\n    os.wait()").status == 0

    run = confined(SESSION, policy=Policy(processes=2))

    assert run.verdict == Verdict("failed", "PermissionError")
    assert "setsid" in [event.detail.get("syscall") for event in run.events]


async def test_every_worker_has_a_low_priority(arena: Any) -> None:
    """Many that start at once too: the kernel lets a user lower one autogroup in 100 ms, and the others follow."""
    plugins = [arena.plugin("def attack(given):\n    return 1") for _ in range(6)]
    await asyncio.gather(*(plugin.process(None) for plugin in plugins))
    folders = [Path(f"/proc/{plugin.pid}") for plugin in plugins]
    if (folders[0] / "autogroup").exists():
        async with asyncio.timeout(60):
            await until(lambda: all((f / "autogroup").read_text().endswith(" nice 10\n") for f in folders))
    assert {os.getpriority(os.PRIO_PROCESS, plugin.pid) for plugin in plugins} == {10}
    statuses = {plugin.barriers.set_index("barrier").loc["priority", "status"] for plugin in plugins}
    assert statuses == {"enforced"}
    await asyncio.gather(*(plugin.close() for plugin in plugins))
