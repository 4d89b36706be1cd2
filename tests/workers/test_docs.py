"""The documents tell the truth: code in them runs, and no file says where it was made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_docs import REFERENCE, ROOT, blocks

UNTRACKED = re.compile(r"(^|/)(\.git|\.?venv|build|dist|__pycache__|\.[a-z_]+|[^/]+\.egg-info)/")


@pytest.mark.need("landlock", "seccomp")
def test_the_examples_in_python_run_as_they_stand(tmp_path: Path) -> None:
    """The README's examples are code that works, and the first prints the verdict that its comment promises."""
    (taste,), (questions,) = blocks("python"), blocks("python", REFERENCE)
    code = f"""
import ast, asyncio, matplotlib
matplotlib.use("Agg")
asyncio.run(eval(compile({taste!r}, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)))
before = plugins.trace
exec({questions!r})
"""
    argv = [sys.executable, "-c", code]

    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "'words': 5" in done.stdout
    assert "\nlimited:memory\n" in done.stdout
    assert len(taste.splitlines()) <= 12


# ---------------------------------------------------------------------- what must not stand anywhere


def tracked() -> list[Path]:
    """The project's text files: those that git knows, or all where there is no git to ask."""
    asked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if asked.returncode == 0 and asked.stdout:
        names = [os.fsdecode(name) for name in asked.stdout.split(b"\0") if name]
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    paths = [ROOT / name for name in names if not UNTRACKED.search(f"{name}/" if "/" not in name else name)]
    return [path for path in paths if path.is_file() and path.suffix not in {".png", ".pyc"}]


def test_no_file_names_the_machine_that_it_was_made_on() -> None:
    """Nobody's paths, and no address of a package registry, are in what is published."""
    places = {str(ROOT), sys.prefix, f"{Path.home()}/"} - {"/", "//", "/usr", "/usr/local", "/root/"}
    registries = {"pypi" + ".org", "python" + "hosted.org", "anaconda" + ".org", "npmjs" + ".com"}

    for path in tracked():
        text = path.read_text(encoding="utf-8")
        found = [word for word in places | registries if word in text]
        assert found == [], f"{path.relative_to(ROOT)} holds {found}"


def test_no_file_is_left_half_done() -> None:
    """Notes to ourselves, and marks of a merge, don't get published."""
    marks = re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b", "^<<<" + "<<<< "]), re.M)

    for path in tracked():
        assert marks.findall(path.read_text(encoding="utf-8")) == [], path.relative_to(ROOT)
