"""What fails in the host: descriptors, temporary directories, disks, clocks, loops, and its own callbacks."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import agentplug
from agentplug import SandboxedPlugin
from agentplug.core.host import watchdog
from agentplug.core.host.limits import Limits
from agentplug.core.host.output import stream_to
from agentplug.core.host.scratch import scratch_usage
from agentplug.errors import BarrierUnavailable
from tests.faults.conftest import PATIENCE_S, Faulty, FaultyPlugin
from tests.leftovers import _warmed, eventually, nothing_left, python  # noqa: F401

pytestmark = pytest.mark.need("landlock", "seccomp")


# ---------------------------------------------------------------------- descriptors


@contextlib.contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """This process can open `count` more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + count + 1, hard))
    filled: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                filled.append(os.dup(2))
        for _ in range(count):
            os.close(filled.pop())
        yield
    finally:
        for fd in filled:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", range(20))
async def test_a_worker_with_few_descriptors_left(faulty: Faulty, count: int) -> None:
    """With any number of free descriptors a start works or is `BarrierUnavailable`; the plugin that runs goes on."""
    running, plugin = (SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(2))
    assert await running.process("x") == "x"
    with free_descriptors(count):
        assert await running.process("y") == "y"
        (told,) = await asyncio.gather(asyncio.wait_for(plugin.process("x"), PATIENCE_S), return_exceptions=True)
        assert await running.process("z") == "z"
    assert told == "x" or type(told) is BarrierUnavailable
    assert told == "x" or "files" in str(told) or "ended" in str(told)
    assert await asyncio.wait_for(plugin.process("x"), PATIENCE_S) == "x"
    await running.close()
    await plugin.close()


@pytest.mark.parametrize("count", range(9))
async def test_a_zygote_with_few_descriptors_left(faulty: Faulty, count: int) -> None:
    """The same where the zygote is still to be started."""
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    with free_descriptors(count):
        (told,) = await asyncio.gather(asyncio.wait_for(plugin.process("x"), PATIENCE_S), return_exceptions=True)
    assert told == "x" or type(told) is BarrierUnavailable
    assert await asyncio.wait_for(plugin.process("x"), PATIENCE_S) == "x"
    await plugin.close()


def test_files_that_the_host_cannot_count_are_not_held_against_the_plugin(tmp_path: Path) -> None:
    """The scratch directory can't be listed without a descriptor; that is no `limited:disk`."""
    (tmp_path / "file").write_text("x" * 5000)
    with free_descriptors(0):
        assert scratch_usage(str(tmp_path), [os.getpid()], 1 << 20, 100) == (0, 0)
    assert scratch_usage(str(tmp_path), [], 1 << 20, 100)[1] == 1


FIRST_USE = """
import os, resource, threading
from agentplug import SandboxedPlugin
from agentplug.errors import AgentplugError
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, x): return x
plugin = SandboxedPlugin(P)
{}
assert plugin.run_sync(1).value == 1
plugin.close_sync()
"""
NO_DESCRIPTORS = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
for left in range(24):
    filled = []
    try:
        while True:
            filled.append(os.dup(2))
    except OSError:
        pass
    for _ in range(min(left, len(filled))):
        os.close(filled.pop())
    try:
        assert plugin.run_sync(1).value == 1
    except AgentplugError as error:
        print(type(error).__name__, left)
    finally:
        for fd in filled:
            os.close(fd)
"""
NO_THREADS = """
start = threading.Thread.start
for allowed in range(3):
    count = 0
    def counted(thread):
        global count
        count += 1
        if count > allowed:
            raise RuntimeError("can't start new thread")
        start(thread)
    threading.Thread.start = counted
    try:
        assert plugin.run_sync(1).value == 1
    except AgentplugError as error:
        print(type(error).__name__, allowed)
    finally:
        threading.Thread.start = start
