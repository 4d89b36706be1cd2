"""Attacks by and through processes: crashing, forking, hiding, turning into something else."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from tests.conftest import missing

SEGFAULT = """
import ctypes

def attack(given):
    ctypes.string_at(0)
"""

ABORT = """
import os
import resource

def attack(given):
    os.abort()
"""

EXIT = """
import os
import resource

def attack(given):
    os._exit(3)
"""

SYS_EXIT = """
import sys

def attack(given):
    sys.exit(3)
"""

LEADERLESS = """
import ctypes, os, threading, time

def attack(given):
    threading.Thread(target=time.sleep, args=(1e6,)).start()
    ctypes.CDLL(None).syscall(given, 0)  # exit(2): this thread alone; the process looks dead and isn't
"""

FORGED_CANCELLATION = """
import asyncio

async def attack(given):
    raise asyncio.CancelledError
"""

# Children that only wait: as many as are asked for.
FORKS = """
import os, signal

def attack(most):
    for count in range(most):
        if os.fork() == 0:
            while True:
                signal.pause()
    return most
"""

# Every child forks on, as fast as it can; only for where something stops it.
FORK_BOMB = """
import os
import resource

def attack(given):
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""

# Each generation ends as soon as it has a child: a moving target.
HOPPING = """
import os, time

def attack(seconds):
    until = time.monotonic() + seconds
    if os.fork() == 0:
        while time.monotonic() < until:
            if os.fork():
                os._exit(0)
        os._exit(0)
    time.sleep(seconds)
"""

DAEMON = """
import os, signal

def attack(given):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
        except PermissionError:
            os.setpgid(0, 0)
        if os.fork() == 0:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.write(writer, str(os.getpid()).encode())
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    return int(os.read(reader, 100))
"""

DAEMONS = """
import os, signal, time

def attack(most):
    for _ in range(most):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                while True:
                    signal.pause()
            os._exit(0)
        os.waitpid(child, 0)
    time.sleep(0.3)
    return most
"""

CHILDREN_CPU = """
import os, signal, time

def attack(ignore):
    if ignore:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # then the kernel drops what the children used
    for _ in range(20):
        child = os.fork()
        if child == 0:
            until = time.process_time() + 0.1
            while time.process_time() < until:
                pass
            os._exit(0)
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            pass
    return 20
"""

EXIT_CALL = {"x86_64": 60, "aarch64": 93}[os.uname().machine]
FEW = Policy(processes=4)


def alive(pid: int) -> bool:
    """The process is there, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("code", "number"), [(SEGFAULT, signal.SIGSEGV), (ABORT, signal.SIGABRT)], ids=["segfault", "abort"]
)
def test_a_crash_is_the_workers_own(unconfined, confined, code, number):
    """A crash in C ends the worker, and the verdict names the signal that its parent saw."""
    assert unconfined(code).status == -number

    assert confined(code).verdict == Verdict("died", number.name)


def test_an_exit_ends_the_worker_alone(unconfined, confined):
    """`os._exit` takes its process down, which isn't the host's."""
    assert unconfined(EXIT).status == 3

    assert confined(EXIT).verdict == Verdict("died", "exit 3")


def test_a_process_that_plays_dead_is_ended(unconfined, confined):
    """Without its first thread a process shows no memory and no state; what can't be measured must go."""
    assert unconfined(LEADERLESS, EXIT_CALL, seconds=0.5).status is None

    run = confined(LEADERLESS, EXIT_CALL)

    assert run.verdict == Verdict("died", "SIGKILL")
    assert run.usage.wall_s < 1


def test_sys_exit_is_an_exception_like_others(unconfined, confined):
    """The worker catches what would end an in-process host."""
    assert unconfined(SYS_EXIT).status == 3

    assert confined(SYS_EXIT).verdict == Verdict("failed", "SystemExit")


def test_a_forged_cancellation_cancels_nothing_of_the_hosts(unconfined, confined):
    """A CancelledError of the plugin's own making is an exception of the plugin's."""
    assert "CancelledError" in unconfined(FORGED_CANCELLATION).stderr

    assert confined(FORGED_CANCELLATION, coroutine=True).verdict == Verdict("failed", "CancelledError")


def test_a_fork_is_refused_where_no_process_is_granted(unconfined, confined):
    """By default there is no child at all, so a fork bomb ends with its first fork."""
    assert unconfined(FORKS, 30).left == 30

    assert confined(FORKS, 30).verdict == Verdict("limited", "processes")


def test_granted_processes_are_counted(unconfined, confined):
    """Four children are four children; the fifth is one too many."""
    assert unconfined(FORKS, 30).left == 30

    assert confined(FORKS, 4, policy=FEW).verdict == Verdict("completed")
    assert confined(FORKS, 30, policy=FEW).verdict == Verdict("limited", "processes")


