"""Classes and instances in a process that can't import the modules they are of."""

# ruff: noqa: F811  fixtures that another module has
from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import agentplug
from agentplug.core.sources import objects
from agentplug.core.sources.objects import object_source
from tests.unit.test_sources_objects import CODE, IMPORTS, Greeter, local_module  # noqa: F401

WORKER = """
import asyncio, cloudpickle, sys
sys.path.insert(0, sys.argv[1])
import agentplug.core.boundary.code_lines  # a worker has it, and nothing else that lies there
del sys.path[0]
found = cloudpickle.load(sys.stdin.buffer)
plugin = found() if isinstance(found, type) else found
print(plugin.name, asyncio.run(plugin.process("hello")))
"""


def run_in_worker(pickled: bytes) -> str:
    """What the plugin answers in a process that can't import anything of the tests."""
    command = [sys.executable, "-I", "-c", WORKER, str(Path(agentplug.__file__).parents[1])]
    done = subprocess.run(command, input=pickled, capture_output=True, cwd="/", timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_code_of_a_test_module_travels_by_value() -> None:
    """A class of a module that a worker can't import works there, with the state of an instance."""
    assert run_in_worker(object_source(Greeter).pickled) == "greeter ['hello', None]"
    assert run_in_worker(object_source(Greeter({"a": 1})).pickled) == "greeter ['hello', {'a': 1}]"


def test_modules_around_the_class_travel_too(local_module: ModuleType) -> None:
    """What the class uses of other modules of the user's, by name or as a module, comes along."""
    assert run_in_worker(object_source(local_module.Greeter).pickled) == "greeter HELLO!"


def test_class_of_the_notebook_itself(tmp_path: Path) -> None:
    """A class defined in `__main__`, as in a notebook cell, is by value."""
    root = str(Path(objects.__file__).parents[2])
    script = f"import sys\nsys.path.insert(0, {root!r})\nshout = str.title\nclass localhelp: MARK = '?'\n{CODE}\n"
    script += (
        "from agentplug.core.sources.resolve import resolve\nsys.stdout.buffer.write(resolve(Greeter()).pickled)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=tmp_path, timeout=60, check=True)
    assert run_in_worker(done.stdout) == "greeter Hello?"


def test_class_may_set_its_name_when_it_is_made() -> None:
    """Of a class only the methods are checked: `__init__` may set name and version."""

    class Late:
        name: str
        version: str

        def __init__(self) -> None:
            self.name, self.version = "late", "1"

        def initialize(self, config: object) -> None: ...

        async def process(self, input_data: str) -> str:
            return input_data

    assert run_in_worker(object_source(Late).pickled) == "late hello"
    assert run_in_worker(object_source(Late()).pickled) == "late hello"
