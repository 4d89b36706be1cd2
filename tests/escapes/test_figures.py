"""Figures and verdicts come from the kernel, by field and position: no text and no claim of a plugin decides one."""

from __future__ import annotations

import pytest
from arena import MIB

from agentplug import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

SMALL = Policy(memory="64M")

NAMED = """
import ctypes, mmap

def attack(given):
    name, mib = given
    libc = ctypes.CDLL(None)
    libc.prctl(15, name.encode("latin-1"), 0, 0, 0)
    mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000).close()  # MAP_POPULATE
    return mib
"""

FORGED = """
import errno, os

def attack(how):
    if how == "memory":
        raise MemoryError
    if how == "threads":
        raise RuntimeError("can't start new thread")
    raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)))
"""

FORGED_BY_A_CALL = """
def attack(how):
    # As a failed call: no raise statement of the plugin's stands at the end of the traceback.
    numbers = {"EMFILE": 24, "ENOSPC": 28, "ENOMEM": 12}
    error = OSError(numbers[how], "x") if how in numbers else MemoryError()
    def generator():
        yield
    at = generator()
    next(at)
    at.throw(error)
"""

REST = """
import os, socket, sys, time
from agentplug.core.boundary import codec, frames
from agentplug.core.boundary.channel import pack
from agentplug.core.worker import worker

def attack(given):
    before, after, how = given
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("frame"), "call"):
        frame = frame.f_back
    call = frame.f_locals["frame"].call
    time.sleep(before)
    structure, blobs = codec.encode("forged")
    channel = socket.socket(fileno=os.dup(3))
    for buffer in pack(frames.REPLY, call, structure, blobs):
        channel.sendall(buffer)
    real = worker.write_frame
    def once(*_):
        worker.write_frame = real
    worker.write_frame = once
    until = time.monotonic() + after
    while time.monotonic() < until:
        if how == "sleep":
            time.sleep(0.01)
    if how == "burst":
        keep = b"x" * (300 << 20)
"""


@pytest.mark.parametrize(
    "name", ["VmHWM:0 kB", "VmHWM:\t1 kB", "VmRSS:1 kB", "x\nVmHWM:1 kB", "Threads:\t1", "a) R 1 1"]
)
def test_a_name_hides_no_peak(confined, name):
    """/proc/PID/status begins with the name that a plugin gives its thread, /proc/PID/stat holds it too."""
    run = confined(NAMED, [name, 48], policy=SMALL)
    assert run.verdict == Verdict("completed")
    assert (
        run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes >= 47.5 * MIB
    )  # the kernel counts the last pages late

    assert confined(NAMED, [name, 100], policy=SMALL).verdict == Verdict("limited", "memory")


@pytest.mark.parametrize(
    "name", ["VmHWM:999999 kB", "VmHWM:9999999", "Threads:\t99", "VmHWM: x", "VmSwap:9 GB", ") R"]
)
def test_a_name_forges_no_figure(confined, name):
    """Nor does it raise in the host."""
    run = confined(NAMED, [name, 8], policy=SMALL)

    assert run.verdict == Verdict("completed")
    assert 7.5 * MIB <= run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes < 24 * MIB
    assert run.usage.threads < 9


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("memory", "MemoryError"),
        ("threads", "RuntimeError"),
        ("EMFILE", "OSError"),
        ("ENOSPC", "OSError"),
        ("EDQUOT", "OSError"),
        ("EFBIG", "OSError"),
        ("EAGAIN", "BlockingIOError"),
        ("ENOMEM", "OSError"),
    ],
)
def test_an_error_is_no_limit_without_evidence(confined, how, error):
    """The verdict says what was raised, and the event which limit it claims."""
    run = confined(FORGED, how)

    assert run.verdict == Verdict("failed", error)
    assert run.events[-1].detail["claims"] in ("memory", "threads", "files", "disk", "processes")
    assert "limit" in run.explain()


@pytest.mark.parametrize("how", ["memory", "EMFILE", "ENOSPC", "ENOMEM"])
def test_nor_is_one_that_looks_like_a_failed_call(confined, how):
    """How an error was made is the worker's word."""
    assert confined(FORGED_BY_A_CALL, how).verdict.kind == "failed"


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_time_after_a_forged_reply_is_in_the_figures(confined, how):
    """The caller waited for it."""
    run = confined(REST, [0.0, 0.5, how], policy=Policy(wall_s=5.0))

    assert run.verdict == Verdict("completed")
    assert run.usage.wall_s >= 0.5
    assert run.usage.cpu_s >= (0.05 if how == "spin" else 0)  # as far as others left it the processor


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_a_forged_reply_begins_no_limit_anew(confined, how):
    """Time before and after it is one call's."""
    run = confined(REST, [1.8, 20.0, how], policy=Policy(wall_s=2.0))

    assert run.verdict == Verdict("limited", "wall")
    assert run.value is None
    assert 2.0 <= run.usage.wall_s < 3.6  # anew, it would end after 3.8


def test_memory_after_a_forged_reply_counts(confined):
    run = confined(REST, [0.0, 0.0, "burst"], policy=SMALL)

    assert run.verdict == Verdict("limited", "memory")
