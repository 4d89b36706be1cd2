"""A trace tells of a plugin under the name, and with the limits, that held as each call was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agentplug import PluginManager, Policy, SandboxedPlugin
from agentplug.manager.audit.reading import read_audit
from agentplug.report.accessor import attached, read_trace
from agentplug.report.frames import calls_frame
from agentplug.report.plots.data import limit_of
from tests.leftovers import _warmed, nothing_left  # noqa: F401

attached(pd.DataFrame())  # makes `df.agentplug` known

MIB = 1 << 20


class GrowPlugin:
    """Takes so many MiB."""

    name, version = "grow", "1"

    async def initialize(self, config: object) -> None: ...

    async def process(self, mib: int) -> int:
        return len(bytearray(mib << 20))


async def test_a_call_has_one_name_everywhere(tmp_path: Path) -> None:
    """The one that the manager gave its plugin: two of the same class stay two."""
    path = tmp_path / "audit.jsonl"
    async with PluginManager(audit=path) as manager:
        small = await manager.load(GrowPlugin, name="small", policy=Policy(memory="64M"))
        large = await manager.load(GrowPlugin, name="large", policy=Policy(memory="128M"))
        runs = [await small.run(60), await large.run(60)]
        named = ["small", "large"]
        assert [repr(run) for run in runs] == ["<Run of small: completed>", "<Run of large: completed>"]
        assert [run.samples.attrs["plugin"] for run in runs] == named
        assert [run.source.plugin for run in runs] == ["grow", "grow"]
        assert calls_frame(runs)["plugin"].tolist() == manager.trace["plugin"].tolist() == named
        assert calls_frame(runs).attrs["limits"].keys() == {"small", "large"}
        assert runs[0].to_frame()["plugin"].tolist() == small.trace["plugin"].tolist() == ["small"]
        assert calls_frame(runs).agentplug.over_limit(0.9)["plugin"].tolist() == ["small"]
    assert [run.source.known_as for run in read_audit(path).runs()] == named


async def test_each_call_is_judged_by_the_limits_of_its_time(tmp_path: Path) -> None:
    """A policy that is loosened and tightened again between calls: what was over its limit still was."""
    async with PluginManager(Policy(memory="64M")) as manager:
        await (await manager.load(GrowPlugin)).run(60)
        assert "earlier_limits" not in manager.trace.attrs
        await (await manager.load(GrowPlugin, policy=Policy(memory="512M"))).run(10)
        await (await manager.load(GrowPlugin, policy=Policy(memory="32M"))).run(1)
        await (await manager.load(GrowPlugin, policy=Policy(memory="32M"))).run(2)
        trace = manager.trace
    assert trace.attrs["limits"]["memory"] == 32 * MIB
    assert [limits["memory"] for _, limits in trace.attrs["earlier_limits"]["grow"]] == [64 * MIB, 512 * MIB]
    for given in (trace, read_trace(trace.agentplug.save(tmp_path / "trace.parquet"))):
        over = given.agentplug.over_limit(0.8)
        assert over["used"].round(2).tolist() == [0.94]
        assert over["run"].tolist() == [given["run"].iloc[0]]
    assert limit_of(trace.attrs, "memory", "grow") is None
    assert limit_of(trace.attrs, "cpu_s", "grow") == 10.0


async def test_calls_of_two_of_one_name_are_judged_each_by_its_own_limits() -> None:
    """Two policies tried in turns, outside of a manager: the runs of one may all stand before those of the other."""
    async with (
        SandboxedPlugin(GrowPlugin, Policy(memory="64M")) as small,
        SandboxedPlugin(GrowPlugin, Policy(memory="512M")) as large,
    ):
        for _ in range(3):
            await small.run(50)
            await large.run(50)
        trace = calls_frame([*small.runs, *large.runs])
    assert trace["started_at"].is_monotonic_increasing
    assert trace.agentplug.over_limit(0.01).sort_index()["used"].round(2).tolist() == [0.78, 0.1] * 3


@pytest.mark.parametrize(
    "told",
    [5, {"grow": 5}, {"grow": [[5, 5]]}, {"grow": [[float("inf"), {}]]}, {"grow": [[10**30, {"memory": 1}]]}],
    ids=repr,
)
async def test_earlier_limits_that_make_no_sense_are_none(told: Any) -> None:
    async with SandboxedPlugin(GrowPlugin, Policy(memory="64M")) as plugin:
        await plugin.run(60)
        trace = plugin.trace
    trace.attrs["earlier_limits"] = told
    assert trace.agentplug.over_limit(0.8)["used"].round(2).tolist() == [0.94]
    assert limit_of(trace.attrs, "memory", "grow") == 64 * MIB
