"""Idle workers: they cost a look at their CPU clock, and their limits hold all the same."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.core.host.limits import Limits
from tests.leftovers import _warmed, eventually, nothing_left  # noqa: F401

pytestmark = pytest.mark.need("landlock", "seccomp")


class LaterPlugin:
    """Does what it is asked some time after its call."""

    name, version = "later", "1"

    async def initialize(self, config: object) -> None: ...

    async def process(self, what: str) -> str:
        """Begin it."""
        if what == "child" and os.fork() == 0:
            self.later("spin")
            os._exit(0)
        if what in ("spin", "grow"):
            threading.Thread(target=self.later, args=(what,), daemon=True).start()
        return what

    def later(self, what: str) -> None:
        """Sleep for a second, and do it."""
        time.sleep(1.0)
        self.kept = bytearray(64 << 20) if what == "grow" else None
        while what == "spin":
            pass


async def test_an_idle_worker_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it doesn't run, nothing of it can have changed but its end."""
    checked = 0
    check_idle = Limits.check_idle

    def counted(*arguments: Any) -> Any:
        nonlocal checked
        checked += 1
        return check_idle(*arguments)

    monkeypatch.setattr(Limits, "check_idle", counted)
    async with SandboxedPlugin(LaterPlugin) as plugin:
        assert await plugin.process("x") == "x"
        worker = plugin._inside.life.worker
        assert worker is not None
        assert await asyncio.to_thread(eventually, worker.checks.stands_still)
        before = checked
        await asyncio.sleep(1.0)
        assert (checked, plugin.state) == (before, "ready")
        assert await plugin.process("y") == "y"
        assert not worker.checks.stands_still()


@pytest.mark.parametrize(("what", "by"), [("spin", "cpu"), ("grow", "memory"), ("child", "cpu")])
async def test_a_worker_that_wakes_up_is_under_its_limits(what: str, by: str) -> None:
    """It stood still for a second; what it does then, it or its child, ends it, and an event says why."""
    async with SandboxedPlugin(LaterPlugin, Policy(memory="32M", processes=1)) as plugin:
        assert await plugin.process(what) == what
        assert await asyncio.to_thread(eventually, lambda: plugin.pid is None, 60)
        assert plugin._inside.events[0].detail["by"] == by
