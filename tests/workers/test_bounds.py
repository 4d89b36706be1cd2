"""Bounds to the last unit: one thread, one pause, one process too many; and what is left to a plugin."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.errors import PluginQuarantined
from tests.leftovers import _warmed, eventually, nothing_left  # noqa: F401
from tests.workers.test_sandboxed import DoPlugin

pytestmark = pytest.mark.need("landlock", "seccomp")


class LaterPlugin(DoPlugin):
    """Does more of what its input says."""

    async def process(self, what: Any) -> Any:
        import resource
        import threading
        import time

        match what:
            case ("threads", count):
                for _ in range(count):
                    threading.Thread(target=time.sleep, args=(0.4,), daemon=True).start()
                await asyncio.sleep(0.3)
            case "fork later":

                def fork() -> None:
                    time.sleep(0.2)
                    for _ in range(2):
                        if os.fork() == 0:
                            time.sleep(20)
                            os._exit(0)

                threading.Thread(target=fork, daemon=True).start()
            case "raise cpu":
                soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
                resource.setrlimit(resource.RLIMIT_CPU, (soft + 100, hard))
            case "capabilities":
                lines = Path("/proc/self/status").read_text().splitlines()
                return {line.split()[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
            case _:
                return await super().process(what)
        return what


async def test_cpu_time_in_a_window_is_each_calls_own() -> None:
    async with SandboxedPlugin(DoPlugin, Policy(cpu_s=0.4)) as plugin:
        runs = [run async for run in plugin.map([("spin", 0.25)] * 4, window=4)]
        assert [str(run.verdict) for run in runs] == ["completed"] * 4


@pytest.mark.parametrize(("more", "verdict"), [(-1, "completed"), (0, "limited:threads")])
async def test_one_thread_too_many_is_too_many(more: int, verdict: str) -> None:
    """The main thread counts."""
    async with SandboxedPlugin(LaterPlugin, Policy(threads=6, processes=1)) as plugin:
        await plugin.process("x")
        base = len(os.listdir(f"/proc/{plugin.pid}/task"))
        assert str((await plugin.run(("threads", 6 - base + 1 + more))).verdict) == verdict


async def test_processes_started_between_calls_end_the_worker() -> None:
    async with SandboxedPlugin(LaterPlugin, Policy(processes=1)) as plugin:
        assert str((await plugin.run("fork later")).verdict) == "completed"
        assert await asyncio.to_thread(eventually, lambda: plugin.state == "failed")
        assert plugin._inside.events[0].detail["by"] == "processes"


async def test_losses_between_calls_quarantine_too() -> None:
    async with SandboxedPlugin(DoPlugin) as plugin:
        for _ in range(4):
            pid = await plugin.process("pid")
            os.kill(pid, signal.SIGKILL)
            assert await asyncio.to_thread(eventually, lambda: plugin.state in ("failed", "quarantined"))
        with pytest.raises(PluginQuarantined):
            await plugin.process(1)


def cpu_s(pid: int | None) -> float:
    """The CPU time of a process, infinite once it has ended."""
    try:
        return float("inf") if pid is None else time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return float("inf")


async def test_cpu_time_of_all_pauses_counts_together() -> None:
    async with SandboxedPlugin(DoPlugin) as plugin:
        for _ in range(3):
            await plugin.run(("burn later", 0.45))
            used_s = cpu_s(plugin.pid)
            await asyncio.to_thread(eventually, lambda: cpu_s(plugin.pid) > used_s + 0.4)  # noqa: B023
        assert await asyncio.to_thread(eventually, lambda: plugin.state == "failed")
        assert plugin._inside.events[0].detail["by"] == "cpu"


async def test_a_plugin_cannot_move_its_own_limits() -> None:
    async with SandboxedPlugin(LaterPlugin) as plugin:
        run = await plugin.run("raise cpu")
        assert run.verdict.kind == "failed"


async def test_no_capability_is_left() -> None:
    async with SandboxedPlugin(LaterPlugin) as plugin:
        assert set((await plugin.process("capabilities")).values()) == {0}


async def test_an_imported_class_is_no_choice(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        "from agentplug.plugins.word_count import WordCountPlugin\n"
        "class OwnPlugin(WordCountPlugin):\n    name = 'own'\n"
    )
    async with SandboxedPlugin(str(tmp_path / "p.py")) as plugin:
        assert plugin.name == "own"
