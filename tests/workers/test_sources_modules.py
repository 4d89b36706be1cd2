"""A module's source in a process that has nothing else of the project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentplug.core.sources.resolve import resolve
from agentplug.core.sources.source import Source
from tests.installed_site import use_site
from tests.sources_project import names, project_at, write

WORKER = """
import importlib, importlib.abc, importlib.machinery, json, sys

modules = json.load(sys.stdin)

class Finder(importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=modules[name][1]) if name in modules else None
    def exec_module(self, module):
        exec(compile(modules[module.__name__][0], module.__name__, "exec"), module.__dict__)

sys.path.append(sys.argv[1])
sys.meta_path.insert(0, Finder())
print(importlib.import_module(sys.argv[2]).result)
"""


def run_in_worker(source: Source, site: Path) -> str:
    """What `result` is in the entry module where there are just the source's modules, and `site` on `sys.path`."""
    modules = {module.name: (module.code.decode(), module.is_package) for module in source.modules}
    command = [sys.executable, "-I", "-c", WORKER, str(site), source.entry]
    done = subprocess.run(
        command, input=json.dumps(modules), capture_output=True, text=True, cwd="/", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with project_at(tmp_path, monkeypatch) as root:
        yield root


def test_relative_imports_work_from_the_modules_alone(project: Path) -> None:
    """A worker that can't read the project runs the entry module and what it imports, out of the source's bytes."""
    write(
        project, {"pkg/__init__.py": "from .base import one", "pkg/base.py": "one = 1", "pkg/sub/two.py": "two = 2"}
    )
    write(
        project, {"pkg/mod.py": "from . import one\nfrom .sub.two import two\nimport pkg.base\nresult = [one, two]"}
    )
    assert run_in_worker(resolve("pkg.mod"), project / "nowhere") == "[1, 2]"


def test_installed_portion_of_a_namespace_stays_in_sight(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace package that is part project and part site-packages is whole in the worker."""
    write(project, {"ns/mine.py": "from ns.theirs import result", "site/ns/theirs.py": "result = 'installed'"})
    use_site(project / "site", monkeypatch, first=False)
    source = resolve("ns.mine")
    assert names(source) == ["ns", "ns.mine"]
    assert run_in_worker(source, project / "site") == "installed"
