"""Notebook 7, which is made of the same parts as JupyterLab: one look."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import PATIENCE_S, Server, artefact, opened, server

pytestmark = [
    pytest.mark.need("chromium", "landlock", "seccomp"),
    pytest.mark.skipif(find_spec("notebook") is None, reason="needs Notebook 7: pip install notebook"),
]

CELLS = [
    "%load_ext agentplug",
    "%%sandbox --live --wall 60\nimport time\nprint('begun')\ntime.sleep(50)",
]


@pytest.fixture
def notebook7(tmp_path: Path) -> Iterator[Server]:
    """A running Notebook 7."""
    with server(tmp_path / "notebook7", "notebook") as running:
        yield running


def test_a_live_cell_is_stopped_by_its_button(notebook7: Server, browser: Any, tmp_path: Path) -> None:
    """The dashboard of a busy %%sandbox cell is drawn, and its button ends the cell with its last state in place."""
    address = f"{notebook7.address}/notebooks/{notebook7.write('live.ipynb', CELLS)}"
    with opened(browser, address) as book:
        assert book.finish(0) == ""
        book.run(1)
        button = book.outputs(1).get_by_role("button", name="stop", exact=True)
        button.wait_for(timeout=PATIENCE_S * 1e3)
        book.until(lambda: "busy" in book.text(1), "the call runs")
        book.page.screenshot(path=artefact("notebook7.png", tmp_path))
        button.click()
        book.until_ran(1)
        drawn = book.outputs(1).get_by_text("stopped:interrupt").locator("visible=true")
        book.until(drawn.count, "its verdict is drawn")
        assert "was stopped by an interrupt" in book.text(1)
