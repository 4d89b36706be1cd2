"""What a live manager did, in its audit log: calls, refusals, quarantines, what happens between calls."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.policy import Policy
from agentplug.core.run import Run
from agentplug.errors import AgentplugError, AuditError, PluginQuarantined
from agentplug.manager.audit import AuditLog, read_audit
from agentplug.manager.manager import PluginManager
from agentplug.report import plots
from agentplug.report.frames import calls_frame, samples_frame
from tests.unit.test_audit_runs import SECRET

CONFINED = pytest.mark.need("landlock", "seccomp")

MIXED = """
import os

class MixedPlugin:
    name, version = "mixed", "1.2"
    hooks = {"pre_tool_call": "veto"}
    async def initialize(self, config): ...
    async def process(self, what):
        print("said", what)
        if what == "raise":
            raise ValueError("\\x1b[31mred\\ud800")
        if what == "grow":
            self.kept = bytearray(200 << 20)
        if what == "spin":
            while True:
                pass
        if what == "exit":
            os._exit(3)
        if what == "object":
            return object()
        return {"what": what}
    async def on_message(self, point, message):
        return {"deny": "not today"}
"""
CALLS = ("fine", "raise", "grow", "spin", "exit", "object", "fine")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "mixed.py").write_text(MIXED)
    return str(tmp_path / "mixed.py")


def same_pictures(live: Sequence[Run], read: Sequence[Run]) -> None:
    for draw in (plots.compare_runs, plots.plot_runs, plots.plot_calls, lambda runs: plots.plot_run(runs[2])):
        assert np.array_equal(pixels(draw(live)), pixels(draw(read)))


def pixels(axes: Any) -> Any:
    import matplotlib.pyplot as plt

    figure: matplotlib.figure.Figure = np.ravel(axes)[0].figure
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba()).copy()  # type: ignore[attr-defined]
    plt.close(figure)
    return drawn


# ---------------------------------------------------------------------- a manager's log


@CONFINED
async def test_a_managers_log_gives_the_same_tables_and_pictures(path: Path, spec: str) -> None:
    """Every verdict, live and read back."""
    policy = Policy(memory="64M", cpu_s=0.2, wall_s=5)
    async with PluginManager(policy, audit=path) as manager:
        plugin = await manager.load(spec, name="given name")
        live = [await plugin.run(what) for what in CALLS[:4]]
        await manager.reload("given name")
        again = manager.plugins["given name"]
        live += [await again.run(what) for what in CALLS[4:]]
        trace = manager.trace
    read = read_audit(path)
    runs = read.runs()
    assert [str(run.verdict) for run in runs] == [
        "completed",
        "failed:ValueError",
        "limited:memory",
        "limited:cpu",
        "died:exit 3",
        "broken:unserializable",
        "completed",
    ]
    assert [run.verdict for run in runs] == [run.verdict for run in live]
    assert_frame_equal(read.trace, trace)
    assert read.trace.attrs == trace.attrs
    assert_frame_equal(calls_frame(runs), calls_frame(live))
    for one, other in zip(runs, live, strict=True):
        assert_frame_equal(samples_frame(one), samples_frame(other))
        assert samples_frame(one).attrs == samples_frame(other).attrs
        assert one.usage == other.usage
    same_pictures(live, runs)
    assert read.verification.ok
    assert read.verification.closed


@CONFINED
async def test_loads_refusals_and_unloads_are_written(path: Path, spec: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("class BadPlugin:\n    name = 3\n")
    async with PluginManager(Policy(hooks={"pre_tool_call": "veto"}), audit=path) as manager:
        await manager.load(spec, config={"api_key": SECRET})
        with pytest.raises(AgentplugError):
            await manager.load(str(tmp_path / "bad.py"))
        await manager.register(Trusted(), trusted=True)
        dispatch = await manager.dispatch(AgentMessage(point="pre_tool_call", name="shell"))
        assert not dispatch.allowed
        await manager.unregister("mixed")
    read = read_audit(path)
    told = [entry for entry in read if entry.kind not in ("header", "close", "run")]
    assert [(entry.kind, entry.fields.get("plugin")) for entry in told] == [
        ("load", "mixed"),
        ("refuse", "plugin_bad"),
        ("load", "trusted"),
        ("dispatch", None),
        ("unload", "mixed"),
        ("unload", "trusted"),
    ]
    load = told[0].fields
    assert told[1].fields["spec"].endswith("bad.py")
    assert load["config"] == ["api_key"]
    assert load["pinned"] is False
    assert load["hooks"] == {"pre_tool_call": "veto"}
    assert load["policy"]["hooks"] == {"pre_tool_call": "veto"}
    assert load["barriers"]["seccomp"] == "enforced"
    assert told[2].fields["trusted"] is True
    assert [entry.kind for entry in read.select(verdict="denied")] == ["dispatch"]
    assert {entry.kind for entry in read.select(plugin="mixed")} == {"load", "run", "dispatch", "unload"}
    assert [entry.kind for entry in read.select(point="pre_tool_call")] == ["dispatch"]
    assert SECRET not in path.read_text()


class Trusted:
    name, version = "trusted", "1"

    async def initialize(self, config: Any) -> None: ...

    async def process(self, given: Any) -> Any:
        return given


@CONFINED
async def test_a_quarantine_is_written_once(path: Path, spec: str) -> None:
    async with PluginManager(audit=path) as manager:
        plugin = await manager.load(spec)
        for _ in range(4):
            await plugin.run("exit")
        with pytest.raises(PluginQuarantined):
            await plugin.run("fine")
    assert [entry.kind for entry in read_audit(path) if entry.kind != "run"] == [
        "header",
        "load",
        "quarantine",
        "unload",
        "close",
    ]


@CONFINED
async def test_a_quarantine_by_hand_is_written_at_once(path: Path, spec: str) -> None:
    async with PluginManager(audit=path) as manager:
        plugin = await manager.load(spec)
        plugin._inside.quarantine()
        plugin._inside.quarantine()
        assert [entry.kind for entry in read_audit(path)] == ["header", "load", "quarantine"]


@CONFINED
async def test_what_happens_between_calls_is_written_with_the_next(path: Path, spec: str) -> None:
    async with PluginManager(audit=path) as manager:
        plugin = await manager.load(spec)
        assert plugin.pid is not None
        os.kill(plugin.pid, signal.SIGKILL)
        while not plugin._inside.events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await plugin.run("fine")
        await plugin.run("fine")
    read = read_audit(path)
    assert [entry.kind for entry in read] == ["header", "load", "idle", "run", "run", "unload", "close"]
    assert read[2].fields["events"][0][1:] == ["exit", {"status": "SIGKILL"}]


@CONFINED
async def test_a_call_that_cannot_be_written_down_is_an_error(path: Path, spec: str) -> None:
    """And it carries the run."""
    log = AuditLog(path)
    async with PluginManager(audit=log) as manager:
        plugin = await manager.load(spec)
        path.write_bytes(b"")
        with pytest.raises(AuditError, match="changed by somebody else") as caught:
            await plugin.process("fine")
        assert caught.value.run is not None
        assert caught.value.run.value == {"what": "fine"}
        with pytest.raises(AuditError):
            await manager.unregister("mixed")
    with pytest.raises(AuditError):
        log.close()


@CONFINED
async def test_a_plugin_that_could_write_the_log_is_refused(tmp_path: Path, spec: str) -> None:
    (tmp_path / "out").mkdir()
    async with PluginManager(audit=tmp_path / "out" / "audit.jsonl") as manager:
        for granted in (tmp_path, tmp_path / "out", tmp_path / "out" / "audit.jsonl"):
            with pytest.raises(AuditError, match="lets the plugin write"):
                await manager.load(spec, policy=Policy(write=(str(granted),)))
        (tmp_path / "out2").mkdir()
        await manager.load(spec, policy=Policy(write=(str(tmp_path / "out2"),)))
