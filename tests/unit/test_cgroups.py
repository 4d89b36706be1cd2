"""Cgroups of version 2 have one folder for all controllers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agentplug.contract.policy import Policy
from agentplug.core.boundary import cgroups
from agentplug.core.host.plans import plan_for


def test_both_controllers_of_version_2_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cgroup is made, with limits on memory and on processes."""
    mkdir = os.mkdir

    def make(folder: str, *more: Any) -> None:
        mkdir(folder, *more)
        for name in ("memory.max", "pids.max"):
            Path(folder, name).touch()

    monkeypatch.setattr(os, "mkdir", make)
    monkeypatch.setattr(cgroups, "parents", lambda: dict.fromkeys(("memory", "pids"), str(tmp_path)))

    (folder,) = cgroups.create(7, plan_for(Policy(memory="64M", processes=1, threads=8)))

    assert int(Path(folder, "memory.max").read_text()) > 64 << 20
    assert Path(folder, "pids.max").read_text() == "16"
    assert cgroups.caps_memory([folder])
