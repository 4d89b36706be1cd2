"""A worker that was calm gets only quick checks: what it does then is seen all the same."""

from __future__ import annotations

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
    """Each limit, and well before the next one: within what a quick check may leave out.

    CPU time is measured as such, and other waits by the share that they take of a long one: so a busy machine, where
    a worker waits for its turn, breaks no bound.
    """
    kind, _, by = verdict.partition(":")
    policy = Policy(memory="32M", cpu_s=0.5, wall_s=2.5 if by == "wall" else 20.0, threads=16)

    run = confined(CALM + then, policy=policy)

    assert run.verdict == Verdict(kind, by)
    assert run.usage.cpu_s < 1.4 * policy.cpu_s
    assert run.usage.wall_s < {"wall": 1.1, "cpu": 1.0}.get(by, 0.1) * policy.wall_s
