"""What a test may leave behind on the host's side: nothing. A zygote, and the spare that it keeps ready, may stay.

`nothing_left` is a fixture; a test module that imports it has it around each of its tests.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from agentplug.core.boundary.bounds import SPARE_NAME
from agentplug.core.host import launcher
from agentplug.core.host.conversation import our_loop
from agentplug.core.sandboxed import SandboxedPlugin

PATIENCE_S = 10.0
WORKER = "agentplug"


class QuietPlugin:
    """Returns what it gets."""

    name = "quiet"
    version = "1.0"

    async def initialize(self, config: object) -> None:
        """Nothing to do."""

    async def process(self, input_data: object) -> object:
        """The same object again."""
        return input_data


@dataclass(frozen=True)
class Held:
    """Processes below this one, its descriptors and threads, and its scratch directories."""

    processes: frozenset[int]
    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    scratch: tuple[str, ...]

    def since(self, before: Held) -> Held:
        """What came. Some may have gone: what the test before this one had just let go of."""
        return Held(
            self.processes - before.processes,
            tuple(fd for fd in self.descriptors if fd not in before.descriptors),
            tuple(thread for thread in self.threads if thread not in before.threads),
            tuple(name for name in self.scratch if name not in before.scratch),
        )


NOTHING = Held(frozenset(), (), (), ())


def held() -> Held:
    """What this process holds now. Of a zygote only its workers are counted."""
    zygotes = [z for z in list(launcher._registry.values()) if z.gone is None]
    own = {pid for z in zygotes for pid in (z.process.pid, z.pid)}
    below = frozenset(
        child.pid for child in psutil.Process().children(recursive=True) if child.pid not in own and _counts(child)
    )
    names = tuple(sorted(t.name for t in threading.enumerate() if not t.name.startswith("agentplug-decoder")))
    scratch = tuple(sorted(entry for z in zygotes for entry in os.listdir(z.scratch_root)))
    return Held(below, tuple(sorted(_descriptors())), names, scratch)


def _counts(process: psutil.Process) -> bool:
    return _name(process.pid) not in (SPARE_NAME, "")


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return ""


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}"
        except FileNotFoundError:
            continue  # the one that lists the folder


def eventually(holds: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
    """Whether `holds` comes true in time. For what no event announces."""
    until = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def left_since(before: Held) -> Held:
    """What has come since `before` and stays. No look is the last one as long as it finds something and time is left:
    some 30 ms after a worker was asked for, a spare is forked, and for a moment it has its zygote's name.
    """
    left = held().since(before)
    if left != NOTHING:
        gc.collect()
    until = time.monotonic() + PATIENCE_S
    while left != NOTHING and time.monotonic() < until:
        time.sleep(0.002)
        left = held().since(before)
    return left


def workers() -> list[int]:
    """The living workers of this process's zygotes, known by the name that each takes first of all."""
    return sorted(pid for pid in held().processes if _name(pid) == WORKER)


def warm() -> None:
    """Have the zygote, the watchdog and our loop running, which stay from the first use on."""
    our_loop()
    plugin = SandboxedPlugin(QuietPlugin)
    plugin.run_sync(1)
    plugin.close_sync()


@pytest.fixture(scope="session")
def _warmed() -> None:
    warm()


@pytest.fixture(autouse=True)
def nothing_left(_warmed: None) -> Iterator[None]:
    """After the test, the host holds what it held before."""
    before = held()
    yield
    left = left_since(before)
    assert left == NOTHING, f"{left}, processes called {[_name(pid) for pid in left.processes]}"


def python(
    script: str, *arguments: str, timeout_s: float = 60, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run `script` in a fresh interpreter, as its user would."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        **options,  # type: ignore[call-overload]
    )
