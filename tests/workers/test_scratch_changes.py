"""Modes and times of files in the scratch directory: set as anywhere, and of no other file.

The host makes the change for its worker. Where nobody reports refused calls to it, nothing can be set.
"""

from __future__ import annotations

import os
import stat
import textwrap
from pathlib import Path
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.core.run import Run

pytestmark = pytest.mark.need("landlock", "seccomp")


class WorkerPlugin:
    name, version = "worker", "1"

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def process(self, code: str) -> Any:
        scope: dict[str, Any] = {}
        exec(code, scope)
        return scope.get("value")


async def ran(code: str, policy: Policy | None = None) -> Run:
    async with SandboxedPlugin(WorkerPlugin, policy) as plugin:
        return await plugin.run("import os, shutil, stat, tempfile\n" + textwrap.dedent(code))


async def test_a_copy_carries_mode_and_time() -> None:
    """shutil.copy2 and copytree, with read-only files and folders among them."""
    run = await ran(
        """
        os.mkdir("d")
        open("d/a", "w").write("1")
        os.chmod("d/a", 0o440)
        os.utime("d/a", (5, 1_000_000_000))
        shutil.copy2("d/a", "b")
        shutil.copytree("d", "e")
        value = [(stat.S_IMODE(os.stat(name).st_mode), os.stat(name).st_mtime_ns) for name in ("b", "e/a")]
        """
    )

    assert run.check() == [(0o440, 10**18)] * 2
    assert [event for event in run.events if event.kind == "tried"] == []


async def test_every_way_to_name_a_file() -> None:
    """By path, by descriptor, by a folder's descriptor; times in nanoseconds, now, and one of two left as it was."""
    run = await ran(
        """
        open("a", "w").close()
        file, folder = os.open("a", os.O_RDONLY), os.open(".", os.O_RDONLY)
        seen = []
        def look():
            status = os.stat("a")
            seen.append([stat.S_IMODE(status.st_mode), status.st_atime_ns, status.st_mtime_ns])
        os.utime("a", ns=(7, 1234567890123456789)); look()
        os.utime(file, (1, 2)); look()
        os.utime("a", (3, 4), dir_fd=folder); look()
        os.fchmod(file, 0o640); look()
        os.chmod(os.path.abspath("a"), 0o644); look()
        os.chmod("a", 0o640, dir_fd=folder); look()
        os.utime("a")
        value = [seen, os.stat("a").st_mtime_ns > 10**18]
        """
    )

    second = 10**9
    modes = [0o600, 0o600, 0o600, 0o640, 0o644, 0o640]
    times = [[7, 1234567890123456789], [second, 2 * second]] + [[3 * second, 4 * second]] * 4
    assert run.check() == [[[mode, *pair] for mode, pair in zip(modes, times, strict=True)], True]


async def test_errors_are_those_of_the_call() -> None:
    """A file that isn't there, and a mode that would lend its owner's rights."""
    run = await ran(
        """
        open("a", "w").close()
        value = []
        for act in (lambda: os.utime("no"), lambda: os.chmod("a", 0o4755), lambda: os.chmod("a/b", 0o600)):
            try:
                act()
            except OSError as error:
                value.append(type(error).__name__)
        """
    )

    assert run.check() == ["FileNotFoundError", "PermissionError", "NotADirectoryError"]


async def test_a_folder_stays_open_to_its_owner() -> None:
    """Else what is in it couldn't be counted, listed and wiped."""
    run = await ran(
        """
        os.mkdir("d")
        open("d/a", "w").write("1")
        os.chmod("d", 0)
        value = stat.S_IMODE(os.stat("d").st_mode)
        """
    )

    assert (run.check(), run.files["path"].tolist()) == (0o700, ["d/a"])


OUTSIDE = {
    "its path": "os.chmod(given, 0o777)",
    "its times": "os.utime(given, (0, 0))",
    "a link to it": "os.symlink(given, 'l'); os.chmod('l', 0o777)",
    "the times of a link to it": "os.symlink(given, 'l'); os.utime('l', (0, 0))",
    "a folder that is a link": "os.symlink(os.path.dirname(given), 'd'); os.chmod('d/file', 0o777)",
    "a way up": "os.chmod(os.path.relpath(given), 0o777)",
    "its descriptor": "os.fchmod(os.open(given, os.O_RDONLY), 0o777)",
    "the times of its descriptor": "os.utime(os.open(given, os.O_RDONLY), (0, 0))",
    "a descriptor's path": "os.chmod(f'/proc/self/fd/{os.open(given, os.O_RDONLY)}', 0o777)",
    "its folder's descriptor": "os.chmod('file', 0o777, dir_fd=os.open(os.path.dirname(given), os.O_RDONLY))",
}


@pytest.mark.parametrize("way", OUTSIDE)
async def test_no_other_file_is_changed(way: str, tmp_path: Path) -> None:
    """Not even one that the plugin may read: the call is refused, and reported."""
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(0o640)
    before = file.stat()

    run = await ran(f"given = {str(file)!r}\n{OUTSIDE[way]}", Policy(read=tmp_path))

    after = file.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_mtime_ns) == (0o640, before.st_mtime_ns)
    assert str(run.verdict) == "failed:PermissionError"
    assert any(event.kind == "tried" for event in run.events)


async def test_a_path_that_is_swapped_meanwhile_leads_nowhere_else(tmp_path: Path) -> None:
    """One thread puts a link in the file's place and back, while another sets times thousands of times."""
    file = tmp_path / "file"
    file.write_text("x")
    before = file.stat()

    run = await ran(
        f"""
        import threading
        os.mkdir("d"); open("d/file", "w").close(); os.symlink({str(tmp_path)!r}, "l")
        going = True
        def swap():
            while going:
                os.rename("d", "e"); os.rename("l", "d"); os.rename("d", "l"); os.rename("e", "d")
        thread = threading.Thread(target=swap)
        thread.start()
        value = 0
        for _ in range(150):
            try:
                os.utime("d/file", (0, 0))
                value += 1
            except OSError:
                pass
        going = False
        thread.join()
        """,
        Policy(read=tmp_path),
    )

    assert run.check() >= 0
    assert file.stat().st_mtime_ns == before.st_mtime_ns


async def test_nothing_is_set_where_nothing_may_be_written(tmp_path: Path) -> None:
    """Without a scratch directory of any size the calls stay refused."""
    run = await ran("os.utime('.')", Policy(disk=0))

    assert str(run.verdict) == "failed:PermissionError"


async def test_many_changes_cost_the_host_little() -> None:
    """They are answered within bounds, like refused calls."""
    began = os.times()
    run = await ran("open('a', 'w').close()\nfor _ in range(2000): os.utime('a')", Policy(cpu_s=20, wall_s=60))
    used = os.times()

    assert str(run.verdict) == "completed"
    assert (used.user + used.system) - (began.user + began.system) < max(1.0, run.usage.wall_s * 0.6)
