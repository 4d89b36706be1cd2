"""Where installed packages are looked for."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from agentplug.core.sources.interpreter import installed_folders, installed_roots, is_under


@pytest.mark.need("landlock", "seccomp")
def test_an_environment_over_another_has_the_packages_of_both(tmp_path: Path) -> None:
    """`uv run --with` makes such: its workers find what the host finds, and read it."""
    venv.create(tmp_path / "env")
    packages = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    below = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "below.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in below))
    (packages / "stranger.py").write_text(
        "import msgspec\nclass StrangerPlugin:\n    name, version = 'stranger', '1'\n"
        "    async def initialize(self, config): ...\n    async def process(self, given): return given.upper()\n"
    )

    command = [tmp_path / "env" / "bin" / "python", "-m", "agentplug", "run", "stranger", "a word"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (0, '"A WORD"\n'), done.stderr


def test_a_project_is_no_installed_package() -> None:
    """Only folders of packages count, and nothing that lies beside one with a name that begins alike."""
    assert sysconfig.get_path("purelib") in installed_folders()
    assert is_under(str(Path(sysconfig.get_path("stdlib")).resolve() / "json"), installed_roots())
    assert not is_under(f"{Path(sys.prefix).resolve()}-other/site-packages", (f"{Path(sys.prefix).resolve()}",))
