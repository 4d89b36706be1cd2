"""The zygote's side work: wiping what plugins left, spares, cgroups where there are none, and its own end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from agentplug.core.boundary import cgroups
from agentplug.core.boundary.bounds import SPARE_NAME
from agentplug.core.boundary.frames import Plan
from agentplug.core.boundary.remove_tree import remove_tree
from agentplug.core.host import plans
from agentplug.core.host.launcher import zygote_for
from agentplug.core.sandboxed import Policy, SandboxedPlugin
from agentplug.core.worker import zygote
from agentplug.doctor.looks import of_environment
from agentplug.doctor.probe import Inventory
from agentplug.errors import BarrierUnavailable, PolicyError
from tests.leftovers import QuietPlugin, _warmed, eventually, nothing_left, python  # noqa: F401

DEPTH = 3_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A scratch directory to fill."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_deep_tree_is_removed(root: Path) -> None:
    """3,000 directories inside one another, with a file in each hundredth, are too deep for a path; they go."""
    folder = os.open(root, os.O_RDONLY)
    for depth in range(DEPTH):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
        if depth % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    remove_tree(str(root))
    assert not root.exists()


def test_a_tree_without_permissions_is_removed(root: Path) -> None:
    """Directories that took every right from their owner go too."""
    inner = root / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (root / "plain").write_text("x")
    for folder in (inner, inner.parent, root / "a", root):
        folder.chmod(0)
    root.chmod(0o700)
    remove_tree(str(root))
    assert not root.exists()


def test_links_are_removed_and_never_followed(root: Path, tmp_path: Path) -> None:
    """Links to directories and files elsewhere go, what they point to stays as it was."""
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "file").write_text("precious")
    (root / "d").mkdir()
    for place in (root, root / "d"):
        (place / "to_folder").symlink_to(outside)
        (place / "to_file").symlink_to(outside / "file")
        (place / "to_nothing").symlink_to("nowhere")
        (place / "to_itself").symlink_to("to_itself")
        os.link(outside / "file", place / "hard")
    os.mkfifo(root / "pipe")
    mode = (outside / "file").stat().st_mode
    remove_tree(str(root))
    assert not root.exists()
    assert (outside / "file").read_text() == "precious"
    assert (outside / "file").stat().st_mode == mode
    assert (outside / "inner").is_dir()


def test_names_of_any_bytes_are_removed(root: Path) -> None:
    """Names that are no text, very long or odd are no trouble."""
    names = [b"\xff\xfe", b"a" * 255, b"new\nline", b"-rf", b"*", b".wipe-1-1"]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(root), name))
        Path(os.fsdecode(os.path.join(os.fsencode(root), name, b"\xff"))).write_text("x")
    remove_tree(str(root))
    assert not root.exists()


def test_a_root_that_is_a_link_or_missing_is_let_alone(root: Path, tmp_path: Path) -> None:
    """Nothing behind a link is touched, and nothing to do is no error."""
    (root / "file").write_text("x")
    link = tmp_path / "link"
    link.symlink_to(root)
    remove_tree(str(link))
    remove_tree(str(tmp_path / "missing"))
    assert (root / "file").exists()


def plan() -> Plan:
    """The plan of a default policy."""
    return plans.plan_for(Policy())


def test_no_cgroups_where_none_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without writable cgroups gets none, and nothing fails."""
    for parents in ({}, {"memory": str(tmp_path / "missing")}):
        monkeypatch.setattr(cgroups, "parents", lambda parents=parents: parents)
        assert cgroups.create(1, plan()) == []
    assert cgroups.out_of_memory([]) is False
    assert cgroups.out_of_memory([str(tmp_path / "missing")]) is False
    cgroups.remove([str(tmp_path / "missing")])


def test_a_cgroup_that_cannot_be_limited_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which no limit can be written isn't kept."""
    monkeypatch.setattr(cgroups, "parents", lambda: {"pids": str(tmp_path / "sys")})
    (tmp_path / "sys").mkdir(mode=0o500)
    made = cgroups.create(1, plan())
    cgroups.remove(made)
    assert made in ([], [f"{tmp_path}/sys/agentplug-{os.getpid()}-1"])  # root may write anywhere
    shutil.rmtree(tmp_path / "sys")


