"""The zoo and the sample in workers: a hostile name reaches no display, an import does nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from agentplug.contract.policy import Policy
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.plugins import word_count
from agentplug.plugins.word_count import WordCountPlugin
from tests.unit.test_zoo import MODULES

SMALL = Policy(memory="64M", cpu_s=0.3, wall_s=20.0, disk="8M", reply="4M")


def run(spec: object, given: Any = None, *, policy: Policy = SMALL, config: dict[str, Any] | None = None) -> Run:
    async def call() -> Run:
        plugin = SandboxedPlugin(spec, policy, config=config)
        try:
            return await plugin.run(given)
        finally:
            await plugin.close()

    return asyncio.run(call())


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
