"""Writes that Python would lose in silence: a call says so, and what open files hold back is written at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentplug import Policy, SandboxedPlugin
from agentplug.core.run import Run

CODE = """
kept = []

class WriterPlugin:
    name, version = "writer", "1"

    async def initialize(self, config):
        pass

    def process(self, given):
        path, length, keep = given
        file = open(path, "w")
        file.write("x" * length)  # below a buffer's size, so nothing is written yet
        if keep:
            kept.append(file)
        return "done"  # the other file is closed by itself, and Python drops the error
"""
TOLD = (
    "A write failed, or the next one will: the scratch directory holds {} bytes (Policy.disk). What wasn't "
    "written is lost.\n"
)


async def written(folder: Path, policy: Policy, given: Any) -> Run:
    (folder / "writer.py").write_text(CODE)
    async with SandboxedPlugin(folder / "writer.py", policy) as plugin:
        return await plugin.run(given)


@pytest.mark.parametrize("disk", [0, 4096])
async def test_a_call_says_that_a_write_failed(tmp_path: Path, disk: int) -> None:
    run = await written(tmp_path, Policy(disk=disk), ["result", 5_000, False])

    assert run.value == "done"
    assert run.stderr == TOLD.format(disk)


async def test_nothing_is_said_of_a_write_that_fits(tmp_path: Path) -> None:
    run = await written(tmp_path, Policy(disk="1M"), ["result", 5_000, False])

    assert (run.value, run.stderr) == ("done", "")


async def test_what_an_open_file_holds_back_is_written_at_the_end(tmp_path: Path) -> None:
    """As in any program that ends, where the file outlives the plugin."""
    (folder := tmp_path / "out").mkdir()

    await written(tmp_path, Policy(write=str(folder)), [f"{folder}/result", 5_000, True])

    assert (folder / "result").read_text() == "x" * 5_000