"""


@pytest.mark.parametrize("cause", [NO_DESCRIPTORS, NO_THREADS], ids=["descriptors", "threads"])
def test_the_first_use_in_a_process_that_has_nothing_left(cause: str) -> None:
    """Our loop, the watchdog and the zygote are made at the first use: that too is `BarrierUnavailable`."""
    done = python(FIRST_USE.format(cause))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("BarrierUnavailable 0\n")


# ---------------------------------------------------------------------- temporary directory, disk


@pytest.mark.parametrize("kind", ["missing", "a file", "read-only"])
async def test_no_temporary_directory(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """Without a place for scratch directories it is `BarrierUnavailable`, which names the place."""
    place = tmp_path / "place"
    if kind == "a file":
        place.write_text("")
    elif kind == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        place.mkdir(mode=0o500)
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        for _ in range(2):
            with pytest.raises(BarrierUnavailable, match=r"No worker can be started: .*/place"):
                await plugin.process("x")
    assert await plugin.process("x") == "x"
    await plugin.close()


async def test_scratch_directories_taken_away(faulty: Faulty) -> None:
    """If somebody removed the zygote's folder, starts are `BarrierUnavailable` until it is there again."""
    running, plugin = (SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(2))
    assert await running.process("x") == "x"
    root = Path(faulty.zygote.scratch_root)
    hidden = root.rename(root.with_name(root.name + "-hidden"))
    with pytest.raises(BarrierUnavailable, match="No such file or directory"):
        await plugin.process("x")
    assert await running.process("y") == "y"
    hidden.rename(root)
    assert await plugin.process("x") == "x"
    await plugin.close()
    await running.close()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of one page and a few inodes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "tiny"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=8", "tiny", str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk(faulty: Faulty, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    """No room for a scratch directory is `BarrierUnavailable`, for a zygote and for a worker; then room is made."""

    def fill() -> list[Path]:
        made: list[Path] = []
        with contextlib.suppress(OSError):
            while True:
                file = tiny / str(len(made))
                file.touch()
                made.append(file)
        return made

    running, plugin = (SandboxedPlugin(FaultyPlugin, faulty.policy) for _ in range(2))
    monkeypatch.setattr(tempfile, "tempdir", str(tiny))
    full = fill()
    with pytest.raises(BarrierUnavailable, match="No space left on device"):
        await running.process("x")
    for file in full:
        file.unlink()
    assert await running.process("x") == "x"
    full = fill()
    for _ in range(2):
        with pytest.raises(BarrierUnavailable, match="No space left on device"):
            await plugin.process("x")
    assert await running.process("y") == "y"
    for file in full:
        file.unlink()
    assert await plugin.process("x") == "x"
    await asyncio.gather(plugin.close(), running.close())
    faulty.zygote.close()
    assert list(tiny.iterdir()) == []


# ---------------------------------------------------------------------- clocks


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)], ids=["back", "ahead"])
async def test_a_clock_that_jumps(faulty: Faulty, monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """Limits and figures don't move with the wall clock; `started_at` says what it said when the call began."""
    now = time.time

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + jump

    async with SandboxedPlugin(FaultyPlugin, faulty.policy.replace(wall_s=0.6)) as plugin:
        assert await plugin.process("x") == "x"
        call = asyncio.create_task(plugin.run("hang"))
        await asyncio.sleep(0)
        monkeypatch.setattr(time, "time", lambda: now() + jump.total_seconds())
        monkeypatch.setattr("agentplug.core.inside.datetime", Jumped)
        run = await call
        assert str(run.verdict) == "limited:wall"
        assert 0.6 <= run.usage.wall_s < 5
        after = await plugin.run("x")
        assert (after.value, after.usage.wall_s < 0.6) == ("x", True)
        assert run.started_at is not None
        assert after.started_at is not None
        assert abs(after.started_at - run.started_at - jump) < timedelta(minutes=1)
        assert all(0 <= event.t_s < 5 for event in run.events)


def test_only_a_calls_start_is_told_by_the_wall_clock() -> None:
    """Nothing below `sandbox` reads a clock that may jump."""
    for path in Path(agentplug.__file__).parent.glob("sandbox/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("time", "time_ns", "now", "utcnow", "CLOCK_REALTIME"), (
                    f"{path}:{node.lineno}"
                )


