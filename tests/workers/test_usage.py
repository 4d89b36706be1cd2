"""What a call is said to have cost, held against what it is known to have cost."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pandas as pd
import pytest
import pytest_asyncio

from agentplug import Policy, SandboxedPlugin
from agentplug.contract.record import Usage
from agentplug.core.run import Run
from tests.leftovers import _warmed, nothing_left  # noqa: F401

MIB = 1 << 20
COLUMNS = {
    "run": "int64",
    "plugin": "category",
    "version": "str",
    "digest": "str",
    "verdict": "category",
    "by": "category",
    "started_at": "datetime64[ns, UTC]",
    "wall_s": "float64",
    "cpu_s": "float64",
    "cpu_user_s": "float64",
    "cpu_system_s": "float64",
    "peak_memory_bytes": "int64",
    "baseline_memory_bytes": "int64",
    "calls": "int64",
    "request_bytes": "int64",
    "reply_bytes": "int64",
    "output_bytes": "int64",
    "read_bytes": "int64",
    "write_bytes": "int64",
    "threads": "int64",
}


class CostlyPlugin:
    """Spends what its input says."""

    name = "costly"
    version = "2.1"

    def initialize(self, config: object) -> None:
        self.kept: list[Any] = []

    def process(self, what: Any) -> Any:
        import os
        import threading

        way, amount = what
        if way == "memory":
            return len(b"x" * amount)  # one piece, each page of it written
        if way == "keep":
            self.kept.append(b"x" * amount)
        elif way == "user":
            until = time.process_time() + amount
            while time.process_time() < until:
                sum(range(20_000))  # looking at the clock is a system call
        elif way == "system":
            until = time.process_time() + amount
            while time.process_time() < until:
                os.urandom(1 << 16)
        elif way == "sleep":
            time.sleep(amount)
        elif way == "write":
            with open("file", "wb") as file:
                for _ in range(amount // MIB):
                    file.write(b"y" * MIB)
        elif way == "read":
            with open("file", "rb") as file:
                while file.read(MIB):
                    pass
        elif way == "print":
            print("z" * amount, end="")
        elif way == "reply":
            return b"r" * amount
        elif way == "threads":
            ready, done = threading.Barrier(amount + 1), threading.Event()

            def work() -> None:
                ready.wait()
                done.wait()

            threads = [threading.Thread(target=work) for _ in range(amount)]
            for thread in threads:
                thread.start()
            ready.wait()
            time.sleep(0.05)
            done.set()
            for thread in threads:
                thread.join()
        return None


@pytest_asyncio.fixture
async def costly() -> AsyncIterator[SandboxedPlugin]:
    """The plugin, ready, its first call behind it."""
    async with SandboxedPlugin(CostlyPlugin, Policy(disk="8M")) as plugin:
        await plugin.run(("sleep", 0))
        yield plugin


async def usage_of(plugin: SandboxedPlugin, way: str, amount: float) -> Usage:
    """The usage of one call that completes."""
    run = await plugin.run((way, amount))
    assert str(run.verdict) == "completed"
    return run.usage


async def test_a_spike_of_memory_is_seen_to_a_mebibyte(costly: SandboxedPlugin) -> None:
    """200 MB that no sample need have met are in the peak; the next call, of 10 MB, has a small one again."""
    for megabytes in (200, 10, 200, 10):
        usage = await usage_of(costly, "memory", megabytes * 1_000_000)
        grown = usage.peak_memory_bytes - usage.baseline_memory_bytes
        assert abs(grown - megabytes * 1_000_000) < MIB


async def test_memory_that_is_kept_is_in_the_next_baseline(costly: SandboxedPlugin) -> None:
    """What a call leaves behind is where the next one begins."""
    before = await usage_of(costly, "sleep", 0)
    await usage_of(costly, "keep", 20 * MIB)
    after = await usage_of(costly, "sleep", 0)
    assert abs(after.baseline_memory_bytes - before.baseline_memory_bytes - 20 * MIB) < MIB
    assert after.peak_memory_bytes - after.baseline_memory_bytes < MIB


@pytest.mark.parametrize("way", ["user", "system"])
@pytest.mark.parametrize("seconds", [0.05, 0.3])
async def test_cpu_time_is_counted_and_split(costly: SandboxedPlugin, way: str, seconds: float) -> None:
    """A known burn is met to 50 ms, user and system time add up to it, and most of it is of the right kind."""
    usage = await usage_of(costly, way, seconds)
    assert seconds <= usage.cpu_s < seconds + 0.05
    assert usage.cpu_user_s + usage.cpu_system_s == pytest.approx(usage.cpu_s)
    assert usage.wall_s >= usage.cpu_s - 0.005
    if seconds >= 0.3:
        assert (usage.cpu_user_s if way == "user" else usage.cpu_system_s) > 0.6 * seconds


async def test_sleeping_takes_time_and_no_cpu(costly: SandboxedPlugin) -> None:
    """Wall time passes while a plugin waits, CPU time hardly."""
    usage = await usage_of(costly, "sleep", 0.25)
    assert 0.25 <= usage.wall_s < 0.35
    assert usage.cpu_s < 0.02


async def test_bytes_through_files_are_counted(costly: SandboxedPlugin) -> None:
    """What is written to and read from the scratch directory is counted, output isn't."""
    wrote = await usage_of(costly, "write", 4 * MIB)
    assert 4 * MIB <= wrote.write_bytes < 4 * MIB + 4096
    read = await usage_of(costly, "read", 0)
    assert 4 * MIB <= read.read_bytes < 4 * MIB + 65_536
    assert read.write_bytes < 4096
    said = await usage_of(costly, "print", 100_000)
    assert (said.output_bytes, said.write_bytes < 4096) == (100_000, True)


