"""Fixtures of the escape tests: run an attack freely or confined, and look whether the host came out unharmed."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from arena import LONGEST_GAP_S, Arena, Host, run_unconfined

from agentplug.core.host.launcher import zygote_for
from agentplug.core.run import Run

PR_SET_CHILD_SUBREAPER = 36

VICTIM = """
import ctypes, signal
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER: where Yama asks for it
buffer = ctypes.create_string_buffer(b"a secret of 20 bytes")
print(ctypes.addressof(buffer), flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(scope="session")
def _warm() -> None:
    """The zygote, the watchdog and what a first call imports: there before the first stock-taking."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        Arena(Path(folder)).confined("def attack(given): return bytes(given)", 1 << 20)
    zygote_for()


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    """Runs plugins and measures the host's loop meanwhile."""
    return Arena(tmp_path)


@pytest.fixture(autouse=True)
def unharmed(_warm: None, arena: Arena) -> Iterator[None]:
    """After each test, the host is as it was: no process, descriptor, thread, file or cgroup more, its settings and
    its zygote the same, its loop never held up for 100 ms.

    The test process adopts orphans meanwhile, so that a daemon can't hide by losing its parents.
    """
    assert zygote_for().pid  # the tests of another folder may have ended it
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = Host.look()
    yield
    left = Host.look().since(before)
    until = time.monotonic() + 2  # a zygote forks its spare after a lull, which gets its name a moment later
    while left and time.monotonic() < until:
        gc.collect()  # an error that was caught keeps its stack frames, and a policy in them its descriptors
        time.sleep(0.02)
        left = Host.look().since(before)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert left == {}
    assert arena.gap_s < LONGEST_GAP_S


@pytest.fixture
def unconfined() -> Callable[..., Any]:
    """`unconfined(code, given, memory=..., seconds=...)`: what the attack does where nothing stops it."""
    return run_unconfined


@pytest.fixture
def confined(arena: Arena) -> Callable[..., Run]:
    """`confined(code, given, policy=..., coroutine=False)`: the run of the attack in a confined plugin."""
    return arena.confined


class Victim(subprocess.Popen[str]):
    """A process of this user, for attacks on others to be shown on. `address` is where its secret lies."""

    address: int
    secret = "a secret of 20 bytes"

    @property
    def alive(self) -> bool:
        """It hasn't ended."""
        return self.poll() is None


@pytest.fixture
def victim() -> Iterator[Victim]:
    """A sleeping process with a secret in its memory."""
    with Victim([sys.executable, "-Ic", VICTIM], stdout=subprocess.PIPE, text=True, env={"TOKEN": "abc"}) as process:
        assert process.stdout is not None
        process.address = int(process.stdout.readline())
        yield process
        process.kill()
