"""A worker that was calm is only glanced at: what it does then is seen all the same."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.run import Run

pytestmark = pytest.mark.need("landlock", "seccomp")

CALM = """
import os, threading, time

def attack(given):
    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        time.sleep(0.002)
    kept = []
"""
SLOWLY = """
    while True:
        kept.append(b"x" * (300 << 10))
        time.sleep(0.004)
"""
AT_ONCE = """
    kept.append(b"x" * (1 << 27))
    time.sleep(5)
"""
THREADS = """
    for _ in range(40):
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
    time.sleep(5)
"""
SPIN = """
    while True:
        pass
"""
SLEEP = """
    time.sleep(20)
"""
HANG_UP = """
    os.close(3)
    while True:
        time.sleep(0.002)
"""
HANG_UP_QUIETLY = """
    os.close(3)
    time.sleep(20)
"""
HALF_A_FRAME = """
    os.write(3, b"\\x00" * 3)
    while True:
        time.sleep(0.002)
"""
HALF_A_FRAME_QUIETLY = """
    os.write(3, b"\\x00" * 3)
    time.sleep(20)
"""


@pytest.mark.parametrize(
    ("then", "verdict"),
    [
        pytest.param(SLOWLY, "limited:memory", id="memory, slowly"),
        pytest.param(AT_ONCE, "limited:memory", id="memory, at once"),
        pytest.param(THREADS, "limited:threads", id="threads"),
        pytest.param(SPIN, "limited:cpu", id="cpu"),
        pytest.param(SLEEP, "limited:wall", id="wall"),
        pytest.param(HANG_UP, "broken:protocol", id="end of the channel"),
        pytest.param(HANG_UP_QUIETLY, "broken:protocol", id="end of the channel, quietly"),
        pytest.param(HALF_A_FRAME, "broken:protocol", id="half a frame"),
        pytest.param(HALF_A_FRAME_QUIETLY, "broken:protocol", id="half a frame, quietly"),
    ],
)
def test_limits_hold_after_a_calm(confined: Callable[..., Run], then: str, verdict: str) -> None:
    """Each limit, and well before the next one: within what a glance may leave out."""
    policy = Policy(memory="32M", cpu_s=0.5, wall_s=3.0, threads=16)
    began_s = time.monotonic()

    run = confined(CALM + then, policy=policy)

    kind, _, by = verdict.partition(":")
    assert run.verdict == Verdict(kind, by)
    assert run.usage.wall_s < {"wall": 3.3, "protocol": 2.0}.get(by, 2.5)
    assert time.monotonic() - began_s < 10