def test_the_kernels_word_on_memory_is_read(tmp_path: Path) -> None:
    """`oom_kill` is found in the files of both versions."""
    for name, text, killed in (
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", True),
        ("memory.events", "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n", True),
        ("memory.events", "low 0\noom_kill 0\n", False),
        ("memory.events", "", False),
        ("memory.events", "oom_kill x\n", False),
    ):
        (tmp_path / name).write_text(text)
        assert cgroups.out_of_memory([str(tmp_path)]) is killed
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("raw", "text"),
    [(0, "exit 0"), (3 << 8, "exit 3"), (11, "SIGSEGV"), (9, "SIGKILL"), (40, "signal 40"), (139, "SIGSEGV")],
)
def test_a_wait_status_in_words(raw: int, text: str) -> None:
    """Exit codes, signals by name, real-time signals by number, with or without a core."""
    assert zygote._status_text(raw) == text


def spare_of(pid: int) -> psutil.Process | None:
    """The spare of the zygote `pid`, if it has one now."""
    return next((child for child in psutil.Process(pid).children() if child.name() == SPARE_NAME), None)


async def test_a_zygote_keeps_one_spare_which_becomes_the_next_worker() -> None:
    """Between workers there is one process ready; the next worker is that one, and another takes its place."""
    pid = zygote_for().pid
    assert eventually(lambda: spare_of(pid))
    ready = spare_of(pid)
    assert ready is not None
    async with SandboxedPlugin(QuietPlugin) as plugin:
        assert plugin.pid == ready.pid
        assert psutil.Process(ready.pid).name() == "agentplug"
        assert await plugin.process("x") == "x"
    assert eventually(lambda: spare_of(pid))


async def test_a_spare_that_was_killed_is_no_trouble() -> None:
    """Without its spare the zygote forks a worker as it is asked for."""
    pid = zygote_for().pid
    assert eventually(lambda: spare_of(pid))
    ready = spare_of(pid)
    assert ready is not None
    ready.kill()
    async with SandboxedPlugin(QuietPlugin) as plugin:
        assert await plugin.process("x") == "x"
    assert eventually(lambda: spare_of(pid))


async def test_workers_of_other_policies_work_with_and_without_a_spare() -> None:
    """Filters that the spare hasn't got ready are compiled first; the worker is as confined as any."""
    for policy in (Policy(network=True), Policy(network=(443,)), Policy(processes=2), Policy()):
        for _ in range(2):
            async with SandboxedPlugin(QuietPlugin, policy) as plugin:
                status = Path(f"/proc/{plugin.pid}/status").read_text()
                assert "Seccomp:\t2" in status
                assert "NoNewPrivs:\t1" in status
                assert await plugin.process("x") == "x"


def test_a_module_that_cannot_be_preloaded_is_named() -> None:
    """`preload` of what can't be imported is a `PolicyError` with the reason; no zygote stays."""
    plugin = SandboxedPlugin(QuietPlugin, Policy(preload=("no_such_module_at_all",)))
    with pytest.raises(PolicyError, match="preload: 'no_such_module_at_all' can't be imported: ModuleNotFoundError"):
        plugin.run_sync(1)
    assert plugin.state in {"failed", "new"}
    plugin.close_sync()


UNUSED = """
import time
from agentplug import SandboxedPlugin
from agentplug.core.host.launcher import close_unused, zygote_for
class QuietPlugin:
    name, version = "quiet", "1"
    def initialize(self, config): pass
    def process(self, x): return x
idle = zygote_for()
idle.pid
close_unused()
assert idle.gone == "closed"
plugin, other = SandboxedPlugin(QuietPlugin), SandboxedPlugin(QuietPlugin)
plugin.run_sync("x").check()
used = zygote_for()
close_unused()
plugin.run_sync("x").check()
other.run_sync("x").check()
assert zygote_for() is used
plugin.close_sync()
other.run_sync("x").check()
close_unused()
other.close_sync()
while not used.gone: time.sleep(0.01)
plugin = SandboxedPlugin(QuietPlugin)
plugin.run_sync("x").check()
assert zygote_for() is not used
plugin.close_sync()
"""


def test_a_zygote_that_nobody_uses_ends_at_once_and_a_used_one_after_its_last_worker() -> None:
    """A plugin keeps its worker meanwhile. Another one keeps the zygote: it is asked for again."""
    done = python(UNUSED)
    assert (done.returncode, done.stderr) == (0, "")


