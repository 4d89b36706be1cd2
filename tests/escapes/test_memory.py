"""Attacks on memory: every kind of it counts against `Policy.memory`, and is stopped while it grows."""

from __future__ import annotations

import pytest
from arena import MIB, overshoot

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

SMALL = Policy(memory="64M")
SLACK_BYTES = 32 * MIB
USUAL_CHECK_S = 0.020

HEAP = """
def attack(megabytes):
    held = []
    for _ in range(megabytes):
        held.append(b"x" * (1 << 20))
    return len(held)
"""

SHARED = """
import mmap

def attack(megabytes):
    held = []
    for _ in range(megabytes // 8):
        block = mmap.mmap(-1, 8 << 20)  # anonymous and shared: RLIMIT_DATA doesn't see it
        for page in range(0, 8 << 20, 4096):
            block[page] = 1
        held.append(block)
    return len(held) * 8
"""

ONE_SHARED = """
import mmap

def attack(megabytes):
    block = mmap.mmap(-1, megabytes << 20)
    piece = b"x" * (1 << 20)
    for start in range(0, len(block), 1 << 20):
        block[start : start + (1 << 20)] = piece
    return len(block) >> 20
"""

MEMFD = """
import os

def attack(megabytes):
    fd = os.memfd_create("hidden")  # written and never mapped: in no process's footprint
    written = 0
    while written < megabytes << 20:
        written += os.write(fd, b"x" * (1 << 20))
    return written >> 20
"""

SYSV = """
import ctypes, os

def attack(megabytes):
    libc = ctypes.CDLL(None, use_errno=True)
    key = libc.shmget(0, megabytes << 20, 0o1600)
    if key < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    libc.shmctl(key, 0, None)  # IPC_RMID
    return megabytes
"""

SHM_FILE = """
import os, tempfile

def attack(megabytes):
    fd, path = tempfile.mkstemp(dir="/dev/shm")
    os.unlink(path)
    written = 0
    while written < megabytes << 20:
        written += os.write(fd, b"x" * (1 << 20))
    return written >> 20
"""

PIPES = """
import os

def attack(megabytes):
    held = 0
    while held < megabytes << 20:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            while True:
                held += os.write(writer, bytes(4096))
        except BlockingIOError:
            pass
    return held >> 20
"""

THREADS = """
import threading

def attack(megabytes):
    held, lock = [], threading.Lock()
    def fill():
        while True:
            block = bytearray(1 << 20)
            with lock:
                if len(held) >= megabytes:
                    return
                held.append(block)
    threads = [threading.Thread(target=fill) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(held)
"""

BURST = """
def attack(megabytes):
    block = b"x" * (megabytes << 20)  # one request, faulted in without a Python instruction between
    return len(block) >> 20
"""

SWALLOWING = """
def attack(megabytes):
    held = []
    while len(held) < megabytes:
        try:
            held.append(b"x" * (1 << 20))
        except MemoryError:
            pass
    return len(held)
"""

KEEPING = """
held = []

def attack(megabytes):
    held.append(b"x" * (megabytes << 20))
    return len(held)
"""


@pytest.mark.parametrize(
    "code",
    [HEAP, SHARED, ONE_SHARED, THREADS, SWALLOWING, BURST],
    ids=["heap", "shared", "one_shared", "threads", "swallowing", "burst"],
)
def test_growing_memory_of_any_kind_is_stopped_while_it_grows(unconfined, confined, code):
    """Private and shared pages, in pieces or at once, by one thread or four, count alike; the peak stays near.

    Near is by the time between the last two checks: while other programs have the processors, nobody looks.
    """
    assert unconfined(code, 200).value == 200

    run = confined(code, 400, policy=SMALL)

    assert run.verdict == Verdict("limited", "memory")
    unseen_s = run.samples.index.to_series().diff().dt.total_seconds().iloc[-1]
    assert overshoot(run) <= SLACK_BYTES * max(1, unseen_s / USUAL_CHECK_S)


def test_a_request_beyond_the_address_space_is_refused_as_memory(unconfined, confined):
    """A MemoryError under the memory limit is the limit's doing, and the verdict says so."""
    assert unconfined(BURST, 300).value == 300

    assert confined(BURST, 8_000, policy=SMALL).verdict == Verdict("limited", "memory")


@pytest.mark.parametrize("code", [MEMFD, SYSV], ids=["memfd", "sysv"])
def test_memory_that_no_process_maps_is_refused(unconfined, confined, code):
    """What shows in no footprint can't be counted: the kernel refuses it as it refuses memory."""
    assert unconfined(code, 50).value == 50

    run = confined(code, 50, policy=SMALL)

    assert run.verdict == Verdict("limited", "memory")
    assert overshoot(run) < 0


def test_files_in_shared_memory_are_out_of_reach(unconfined, confined):
    """/dev/shm is a file system like any other: not granted."""
    assert unconfined(SHM_FILE, 20).value == 20

    assert confined(SHM_FILE, 20, policy=SMALL).verdict == Verdict("failed", "PermissionError")


def test_memory_in_pipes_ends_with_the_descriptors(unconfined, confined):
    """The kernel's own buffers are no way around the limit: descriptors run out long before."""
    assert unconfined(PIPES, 20).value == 20

    assert confined(PIPES, 400, policy=SMALL).verdict == Verdict("limited", "files")


def test_memory_that_grows_from_call_to_call_is_counted_from_the_same_floor(arena):
    """The limit holds for the worker's whole growth, not for each call anew."""

    async def calls():
        async with arena.plugin(KEEPING, SMALL) as plugin:
            return [(await plugin.run(25)).verdict for _ in range(3)]

    verdicts = arena.watched(calls)

    assert verdicts == [Verdict("completed"), Verdict("completed"), Verdict("limited", "memory")]
