"""A worker that is killed from outside, at each step of its life."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentplug import SandboxedPlugin
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import FrameReader
from agentplug.core.host.exchange import Exchange, Request
from agentplug.core.host.launcher import Spawned
from agentplug.core.host.supervisor import Worker
from agentplug.core.lifecycle import Lifecycle
from agentplug.errors import AgentplugError, BarrierUnavailable, WorkerDied
from tests.faults.conftest import PATIENCE_S, Faulty, FaultyPlugin, slay
from tests.leftovers import _warmed, eventually, nothing_left  # noqa: F401

pytestmark = pytest.mark.need("landlock", "seccomp")


class Killer:
    """Kills a worker, once, where a method of the host's is called. `noticed`: it waits until the host has heard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, noticed: bool = False) -> None:
        self.victim: Worker | None = None
        self._monkeypatch = monkeypatch
        self._noticed = noticed
        self._worker: Worker | None = None

    def strike(self, worker: Worker, pid: int = 0) -> None:
        """Now. It has ended when this returns."""
        if self.victim is None:
            self.victim = worker
            slay(pid or worker.process.pid)
            if self._noticed:
                worker.process.exited.result(PATIENCE_S)

    def before_adoption(self) -> None:
        """When the zygote has told its pid."""
        adopt = Worker.adopt

        def killed(worker: Worker, spawned: Spawned) -> None:
            self.strike(worker, spawned.pid)
            adopt(worker, spawned)

        self._monkeypatch.setattr(Worker, "adopt", killed)

    def after_step(self, step: str) -> None:
        """When a step of the plugin's life is over."""
        original = getattr(Lifecycle, step)

        @functools.wraps(original)
        async def awaited(life: Lifecycle, worker: Worker) -> None:
            await original(life, worker)
            self.strike(worker)

        @functools.wraps(original)
        def called(life: Lifecycle, worker: Worker, exchange: Exchange) -> None:
            original(life, worker, exchange)
            self.strike(worker)

        self._monkeypatch.setattr(Lifecycle, step, awaited if inspect.iscoroutinefunction(original) else called)

    def after_sending(self, kind: int, method: int = wire.PROCESS) -> None:
        """When a request is under way. The worker is stopped before, so that it can't have answered."""
        begin = Worker.begin

        def killed(worker: Worker, requests: Sequence[Request], *rest: Any) -> Exchange:
            if self.victim is None and any(
                r.kind == kind and (kind != wire.CALL or r.flags & wire.METHOD_MASK == method) for r in requests
            ):
                os.kill(worker.process.pid, signal.SIGSTOP)
                exchange = begin(worker, requests, *rest)
                self.strike(worker)
                return exchange
            return begin(worker, requests, *rest)

        self._monkeypatch.setattr(Worker, "begin", killed)

    def in_a_reply(self) -> None:
        """When the beginning of a reply is here that doesn't fit into the socket's buffer."""
        following = FrameReader.next

        def killed(reader: FrameReader) -> Any:
            if self._worker is not None and reader is self._worker.process.reader:
                with contextlib.suppress(BlockingIOError):
                    if self._worker.process.sock.recv(1, socket.MSG_PEEK):
                        self.strike(self._worker)
            return following(reader)

        self._monkeypatch.setattr(FrameReader, "next", killed)
        self._remember()

    def after_the_reply(self, method: str) -> None:
        """When the reply is here, and its figures aren't (`take`) or are (`settle`)."""
        original = getattr(Exchange, method)

        def killed(exchange: Exchange, *rest: Any) -> Any:
            result = original(exchange, *rest)
            frame = exchange.current.frame
            if frame is not None and frame.kind == wire.REPLY and self._worker is not None:
                self.strike(self._worker)
            return result

        self._monkeypatch.setattr(Exchange, method, killed)
        self._remember()

    def after_asking_to_close(self) -> None:
        """When it was told to end by itself."""
        ask = Worker.ask_to_close

        def killed(worker: Worker) -> None:
            ask(worker)
            self.strike(worker)

        self._monkeypatch.setattr(Worker, "ask_to_close", killed)

    def _remember(self) -> None:
        """Note which worker has the plugin's call: readers and exchanges don't know."""
        begin = Worker.begin

        def noted(worker: Worker, requests: Sequence[Request], *rest: Any) -> Exchange:
            if any(r.kind == wire.CALL and r.flags & wire.METHOD_MASK == wire.PROCESS for r in requests):
                self._worker = worker
            return begin(worker, requests, *rest)

        self._monkeypatch.setattr(Worker, "begin", noted)