async def test_requests_and_replies_are_counted(costly: SandboxedPlugin) -> None:
    """Bytes on the wire in both directions, blobs included."""
    small = await usage_of(costly, "sleep", 0)
    large = await usage_of(costly, "reply", 3_000_000)
    assert small.reply_bytes < 100
    assert 3_000_000 <= large.reply_bytes < 3_000_100
    run = await costly.run(("sleep", 0.0, b"q" * 2_000_000)[:2])
    assert run.usage.request_bytes < 100


async def test_threads_are_counted(costly: SandboxedPlugin) -> None:
    """The most threads seen, the worker's own included."""
    assert (await usage_of(costly, "threads", 7)).threads == 8
    assert (await usage_of(costly, "sleep", 0)).threads == 1


async def test_a_call_without_work_costs_next_to_nothing(costly: SandboxedPlugin) -> None:
    """Measuring has no cost that shows up in what is measured."""
    usages = [await usage_of(costly, "sleep", 0) for _ in range(50)]
    assert sorted(usage.cpu_s for usage in usages)[25] < 0.001
    assert sum(usage.cpu_s for usage in usages) < 0.05


async def test_a_killed_call_has_its_figures_too(costly: SandboxedPlugin) -> None:
    """The usage of a call that was stopped holds what was spent until then."""
    async with SandboxedPlugin(CostlyPlugin, Policy(cpu_s=0.3)) as plugin:
        run = await plugin.run(("user", 30))
        assert str(run.verdict) == "limited:cpu"
        assert 0.3 <= run.usage.cpu_s < 0.35
        assert run.usage.wall_s >= 0.29
        assert run.usage.peak_memory_bytes >= run.usage.baseline_memory_bytes > 0


async def test_the_trace_has_exactly_the_columns_of_the_design(costly: SandboxedPlugin) -> None:
    """One row a call, the columns in their order, with units in their names and fixed types."""
    await costly.run(("user", 0.01))
    trace = costly.trace
    text = str(pd.Series([], dtype=str).dtype)
    expected = {name: text if dtype == "str" else dtype for name, dtype in COLUMNS.items()}
    assert {name: str(dtype) for name, dtype in trace.dtypes.items()} == expected
    assert list(trace.columns) == list(COLUMNS)
    assert len(trace) == 2
    assert list(trace["digest"]) == [costly._inside.source.digest] * 2
    assert trace["version"].tolist() == ["2.1", "2.1"]
    assert trace["by"].isna().all()
    for name in Usage._fields:
        assert trace[name].tolist() == [getattr(run.usage, name) for run in costly.runs]


async def test_samples_show_the_course_of_a_call(costly: SandboxedPlugin) -> None:
    """Readings over time: an index in ns from 0 on, memory, CPU and threads; limits and identity in `attrs`."""
    run: Run = await costly.run(("user", 0.2))
    samples = run.samples
    assert (samples.index.name, str(samples.index.dtype)) == ("t", "timedelta64[ns]")
    assert list(samples.columns) == ["rss_bytes", "cpu_s", "cpu_percent", "threads"]
    assert samples.index[0] == pd.Timedelta(0)
    assert samples.index.is_monotonic_increasing
    assert samples["cpu_s"].is_monotonic_increasing
    assert samples["cpu_s"].iloc[-1] == pytest.approx(run.usage.cpu_s, abs=0.005)
    assert len(samples) > 10
    share = 100 * run.usage.cpu_s / run.usage.wall_s  # a busy machine gives it less than a processor
    assert samples["cpu_percent"].iloc[5:].mean() > share / 2
    assert (samples.attrs["plugin"], samples.attrs["limits"]["disk"]) == ("costly", 8 * MIB)
