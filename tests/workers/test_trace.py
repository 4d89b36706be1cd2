"""Traces of live plugins: rows and figures that are kept, for a long time, in little room."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from agentplug.contract.policy import Policy
from agentplug.core import history as kept
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.manager import retired as past
from agentplug.manager.manager import PluginManager
from agentplug.report import recorder
from agentplug.report.accessor import attached
from tests.unit.test_trace import MIB

attached(pd.DataFrame())  # makes `df.agentplug` known


HOG = """
class HogPlugin:
    name, version = "hog", "1"

    async def initialize(self, config): ...

    async def process(self, count):
        held = bytearray(count)
        return len(held) // (count != 7)
"""


class TestLive:
    async def test_a_plugin_that_is_reloaded_for_ever_takes_no_more_room(self, tmp_path: Path) -> None:
        """Its rows stay, in order; what came of the same bytes shares one recorder."""
        path = tmp_path / "hog.py"
        path.write_text(HOG)
        async with PluginManager() as manager:
            await manager.load(path)
            for count in (1, 7, 3, 7, 5):
                plugin = await manager.reload("hog")
                assert isinstance(plugin, SandboxedPlugin)
                await plugin.run(count)
            assert len(list(manager._inside.retired.recorders())) == 2  # of which the first counts what was dropped
            path.write_text(HOG.replace('"1"', '"2"'))
            await manager.reload("hog")
            assert len(list(manager._inside.retired.recorders())) == 2  # of which the first counts what was dropped
            frame = manager.trace
        assert frame["verdict"].tolist() == ["completed", "failed", "completed", "failed", "completed"]
        assert frame["plugin"].tolist() == ["hog"] * 5
        assert frame["started_at"].is_monotonic_increasing

    async def test_too_many_past_rows_go_a_block_at_a_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recorder, "BLOCK_ROWS", 2)
        monkeypatch.setattr(past, "BLOCK_ROWS", 2)
        monkeypatch.setattr(past, "MAX_ROWS", 5)
        path = tmp_path / "hog.py"
        path.write_text(HOG)
        async with PluginManager() as manager:
            await manager.load(path)
            for _ in range(4):
                plugin = await manager.reload("hog")
                assert isinstance(plugin, SandboxedPlugin)
                for count in range(2):
                    await plugin.run(count)
            await manager.reload("hog")
            frame = manager.trace
            assert frame.attrs["dropped"] == 4
            assert len(frame) == 4

    async def test_a_plugin_keeps_figures_longer_than_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kept, "MAX_RUNS", 2)
        path = tmp_path / "hog.py"
        path.write_text(HOG)
        async with SandboxedPlugin(path, Policy(memory="48M")) as plugin:
            for count in (1, 7, 5):
                await plugin.run(count)
            assert [run.number for run in plugin.runs] == [1, 2]
            assert plugin.trace["verdict"].tolist() == ["completed", "failed", "completed"]
            assert plugin.trace.attrs["limits"]["memory"] == 48 * MIB
            assert plugin.trace.attrs["digest"] == plugin._inside.source.digest
            statuses = dict(zip(plugin.barriers["barrier"], plugin.barriers["status"], strict=True))
            assert plugin.trace.attrs["barriers"] == statuses
            assert plugin.runs[0].samples.attrs["barriers"] == statuses

    async def test_runs_are_kept_by_their_size_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kept, "MAX_RUNS_BYTES", 10)
        path = tmp_path / "hog.py"
        path.write_text(HOG)
        async with SandboxedPlugin(path) as plugin:
            for count in (10**6, 10**6 + 1, 10**6 + 2, 10**6 + 3):
                await plugin.run(count)
            assert len(plugin.runs) in (1, 2)
            assert plugin.runs[-1].value == 10**6 + 3

    async def test_small_replies_that_are_large_here_are_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """200 KB of empty sets take 15 MB of the host: a thousand of them would fill it, though few bytes came."""
        monkeypatch.setattr(kept, "MAX_RUNS_BYTES", 40 * MIB)

        class SetsPlugin:
            name, version = "sets", "1"

            async def initialize(self, config: object) -> None: ...

            async def process(self, count: int) -> list[set[int]]:
                return [set() for _ in range(count)]

        async with SandboxedPlugin(SetsPlugin) as plugin:
            for _ in range(5):
                assert (await plugin.run(65_000)).verdict.kind == "completed"
            assert len(plugin.runs) <= 2
            assert len(plugin.trace) == 5

    async def test_a_manager_remembers_what_was_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "hog.py"
        path.write_text(HOG)
        async with PluginManager() as manager:
            first = await manager.load(path)
            await first.run(1)
            path.write_text(HOG.replace('"1"', '"2"'))
            await (await manager.reload("hog")).process(2)
            other = await manager.load(path, name="other", policy=Policy(memory="40M"))
            await other.run(3)
            await manager.unregister("other")
            trace = manager.trace
            assert trace["plugin"].tolist() == ["hog", "hog", "other"]
            assert trace["version"].tolist() == ["1", "2", "2"]
            assert trace["digest"].nunique() == 2
            assert trace.attrs["limits"]["other"]["memory"] == 40 * MIB
            assert trace.agentplug.compare(trace).loc[("hog", "completed"), "ratio"] == 1.0
        assert len(manager.trace) == 3
