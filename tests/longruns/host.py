"""A host of plugins, in a process of its own: `python -m tests.longruns.host SCENARIO N` (run by `scenarios`).

It does its work N times, prints one line of JSON and ends. Or, for `mid_call`, it prints that line in the middle of a
call and waits to be killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentplug import PluginManager, Policy, SandboxedPlugin
from agentplug.core.host.launcher import zygote_for
from agentplug.core.host.output import stream_to
from tests.leftovers import QuietPlugin, held, left_since, warm

LANES = 6
READINGS = 50
CROWD_CALLS = 5


class DyingPlugin:
    """Ends as its input says."""

    name, version = "dying", "1"

    def initialize(self, config: object) -> None:
        """Nothing to do."""

    def process(self, how: str) -> str:
        """Not many get to the end of this."""
        match how:
            case "exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "signal":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                return str(len(bytearray(b"x") * (256 << 20)))
            case "wall" | "stop":
                time.sleep(60)
        return how


ENDS = {
    "exit": "died:exit 3",
    "segfault": "died:SIGSEGV",
    "abort": "died:SIGABRT",
    "signal": "died:SIGKILL",
    "memory": "limited:memory",
    "stop": "stopped:kill",
    "wall": "limited:wall",
}
QUICK = ("exit", "segfault", "stop", "signal")
MIX = (*QUICK, "abort", *QUICK, "memory", *QUICK, *QUICK, "exit", "wall")  # a time limit takes its time
DYING = Policy(memory="32M", wall_s=0.7)


@dataclass
class Report:
    """What the parent gets to read. Latencies are packed: a list of floats would be a growth of its own."""

    zygotes: list[int]
    left: dict[str, Any] = field(default_factory=dict)
    surprises: Counter[str] = field(default_factory=Counter)
    rss_bytes: list[int] = field(default_factory=list)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))

    def read_memory(self) -> None:
        """One reading of this process's resident memory, without what is garbage already."""
        gc.collect()
        self.rss_bytes.append(resident_bytes())

    def every(self, n: int) -> Iterator[int]:
        """0 to n - 1, with a reading of memory at even distances."""
        step = max(1, n // READINGS)
        for number in range(n):
            yield number
            if number % step == step - 1:
                self.read_memory()


def resident_bytes() -> int:
    """This process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def crashes(n: int, report: Report) -> None:
    """`n` workers end, each in one of seven ways; quarantined plugins are reloaded. Lanes side by side."""
    work = report.every(n)

    async def lane() -> None:
        async with PluginManager(DYING) as manager:
            await manager.load(DyingPlugin)
            for number in work:
                plugin = manager.plugins["dying"]
                if plugin.state == "quarantined":
                    plugin = await manager.reload("dying")
                assert isinstance(plugin, SandboxedPlugin)
                how = MIX[number % len(MIX)]
                began = time.perf_counter()
                call = asyncio.create_task(plugin.run(how))
                while how == "stop" and plugin.state != "busy" and not call.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                if how == "stop":
                    plugin._inside.stop()
                run = await call
                report.latencies_s.append(time.perf_counter() - began)
                if str(run.verdict) != ENDS[how]:
                    report.surprises[f"{how}: {run.verdict}"] += 1

    await asyncio.gather(*(lane() for _ in range(LANES)))


async def crowd(n: int, report: Report, rounds: int = 4) -> None:
    """`n` plugins are loaded at once, each is called, all are closed; that a few times over."""
    for _ in range(rounds):
        plugins = [SandboxedPlugin(QuietPlugin, config={"number": number}) for number in range(n)]
        await asyncio.gather(*(plugin.initialize() for plugin in plugins))
        pids = {plugin.pid for plugin in plugins}
        if len(pids) != n or None in pids:
            report.surprises[f"{len(pids)} workers for {n} plugins"] += 1
        answers = await asyncio.gather(*(plugin.process(number) for number, plugin in enumerate(plugins)))
        if answers != list(range(n)):
            report.surprises["wrong answers"] += 1
        for number, plugin in enumerate(plugins * CROWD_CALLS):
            await timed(plugin, number, report)
        await asyncio.gather(*(plugin.close() for plugin in plugins))
        del plugins, plugin
        report.read_memory()


async def calls(n: int, report: Report) -> None:
    """`n` calls to one plugin."""
    async with SandboxedPlugin(QuietPlugin) as plugin:
        for number in report.every(n):
            await timed(plugin, number, report)


async def timed(plugin: SandboxedPlugin, number: int, report: Report) -> None:
    """One call that gives back what it got."""
    began = time.perf_counter()
    run = await plugin.run(number)
    report.latencies_s.append(time.perf_counter() - began)
    if (str(run.verdict), run.value) != ("completed", number):
        report.surprises[str(run.verdict)] += 1


SCENARIOS: dict[str, Callable[[int, Report], Awaitable[None]]] = {"crashes": crashes, "crowd": crowd, "calls": calls}


def work_through(scenario: str, n: int) -> Report:
    """Do it, after a small round to warm up, and take stock."""
    warm()
    asyncio.run(SCENARIOS[scenario](min(n, 2 * len(MIX)), Report([])))
    before = held()
    report = Report([zygote_for().pid])
    asyncio.run(SCENARIOS[scenario](n, report))
    report.left = {kind: sorted(things) for kind, things in asdict(left_since(before)).items() if things}
    return report


# ---------------------------------------------------------------------- to be killed in the middle of a call


class StubbornPlugin:
    """Never comes back from a call, and obeys no signal that can be refused."""

    name, version = "stubborn", "1"

    def initialize(self, config: object) -> None:
        """Nothing to do."""

    def process(self, how: str) -> None:
        """Work on until the end of the world."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if how == "files":
            for number in range(50):
                Path(f"folder-{number}").mkdir()
                Path(f"folder-{number}/file").write_text("x")
        if how == "children" and os.fork() == 0:
            os.setpgid(0, 0)
            os.fork()
        print("begun", flush=True)
        while how == "spin":
            pass
        while True:
            time.sleep(60)


STUBBORN = {
    "spin": Policy(),
    "sleep": Policy(),
    "files": Policy(disk="4M"),
    "children": Policy(processes=3),
}


def mid_call(how: str) -> None:
    """Two plugins are in a call (and one is starting) when this host says so; then it waits for its end."""
    begun = threading.Semaphore(0)
    stream_to(lambda: lambda _, text: begun.release(text.count("begun")) if "begun" in text else None)
    plugins = [SandboxedPlugin(StubbornPlugin, STUBBORN[how]) for _ in range(2)]
    for plugin in plugins:
        threading.Thread(target=plugin.run_sync, args=(how,), daemon=True).start()
    for _ in range(6 if how == "children" else 2):
        begun.acquire()
    starting = SandboxedPlugin(QuietPlugin)
    threading.Thread(target=starting.run_sync, args=(1,), daemon=True).start()
    print(json.dumps({"zygotes": [zygote_for().pid], "rss_bytes": resident_bytes()}), flush=True)
    signal.pause()


def main() -> None:
    what, given = sys.argv[1:]
    if what == "mid_call":
        mid_call(given)
    else:
        print(json.dumps(asdict(work_through(what, int(given))), default=list))


if __name__ == "__main__":
    main()
