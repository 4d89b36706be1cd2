"""Whoever of host, keeper and zygote is killed: nothing of a plugin lives on, its granted children neither."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentplug.core.boundary import cgroups
from tests.leftovers import eventually

pytestmark = pytest.mark.need("landlock", "seccomp")

# Two families are left: one waits in a process group of its own, one goes on forking and is never the same process.
HOST = """
import asyncio, json, os, signal, time
from agentplug import Policy, SandboxedPlugin
from agentplug.core.host.launcher import zygote_for

class Family:
    name, version = "family", "1"

    def initialize(self, config): ...

    def process(self, x):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        pipe, end = os.pipe()
        if os.fork() == 0:
            os.setpgid(0, 0)
            os.write(end, b"%d " % os.getpid())
            os.fork()
            time.sleep(600)
        waiting = int(os.read(pipe, 20))
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for them
        if os.fork() == 0:
            while os.fork() == 0:
                time.sleep(0.01)
            os._exit(0)
        return waiting

async def main():
    plugin = SandboxedPlugin(Family, Policy(processes=16, disk="1M"))
    group = await plugin.process(None)
    zygote = zygote_for()
    roles = {"host": os.getpid(), "keeper": zygote.process.pid, "zygote": zygote.pid, "worker": plugin.pid}
    print(json.dumps([roles, group, zygote.scratch_root]), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def alive(*numbers: int) -> list[int]:
    """The processes of these sessions and process groups that haven't ended."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(entry.name)
            state, _, group, session = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            if {int(group), int(session)} & {*numbers} and state not in "ZX":
                found.append(pid)
    return found


@pytest.mark.parametrize("killed", ["host", "keeper", "zygote", "host keeper", "host zygote", "host zygote worker"])
def test_nothing_of_a_plugin_outlives(killed: str) -> None:
    """SIGKILL to any of the three, or to the host and one of the others at once: worker, children and files go."""
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            roles, group, scratch = json.loads(host.stdout.readline())
            family = (group, roles["worker"], roles["keeper"])  # the zygote's is its keeper's
            assert eventually(lambda: len(alive(group)) == 2)
            assert eventually(lambda: len(alive(*family)) > 5)

            for role in killed.split():
                with contextlib.suppress(ProcessLookupError):  # a worker may have ended with its zygote by now
                    os.kill(roles[role], signal.SIGKILL)

            assert eventually(lambda: [*alive(*family), *alive(*family)] == [])  # forking may hide one
            assert eventually(lambda: not Path(scratch).exists())
            assert eventually(lambda: cgroups.of(roles["zygote"]) == [])
        finally:
            host.kill()
