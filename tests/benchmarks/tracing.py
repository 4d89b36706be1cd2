"""What it costs to record calls and to sample busy plugins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from agentplug import Policy, SandboxedPlugin
from agentplug.contract.events import Event
from agentplug.contract.record import SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.report.recorder import Recorder

BUSY_PLUGINS = 20
BUSY_S = 5.0
_NAPPING = """
import time

class NappingPlugin:
    name, version = "napping", "1"
    async def initialize(self, config): ...
    async def process(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
"""


def recording(calls: int = 100_000) -> Iterator[float]:
    """Seconds to record a call, in rounds of a thousand."""
    events = (Event(0.0, "start"), Event(0.1, "reply"))
    source = SourceInfo("./p.py", "file", "sha256:0", "p", "1")
    runs = [Run(None, Usage(), events, Policy(), source, number) for number in range(1_000)]
    recorder = Recorder()
    for _ in range(calls // len(runs)):
        began = time.perf_counter()
        for run in runs:
            recorder.add(run)
        yield (time.perf_counter() - began) / len(runs)


async def sampling() -> tuple[float, float]:
    """The share of a core that this process takes while twenty plugins are busy, and milliseconds between samples.

    Taken while all of them are at it, so without the beginnings and ends of calls, which other rows show.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "napping.py"
        path.write_text(_NAPPING)
        async with AsyncExitStack() as stack:
            plugins = [await stack.enter_async_context(SandboxedPlugin(path)) for _ in range(BUSY_PLUGINS)]
            await asyncio.gather(*(plugin.run(0.01) for plugin in plugins))
            running = asyncio.gather(*(plugin.run(BUSY_S + 2) for plugin in plugins))
            await asyncio.sleep(1)
            begun_s, cpu_s = time.perf_counter(), time.process_time()
            await asyncio.sleep(BUSY_S)
            cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
            runs = await running
    within = [sum(1.1 < t < BUSY_S + 1 for t in run.samples.index.total_seconds()) for run in runs]
    return cpu_s / wall_s, (BUSY_S - 0.1) / (sum(within) / BUSY_PLUGINS) * 1e3
