"""Attacks on memory that no footprint shows: it is counted, bounded or refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from arena import machines

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

PLAIN, SILENT = "machine_plain", "machine_no_listener"

OWN_CLOCKS = """
import os, threading, time

def attack(given):
    clocks = [time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID, time.CLOCK_MONOTONIC]
    clocks += [time.pthread_getcpuclockid(threading.get_ident()), ~os.getpid() << 3 | 2]
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    clocks.append(time.pthread_getcpuclockid(thread.ident))
    seconds = [time.clock_gettime(clock) for clock in clocks] + [time.clock_getres(clock) for clock in clocks]
    other.set()
    return all(second >= 0 for second in seconds)
"""

OTHER_CLOCKS = """
import ctypes, os, time

TIMER_CREATE, CLOCK_NANOSLEEP = {"x86_64": (222, 230)}.get(os.uname().machine, (107, 115))

def attack(way):
    clock = ~os.getppid() << 3 | 2
    if way == "gettime":
        return time.clock_gettime(clock)
    if way == "getres":
        return time.clock_getres(clock)
    libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(64)
    call = TIMER_CREATE if way == "timer" else CLOCK_NANOSLEEP
    second = (ctypes.c_long * 2)(0, 1) if way == "sleep" else 0
    clock |= 0xABCD << 32  # the kernel looks at the lower half alone
    clock &= (1 << 64) - 1
    if libc.syscall(ctypes.c_long(call), ctypes.c_ulong(clock), 0, second, buffer) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return 1
"""


@pytest.fixture(scope="module", autouse=True)
def _machines() -> Iterator[None]:
    with machines(PLAIN, SILENT):
        yield


@pytest.fixture(params=[PLAIN, SILENT])
def machine(request: pytest.FixtureRequest) -> str:
    """A machine where neither a cgroup nor a namespace covers up what is missing."""
    return str(request.param)


def small(machine: str, **fields: object) -> Policy:
    """A policy of 64 MiB for a plugin on this machine."""
    return Policy(**{"memory": "64M", "preload": (machine,), **fields})


def test_a_plugin_reads_its_own_clocks(confined, machine):
    """Those of its process and of each of its threads, by name and by number."""
    run = confined(OWN_CLOCKS, policy=small(machine))

    assert (run.verdict, run.value) == (Verdict("completed"), True)


@pytest.mark.parametrize("way", ["gettime", "getres", "timer", "sleep"])
def test_no_call_takes_the_clock_of_another_process(confined, machine, way):
    """Not to read it, nor to wait for it, nor to have a timer on it."""
    assert confined(OTHER_CLOCKS, way, policy=small(machine)).verdict == Verdict("failed", "PermissionError")
