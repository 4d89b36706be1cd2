"""The zoo and the sample: each plugin is one, says what it does, and does nothing when it is imported.

How each ends is for `tests/escapes/test_zoo_attacks.py` to see.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys

import pytest

import agentplug.zoo
from agentplug.contract.plugin import AgentPlugin
from agentplug.plugins import word_count
from agentplug.zoo._base import ZooPlugin

MODULES = [f"agentplug.zoo.{module.name}" for module in pkgutil.iter_modules(agentplug.zoo.__path__)]
PLUGINS = {
    f"{name}:{cls.__name__}": cls
    for name in MODULES
    if not name.rpartition(".")[2].startswith("_")
    for cls in vars(importlib.import_module(name)).values()
    if isinstance(cls, type) and cls.__module__ == name and not cls.__name__.startswith("_")
}


def test_every_family_is_there() -> None:
    """The zoo has a file for each family of attacks, and none is empty."""
    families = {spec.rpartition(":")[0].rpartition(".")[2] for spec in PLUGINS}

    assert families == {name.rpartition(".")[2] for name in MODULES} - {"_base"}
    assert families >= {"memory", "cpu", "processes", "files", "network", "signals", "host", "protocol", "display"}
    assert len(PLUGINS) >= 160


@pytest.mark.parametrize("spec", PLUGINS)
def test_a_zoo_plugin_is_complete(spec: str) -> None:
    """Each class keeps the contract of a plugin, and says in words of its own what it is and what its call does."""
    cls = PLUGINS[spec]

    assert isinstance(cls(), AgentPlugin)
    assert cls.__doc__
    assert inspect.getdoc(cls.initialize)
    assert cls.process is not ZooPlugin.process
    assert cls.process.__doc__


def test_names_are_those_of_the_classes() -> None:
    """A plugin is called as its class is, in words, so that each is known in a table; two are called otherwise."""
    names = {cls().name for cls in PLUGINS.values()}

    assert len(names) == len(PLUGINS)
    assert {"catastrophic regex", "fork bomb", "spinner"} <= names


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
