"""Notebook 7, which is made of the same parts as JupyterLab: one look."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import PATIENCE_S, Server, artefact, server

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
    name = notebook7.write("live.ipynb", CELLS)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{notebook7.address}/notebooks/{name}?token=t")
    page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content", timeout=PATIENCE_S * 1e3)
    for cell in range(len(CELLS)):
        begun = page.locator(".jp-Notebook .jp-Cell").nth(cell)
        while begun.locator(".jp-InputPrompt").inner_text() == "[ ]:":  # before its kernel is there, a run is lost
            begun.locator(".cm-content").click()
            page.keyboard.press("Control+Enter")
            page.wait_for_timeout(500)
    page.get_by_role("button", name="stop", exact=True).wait_for(timeout=PATIENCE_S * 1e3)
    outputs = page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".jp-OutputArea-output")
    outputs.get_by_text("busy").first.wait_for(timeout=PATIENCE_S * 1e3)
    page.screenshot(path=artefact("notebook7.png", tmp_path))
    page.get_by_role("button", name="stop", exact=True).click()
    outputs.get_by_text("stopped:interrupt").locator("visible=true").first.wait_for(timeout=PATIENCE_S * 1e3)
    outputs.get_by_text("was stopped by an interrupt").first.wait_for(timeout=PATIENCE_S * 1e3)
    assert outputs.get_by_text("stopped:interrupt").locator("visible=true").count() >= 1
    page.close()
