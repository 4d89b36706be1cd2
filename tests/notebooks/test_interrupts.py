"""The stop button while a sandbox works: one line, and a verdict."""

from __future__ import annotations

import pytest

from tests.kernels import Notebook

PLUGIN = """%%load_plugin sleeper
import time
class SleeperPlugin:
    name = "sleeper"
    version = "1"
    async def initialize(self, config): ...
    async def process(self, x):
        print("asleep", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize(
    ("cell", "run"),
    [
        ("%%sandbox --wall 300\nimport time\nprint('asleep', flush=True)\ntime.sleep(600)", "_run"),
        ("await sleeper.process(1)", "sleeper.runs[-1]"),
        ("sleeper.run_sync(1)", "sleeper.runs[-1]"),
        ("%%sandbox --plugin sleeper\n1", "_run"),
    ],
    ids=["a cell", "an awaited call", "a call", "a plugin of a cell"],
)
def test_an_interrupt_is_one_line(notebook: Notebook, cell: str, run: str) -> None:
    """Whatever waits: none of our stack frames."""
    notebook.run(PLUGIN).check()
    sleeping = notebook.start(cell)
    notebook.until(lambda: "asleep" in sleeping.stream())
    notebook.manager.interrupt_kernel()
    notebook.until(lambda: sleeping.idle)
    assert sleeping.error is not None
    name, text = sleeping.error
    assert name in ("KeyboardInterrupt", "CancelledError")
    assert text == f"{name}: the call was stopped"
    assert notebook.value(f"str({run}.verdict)") == "'stopped:interrupt'"