# ---------------------------------------------------------------------- loops


def abandoned(plugin: SandboxedPlugin, there: Callable[[], object]) -> Any:
    """The task of a call on a loop that is closed under it, as soon as it has got `there`."""
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(plugin.process("hang"))
    task._log_destroy_pending = False  # asyncio would complain, rightly

    async def until() -> None:
        while not there():  # noqa: ASYNC110
            await asyncio.sleep(0)

    loop.run_until_complete(until())
    loop.close()
    return task


def left_busy(faulty: Faulty, kept: bool) -> tuple[SandboxedPlugin, Any]:
    """A plugin in a call whose loop is closed; and that call's task, or None where nobody is to have it."""
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    assert plugin.run_sync("x").value == "x"
    task = abandoned(plugin, lambda: plugin.state == "busy")
    if not kept:
        task = None
        gc.collect()
    return plugin, task


@pytest.mark.parametrize("kept", [False, True], ids=["dropped", "kept"])
def test_a_loop_closed_under_a_call(faulty: Faulty, kept: bool) -> None:
    """The call is over with its loop, also if somebody keeps its task; the next one, elsewhere, is answered."""
    plugin, _task = left_busy(faulty, kept)
    assert asyncio.run(asyncio.wait_for(plugin.process("y"), PATIENCE_S)) == "y"
    assert asyncio.run(asyncio.wait_for(plugin.process("z"), PATIENCE_S)) == "z"
    plugin.close_sync()


