"""While the caller's loop stands still, as in a busy cell, the watchdog sends, receives and measures all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import psutil
import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.core.encode import call_request
from agentplug.core.run import Run
from tests.leftovers import _warmed, nothing_left  # noqa: F401

pytestmark = [pytest.mark.need("landlock", "seccomp"), pytest.mark.usefixtures("nothing_left")]


class NappingPlugin:
    """Does what it is asked; beside that, one of its threads is never idle for long."""

    name, version = "napping", "1"

    def initialize(self, config: dict[str, Any]) -> None:
        """Begin to nap, if the configuration says so."""
        if config.get("beside"):
            threading.Thread(target=self.nap, daemon=True).start()

    def nap(self) -> None:
        """For ever."""
        while True:
            time.sleep(0.003)

    def process(self, what: Any) -> Any:
        """`("sleep", seconds)`, `("exit", after)`, or the length of anything else."""
        match what:
            case ("sleep", seconds):
                time.sleep(seconds)
            case ("exit", seconds):
                time.sleep(seconds)
                os._exit(3)
        return len(what)


async def begun(call: asyncio.Future[Any]) -> None:
    """The worker has been sent what fits."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not call.done()


async def run_while_blocked(plugin: SandboxedPlugin, given: Any, blocked_s: float) -> Run:
    """The run of a call, after whose beginning the loop stands still for so long."""
    call = asyncio.create_task(plugin.run(given))
    await begun(call)
    time.sleep(blocked_s)  # noqa: ASYNC251
    return await call


async def test_limits_hold() -> None:
    """A call with `wall_s=0.5` has ended in time, as its usage shows afterwards."""
    async with SandboxedPlugin(NappingPlugin, Policy(wall_s=0.5)) as plugin:
        await plugin.run("warm")
        pid = plugin.pid
        assert pid is not None
        call = asyncio.create_task(plugin.run(("sleep", 60)))
        await begun(call)
        time.sleep(3)  # noqa: ASYNC251
        assert not psutil.pid_exists(pid)
        run = await call
        assert str(run.verdict) == "limited:wall"
        assert 0.5 <= run.usage.wall_s < 0.6


@pytest.mark.parametrize("beside", [False, True], ids=["quiet", "with a busy thread"])
async def test_a_reply_that_came_in_time_is_not_late(beside: bool) -> None:
    """It counts from when it came, whenever the loop gets round to it."""
    async with SandboxedPlugin(NappingPlugin, Policy(wall_s=0.5, threads=4), config={"beside": beside}) as plugin:
        await plugin.run("warm")
        run = await run_while_blocked(plugin, ("sleep", 0.2), 1.5)
        assert str(run.verdict) == "completed"
        assert 0.2 <= run.usage.wall_s < 0.4


async def test_a_call_that_has_answered_cannot_be_interrupted() -> None:
    async with SandboxedPlugin(NappingPlugin, Policy(threads=4), config={"beside": True}) as plugin:
        await plugin.run("warm")
        call = asyncio.create_task(plugin.run(("sleep", 0.1)))
        await begun(call)
        time.sleep(0.6)  # noqa: ASYNC251
        plugin._inside.stop("interrupt")
        assert str((await call).verdict) == "completed"


async def test_a_request_larger_than_a_socket_holds_is_sent() -> None:
    """In time, and not a piece a second."""
    async with SandboxedPlugin(NappingPlugin, Policy(memory="1G", wall_s=3.0)) as plugin:
        await plugin.run("warm")
        run = await run_while_blocked(plugin, np.zeros(20 << 20, dtype=np.uint8), 3.5)
        assert (str(run.verdict), run.value) == ("completed", 20 << 20)


@pytest.mark.parametrize("stopped", [False, True], ids=["", "word of its end comes late"])
async def test_what_was_answered_counts_though_the_worker_died(stopped: bool) -> None:
    """Calls of a window before the one that ended it: none is lost, to be sent and made once more."""
    async with SandboxedPlugin(NappingPlugin) as plugin:
        for nap_s in (0.061, 0.068, 0.075):
            await plugin.run("warm")
            assert plugin.pid is not None
            zygote = psutil.Process(plugin.pid).ppid()
            requests = [
                call_request(given) for given in (("sleep", nap_s), "ab", "abc", ("exit", 0.0), "never begun")
            ]
            call = asyncio.create_task(plugin._inside.answers(requests))
            await begun(call)
            try:
                if stopped:
                    os.kill(zygote, signal.SIGSTOP)
                time.sleep(0.3)  # noqa: ASYNC251
            finally:
                os.kill(zygote, signal.SIGCONT)
            runs = await call
            assert [str(run.verdict) for run in runs] == [*["completed"] * 3, "died:exit 3"]
            assert [run.value for run in runs[1:3]] == [2, 3]
            plugin._inside.life._losses.clear()
