"""A zygote that is killed, or can't fork."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentplug import SandboxedPlugin
from agentplug.core.boundary import cgroups
from agentplug.core.host.launcher import Zygote
from agentplug.core.host.supervisor import Worker
from agentplug.core.lifecycle import Lifecycle
from agentplug.errors import BarrierUnavailable, WorkerDied
from tests.faults.conftest import PATIENCE_S, Faulty, FaultyPlugin, slay
from tests.leftovers import _warmed, eventually, nothing_left  # noqa: F401

pytestmark = pytest.mark.need("landlock", "seccomp")


async def gone(zygote: Zygote) -> None:
    """The host has noticed that it ended, and tidied up: its keeper may remove the directory before."""

    def tidied() -> bool:
        return zygote.process.returncode is not None and not Path(zygote.scratch_root).exists()

    assert await asyncio.to_thread(eventually, tidied, PATIENCE_S)


# ---------------------------------------------------------------------- killed


@pytest.mark.parametrize("noticed", [False, True])
async def test_a_zygote_killed_before_it_is_asked(faulty: Faulty, noticed: bool) -> None:
    """Once that is known a new one serves; until then it is `BarrierUnavailable`, saying that the next start will."""
    zygote = faulty.zygote
    slay(zygote.pid)
    if noticed:
        await gone(zygote)
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    if not noticed:
        with suppress(BarrierUnavailable):
            await plugin.start()
        await gone(zygote)
    assert await plugin.process("x") == "x"
    assert faulty.zygote is not zygote
    await plugin.close()


KILLED_WHILE: dict[str, Callable[[pytest.MonkeyPatch, Callable[[], None]], None]] = {}


def while_(step: str) -> Callable[[Any], Any]:
    def register(install: Any) -> Any:
        KILLED_WHILE[step] = install
        return install

    return register


@while_("it starts")
def _(patch: pytest.MonkeyPatch, kill: Callable[[], None]) -> None:
    spawn = Zygote.spawn

    def killed(zygote: Zygote, *rest: Any) -> Any:
        future = spawn(zygote, *rest)
        kill()
        return future

    patch.setattr(Zygote, "spawn", killed)


@while_("a worker greets")
def _(patch: pytest.MonkeyPatch, kill: Callable[[], None]) -> None:
    adopt = Worker.adopt

    def killed(worker: Worker, *rest: Any) -> None:
        adopt(worker, *rest)
        kill()

    patch.setattr(Worker, "adopt", killed)


@while_("a plugin loads")
def _(patch: pytest.MonkeyPatch, kill: Callable[[], None]) -> None:
    load = Lifecycle._load

    async def killed(life: Lifecycle, worker: Worker) -> None:
        os.kill(worker.process.pid, signal.SIGSTOP)  # it can't be quicker than we
        asyncio.get_running_loop().call_soon(kill)
        await load(life, worker)

    patch.setattr(Lifecycle, "_load", killed)


@pytest.mark.parametrize("use", ["start", "process"])
@pytest.mark.parametrize("step", KILLED_WHILE)
async def test_a_zygote_killed_while(faulty: Faulty, monkeypatch: pytest.MonkeyPatch, step: str, use: str) -> None:
    """A start that is under way ends in a typed error; the next has a new zygote."""
    zygote = faulty.zygote
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    with monkeypatch.context() as patch:
        KILLED_WHILE[step](patch, lambda: slay(zygote.pid))
        with pytest.raises((BarrierUnavailable, WorkerDied)):
            await asyncio.wait_for(getattr(plugin, use)(*["x"] * (use == "process")), PATIENCE_S)
    await gone(zygote)
    assert await plugin.process("x") == "x"
    await plugin.close()


async def test_a_zygote_killed_in_calls(faulty: Faulty) -> None:
    """Every call under way ends as `died:SIGKILL`; all plugins go on with workers of a new zygote."""
    plugins = [SandboxedPlugin(FaultyPlugin, faulty.policy, config={"n": n}) for n in range(4)]
    await asyncio.gather(*(plugin.process(0) for plugin in plugins))
    calls = [asyncio.create_task(plugin.run("hang")) for plugin in plugins]
    await asyncio.sleep(0)
    zygote = faulty.zygote
    slay(zygote.pid)
    runs = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE_S)
    assert [str(run.verdict) for run in runs] == ["died:SIGKILL"] * 4
    assert await asyncio.gather(*(plugin.process("x") for plugin in plugins)) == ["x"] * 4
    assert faulty.zygote is not zygote
    await asyncio.gather(*(plugin.close() for plugin in plugins))


async def test_a_zygote_killed_between_calls(faulty: Faulty) -> None:
    """The next call has another worker, and `close` of a plugin that isn't called again leaves nothing."""
    plugins = [SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(2)]
    await asyncio.gather(*(plugin.process(0) for plugin in plugins))
    zygote = faulty.zygote
    slay(zygote.pid)
    assert await asyncio.to_thread(eventually, lambda: {plugin.state for plugin in plugins} == {"failed"})
    assert await plugins[0].process("x") == "x"
    await asyncio.gather(*(plugin.close() for plugin in plugins))


