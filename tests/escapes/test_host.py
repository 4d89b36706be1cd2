"""Attacks on the host process and on its other workers: signals, limits, priorities, and looks into its memory."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from arena import children

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host.launcher import zygote_for
from tests.leftovers import eventually

KILL = """
import os, signal

def attack(given):
    os.kill(given["pid"], signal.SIGKILL)
    return "killed"
"""

STOP = """
import os, signal

def attack(given):
    os.kill(given["pid"], signal.SIGSTOP)
    return "stopped"
"""

TGKILL = """
import ctypes, os

def attack(given):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(given["tgkill"], given["pid"], given["pid"], 9):
        raise OSError(ctypes.get_errno(), "tgkill")
    return "killed"
"""

QUEUED = """
import ctypes, os

def attack(given):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigqueue(given["pid"], 9, None):
        raise OSError(ctypes.get_errno(), "sigqueue")
    return "killed"
"""

PIDFD = """
import os, signal

def attack(given):
    signal.pidfd_send_signal(os.pidfd_open(given["pid"]), signal.SIGKILL)
    return "killed"
"""

OWNED = """
import ctypes, fcntl, os, struct

def attack(given):
    # A signal by another's hand: the kernel sends it to a pipe's owner when the pipe becomes readable.
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, given["pid"])
    fcntl.fcntl(reader, 10, 9)  # F_SETSIG: SIGKILL
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writer, b"x")
    return "killed"
"""

PRLIMIT = """
import resource

def attack(given):
    resource.prlimit(given["pid"], resource.RLIMIT_NOFILE, (3, 3))
    return "limited"
"""

RENICE = """
import os

def attack(given):
    os.setpriority(os.PRIO_PROCESS, given["pid"], 19)
    return "reniced"
"""

AFFINITY = """
import os

def attack(given):
    os.sched_setaffinity(given["pid"], {0})
    return "moved"
"""

IDLE_CLASS = """
import os

def attack(given):
    os.sched_setscheduler(given["pid"], os.SCHED_IDLE, os.sched_param(0))
    return "idle"
"""

OOM = """
def attack(given):
    with open(f"/proc/{given['pid']}/oom_score_adj", "w") as file:
        file.write("1000")
    return "first to be killed"
"""

PTRACE = """
import ctypes, os

def attack(given):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, given["pid"], None, None):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"
"""

READ_MEMORY = """
def attack(given):
    with open(f"/proc/{given['pid']}/mem", "rb", buffering=0) as memory:
        memory.seek(given["address"])
        return memory.read(20).decode()
"""

VM_READ = """
import ctypes, os

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def attack(given):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(20)
    here = Vector(ctypes.addressof(buffer), 20)
    there = Vector(given["address"], 20)
    if libc.process_vm_readv(given["pid"], ctypes.byref(here), 1, ctypes.byref(there), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return buffer.raw.decode()
"""

ENVIRON = """
def attack(given):
    with open(f"/proc/{given['pid']}/environ") as file:
        return "TOKEN=" in file.read()
"""

COMMAND_LINE = """
def attack(given):
    with open(f"/proc/{given['pid']}/cmdline") as file:
        return bool(file.read())
"""

DESCRIPTORS = """
import os

def attack(given):
    return len(os.listdir(f"/proc/{given['pid']}/fd")) > 0
"""

ROOT_LINK = """
import os

def attack(given):
    return len(os.listdir(f"/proc/{given['pid']}/root/")) > 0
"""

PARENT = """
import os, signal

def attack(given):
    os.kill(os.getppid(), signal.SIGKILL)
"""

TGKILL_NUMBER = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
POLICIES = [pytest.param(Policy(), id="default"), pytest.param(Policy(processes=4), id="processes")]


def state(pid: int) -> str:
    """The one letter of proc(5) for what a process is doing."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def targets(victim) -> list[dict[str, int]]:
    """Whom to attack: a process of this user's, the zygote, and the host itself."""
    common = {"address": victim.address, "tgkill": TGKILL_NUMBER}
    return [{"pid": pid} | common for pid in (victim.pid, zygote_for().pid, os.getpid())]


NAMED = {
    "kill": KILL,
    "stop": STOP,
    "tgkill": TGKILL,
    "sigqueue": QUEUED,
    "pidfd": PIDFD,
    "prlimit": PRLIMIT,
    "renice": RENICE,
    "affinity": AFFINITY,
    "scheduler": IDLE_CLASS,
    "oom_score_adj": OOM,
    "ptrace": PTRACE,
    "mem": READ_MEMORY,
    "process_vm_readv": VM_READ,
    "environ": ENVIRON,
    "cmdline": COMMAND_LINE,
    "fd": DESCRIPTORS,
    "root": ROOT_LINK,
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", NAMED)
def test_no_other_process_can_be_touched_or_read(unconfined, confined, victim, name, policy):
    """Signals, limits, priorities, tracing, memory, environment: of no process but the worker's own, be it the
    host's, the zygote's or a stranger's; `unharmed` compares the host's settings afterwards."""
    assert confined(NAMED[name], targets(victim)[0], policy=policy).verdict == Verdict("failed", "PermissionError")
    free = unconfined(NAMED[name], targets(victim)[0])
    assert free.value is not None, free.stderr
    if name in ("kill", "tgkill", "sigqueue", "pidfd"):
        assert victim.wait() == -signal.SIGKILL
    elif name == "stop":
        assert eventually(lambda: state(victim.pid) == "T")  # a signal takes its time to arrive
    elif name in ("mem", "process_vm_readv"):
        assert free.value == victim.secret
    victim.kill()

    for target in targets(victim)[1:]:
        assert confined(NAMED[name], target, policy=policy).verdict == Verdict("failed", "PermissionError")


@pytest.mark.parametrize("policy", POLICIES)
def test_no_signal_reaches_others_through_a_file_owner(unconfined, confined, victim, policy):
    """F_SETOWN asks the kernel to send a signal; the one it names gets it only if the asker could have sent it."""
    run = confined(OWNED, targets(victim)[0], policy=policy)
    assert run.verdict in (Verdict("completed"), Verdict("failed", "PermissionError"))
    assert victim.alive

    assert unconfined(OWNED, targets(victim)[0]).value == "killed"
    assert victim.wait() == -signal.SIGKILL


def test_the_zygote_outlives_an_attack_of_its_child(confined):
    """The parent that a worker sees is no way to end all the others."""
    pid = zygote_for().pid

    assert confined(PARENT).verdict == Verdict("failed", "PermissionError")

    assert zygote_for().pid == pid
    assert pid in children(zygote_for().process.pid)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["kill", "prlimit", "mem", "environ"])
def test_one_plugin_cannot_reach_another(arena, name, policy):
    """Workers are strangers to each other, though they have the same user and the same parent."""

    async def side_by_side():
        async with (
            arena.plugin("def attack(given): return given") as quiet,
            arena.plugin(NAMED[name], policy) as loud,
        ):
            run = await loud.run({"pid": quiet.pid, "address": 4096})
            return run.verdict, await quiet.process("still here")

    assert arena.watched(side_by_side) == (Verdict("failed", "PermissionError"), "still here")


def test_a_blocked_loop_of_the_host_is_no_chance_either(arena, victim):
    """While the host can't look, the barriers still hold: they are the kernel's."""

    async def blind():
        async with arena.plugin(KILL) as plugin:
            return await plugin.run(targets(victim)[0])

    assert asyncio.run(blind()).verdict == Verdict("failed", "PermissionError")
    assert victim.alive
