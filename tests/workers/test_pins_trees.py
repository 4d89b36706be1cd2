"""Package trees: every file counts, links and strangers are refused, caches aren't a part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.manager import PluginManager
from agentplug.manager.pins.lockfile import read_lock
from agentplug.manager.pins.pin import sha256
from agentplug.manager.pins.taking import take
from tests.workers.test_pins import EVIL, GREETER, answer, imported, pin, stale_pyc

pytestmark = pytest.mark.need("landlock", "seccomp")

INIT = "from kit.words import WORD\n"
PLUGIN = GREETER.replace('"good"', "WORD").replace("class", "from kit import WORD\nclass", 1)
FILES = {"kit/__init__.py": INIT, "kit/words.py": 'WORD = "good"\n', "kit/greeter.py": PLUGIN, "kit/data/a.txt": "x"}


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `kit` on `sys.path`, pinned in the lock beside it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    pin(tmp_path, "kit.greeter")
    return tmp_path


async def test_a_tree_runs_as_it_was_pinned(kit: Path) -> None:
    """All its files are in the lock, in order; the worker imports siblings from memory."""
    held = read_lock(kit).pins["greeter"]

    assert await answer(kit, "kit.greeter") == "good"
    assert (held.kind, held.entry, held.spec) == ("tree", "kit.greeter", "kit.greeter")
    assert dict(held.files) == {name: sha256(text.encode()) for name, text in FILES.items()}
    assert list(held.files) == sorted(FILES)


async def test_an_edited_sibling_is_named(kit: Path) -> None:
    """The plugin's own module is the same, and what it imports isn't."""
    (kit / "kit/words.py").write_text('WORD = "evil"\n')

    assert imported(kit, module="kit.greeter") == "evil"
    with pytest.raises(PinMismatch) as caught:
        await answer(kit, "kit.greeter")

    assert str(caught.value).splitlines()[1:3] == [
        f"- file kit/words.py: {sha256(FILES['kit/words.py'].encode())}",
        f"+ file kit/words.py: {sha256((kit / 'kit/words.py').read_bytes())}",
    ]


async def test_a_file_that_isn_t_listed_is_refused(kit: Path) -> None:
    """A package takes the place of a module of its name: nothing that was pinned changed."""
    (kit / "kit/words").mkdir()
    (kit / "kit/words/__init__.py").write_text('WORD = "evil"\n')

    assert imported(kit, module="kit.greeter") == "evil"
    with pytest.raises(PinMismatch, match=r"\+ file kit/words/__init__\.py"):
        await answer(kit, "kit.greeter")


async def test_a_file_that_is_gone_is_named(kit: Path) -> None:
    """Data too."""
    (kit / "kit/data/a.txt").unlink()

    with pytest.raises(PinMismatch, match=r"- file kit/data/a\.txt"):
        await answer(kit, "kit.greeter")


@pytest.mark.parametrize("what", ["file", "directory", "package"])
async def test_links_are_refused(kit: Path, what: str) -> None:
    """Where they lead could change between two readings; a plain import follows them all."""
    away = kit / "away"
    away.mkdir()
    if what == "file":
        (away / "w.py").write_text('WORD = "evil"\n')
        (kit / "kit/words.py").unlink()
        (kit / "kit/words.py").symlink_to(away / "w.py")
    elif what == "directory":
        (away / "__init__.py").write_text('WORD = "evil"\n')
        (kit / "kit/words").symlink_to(away)
    else:
        (kit / "kit").rename(away / "kit")
        (away / "kit/words.py").write_text('WORD = "evil"\n')
        (kit / "kit").symlink_to(away / "kit")

    assert imported(kit, module="kit.greeter") == "evil"
    with pytest.raises(SpecError, match="is a link, and a pinned tree has none"):
        await answer(kit, "kit.greeter")


async def test_a_fifo_is_refused_at_once(kit: Path) -> None:
    """It is no file, and opening it doesn't wait for a writer."""
    os.mkfifo(kit / "kit/pipe.py")

    with pytest.raises(SpecError, match="is no file"):
        await answer(kit, "kit.greeter")


async def test_caches_are_no_part_of_a_tree(kit: Path) -> None:
    """Bytecode of other code, with the size and time of the source, is what a plain import runs."""
    stale_pyc(kit / "kit/words.py", 'WORD = "good"\n', 'WORD = "evil"\n')

    assert imported(kit, module="kit.greeter") == "evil"
    assert await answer(kit, "kit.greeter") == "good"


async def test_a_shadowing_tree_on_the_path_is_refused(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another `kit` comes first on the path: an import takes it, a lock names what is different."""
    first = kit / "first"
    (first / "kit").mkdir(parents=True)
    (first / "kit/__init__.py").write_text("")
    (first / "kit/greeter.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(first))

    assert imported(first, kit, module="kit.greeter") == "evil"
    with pytest.raises(PinMismatch, match=r"- file kit/words\.py"):
        await answer(kit, "kit.greeter")


def test_empty_and_huge_files_count(kit: Path) -> None:
    """A file of no bytes, and one of 100 MB that isn't held in memory."""
    (kit / "kit/empty.txt").touch()
    with open(kit / "kit/huge.bin", "wb") as file:
        file.truncate(100_000_000)

    files = take("kit.greeter", str(kit)).pin.files

    assert files["kit/empty.txt"] == sha256(b"")
    assert files["kit/huge.bin"] == sha256(bytes(100_000_000))


def test_a_name_that_is_no_utf8_is_refused(kit: Path) -> None:
    """A lock couldn't write it down, so nobody could check it."""
    with open(os.fsencode(kit) + b"/kit/\xff.py", "w"):
        pass

    with pytest.raises(SpecError, match="no UTF-8"):
        take("kit.greeter", str(kit))


async def test_a_namespace_package_is_pinned_with_all_its_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders on the path hold one package; a module that is added to either is seen."""
    for folder, name, text in (
        ("a", "greeter.py", PLUGIN.replace("kit", "kit.words")),
        ("b", "words.py", FILES["kit/words.py"]),
    ):
        (tmp_path / folder / "kit").mkdir(parents=True)
        (tmp_path / folder / "kit" / name).write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    pin(tmp_path, "kit.greeter")

    assert await answer(tmp_path, "kit.greeter") == "good"
    (tmp_path / "a/kit/words.py").write_text('WORD = "evil"\n')
    assert imported(tmp_path / "a", tmp_path / "b", module="kit.greeter") == "evil"
    with pytest.raises(SpecError, match="one module in two places"):
        await answer(tmp_path, "kit.greeter")


async def test_a_zip_on_the_path_is_refused_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import would take the plugin out of it."""
    (tmp_path / "greeter.py").write_text(GREETER)
    subprocess.run(
        [sys.executable, "-m", "zipfile", "-c", "z.zip", "greeter.py"], cwd=tmp_path, check=True, timeout=60
    )
    (tmp_path / "greeter.py").unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "z.zip"))

    assert imported(tmp_path / "z.zip") == "good"
    with pytest.raises(SpecError, match="in a zip archive"):
        pin(tmp_path, "greeter")


async def test_a_plain_module_is_pinned_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside it is no part of it."""
    (tmp_path / "greeter.py").write_text(GREETER)
    (tmp_path / "other.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    pin(tmp_path, "greeter:GreeterPlugin")

    async with PluginManager(lock=tmp_path, locked=True) as manager:
        plugin = await manager.load("greeter:GreeterPlugin")
        assert await plugin.process(None) == "good"
        assert plugin._inside.source.digest == read_lock(tmp_path).pins["greeter"].digest
