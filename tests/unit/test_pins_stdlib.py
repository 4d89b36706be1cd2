"""Names of the standard library beside a pinned closure: they are looked for where it lies, and nowhere else."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from agentplug.core.boundary.frames import PinnedFiles
from agentplug.core.worker.pinned_imports import PinnedFinder

ABSENT = [name for name in ("winreg", "winsound", "_scproxy") if importlib.util.find_spec(name) is None]
EVIL = 'def word(): return "evil"\n'


@pytest.fixture
def finder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedFinder:
    """Of an empty closure, on a path that begins with `tmp_path`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return PinnedFinder(PinnedFiles([], [], [], [], ["agentplug"]), [-1])


@pytest.mark.parametrize("name", ABSENT)
def test_a_module_that_other_systems_have_is_not_taken_from_the_disk(
    name: str, finder: PinnedFinder, tmp_path: Path
) -> None:
    """Libraries try `import winreg`; a file of that name, which nobody listed, isn't the standard library's."""
    (tmp_path / f"{name}.py").write_text(EVIL)

    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin == str(tmp_path / f"{name}.py")
    assert name in sys.stdlib_module_names
    with pytest.raises(ModuleNotFoundError, match="neither in the standard library nor in the pinned closure"):
        finder.find_spec(name)


def test_a_file_before_the_standard_library_is_not_taken(finder: PinnedFinder, tmp_path: Path) -> None:
    """As with a folder of packages in PYTHONPATH."""
    (tmp_path / "colorsys.py").write_text(EVIL)

    found = finder.find_spec("colorsys")
    assert found.origin == os.path.join(os.path.dirname(os.__file__), "colorsys.py")


def test_all_of_the_standard_library_that_is_here_is_found(finder: PinnedFinder) -> None:
    """Built in, frozen, of Python and of C, and what lies in its packages."""
    for name in sorted({*sys.stdlib_module_names, "xml.dom.minidom", "concurrent.futures", "importlib.metadata"}):
        known = importlib.util.find_spec(name)
        if known is not None:
            parent = importlib.import_module(name.rpartition(".")[0]) if "." in name else None
            found = finder.find_spec(name, parent.__path__ if parent is not None else None)
            assert found is not None
            assert found.origin == known.origin or "-packages" in str(known.origin)  # setuptools has a distutils
