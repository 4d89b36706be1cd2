"""An older lock beside an older plugin is noticed; what a PEP 751 file knows is taken over."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentplug.cli.app import app
from agentplug.core.host.conversation import wait_for
from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.pins import remembered as seen
from agentplug.manager.pins.lockfile import read_lock
from agentplug.manager.pins.pylock import origins
from agentplug.manager.pins.taking import take
from agentplug.manager.pins.verify import propose
from tests.installed_site import install, use_site
from tests.workers.test_pins import GREETER, answer, pin

pytestmark = pytest.mark.need("landlock", "seccomp")

NEWER = GREETER.replace("1.0", "1.10").replace("good", "fixed")


@pytest.fixture
def put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where 1.0 was pinned and loaded, then 1.10, and then both files were put back."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file, lock = tmp_path / "greeter.py", tmp_path / "agentplug.lock"
    held = {}
    for text in (GREETER, NEWER):
        file.write_text(text)
        pin(tmp_path, file)
        held[text] = lock.read_text()
        wait_for(answer(tmp_path, file))
    file.write_text(GREETER)
    lock.write_text(held[GREETER])
    return tmp_path


async def test_a_lock_that_was_put_back_is_refused(put_back: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte is as that lock has it, so a comparison alone is fooled; a later process knows it too."""
    file = put_back / "greeter.py"
    assert take(file, str(put_back)).pin.digest == read_lock(put_back).pins["greeter"].digest

    monkeypatch.setattr(seen, "_in_this_process", {})  # as in another process
    with pytest.raises(PinMismatch) as caught:
        await answer(put_back, file)

    assert "- version: 1.10\n+ version: 1.0\n" in str(caught.value)
    assert "agentplug lock --upgrade greeter" in str(caught.value)


async def test_a_lock_with_an_older_dependency_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is of the same version in both locks, and its dependency was put back with the lock."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    site, lock = use_site(tmp_path / "site", monkeypatch), tmp_path / "agentplug.lock"
    install(site, "greet", "1.0", {"greet.py": GREETER}, "Requires-Dist: words")
    held = []
    for version in ("2.9", "2.10"):
        for old in site.glob("words-*"):
            shutil.rmtree(old)
        install(site, "words", version, {"words.py": f"x = {version!r}"})
        pin(tmp_path, "greet")
        held.append((lock.read_text(), site.parent / f"site-{version}"))
        shutil.copytree(site, held[-1][1])
        assert await answer(tmp_path, "greet") == "good"
    lock.write_text(held[0][0])
    shutil.rmtree(site)
    shutil.copytree(held[0][1], site)
    assert take("greet", str(tmp_path)).pin.digest == read_lock(tmp_path).pins["greeter"].digest

    monkeypatch.setattr(seen, "_in_this_process", {})  # as in another process
    with pytest.raises(PinMismatch, match=r"was put back.*\n- dependency words: 2\.10\n\+ dependency words: 2\.9\n"):
        await answer(tmp_path, "greet")

    done = CliRunner().invoke(app, ["lock", "--upgrade", "greeter", "--yes"])
    assert done.exit_code == 0, done.output
    assert await answer(tmp_path, "greet") == "good"


