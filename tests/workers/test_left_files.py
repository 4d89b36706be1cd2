"""Files that calls leave in their scratch directories: listed, read, bounded, and never followed out of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from agentplug import Policy, Sandbox, SandboxedPlugin
from agentplug.core.host import left_files

MIB = 1 << 20


class WriterPlugin:
    name, version = "writer", "1"

    async def initialize(self, config: dict[str, Any]) -> None: ...

    async def process(self, code: str) -> Any:
        scope: dict[str, Any] = {}
        exec(code, scope)
        return scope.get("value")


async def left_by(code: str, policy: Policy | None = None) -> Any:
    async with SandboxedPlugin(WriterPlugin, policy) as plugin:
        return await plugin.run(code)


async def test_a_file_is_listed_with_its_digest_and_can_be_read() -> None:
    """Also once its worker is gone, and its scratch directory with it."""
    run = await left_by("import os; os.mkdir('d'); open('a.csv', 'w').write('1,2'); open('d/b', 'wb').write(b'x')")

    assert run.files.to_dict("list") == {
        "path": ["a.csv", "d/b"],
        "bytes": [3, 1],
        "digest": [f"sha256:{hashlib.sha256(text).hexdigest()}" for text in (b"1,2", b"x")],
    }
    assert (run.read_file("a.csv"), run.read_file("d/b")) == (b"1,2", b"x")


async def test_a_call_that_writes_nothing_leaves_an_empty_table() -> None:
    """With its columns, and an error that says so."""
    run = await left_by("value = 1")

    assert (list(run.files.columns), len(run.files)) == (["path", "bytes", "digest"], 0)
    with pytest.raises(FileNotFoundError, match="the call left no file 'a', and no other"):
        run.read_file("a")


async def test_each_run_has_the_files_of_its_time() -> None:
    """A later call that changes, removes or adds files changes no earlier run."""
    async with SandboxedPlugin(WriterPlugin) as plugin:
        one = await plugin.run("open('a', 'w').write('1')")
        two = await plugin.run("open('a', 'w').write('2'); open('b', 'w').close()")
        three = await plugin.run("value = 3")
        four = await plugin.run("import os; os.remove('a')")

    assert [run.files["path"].tolist() for run in (one, two, three, four)] == [["a"], ["a", "b"], ["a", "b"], ["b"]]
    assert [run.read_file("a") for run in (one, two, three)] == [b"1", b"2", b"2"]


async def test_a_sandbox_keeps_what_its_code_left() -> None:
    """Text in a session is a call like others."""
    async with Sandbox() as sandbox:
        run = await sandbox.run("with open('notes.txt', 'w') as f:\n    f.write('two words')")

    assert run.read_file("notes.txt") == b"two words"


async def test_a_misspelt_path_suggests_the_right_one() -> None:
    """A path may also be a Path."""
    run = await left_by("open('notes.txt', 'w').write('x')")

    assert run.read_file(Path("notes.txt")) == b"x"
    with pytest.raises(FileNotFoundError, match=r"the call left no file 'note.txt'; it left notes\.txt"):
        run.read_file("note.txt")


async def test_what_is_too_long_is_listed_and_not_kept() -> None:
    """Four mebibytes of content are kept, sixteen are read; the error says what to do instead."""
    run = await left_by(
        f"open('a', 'wb').write(bytes({5 * MIB})); open('b', 'wb').write(b'b'); open('c', 'wb').truncate({20 * MIB})",
        Policy(disk="32M"),
    )

    assert run.files["bytes"].tolist() == [5 * MIB, 1, 20 * MIB]
    assert run.files["digest"].isna().tolist() == [False, False, True]
    assert run.read_file("b") == b"b"
    with pytest.raises(FileNotFoundError, match=r"'a' \(5 MiB\) wasn't kept.*Policy\(write=…\)"):
        run.read_file("a")


async def test_links_pipes_and_hostile_names_lead_nowhere(tmp_path: Path) -> None:
    """Only regular files are listed, under names that steer no display."""
    (tmp_path / "secret").write_text("SECRET")
    run = await left_by(
        "import os\n"
        f"for make in (lambda: os.symlink({str(tmp_path / 'secret')!r}, 'link'), lambda: os.symlink('/', 'root'),\n"
        "             lambda: os.mkfifo('pipe'), lambda: os.close(os.open('mode', os.O_CREAT | os.O_WRONLY, 0))):\n"
        "    try: make()\n"
        "    except OSError: pass\n"
        "open('a\\n\\x1b[31m$x$', 'w').write('1')\n"
        "open(b'\\xff', 'w').write('2')\n"
    )

    paths = run.files["path"].tolist()
    assert "link" not in paths
    assert "pipe" not in paths
    assert not any("root/" in path or "SECRET" in path for path in paths)
    assert r"a\n\x1b[31m\x24x\x24" in paths
    assert run.read_file("a\n\x1b[31m$x$") == b"1"


async def test_a_thousand_files_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more, so many that the host's work is bounded."""
    monkeypatch.setattr(left_files, "MOST_FILES", 50)
    run = await left_by("for n in range(200):\n    open(str(n), 'w').close()")

    assert len(run.files) == 50


async def test_a_deep_tree_is_listed_to_a_bounded_depth() -> None:
    """And costs the host no descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    run = await left_by(
        "import os\nfor n in range(40):\n    os.mkdir('d'); os.chdir('d'); open('f', 'w').close()\n",
        Policy(disk="1M"),
    )

    assert len(run.files) == 16
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_call_that_ends_its_worker_leaves_nothing() -> None:
    """Its scratch directory is wiped."""
    run = await left_by("open('a', 'w').write('1'); import os; os._exit(3)")

    assert (str(run.verdict), len(run.files)) == ("died:exit 3", 0)
