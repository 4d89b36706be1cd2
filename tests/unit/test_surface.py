"""Tab after a plugin, a manager or a run shows what a user may want of it, and nothing else."""

from __future__ import annotations

import pytest

import agentplug
from agentplug import AgentPlugin, PluginManager, Run, Sandbox, SandboxedPlugin, Usage
from agentplug.contract.policy import Policy
from agentplug.contract.record import SourceInfo

RUN = Run(1, Usage(), (), Policy(), SourceInfo("./x.py", "file", "sha256:x"))


class PolitePlugin:
    name, version = "polite", "1.0"

    async def initialize(self, config: object) -> None: ...

    async def process(self, text: str) -> str:
        return f"Please, {text}"


def surface(value: object) -> list[str]:
    return [name for name in dir(value) if not name.startswith("_")]


def test_a_plugin_shows_its_surface() -> None:
    """It is an `AgentPlugin` too, and so has `hooks` and `on_message`."""
    plugin = SandboxedPlugin(PolitePlugin)
    assert surface(plugin) == [
        "barriers",
        "close",
        "close_sync",
        "hooks",
        "initialize",
        "map",
        "name",
        "on_message",
        "pid",
        "policy",
        "process",
        "run",
        "run_sync",
        "runs",
        "start",
        "state",
        "trace",
        "version",
    ]
    assert isinstance(plugin, AgentPlugin)


def test_a_sandbox_shows_its_surface() -> None:
    assert surface(Sandbox()) == [
        "barriers",
        "close",
        "close_sync",
        "pid",
        "policy",
        "run",
        "run_sync",
        "runs",
        "state",
        "trace",
    ]


def test_a_manager_shows_its_surface() -> None:
    assert surface(PluginManager()) == [
        "audit",
        "close",
        "dispatch",
        "drain",
        "hooks_frame",
        "load",
        "plugins",
        "process",
        "register",
        "register_hook",
        "reload",
        "run_hooks",
        "trace",
        "unregister",
    ]


def test_a_run_shows_its_surface() -> None:
    assert surface(RUN) == [
        "barriers",
        "check",
        "displays",
        "error",
        "events",
        "explain",
        "number",
        "out",
        "plot",
        "policy",
        "profile",
        "samples",
        "source",
        "started_at",
        "stderr",
        "stdout",
        "to_frame",
        "usage",
        "value",
        "verdict",
    ]


def test_a_mistyped_name_suggests_the_right_one() -> None:
    with pytest.raises(AttributeError, match="no attribute 'read_trac'; did you mean 'read_trace'"):
        agentplug.read_trac  # noqa: B018