KILLED_HOST = """
import sys, time
from agentplug import SandboxedPlugin
from agentplug.core.host.launcher import zygote_for
class BusyPlugin:
    name, version = "busy", "1"
    def initialize(self, config): pass
    def process(self, x):
        import signal
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        while True: pass
plugin = SandboxedPlugin(BusyPlugin)
import threading
threading.Thread(target=plugin.run_sync, args=(1,), daemon=True).start()
while plugin.state != "busy": time.sleep(0.01)
zygote = zygote_for()
print(plugin.pid, zygote.pid, zygote.scratch_root, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_host_that_is_killed_takes_everything_with_it(number: int) -> None:
    """SIGKILL to the host, with a worker that ignores signals: worker, zygote, spare and scratch directory go."""
    with subprocess.Popen([sys.executable, "-c", KILLED_HOST], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        worker, pid, scratch = host.stdout.readline().split()
        family = [psutil.Process(int(worker)), *psutil.Process(int(pid)).children(), psutil.Process(int(pid))]
        host.send_signal(number)
        host.wait(10)
        gone, alive = psutil.wait_procs(family, timeout=10)
        assert alive == []
        assert len(gone) >= 2
        assert eventually(lambda: not Path(scratch).exists())


FORKING_HOST = """
import os, time
from agentplug import SandboxedPlugin
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, x): return x
plugin = SandboxedPlugin(P)
pid = plugin.run_sync(1) and plugin.pid
child = os.fork()
if child == 0:
    import sys
    sys.exit(0)  # with all exit handlers
assert os.waitpid(child, 0)[1] == 0
assert plugin.run_sync(2).value == 2
assert plugin.pid == pid
child = os.fork()
if child == 0:  # the child can have workers of its own
    other = SandboxedPlugin(P)
    assert other.run_sync(3).value == 3
    other.close_sync()
    import sys
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert plugin.run_sync(4).value == 4
plugin.close_sync()
print("fine")
"""


def test_a_host_that_forks_is_not_hurt_by_its_child() -> None:
    """A child of the host exits, with its handlers; the host's plugin goes on, and a child may have its own."""
    done = python(FORKING_HOST)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_a_script_that_closes_nothing_ends_cleanly() -> None:
    """A script that forgets `close` ends with status 0 and no word on stderr."""
    done = python(FORKING_HOST.split("child = ", maxsplit=1)[0])
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


async def test_a_worker_finds_nothing_of_what_its_zygote_was_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the kernel shows it. Some of that is the host's: LD_LIBRARY_PATH, which it may need to start."""
    given = {"LD_LIBRARY_PATH": "/of/the/host", "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    preload = ("calendar",)
    try:
        async with SandboxedPlugin(Inventory, Policy(preload=preload)) as plugin:
            found = await plugin.process(None)
    finally:
        zygote_for(preload).close()
    assert sorted(variable.partition("=")[0] for variable in found) == ["HOME", "LANG", "PATH"]
    assert of_environment(found).holds


async def test_a_zygote_that_dies_is_replaced() -> None:
    """Its workers die with it, as `died:SIGKILL`; the next call has a new zygote and a new worker."""
    policy = Policy(preload=("json",))
    async with SandboxedPlugin(QuietPlugin, policy) as plugin:
        zygote_for(("json",)).process.kill()
        assert eventually(lambda: plugin.state == "failed")
        assert await plugin.process("x") == "x"
    zygote_for(("json",)).close()


def test_a_zygote_that_was_closed_says_so() -> None:
    """Asking a zygote that has ended is `BarrierUnavailable`, with what comes next."""
    closed = zygote_for(("json",))
    closed.close()
    with pytest.raises(BarrierUnavailable, match=r"the zygote is gone \(closed\); the next start makes one"):
        closed.spawn(plan(), [], print).result(1)
    assert not Path(closed.scratch_root).exists()


async def test_a_crowd_may_start_at_once(tmp_path: Path) -> None:
    """More workers than a worker may have descriptors: each hands one over while all others' are on their way."""
    file = tmp_path / "one.py"
    file.write_text(
        "class OnePlugin:\n    name, version = 'one', '1'\n"
        "    async def initialize(self, config): ...\n    async def process(self, given): return given\n"
    )
    crowd = [SandboxedPlugin(file, Policy(open_files=16)) for _ in range(60)]
    try:
        await asyncio.gather(*(plugin.start() for plugin in crowd))
        assert {plugin.state for plugin in crowd} == {"ready"}
        assert {plugin.barriers.set_index("barrier").status["seccomp"] for plugin in crowd} == {"enforced"}
    finally:
        await asyncio.gather(*(plugin.close() for plugin in crowd))
