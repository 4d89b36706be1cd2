"""Every phase of a worker's life is on its account: after a reply, between calls, while it shuts down."""

from __future__ import annotations

import mmap
import os
import time

import pytest
from arena import MIB, until

from agentplug import Policy, SandboxedPlugin
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

SMALL = Policy(memory="64M")


class PhasesPlugin:
    """Behaves in its calls. What it does in its `shutdown`, or a moment after a call, is its input."""

    name, version = "phases", "1"

    async def initialize(self, config: object) -> None:
        self.later = ""

    async def process(self, later: str) -> str:
        import threading

        self.later = later
        if later == "burst":
            threading.Timer(0.1, self.burst).start()
        return "well so far"

    def burst(self) -> None:
        """Take 100 MiB at once, and give them back before anybody looks."""
        mmap.mmap(-1, 100 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000).close()  # MAP_POPULATE

    async def shutdown(self) -> None:
        match self.later:
            case "heap":
                kept = []
                for _ in range(400):
                    kept.append(b"x" * MIB)
            case "burst":
                self.burst()
            case "fork":
                while True:
                    if os.fork() == 0:
                        time.sleep(30)  # noqa: ASYNC251


@pytest.mark.parametrize(
    ("later", "policy", "by"),
    [
        ("heap", SMALL, "memory"),
        ("burst", SMALL, "memory"),
        ("fork", Policy(processes=3, threads=16), "processes"),
    ],
)
def test_a_shutdown_is_under_the_limits_of_a_call(arena, later, policy, by):
    """It ends as soon as it reaches one, and an event says so."""

    async def close():
        plugin = SandboxedPlugin(PhasesPlugin(), policy)
        run = await plugin.run(later)
        await plugin.close()
        return run.verdict, [(event.kind, event.detail) for event in plugin.events]

    verdict, events = arena.watched(close)

    assert verdict == Verdict("completed")
    assert [(kind, detail["by"], detail["during"]) for kind, detail in events] == [("limit", by, "shutdown")]
    if by == "memory":
        assert events[0][1]["measured"] < 400 * MIB


def test_a_burst_between_calls_is_seen_though_nobody_looked(arena):
    """The kernel's high-water mark tells it at the next call, which a fresh worker takes."""

    async def two_calls():
        async with SandboxedPlugin(PhasesPlugin(), SMALL) as plugin:
            first = await plugin.run("burst")
            await until(lambda: plugin.state == "failed")
            second = await plugin.run("")
            return first.verdict, second.verdict, [(event.kind, event.detail["by"]) for event in plugin.events]

    assert arena.watched(two_calls) == (Verdict("completed"), Verdict("completed"), [("limit", "memory")])


CHURN = """
import os, signal

def attack(given):
    milliseconds, ignore = given
    if ignore == "handler":
        import ctypes

        class Action(ctypes.Structure):
            _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_char * 128), ("flags", ctypes.c_int)]

        class Padded(ctypes.Structure):
            _fields_ = [("action", Action), ("restorer", ctypes.c_void_p)]

        default_without_zombies = Padded(Action(None, b"", 2), None)  # SIG_DFL, SA_NOCLDWAIT
        ctypes.CDLL(None).sigaction(17, ctypes.byref(default_without_zombies), None)
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    import time
    while True:
        reader, writer = os.pipe()
        if os.fork() == 0:
            while time.process_time() < milliseconds / 1e3:
                pass
            os._exit(0)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        print(flush=True)
"""


@pytest.mark.parametrize("ignore", ["ignored", "handler"])
def test_children_that_nobody_waits_for_count(confined, ignore):
    """The kernel adds their time to nobody's, and most of them end between two readings."""
    run = confined(CHURN, [4, ignore], policy=Policy(processes=2, cpu_s=1.0, wall_s=20.0))

    assert run.verdict == Verdict("limited", "cpu")
    assert len(run.stdout) * 0.004 < 1.25  # a line for each child


WAITED = """
import os, time

def attack(given):
    for _ in range(given):
        pid = os.fork()
        if pid == 0:
            while time.process_time() < 0.004:
                pass
            os._exit(0)
        os.waitpid(pid, 0)
    times = os.times()
    return times.children_user + times.children_system
"""


def test_children_that_are_waited_for_count_once(confined):
    """What the kernel adds to their parent's time is exact, and no sample adds to it."""
    run = confined(WAITED, 100, policy=Policy(processes=2, cpu_s=5.0))

    assert run.verdict == Verdict("completed")
    assert run.usage.cpu_s < run.value * 1.3 + 0.6  # with the parent's own, for its forks
