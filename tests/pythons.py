"""`python -m tests.pythons [3.12 3.13 …]`: the unit tests on other versions of Python, where this machine has them.

Interpreters are looked for on the PATH and where pyenv and uv keep theirs; none is installed. Each gets an
environment of its own, which is wiped at the end. The last lines say which versions were run, and which weren't
found; the status is 1 where a test failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.12", "3.13")
TIMEOUT_S = 1500  # they may get little of a busy machine


def candidates(version: str) -> Iterator[str]:
    """Where an interpreter of this version may be."""
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local" / "share" / "uv" / "python")
    for home, name in ((pyenv / "versions", f"{version}.*"), (uv, f"cpython-{version}.*")):
        yield from (str(path) for path in sorted(home.glob(f"{name}/bin/python{version}"), reverse=True))


def interpreter(version: str) -> str | None:
    """Find one that runs, is of this version (a shim may be of another) and can make environments."""
    probe = f"import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for python in candidates(version):
        if subprocess.run([python, "-Ic", probe], capture_output=True, timeout=60, check=False).returncode == 0:
            return python
    return None


def run(python: str) -> tuple[bool, str]:
    """Make an environment, install the project there and run its unit tests. Return true if all passed, and the
    output."""
    with tempfile.TemporaryDirectory(prefix="ap-python-") as folder:
        return run_in(Path(folder), python)


def run_in(folder: Path, python: str) -> tuple[bool, str]:
    """Do the same in `folder`."""
    inner = str(folder / "bin" / "python")
    wanted = f"{ROOT}[test]"
    if uv := shutil.which("uv"):
        install = [uv, "pip", "install", "--quiet", "--python", inner, "--editable", wanted]
    else:
        install = [inner, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", wanted]
    test = [inner, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", "tests/unit"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    output = ""
    for argv in ([python, "-m", "venv", str(folder)], install, test):
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output += done.stdout
        if done.returncode != 0:
            return False, output
    return True, output


def main(versions: list[str]) -> int:
    """Run them side by side, each in one process: a second would import and collect everything again."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    outcomes, pythons = {}, {}
    for version in versions or VERSIONS:
        if version == here:
            outcomes[version] = "the version of this run"
        elif (python := interpreter(version)) is None:
            outcomes[version] = "not found on this machine: not run"
        else:
            pythons[version] = python
    with ThreadPoolExecutor(len(pythons) or 1) as pool:
        for (version, python), (good, output) in zip(pythons.items(), pool.map(run, pythons.values()), strict=True):
            print(f"Python {version}: {python}\n{output}", flush=True)
            outcomes[version] = "passed" if good else "FAILED"
    print(*(f"Unit tests on Python {version}: {outcome}" for version, outcome in outcomes.items()), sep="\n")
    return 1 if "FAILED" in outcomes.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
