"""The zoo and the sample: each plugin is one, says what it does, and does nothing when it is imported.

How each ends is for `tests/escapes/test_zoo_attacks.py` to see.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import agentplug.zoo
from agentplug.contract.plugin import AgentPlugin
from agentplug.contract.policy import Policy
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.plugins import word_count
from agentplug.plugins.word_count import WordCountPlugin
from agentplug.zoo._beast import Beast

SMALL = Policy(memory="64M", cpu_s=0.3, wall_s=20.0, disk="8M", reply="4M")
MODULES = [f"agentplug.zoo.{module.name}" for module in pkgutil.iter_modules(agentplug.zoo.__path__)]
PLUGINS = {
    f"{name}:{cls.__name__}": cls
    for name in MODULES
    for cls in vars(importlib.import_module(name)).values()
    if isinstance(cls, type) and cls.__module__ == name and not cls.__name__.startswith("_") and cls is not Beast
}


def run(spec: object, given: Any = None, *, policy: Policy = SMALL, config: dict[str, Any] | None = None) -> Run:
    async def call() -> Run:
        plugin = SandboxedPlugin(spec, policy, config=config)
        try:
            return await plugin.run(given)
        finally:
            await plugin.close()

    return asyncio.run(call())


def test_every_family_is_there() -> None:
    """The zoo has a file for each family of attacks, and none is empty."""
    families = {spec.rpartition(":")[0].rpartition(".")[2] for spec in PLUGINS}

    assert families == {name.rpartition(".")[2] for name in MODULES} - {"_beast"}
    assert families >= {"memory", "cpu", "processes", "files", "network", "signals", "host", "protocol", "display"}
    assert len(PLUGINS) >= 160


@pytest.mark.parametrize("spec", PLUGINS)
def test_a_zoo_plugin_is_complete(spec: str) -> None:
    """Each class keeps the contract of a plugin, and says in words of its own what it is and what its call does."""
    cls = PLUGINS[spec]

    assert isinstance(cls(), AgentPlugin)
    assert cls.__doc__
    assert inspect.getdoc(cls.initialize)
    assert cls.process is not Beast.process
    assert cls.process.__doc__


def test_names_are_those_of_the_classes() -> None:
    """A plugin is called as its class is, in words, so that each is known in a table; two are called otherwise."""
    names = {cls().name for cls in PLUGINS.values()}

    assert len(names) == len(PLUGINS)
    assert {"catastrophic regex", "fork bomb", "spinner"} <= names


@pytest.mark.need("landlock", "seccomp")
def test_a_hostile_name_reaches_no_display() -> None:
    """The impostor's name, version and output keep their text and lose their power."""
    seen = run("agentplug.zoo.display:Impostor")

    assert "\x1b" not in repr(seen)
    assert "\x1b" not in seen.explain()
    assert "<svg" not in seen._repr_html_()
    assert "<script" not in seen._repr_html_()


def test_importing_the_zoo_does_nothing() -> None:
    """A host that imports every module of it, by mistake or for its docstrings, runs no attack."""
    code = f"import importlib; [importlib.import_module(name) for name in {MODULES!r}]; print('unharmed')"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "unharmed\n", "")


@pytest.mark.need("landlock", "seccomp")
def test_the_sample_plugin_counts() -> None:
    """The demo's and the quickstart's plugin returns the figures that it promises, and minds its configuration."""
    seen = run(
        word_count.__name__,
        {"text": "It's day one. Day one, again!"},
        config={"top": 1, "ignore": ["One"]},
    )

    assert seen.check() == {
        "characters": 29,
        "words": 6,
        "sentences": 2,
        "distinct": 4,
        "frequent": {"day": 2},
        "minutes_to_read": 0.03,
    }


@pytest.mark.need("landlock", "seccomp")
def test_the_sample_plugin_refuses_what_is_no_text() -> None:
    """A wrong input is an error with the fact and the remedy, as a good plugin raises it."""
    seen = run(WordCountPlugin, 3)

    assert str(seen.verdict) == "failed:TypeError"
    assert seen.error is not None
    assert seen.error.message == "text is a int; pass a str, or a dict with a str under 'text'"


def test_the_sample_plugin_is_a_model_of_its_kind() -> None:
    """It fits on a screen and stands on the standard library alone, so that a student can copy it."""
    source = inspect.getsource(word_count)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }

    assert len(source.splitlines()) < 60
    assert imported <= sys.stdlib_module_names
