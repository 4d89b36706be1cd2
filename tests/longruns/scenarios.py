"""The five long runs, each a function from a number to a `Result`: hosts are started, watched and counted up."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.kernels import PATIENCE_S, Notebook, Watched
from tests.longruns.host import STUBBORN
from tests.longruns.result import Result
from tests.longruns.surroundings import Surroundings, around

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 1_200


def crashes(n: int) -> Result:
    """Workers crash or are killed, one after the other, and are replaced."""
    return _in_one_host("crashes", n, Result("crashes and kills in a row", n, unit="crash and its replacement"))


def crowd(n: int) -> Result:
    """Plugins loaded at once, each called, all closed."""
    return _in_one_host("crowd", n, Result("plugins at once", n))


def calls(n: int) -> Result:
    """Calls to one plugin."""
    return _in_one_host("calls", n, Result("calls to one plugin", n))


def _in_one_host(scenario: str, n: int, result: Result) -> Result:
    with around() as surroundings:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "tests.longruns.host", scenario, str(n)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            timeout=LONGEST_S,
            check=True,
        )
        result.seconds = time.monotonic() - began
        report: dict[str, Any] = json.loads(done.stdout)
        surroundings.zygotes.update(report["zygotes"])
        result.left = report["left"] | {f"{kind} afterwards": left for kind, left in surroundings.left().items()}
        result.surprises = report["surprises"]
        result.rss_bytes, result.latencies_s = report["rss_bytes"], report["latencies_s"]
    return result


def killed_hosts(n: int) -> Result:
    """Hosts killed by SIGKILL in the middle of calls; the latency is the time until nothing of them is left."""
    result = Result("hosts killed in a call", n, unit="kill")
    began = time.monotonic()
    with around() as surroundings:
        for how in itertools.islice(itertools.cycle(STUBBORN), n):
            argv = [sys.executable, "-m", "tests.longruns.host", "mid_call", how]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as host:
                report = _said_by(host)
                surroundings.zygotes.update(report["zygotes"])
                result.rss_bytes.append(report["rss_bytes"])
                below = [Watched(process.pid) for process in psutil.Process(host.pid).children(recursive=True)]
                killed = time.monotonic()
                host.kill()
                _count_survivors(below, result)
                result.latencies_s.append(time.monotonic() - killed)
            _add(result.left, surroundings)
    result.seconds = time.monotonic() - began
    return result


def _said_by(host: subprocess.Popen[str]) -> dict[str, Any]:
    """The line that a host prints once it is where it should be."""
    assert host.stdout is not None
    ready, _, _ = select.select([host.stdout], [], [], PATIENCE_S)
    line = host.stdout.readline() if ready else ""
    if not line:
        host.kill()
    assert line, "the host never got into its call"
    said: dict[str, Any] = json.loads(line)
    return said


KERNELS_PLUGIN = """
%%load_plugin waiter --wall 60
import asyncio

class WaiterPlugin:
    name, version = "waiter", "1"

    async def initialize(self, config): ...

    async def process(self, seconds):
        print("begun", flush=True)
        await asyncio.sleep(seconds)
        return seconds
""".strip()
ABOUT_ITSELF = "from agentplug.core.host.launcher import zygote_for; print(zygote_for().pid)"


def restarts(n: int) -> Result:
    """A kernel restarted in a call, asked and killed by turns; the latency is the time until it answers again."""
    result = Result("kernel restarts in a call", n, unit="restart")
    began = time.monotonic()
    with around() as surroundings, _jupyter_home(surroundings.folder), Notebook(surroundings.folder) as notebook:
        _answer(notebook)
        for number in range(n):
            caller = notebook.start("task = __import__('asyncio').create_task(waiter.process(60))")
            notebook.until(lambda caller=caller: caller.idle and "begun" in caller.stream())  # type: ignore[misc]
            surroundings.zygotes.add(int(notebook.run(ABOUT_ITSELF).check().stream()))
            result.rss_bytes.append(psutil.Process(notebook.pid).memory_info().rss)
            below = notebook.below()
            restarted = time.monotonic()
            notebook.restart(now=number % 2 == 1)
            _count_survivors(below, result)
            _answer(notebook)
            result.latencies_s.append(time.monotonic() - restarted)
        below = notebook.below()
        os.kill(notebook.pid, signal.SIGKILL)
        _count_survivors(below, result)
        notebook.manager.shutdown_kernel(now=True)
        _add(result.left, surroundings)
    result.seconds = time.monotonic() - began
    return result


def _answer(notebook: Notebook) -> None:
    notebook.run("%load_ext agentplug").check()
    notebook.run(KERNELS_PLUGIN).check()
    assert notebook.value("await waiter.process(0)") == "0"


def _count_survivors(below: list[Watched], result: Result) -> None:
    for process in below:
        if not process.ended():
            told = "a process outlived its host"
            result.surprises[told] = result.surprises.get(told, 0) + 1


def _add(left: dict[str, Any], surroundings: Surroundings) -> None:
    for kind, things in surroundings.left().items():
        left.setdefault(kind, []).extend(things)


@contextlib.contextmanager
def _jupyter_home(folder: Path) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    os.environ |= {name: str(folder / name.lower()) for name in before}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


SHORT: dict[Callable[[int], Result], int] = {crashes: 60, crowd: 16, calls: 2_000, restarts: 2, killed_hosts: 4}
LONG: dict[Callable[[int], Result], int] = {
    crashes: 10_000,
    crowd: 200,
    calls: 100_000,
    restarts: 40,
    killed_hosts: 100,
}
