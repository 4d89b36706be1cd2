"""Anything that can be called is a plugin: functions of every kind, of a cell, a module or a file, and other's tools."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplug import PluginNotFound, SandboxedPlugin


def twice(x: int) -> int:
    """Double a number."""
    return 2 * x


async def later(x: int) -> int:
    return x + 1


def counting(x: int) -> Iterator[int]:
    yield from range(x)


async def counting_later(x: int) -> AsyncIterator[int]:
    for i in range(x):
        yield i


def add(a: int, b: int = 2) -> int:
    return a + b


def total(a: int, b: int, *, c: int = 0) -> int:
    return a + b + c


def nothing() -> str:
    return "nothing"


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def add(self, x: int) -> int:
        return x + self.by

    def __call__(self, x: int) -> int:
        return x - self.by


class Tool:
    """Like a framework's: a name, and a function that does its work."""

    def __init__(self) -> None:
        self.name = "plus"
        self.function = total


CALLS: dict[str, tuple[Any, Any, Any, str]] = {
    "a function": (twice, 3, 6, "twice"),
    "a coroutine function": (later, 3, 4, "later"),
    "a generator function": (counting, 3, [0, 1, 2], "counting"),
    "an async generator function": (counting_later, 3, [0, 1, 2], "counting_later"),
    "a lambda": (lambda x: x * 3, 2, 6, "lambda"),
    "a builtin": (len, "abc", 3, "len"),
    "a function of a C library": (math.sqrt, 9, 3.0, "sqrt"),
    "a partial": (functools.partial(add, b=5), 1, 6, "add"),
    "a bound method": (Adder(5).add, 1, 6, "add"),
    "an object that can be called": (Adder(5), 1, -4, "Adder"),
    "a tool": (Tool(), {"a": 1, "b": 2}, 3, "plus"),
    "arguments by name": (total, {"a": 1, "b": 2, "c": 3}, 6, "total"),
    "one argument by name": (add, {"a": 1}, 3, "add"),
    "a dict as the one argument": (len, {"a": 1, "b": 2}, 2, "len"),
    "no argument": (nothing, None, "nothing", "nothing"),
}


@pytest.mark.parametrize("what", CALLS)
async def test_what_can_be_called_is_called_as_process(what: str) -> None:
    """Its name is the plugin's; without a distribution its version is 0."""
    source, given, value, name = CALLS[what]
    async with SandboxedPlugin(source) as plugin:
        assert await plugin.process(given) == value
        assert (plugin.name, plugin.version) == (name, "0")


FILE = '''
"""A module of functions."""
def wc(text):
    """Count words."""
    return len(text.split())

async def shout(text):
    return text.upper()

class Tool:
    name = "plus"
    def forward(self, a, b):
        return a + b

tool = Tool()
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "words.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("attribute", "given", "value", "name"),
    [("wc", "a b c", 3, "wc"), ("shout", "a", "A", "shout"), ("tool", {"a": 40, "b": 2}, 42, "plus")],
)
async def test_a_spec_names_a_function_or_a_tool_of_a_file(
    file: Path, attribute: str, given: Any, value: Any, name: str
) -> None:
    """As it names a class."""
    async with SandboxedPlugin(f"{file}:{attribute}") as plugin:
        assert (await plugin.process(given), plugin.name) == (value, name)


async def test_a_spec_names_a_function_of_a_module() -> None:
    """Its version is that of its distribution, if it came with one."""
    async with SandboxedPlugin("packaging.version:parse") as plugin:
        run = await plugin.run("1.0")
        assert (str(run.verdict), plugin.version[:1].isdigit(), plugin.version != "0") == (
            "broken:unserializable",
            True,
            True,
        )


async def test_a_file_without_a_plugin_class_lists_what_it_has(file: Path) -> None:
    """With the spec to write."""
    with pytest.raises(PluginNotFound, match=r"as in .*/words\.py:name \(it defines Tool, wc, shout\)"):
        await SandboxedPlugin(str(file)).start()


async def test_a_name_that_is_not_there_is_said(file: Path) -> None:
    """And one that can't be called."""
    with pytest.raises(PluginNotFound, match=r"words\.py has no class or function 'we'; it defines Tool, wc, shout"):
        await SandboxedPlugin(f"{file}:we").start()


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        (
            total,
            1,
            r"total\(a: 'int', b: 'int', \*, c: 'int' = 0\).* was called with a int; write a dict of .*: a, b",
        ),
        (total, {"a": 1}, "write a dict of its arguments: a, b"),
        (nothing, 1, "takes no input; call it with None"),
    ],
)
async def test_arguments_that_a_call_cannot_fill_are_named(source: Any, given: Any, message: str) -> None:
    """The fact and the remedy; the worker lives on."""
    async with SandboxedPlugin(source) as plugin:
        run = await plugin.run(given)
        pid = plugin.pid
        assert str(run.verdict) == "failed:TypeError"
        with pytest.raises(Exception, match=message):
            run.check()
        assert plugin.pid == pid
