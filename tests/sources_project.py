"""A project directory for the tests of `sources`: files to resolve, none of which the host may import."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentplug.core.sources.source import Source

BOMB = "raise SystemExit('the host ran the plugin')\n"


@contextlib.contextmanager
def project_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`root` as the current directory and first on `sys.path`; nothing in it may have been imported at the end."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    yield root
    imported = [name for name, m in list(sys.modules.items()) if str(root) in str(getattr(m, "__file__", ""))]
    assert imported == []


def write(root: Path, texts: dict[str, str]) -> None:
    """Files below `root`, by relative path."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def announce(root: Path, package: str, lines: str) -> None:
    """The metadata of an installed package that has these entry points in the group `agentplug.plugins`."""
    info = f"{package}-1.0.dist-info"
    write(root, {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"})
    write(root, {f"{info}/entry_points.txt": f"[agentplug.plugins]\n{lines}\n"})


def names(source: Source) -> list[str]:
    """The names of its modules, in their order."""
    return [module.name for module in source.modules]