ALL = ("start", "initialize", "process")
Outcome = tuple[type[AgentplugError] | None, ...]
NOT_YET, DIED, ANSWERED = (BarrierUnavailable,), (WorkerDied,), (None,)
# What becomes of `start`, `initialize` and `process` at each step; those that are over before it can't meet it.
STEPS: dict[str, tuple[Callable[[Killer], None], dict[str, Outcome]]] = {
    "forked": (Killer.before_adoption, dict.fromkeys(ALL, NOT_YET + DIED)),
    "confined": (lambda killer: killer.after_step("_accept_hello"), dict.fromkeys(ALL, NOT_YET + DIED)),
    "loading": (lambda killer: killer.after_sending(wire.LOAD), dict.fromkeys(ALL, DIED)),
    "loaded": (lambda killer: killer.after_step("_load"), dict.fromkeys(ALL, ANSWERED + DIED)),
    "initializing": (
        lambda killer: killer.after_sending(wire.CALL, wire.INITIALIZE),
        dict.fromkeys(ALL[1:], DIED),
    ),
    "initialized": (lambda killer: killer.after_step("_initialize"), dict.fromkeys(ALL[1:], ANSWERED + DIED)),
    "called": (lambda killer: killer.after_sending(wire.CALL), dict.fromkeys(ALL[2:], DIED)),
    "replying": (Killer.in_a_reply, dict.fromkeys(ALL[2:], DIED)),
    "replied": (lambda killer: killer.after_the_reply("take"), dict.fromkeys(ALL[2:], DIED)),
    "settled": (lambda killer: killer.after_the_reply("settle"), dict.fromkeys(ALL[2:], ANSWERED + DIED)),
}
NOTICED = {"forked": NOT_YET, "confined": NOT_YET, "loaded": ANSWERED, "initialized": ANSWERED}  # and what then
INPUTS = {"replying": "much"}


def cases() -> list[Any]:
    return [
        pytest.param(
            step, use, NOTICED[step] if noticed else outcome, noticed, id=f"{step}-{use}" + "-noticed" * noticed
        )
        for step, (_, outcomes) in STEPS.items()
        for use, outcome in outcomes.items()
        for noticed in (False, True)
        if not noticed or step in NOTICED
    ]


@pytest.mark.parametrize(("step", "use", "outcome", "noticed"), cases())
async def test_a_worker_killed_at_a_step(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch, step: str, use: str, outcome: Outcome, noticed: bool
) -> None:
    """The call has a typed error, or its answer where nothing was lost by the kill; the next call works.

    Before it had a plugin's bytes, the machine is to blame; between a plugin's calls another worker takes over.
    """
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    killer = Killer(monkeypatch, noticed=noticed)
    STEPS[step][0](killer)
    given = (INPUTS.get(step, "x"),) if use == "process" else ()
    using = asyncio.wait_for(getattr(plugin, use)(*given), PATIENCE_S)
    (became,) = await asyncio.gather(using, return_exceptions=True)
    assert killer.victim is not None
    if isinstance(became, AgentplugError):
        assert type(became) in outcome
        assert "SIGKILL" in str(became)
        assert became.run is None or str(became.run.verdict) == "died:SIGKILL"
    else:
        assert became in ("x", None)
        assert None in outcome
        await asyncio.wrap_future(killer.victim.process.exited)  # or it might get the next call
    assert await plugin.process("y") == "y"
    assert plugin.state == "ready"
    await plugin.close()