@pytest.mark.parametrize("kept", [False, True], ids=["dropped", "kept"])
def test_a_loop_closed_under_a_call_with_others_in_the_queue(faulty: Faulty, kept: bool) -> None:
    """Calls that waited behind it on the same loop are gone with it, and hold nobody up."""
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    assert plugin.run_sync("x").value == "x"
    loop = asyncio.new_event_loop()
    tasks: list[Any] = [loop.create_task(plugin.process("hang")) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False
    if not kept:
        del task, tasks
        gc.collect()
    assert asyncio.run(asyncio.wait_for(plugin.process("y"), PATIENCE_S)) == "y"
    assert asyncio.run(asyncio.wait_for(plugin.process("z"), PATIENCE_S)) == "z"
    plugin.close_sync()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it has still something to wait for
@pytest.mark.parametrize("step", ["asked for", "greeting"])
def test_a_loop_closed_under_a_start(faulty: Faulty, step: str) -> None:
    """The worker that was on its way ends, and the next call has one."""
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    zygote = faulty.zygote
    there = {"asked for": lambda: zygote._pending, "greeting": lambda: plugin._inside.life.worker}[step]
    task = abandoned(plugin, there)
    del task
    gc.collect()
    assert asyncio.run(asyncio.wait_for(plugin.process("y"), PATIENCE_S)) == "y"
    plugin.close_sync()


@pytest.mark.parametrize("kept", [False, True], ids=["dropped", "kept"])
def test_closing_a_plugin_whose_loop_was_closed(faulty: Faulty, kept: bool) -> None:
    """`close_sync` ends the worker that still works for a loop which is gone."""
    plugin, _task = left_busy(faulty, kept)
    plugin.close_sync()
    assert plugin.state == "closed"
    assert plugin.pid is None


# ---------------------------------------------------------------------- dropped by the collector


@pytest.mark.parametrize("ended", [False, True], ids=["idle", "ended"])
async def test_a_plugin_is_dropped_in_the_middle_of_anything(faulty: Faulty, ended: bool) -> None:
    """The collector may come while this very thread, or the watchdog's, holds the lock that letting go takes."""
    dog = watchdog.watchdog()
    plugin = SandboxedPlugin(FaultyPlugin, faulty.policy)
    assert await plugin.process("x") == "x"
    worker = plugin._inside.life.worker
    assert worker is not None
    if ended:
        os.kill(worker.process.pid, signal.SIGKILL)
        await asyncio.wrap_future(worker.process.exited)

    def drop() -> None:
        nonlocal plugin
        with dog._lock:
            del plugin
            gc.collect()

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    await asyncio.to_thread(dropping.join, PATIENCE_S)
    assert not dropping.is_alive(), "it waits for a lock that its own thread holds"
    assert await asyncio.to_thread(eventually, lambda: worker.process.sock.fileno() == -1)
    assert worker.process.ending


# ---------------------------------------------------------------------- callbacks that raise


async def test_a_handler_that_raises_stops_nobody_else(faulty: Faulty, capfd: pytest.CaptureFixture[str]) -> None:
    """The watchdog shows the error and goes on: limits hold, output is read, workers end."""
    reader, writer = os.pipe()
    raised = threading.Event()

    def handler() -> None:
        os.read(reader, 1)
        raised.set()
        raise LookupError("a defect")

    dog = watchdog.watchdog()
    dog.listen(reader, handler)
    try:
        async with SandboxedPlugin(FaultyPlugin, faulty.policy.replace(wall_s=0.5)) as plugin:
            call = asyncio.create_task(plugin.run("hang"))
            await asyncio.sleep(0)
            os.write(writer, b"x")
            assert await asyncio.to_thread(raised.wait, PATIENCE_S)
            assert str((await call).verdict) == "limited:wall"
            assert await plugin.process("x") == "x"
    finally:
        dog.ignore(reader)
        os.close(reader)
        os.close(writer)
    assert "LookupError: a defect" in capfd.readouterr().err


@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "always"])
async def test_a_check_that_raises(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], times: int
) -> None:
    """A worker whose limits can't be checked doesn't go on without them: its call ends in time."""
    check, count = Limits.check, 0

    def failing(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count <= times:
            raise LookupError("a defect")
        return check(*arguments)

    async with SandboxedPlugin(FaultyPlugin, faulty.policy.replace(wall_s=1.0)) as plugin:
        assert await plugin.process("x") == "x"
        with monkeypatch.context() as patch:
            patch.setattr(Limits, "check", failing)
            run = await asyncio.wait_for(plugin.run("hang"), PATIENCE_S)
        assert run.verdict.kind in ("limited", "died")
        assert await plugin.process("y") == "y"
    assert "LookupError: a defect" in capfd.readouterr().err


async def test_a_sink_that_raises(tmp_path: Path, faulty: Faulty, capfd: pytest.CaptureFixture[str]) -> None:
    """Who shows the output may fail, once; the call has its value, and its output is kept."""
    path = tmp_path / "talker.py"
    path.write_text(
        "class TalkerPlugin:\n"
        "    name, version = 'talker', '1'\n"
        "    def initialize(self, config): ...\n"
        "    def process(self, x):\n"
        "        for number in range(x):\n"
        "            print(number, flush=True)\n"
        "        return x\n"
    )

    def sink(name: str, text: str) -> None:
        raise LookupError("nobody listens")

    async with SandboxedPlugin(path, faulty.policy) as plugin:
        stream_to(lambda: sink)
        try:
            for _ in range(10):
                run = await asyncio.wait_for(plugin.run(30), PATIENCE_S)
                assert (run.value, run.stdout) == (30, "".join(f"{number}\n" for number in range(30)))
        finally:
            stream_to(None)
        assert (await plugin.run(1)).stdout == "0\n"
    assert "LookupError: nobody listens" in capfd.readouterr().err


class PrinterPlugin:
    """Prints what it gets."""

    name, version = "printer", "1"

    def initialize(self, config: object) -> None:
        """Nothing to do."""

    def process(self, what: object) -> None:
        """Print it."""
        print(what)


async def test_output_that_is_just_being_read_belongs_to_its_call() -> None:
    """The watchdog may hold a quick call's output in hands as the reply comes: of 3,000 lines none is lost."""
    async with SandboxedPlugin(PrinterPlugin) as plugin:
        said = [(await plugin.run(number)).stdout for number in range(3_000)]
        assert said == [f"{number}\n" for number in range(3_000)]
