"""The folders in which scratch directories are made: names that are taken, races of hosts, no place for them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentplug import BarrierUnavailable, Policy, PolicyError, SandboxedPlugin
from agentplug.core.host import scratch_root
from agentplug.core.host.scratch_root import ScratchRoot
from tests.faults.conftest import Faulty, FaultyPlugin
from tests.leftovers import eventually

HOST = """
import sys, time
from agentplug import Policy, SandboxedPlugin
class P:
    name, version = "p", "1"
    def initialize(self, config): pass
    def process(self, x):
        open("file", "w").write("x")
        return x
plugin = SandboxedPlugin(P, Policy(disk="1M", best_effort=True))
print(plugin.run_sync(1).value, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def place(temporary: Path) -> Path:
    """The folder of this user's scratch roots."""
    return temporary / f"agentplug-{os.geteuid()}"


def test_the_last_root_takes_the_folder_along(temporary: Path) -> None:
    """Which is this user's alone, and can't be listed."""
    one, two = ScratchRoot(), ScratchRoot()
    status = place(temporary).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o300)
    for root in (one, two):
        assert Path(root.path).parent == place(temporary)
        assert stat.S_IMODE(os.stat(root.path).st_mode) == 0o700

    one.remove()
    assert place(temporary).exists()
    two.remove()
    assert not place(temporary).exists()
    two.remove()  # once more does nothing


@pytest.mark.parametrize("kind", ["a link", "a file", "a folder that others may enter", "one that could be listed"])
def test_a_name_that_is_taken_is_left_alone(temporary: Path, tmp_path: Path, kind: str) -> None:
    """Another name is taken then, with the same rights, and given back."""
    taken, target = place(temporary), tmp_path / "target"
    target.mkdir(mode=0o300)
    if kind == "a link":
        taken.symlink_to(target)
    elif kind == "a file":
        taken.touch()
    else:
        taken.mkdir()
        taken.chmod(0o711 if "enter" in kind else 0o700)
    root = ScratchRoot()
    around = Path(root.path).parent
    assert around.name.startswith(f"{taken.name}-")
    assert stat.S_IMODE(around.stat().st_mode) == 0o300

    root.remove()

    assert list(temporary.iterdir()) == [taken]
    assert os.access(target, os.W_OK)
    taken.rmdir() if taken.is_dir() and not taken.is_symlink() else taken.unlink()


def test_another_host_removes_the_folder_at_the_worst_moment(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was made, and after it was opened: it is made again."""
    make_in, is_private = scratch_root._make_in, scratch_root._is_private
    races = [0, 0]

    def raced(folder: str) -> tuple[str, int]:
        races[0] += 1
        if races[0] == 1:
            os.rmdir(folder)
        return make_in(folder)

    def raced_later(status: os.stat_result) -> bool:
        races[1] += 1
        if races[1] == 1:
            os.rmdir(place(temporary))
        return is_private(status)

    monkeypatch.setattr(scratch_root, "_make_in", raced)
    monkeypatch.setattr(scratch_root, "_is_private", raced_later)
    root = ScratchRoot()
    assert races == [3, 2]
    assert Path(root.path).parent == place(temporary)
    root.remove()


def test_a_root_stays_out_of_reach_when_the_temporary_directory_changes(tmp_path: Path) -> None:
    """A policy knows all places where this process has scratch directories, and forgets those that are gone."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        root = ScratchRoot()
    with pytest.raises(PolicyError, match=f"^read: '{folder}' holds '{folder}/agentplug-"):
        Policy(read=folder)
    with pytest.raises(PolicyError, match=f"^write: '{root.path}' lies in '{folder}/agentplug-"):
        Policy(write=root.path)
    root.remove()
    assert Policy(read=folder).read == (str(folder),)


def test_no_place_for_scratch_directories_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, too long, or none at all: the place, the reason, the remedy."""
    remedy = r"Set TMPDIR to a folder that this user may write to"
    long = f"/{'/'.join('x' * 200 for _ in range(18))}"
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/missing")
    with pytest.raises(BarrierUnavailable, match=rf"in {tmp_path}/missing: No such file or directory\. {remedy}"):
        ScratchRoot()
    monkeypatch.setattr(tempfile, "tempdir", long)
    with pytest.raises(BarrierUnavailable, match=rf"in /xxx.*: the path is longer than 3000 bytes\. {remedy}"):
        ScratchRoot()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [f"{tmp_path}/missing"])
    with pytest.raises(BarrierUnavailable, match=rf"No usable temporary directory found in .*/missing'\]\. {remedy}"):
        ScratchRoot()
    assert list(tmp_path.iterdir()) == []


async def test_a_grant_around_the_scratch_root_is_refused_at_the_start_too(faulty: Faulty, tmp_path: Path) -> None:
    """The temporary directory may be another one than when the policy was made."""
    here, tempfile.tempdir = tempfile.tempdir, "/"
    try:
        policy = Policy(preload=faulty.policy.preload, read=tmp_path)
    finally:
        tempfile.tempdir = here
    plugin = SandboxedPlugin(FaultyPlugin, policy)
    with pytest.raises(PolicyError, match=f"^read: '{tmp_path}' holds the scratch directories of plugins, "):
        await plugin.process("x")
    await plugin.close()


def test_a_forked_child_leaves_the_root_to_its_parent(temporary: Path) -> None:
    """It closes its copy and removes nothing."""
    root = ScratchRoot()
    child = os.fork()
    if child == 0:
        root.abandon()
        root.remove()
        os._exit(0 if root.descriptor < 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert Path(root.path).exists()
    root.remove()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, 0], ids=str)
def test_hosts_beside_each_other_leave_nothing(tmp_path: Path, number: int) -> None:
    """Ended or killed, with files in scratch directories, all at once: the folder around them goes too."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "1\n"
    assert [path.name for path in tmp_path.iterdir()] == [f"agentplug-{os.geteuid()}"]
    for host in hosts:
        host.send_signal(number)
    for host in hosts:
        host.communicate(timeout=30)
    assert eventually(lambda: list(tmp_path.iterdir()) == [])