def test_a_fork_bomb_is_put_out(unconfined, confined):
    """Children that fork on faster than anyone can list them are bounded by the kernel, and all of them end."""
    assert unconfined(FORKS, 60).left == 60

    assert confined(FORK_BOMB, policy=FEW).verdict == Verdict("limited", "processes")


def test_a_process_that_hops_from_fork_to_fork_is_caught(unconfined, confined):
    """A chain in which every process ends after its fork can't outrun the end of its worker."""
    assert unconfined(HOPPING, 0.3).status == 0

    assert confined(HOPPING, 30, policy=FEW.replace(wall_s=0.5)).verdict.kind == "limited"


def test_a_daemon_ends_with_its_worker(unconfined, arena):
    """Two forks and a session of its own don't hide a process from the one who looks after orphans."""
    assert unconfined(DAEMON).left == 1

    async def leave_a_daemon():
        async with arena.plugin(DAEMON, FEW) as plugin:
            run = await plugin.run(None)
            assert run.verdict == Verdict("completed")
            assert alive(run.value)
            await asyncio.sleep(1.5)  # beyond the zygote's own look around
            lived_on = alive(run.value)
        return lived_on, alive(run.value)

    assert arena.watched(leave_a_daemon) == (True, False)


def test_daemons_count_as_processes_though_they_left_their_parents(unconfined, confined):
    """An orphan stays below its worker, so that its number, memory and CPU go on being counted."""
    assert unconfined(DAEMONS, 10).left == 10

    assert confined(DAEMONS, 10, policy=FEW).verdict == Verdict("limited", "processes")


@pytest.mark.parametrize("ignore", [False, True])
def test_cpu_of_children_that_ended_still_counts(unconfined, confined, ignore):
    """Work handed to a row of short-lived children is the plugin's work."""
    assert unconfined(CHILDREN_CPU, ignore).value == 20

    run = confined(CHILDREN_CPU, ignore, policy=FEW.replace(cpu_s=0.5))

    assert run.verdict == Verdict("limited", "cpu")
    assert run.usage.cpu_s < 0.8


LEADERLESS_CHILD = """
import ctypes, os, threading, time

libc = ctypes.CDLL(None)
EXIT = {"x86_64": 60, "aarch64": 93}[os.uname().machine]

def attack(given):
    folder, kind, megabytes = given
    ours, theirs = os.pipe()

    def hoard():
        time.sleep(0.2)  # the first thread has ended
        held = []
        for _ in range(megabytes):
            if kind == "memory":
                held.append(b"x" * (1 << 20))
            else:
                held.append(open(f"{folder}/f", "w+b", buffering=0))
                os.unlink(f"{folder}/f")
                held[-1].write(bytes(1 << 20))
            time.sleep(0.005)
        os.write(theirs, b"x" * len(held))
        os._exit(0)

    if not os.fork():
        threading.Thread(target=hoard).start()
        libc.syscall(EXIT, 0)
    os.close(theirs)
    return len(os.read(ours, 1 << 10))
"""


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_process_without_its_first_thread_is_counted(unconfined, confined, tmp_path, kind):
    """The kernel shows its memory and its files in the folders of its other threads alone."""
    assert unconfined(LEADERLESS_CHILD, [str(tmp_path), kind, 60]).value == 60

    run = confined(LEADERLESS_CHILD, [".", kind, 60], policy=FEW.replace(memory="48M", disk="1M"))

    room_is_bounded = kind == "disk" and run.value == 0  # by a tmpfs: the child fails, and the plugin doesn't
    assert run.verdict == Verdict("limited", kind) or room_is_bounded


TASKS = """
import resource

def attack(given):
    with open("/proc/loadavg") as file:
        machine = int(file.read().split()[3].partition("/")[2])
    return resource.getrlimit(resource.RLIMIT_NPROC), machine
"""


@pytest.mark.parametrize("processes", [0, 4])
def test_a_bomb_ends_at_a_limit_of_the_kernels_where_the_watchdog_comes_late(confined, processes):
    """In a user namespace it counts the plugin's tasks alone; elsewhere all of this user's, of which more may come.
    Without children there is no bomb. It holds for all users but root, who has a cgroup."""
    policy = Policy(processes=processes, threads=8, read="/proc/loadavg")

    ((soft, hard), machine) = confined(TASKS, policy=policy).value

    assert soft == hard
    if not processes:
        assert hard == resource.getrlimit(resource.RLIMIT_NPROC)[1]
    elif missing("userns"):
        assert hard < machine + 8 * 5 + 2_000
    else:
        assert hard == 8 * 5
