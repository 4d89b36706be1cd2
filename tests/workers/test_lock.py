"""The lock as a file that processes share: merged by git, written by many, interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from agentplug.manager.pins.lockfile import parse_lock, read_lock
from agentplug.manager.pins.writing import rendered
from tests.unit.test_lock import _pin_one, a_pin, pins

ROOT = Path(__file__).resolve().parents[2]


def test_two_branches_that_pin_different_plugins_merge(tmp_path: Path) -> None:
    """git merges them without a conflict."""
    middle = pins(a_pin("m"))
    texts = [rendered(middle), rendered({**pins(a_pin("a")), **middle}), rendered({**middle, **pins(a_pin("z"))})]
    for name, text in zip(("base", "ours", "theirs"), texts, strict=True):
        (tmp_path / name).write_text(text)

    merged = subprocess.run(
        ["git", "merge-file", "-p", "ours", "base", "theirs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert merged.returncode == 0, merged.stdout
    assert set(parse_lock(merged.stdout, "x")) == {"a", "m", "z"}


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Eight processes pin eight plugins; all eight are pinned, and no other file is left."""
    names = [f"p{i}" for i in range(8)]
    code = "import sys; from tests.unit.test_lock import _pin_one; _pin_one(*sys.argv[1:])"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=ROOT) for name in names]

    assert [writer.wait(60) for writer in writers] == [0] * 8
    assert sorted(read_lock(tmp_path).pins) == names
    assert os.listdir(tmp_path) == ["agentplug.lock"]


KILLED = """
import os, signal, sys
from agentplug.manager.pins import writing
from tests.unit.test_lock import _pin_one
writing.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
_pin_one(sys.argv[1], "late")
"""


def test_an_interrupted_write_leaves_the_old_lock(tmp_path: Path) -> None:
    """A writer killed on the last step changes nothing, and what it leaves lying is gone with the next write."""
    _pin_one(str(tmp_path), "early")

    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, timeout=60, check=False)

    assert done.returncode == -signal.SIGKILL
    assert list(read_lock(tmp_path).pins) == ["early"]
    assert len(os.listdir(tmp_path)) == 2
    _pin_one(str(tmp_path), "next")
    assert list(read_lock(tmp_path).pins) == ["early", "next"]
    assert os.listdir(tmp_path) == ["agentplug.lock"]