async def test_somebody_may_agree_to_go_back(put_back: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`agentplug lock --upgrade` is that agreement; the next load passes."""
    monkeypatch.chdir(put_back)
    done = CliRunner().invoke(app, ["lock", "--upgrade", "greeter", "--yes"])

    assert done.exit_code == 0, done.output
    assert await answer(put_back, put_back / "greeter.py") == "good"


async def test_without_a_place_to_remember_this_process_still_does(
    put_back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that can't be written to, and a state that was spoiled, fail no load."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nothing")

    with pytest.raises(PinMismatch, match="was put back"):
        await answer(put_back, put_back / "greeter.py")


def test_what_is_remembered_goes_with_its_lock(put_back: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Locks that are gone leave nothing behind once another is loaded; a spoiled state counts as none."""
    other = tmp_path_factory.mktemp("other")
    (other / "greeter.py").write_text(GREETER)
    pin(other, other / "greeter.py")
    (put_back / "agentplug.lock").unlink()
    folder = put_back / "state" / "agentplug"
    assert len(os.listdir(folder)) == 1

    wait_for(answer(other, other / "greeter.py"))

    (left,) = folder.iterdir()
    assert json.loads(left.read_text())["lock"] == str(other / "agentplug.lock")
    left.write_text("[")
    seen.refuse_older(str(other / "agentplug.lock"), read_lock(other).pins["greeter"])


# ---------------------------------------------------------------------- PEP 751

HASH = "a" * 64
PYLOCK = f"""
lock-version = "1.0"
created-by = "a tool"
[[packages]]
name = "words"
version = "2.0"
[[packages.wheels]]
name = "words-2.0-cp39-cp39-win32.whl"
path = "words-2.0-cp39-cp39-win32.whl"
hashes = {{sha256 = "{"b" * 64}"}}
[[packages.wheels]]
name = "words-2.0-py3-none-any.whl"
path = "words-2.0-py3-none-any.whl"
hashes = {{sha256 = "{HASH}"}}
[[packages.attestation-identities]]
kind = "GitHub"
repository = "a/words"
workflow = "release.yml"
[[packages]]
name = "only-source"
version = "1.0"
[packages.sdist]
name = "only_source-1.0.tar.gz"
path = "only_source-1.0.tar.gz"
hashes = {{sha512 = "cc", sha256 = "{HASH}"}}
"""


def test_hashes_and_attestations_are_taken_over(tmp_path: Path) -> None:
    """Of the archive that fits this machine, or the source; who attested it, as it stands."""
    (tmp_path / "pylock.toml").write_text(PYLOCK)

    found = origins(str(tmp_path / "pylock.toml"), {"words": "2.0", "only-source": "1.0"}, {"greeter": "1.0"})

    assert found == {
        "words words-2.0-py3-none-any.whl": f"sha256:{HASH}",
        "words attested 1": '{"kind": "GitHub", "repository": "a/words", "workflow": "release.yml"}',
        "only-source only_source-1.0.tar.gz": f"sha256:{HASH}",
    }


def test_another_version_than_the_file_has_is_refused(tmp_path: Path) -> None:
    """Or none at all: what is installed didn't come from there."""
    (tmp_path / "pylock.toml").write_text(PYLOCK)

    with pytest.raises(PinMismatch) as caught:
        origins(str(tmp_path / "pylock.toml"), {"words": "2.1", "more": "1"}, {})

    assert "+ dependency more: 1\n- dependency words: 2.0\n+ dependency words: 2.1\n" in str(caught.value)


@pytest.mark.parametrize("text", ["[", 'lock-version = "1.0"\n', "\udcff"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """With what is wrong about it."""
    (tmp_path / "pylock.toml").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(SpecError, match="is no lock as PEP 751 has it"):
        origins(str(tmp_path / "pylock.toml"), {}, {})


def test_origins_stay_in_the_lock_until_that_dependency_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later pin without the file keeps them, and drops those of another version."""
    monkeypatch.chdir(tmp_path)
    site = use_site(tmp_path / "site", monkeypatch)
    install(site, "greet", "1.0", {"greet.py": GREETER}, "Requires-Dist: words")
    install(site, "words", "2.0", {"words.py": ""})
    (tmp_path / "pylock.toml").write_text(PYLOCK)

    done = CliRunner().invoke(app, ["lock", "greet", "--pylock", "pylock.toml"])

    assert done.exit_code == 0, done.output
    assert read_lock(tmp_path).pins["greeter"].origin["words words-2.0-py3-none-any.whl"] == f"sha256:{HASH}"
    assert (
        wait_for(propose("greet", read_lock(tmp_path), None)).pin.origin == read_lock(tmp_path).pins["greeter"].origin
    )
    install(site, "words", "2.0", {"words.py": "# other\n"})
    assert wait_for(propose("greet", read_lock(tmp_path), None)).pin.origin == {}
    assert "greet" not in sys.modules