async def test_a_zygote_killed_while_plugins_close(faulty: Faulty) -> None:
    """`close` comes back."""
    plugins = [SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(4)]
    await asyncio.gather(*(plugin.process(0) for plugin in plugins))
    closing = [asyncio.create_task(plugin.close()) for plugin in plugins]
    await asyncio.sleep(0)
    slay(faulty.zygote.pid)
    await asyncio.wait_for(asyncio.gather(*closing), PATIENCE_S)
    assert {plugin.state for plugin in plugins} == {"closed"}


# ---------------------------------------------------------------------- fork fails


@contextmanager
def by_a_patch(faulty: Faulty) -> Iterator[None]:
    """os.fork raises EAGAIN, as this zygote sees it."""
    faulty.ask("fork")
    yield
    faulty.ask("")


@contextmanager
def by_rlimit_nproc(faulty: Faulty) -> Iterator[None]:
    """The user has too many processes, as far as this zygote is concerned."""
    if os.geteuid() == 0:
        pytest.skip("RLIMIT_NPROC doesn't hold for root")
    pid = faulty.zygote.pid
    before = resource.prlimit(pid, resource.RLIMIT_NPROC, (1, resource.prlimit(pid, resource.RLIMIT_NPROC)[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NPROC, before)


@contextmanager
def by_a_pids_cgroup(faulty: Faulty) -> Iterator[None]:
    """The zygote is in a cgroup that is full."""
    parent = cgroups.parents().get("pids")
    if parent is None:
        pytest.skip("no pids cgroup is writable here")
    pid = faulty.zygote.pid
    folder = Path(parent, f"agentplug-test-{os.getpid()}")
    folder.mkdir()
    try:
        (folder / "cgroup.procs").write_text(str(pid))
        (folder / "pids.max").write_text("1")
        yield
        (folder / "pids.max").write_text("max")
        Path(parent, "cgroup.procs").write_text(str(pid))
    finally:
        faulty.zygote.close()
        assert eventually(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


WAYS = [by_a_patch, by_rlimit_nproc, by_a_pids_cgroup]
Way = Callable[[Faulty], AbstractContextManager[None]]


@pytest.mark.parametrize("way", WAYS)
async def test_a_fork_that_fails(faulty: Faulty, way: Way) -> None:
    """Starts are `BarrierUnavailable`, the plugins that run go on; when there is room again, the others start."""
    first = SandboxedPlugin(FaultyPlugin, faulty.policy)
    assert await first.process("x") == "x"
    others = [SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(3)]  # one of them may get the spare
    with way(faulty):
        for _ in range(2):
            told = await asyncio.gather(*(other.process("x") for other in others), return_exceptions=True)
            failed = [what for what in told if what != "x"]
            assert len(failed) >= 2
            assert all(type(error) is BarrierUnavailable for error in failed)
            assert "Resource temporarily unavailable" in str(failed[0])
            assert await first.process("y") == "y"
    zygote = faulty.zygote
    assert await asyncio.gather(*(plugin.process("x") for plugin in [first, *others])) == ["x"] * 4
    assert faulty.zygote is zygote
    await asyncio.gather(*(plugin.close() for plugin in [first, *others]))


async def test_a_killed_zygotes_folders_are_removed_whatever_is_in_them(faulty: Faulty) -> None:
    """What a plugin left is too deep for recursion and takes every right from its owner; it goes, and calls go on."""
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    assert await plugin.process("x") == "x"
    zygote = faulty.zygote
    folder = os.open(zygote.scratch_root, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    closed = Path(zygote.scratch_root, "closed")
    (closed / "inner").mkdir(parents=True)
    (closed / "inner").chmod(0)
    closed.chmod(0)
    slay(zygote.pid)
    await gone(zygote)
    assert await asyncio.to_thread(eventually, lambda: plugin.state == "failed")
    assert await plugin.process("x") == "x"
    await plugin.close()


async def test_a_janitor_that_cannot_be_forked(faulty: Faulty) -> None:
    """A dead worker's files are wiped all the same, and the other plugins know nothing of it."""
    one, other = (SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(2))
    assert await one.process("x") == "x"
    root = Path(faulty.zygote.scratch_root)
    (folder,) = root.iterdir()
    assert await other.process("x") == "x"
    pid = other.pid
    (folder / "left").write_text("x")  # below the worker's own mounts, if it has some
    with by_a_patch(faulty):
        await asyncio.wait_for(one.close(), PATIENCE_S)
        assert await other.process("y") == "y"
        assert other.pid == pid
    await other.close()
    assert list(root.iterdir()) == []
