"""A directory of installed distributions for tests: made by hand, or by pip from the network, never imported here."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentplug.core.sources import modules
from agentplug.manager.pins import closures, taking


def use_site(site: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool = True) -> Path:
    """Let `site` count as a directory of installed distributions: on `sys.path`, but nowhere a worker may read."""
    site.mkdir(exist_ok=True)
    paths = [str(site), *sys.path] if first else [*sys.path, str(site)]
    monkeypatch.setattr(sys, "path", paths)
    roots = (*closures.installed_roots(), os.path.realpath(site))
    for module in (closures, modules, taking):
        monkeypatch.setattr(module, "installed_roots", lambda: roots)
    return site


def install(site: Path, name: str, version: str, files: Mapping[str, str | bytes], *metadata: str) -> Path:
    """Install a distribution of these files as an installer does, with METADATA lines, and return its dist-info."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata]
    whole: dict[str, str | bytes] = {**files, f"{info.name}/METADATA": "\n".join(lines) + "\n"}
    whole.setdefault(f"{info.name}/WHEEL", "Wheel-Version: 1.0\n")
    for path, content in whole.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content.encode() if isinstance(content, str) else content)
    write_record(site, info, [*whole])
    return info


def write_record(site: Path, info: Path, paths: list[str]) -> None:
    """RECORD as it would be for these files as they are now."""
    rows = []
    for path in paths:
        content = (site / path).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,"]) + "\n")


def pip_install(site: Path, *requirements: str) -> None:
    """Install from the index that pip is set up for, in a test that needs `index`."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(site)]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
