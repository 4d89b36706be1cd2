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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.12", "3.13")
TIMEOUT_S = 600


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


def run(python: str, folder: Path) -> bool:
    """Make an environment in `folder`, install the project there and run its unit tests. True if all passed."""
    inner = str(folder / "bin" / "python")
    wanted = f"{ROOT}[test]"
    if uv := shutil.which("uv"):
        install = [uv, "pip", "install", "--quiet", "--python", inner, "--editable", wanted]
    else:
        install = [inner, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", wanted]
    test = [inner, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", "tests/unit"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return all(
        subprocess.run(argv, cwd=ROOT, env=environment, timeout=TIMEOUT_S, check=False).returncode == 0
        for argv in ([python, "-m", "venv", str(folder)], install, test)
    )


def main(versions: list[str]) -> int:
    """Run them one after the other."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    outcomes = {}
    for version in versions or VERSIONS:
        if version == here:
            outcomes[version] = "the version of this run"
        elif (python := interpreter(version)) is None:
            outcomes[version] = "not found on this machine: not run"
        else:
            print(f"Python {version}: {python}", flush=True)
            with tempfile.TemporaryDirectory(prefix="ap-python-") as folder:
                outcomes[version] = "passed" if run(python, Path(folder)) else "FAILED"
    print(*(f"Unit tests on Python {version}: {outcome}" for version, outcome in outcomes.items()), sep="\n")
    return 1 if "FAILED" in outcomes.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