async def test_a_worker_killed_before_it_says_a_word(faulty: Faulty) -> None:
    """Killed while it confines itself: `BarrierUnavailable`, and as often as that happens; then all is well again."""
    faulty.ask("confine")
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    for use in (plugin.start, plugin.initialize, lambda: plugin.process(1), lambda: plugin.process(1), plugin.start):
        with pytest.raises(BarrierUnavailable, match=r"A worker ended \(SIGKILL\) before it was given a plugin"):
            await asyncio.wait_for(use(), PATIENCE_S)
        assert plugin.state == "failed"
    faulty.ask("")
    assert await plugin.process("y") == "y"
    await plugin.close()


async def test_a_worker_killed_between_calls(faulty: Faulty) -> None:
    """However soon the next call comes, it is answered by another worker, initialized like the first."""
    async with SandboxedPlugin(FaultyPlugin, faulty.policy) as plugin:
        for wait in (True, False):
            assert await plugin.process(1) == 1
            assert plugin.pid is not None
            worker = plugin._inside.life.worker
            assert worker is not None
            slay(plugin.pid)
            if wait:
                worker.process.exited.result(PATIENCE_S)
                assert plugin.state == "failed"
                assert await plugin.process("y") == "y"
            else:  # sent to a worker that had ended, unknown to the host: the call was its, and is lost
                assert str((await plugin.run("y")).verdict) in ("completed", "died:SIGKILL")


async def test_a_worker_killed_while_it_closes(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` comes back, and nothing is left."""
    for noticed in (False, True):
        plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
        assert await plugin.process(1) == 1
        with monkeypatch.context() as patch:
            killer = Killer(patch, noticed=noticed)
            killer.after_asking_to_close()
            await asyncio.wait_for(plugin.close(), PATIENCE_S)
        assert killer.victim is not None
        assert plugin.state == "closed"


async def test_closing_while_the_worker_has_not_said_a_word(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start that was under way says that the plugin is closed, and not that the machine is to blame."""
    adopt = Worker.adopt

    def stopped(worker: Worker, spawned: Spawned) -> None:
        os.kill(spawned.pid, signal.SIGSTOP)
        adopt(worker, spawned)

    monkeypatch.setattr(Worker, "adopt", stopped)
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    starting = asyncio.create_task(plugin.start())
    while plugin._inside.life.worker is None or plugin._inside.life.worker.exchange is None:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.wait_for(plugin.close(), PATIENCE_S)
    with pytest.raises(WorkerDied, match="is closed"):
        await starting


async def test_closing_while_the_plugin_is_loaded(faulty: Faulty, tmp_path: Path) -> None:
    """The start that was under way says the same, however far it has come."""
    file = tmp_path / "slow.py"
    file.write_text("import time\ntime.sleep(60)\nclass SlowPlugin: ...\n")
    plugin = SandboxedPlugin(file, faulty.policy)
    starting = asyncio.create_task(plugin.start())
    while (life := plugin._inside.life).worker is None or (said := life.worker.exchange) is None or said.greeting:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await asyncio.wait_for(plugin.close(), PATIENCE_S)
    with pytest.raises(WorkerDied, match="is closed"):
        await starting


async def test_a_stopped_worker_meets_its_limits(faulty: Faulty) -> None:
    """SIGSTOP from outside is no way to live longer: the wall limit ends the call, and `close` the worker."""
    policy = faulty.policy.replace(wall_s=0.5)
    async with SandboxedPlugin(FaultyPlugin, policy) as plugin:
        assert await plugin.process(1) == 1
        assert plugin.pid is not None
        os.kill(plugin.pid, signal.SIGSTOP)
        assert str((await plugin.run(2)).verdict) == "limited:wall"
        assert await plugin.process(3) == 3
        os.kill(plugin.pid, signal.SIGSTOP)
    assert plugin.state == "closed"
    assert await asyncio.to_thread(eventually, lambda: plugin.pid is None)
