"""Attacks on time: spinning, waiting for ever, and not listening when told to stop."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from arena import until

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host.output import stream_to

SPIN = """
def attack(given):
    while True:
        pass
"""

REGEX = """
import re

def attack(given):
    re.match(r"(a+)+$", "a" * 60 + "b")  # C code: no signal handler of Python's runs before it ends
"""

THREADS = """
import hashlib, threading

def attack(given):
    block = bytes(1 << 20)
    def spin():
        while True:
            hashlib.sha256(block)  # without the GIL
    for _ in range(16):
        threading.Thread(target=spin, daemon=True).start()
    threading.Event().wait()
"""

SLEEP = """
import time

def attack(given):
    time.sleep(1_000_000)
"""

AWAIT = """
import asyncio

async def attack(given):
    await asyncio.Event().wait()
"""

BLOCKED_LOOP = """
import time

async def attack(given):
    time.sleep(1_000_000)
"""

IGNORED_SIGNALS = """
import signal, time

def attack(given):
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number not in (32, 33):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    print("begun", flush=True)
    while True:
        time.sleep(1)
"""

STOPPED = """
import os, signal

def attack(given):
    os.kill(os.getpid(), signal.SIGSTOP)
"""

FORGED_SIGNAL = """
import os, signal

def attack(given):
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGXCPU)  # what the kernel sends when RLIMIT_CPU is used up
"""

SWALLOWED_INTERRUPT = """
import time

def attack(given):
    while True:
        try:
            print("begun", flush=True)  # in here: from now on an interrupt may come
            while True:
                time.sleep(1)
        except BaseException:
            pass
"""

SWALLOWED_INTERRUPT_IN_LOOP = SWALLOWED_INTERRUPT.replace("def attack", "async def attack")

SWALLOWED_CANCELLATION = """
import asyncio

async def attack(given):
    while True:
        try:
            print("begun", flush=True)
            while True:
                await asyncio.sleep(1)
        except BaseException:
            pass
"""

COOPERATIVE = """
import asyncio

async def attack(given):
    try:
        print("begun", flush=True)
        await asyncio.sleep(1_000)
    finally:
        print("cleaned up", flush=True)
"""

LEFT_SPINNING = """
import threading

def attack(given):
    def spin():
        while True:
            pass
    threading.Thread(target=spin, daemon=True).start()
    return "innocent"
"""


@pytest.mark.parametrize("code", [SPIN, REGEX, THREADS], ids=["python", "regex", "threads"])
def test_a_spin_ends_at_its_cpu_limit(unconfined, confined, code):
    """In Python, in C, in threads beside each other: CPU time is the kernel's count, to 50 ms."""
    assert unconfined(code, seconds=0.5).status is None

    run = confined(code, policy=Policy(cpu_s=0.5))

    assert run.verdict == Verdict("limited", "cpu")
    assert 0.5 <= run.usage.cpu_s < 0.65


@pytest.mark.parametrize(
    "code",
    [SLEEP, BLOCKED_LOOP, IGNORED_SIGNALS, STOPPED],
    ids=["sleep", "blocked_loop", "ignored_signals", "stopped"],
)
def test_a_wait_without_end_ends_at_its_wall_limit(unconfined, confined, code):
    """Waiting costs no CPU, so elapsed time has a limit of its own, to 50 ms, whatever signals are ignored."""
    assert unconfined(code, seconds=0.5).status is None

    run = confined(code, policy=Policy(wall_s=0.5), coroutine=code is BLOCKED_LOOP)

    assert run.verdict == Verdict("limited", "wall")
    assert 0.5 <= run.usage.wall_s < 0.6


def test_a_limit_that_was_not_reached_cannot_be_pretended(unconfined, confined):
    """The kernel's signal counts as a limit when its own count of CPU time says so too."""
    assert unconfined(FORGED_SIGNAL).status == -signal.SIGXCPU

    assert confined(FORGED_SIGNAL).verdict == Verdict("died", "SIGXCPU")


def test_an_infinite_await_ends_at_its_wall_limit(unconfined, confined):
    """A coroutine that is never woken is stopped like any other wait."""
    assert unconfined(AWAIT, seconds=0.5).status is None

    assert confined(AWAIT, policy=Policy(wall_s=0.5), coroutine=True).verdict == Verdict("limited", "wall")


def cancelled_call(arena, code, *, coroutine):
    """Cancel a call once its plugin has printed something: the verdict it is kept under, the seconds it took, what
    it had printed."""

    async def cancel():
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        stream_to(lambda: lambda name, text: loop.call_soon_threadsafe(begun.set))
        try:
            async with arena.plugin(code, coroutine=coroutine) as plugin:
                call = asyncio.create_task(plugin.run(None))
                await begun.wait()
                began = time.monotonic()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                (run,) = plugin.runs
                return run.verdict, time.monotonic() - began, run.stdout
        finally:
            stream_to(None)

    return arena.watched(cancel)


@pytest.mark.parametrize(
    ("code", "coroutine"),
    [
        (SWALLOWED_CANCELLATION, True),
        (SWALLOWED_INTERRUPT_IN_LOOP, True),
        (SWALLOWED_INTERRUPT, False),
        (IGNORED_SIGNALS, False),
    ],
    ids=["cancellation", "interrupt", "interrupt_without_loop", "ignored_signals"],
)
def test_a_plugin_that_swallows_its_cancellation_is_killed_after_a_second(unconfined, arena, code, coroutine):
    """Cancelling an awaited call asks the plugin to stop; one that doesn't is killed when its grace is over."""
    assert unconfined(code, seconds=0.5).status is None

    verdict, elapsed_s, _ = cancelled_call(arena, code, coroutine=coroutine)

    assert verdict == Verdict("stopped", "interrupt")
    assert 0.95 <= elapsed_s < 1.5


def test_a_plugin_that_heeds_its_cancellation_may_clean_up(arena):
    """Not an attack, but what the grace is for: `finally` runs, and nothing waits for the second to pass."""
    verdict, elapsed_s, stdout = cancelled_call(arena, COOPERATIVE, coroutine=True)

    assert (verdict, stdout) == (Verdict("stopped", "interrupt"), "begun\ncleaned up\n")
    assert elapsed_s < 0.9


def test_limits_hold_while_the_hosts_loop_is_blocked(arena):
    """The watchdog needs neither the user's loop nor the user's thread."""

    async def blocked():
        async with arena.plugin(SPIN, Policy(cpu_s=0.3)) as plugin:
            call = asyncio.create_task(plugin.run(None))
            await asyncio.sleep(0)
            time.sleep(1.0)  # noqa: ASYNC251
            return await call

    run = asyncio.run(blocked())

    assert run.verdict == Verdict("limited", "cpu")
    assert run.usage.cpu_s < 0.45


def test_a_thread_left_spinning_ends_the_worker_between_calls(arena):
    """A worker that goes on using CPU while nobody called it is ended, and an event says why."""

    async def leave():
        async with arena.plugin(LEFT_SPINNING) as plugin:
            run = await plugin.run(None)
            await until(lambda: plugin.pid is None)
            return run.verdict, plugin.state, plugin._inside.events[0].kind, plugin._inside.events[0].detail["by"]

    assert arena.watched(leave) == (Verdict("completed"), "failed", "limit", "cpu")
