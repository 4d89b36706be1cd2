"""JupyterLab in a real browser: the cards are drawn, and a plugin's text stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import PATIENCE_S, Server, artefact, opened

pytestmark = [pytest.mark.need("chromium", "landlock", "seccomp")]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> $E=mc^2$"
STRANGER = f"""%%load_plugin stranger --memory 64M
class StrangerPlugin:
    name = {HOSTILE!r}
    version = '1.0 \\x1b[31m'
    async def initialize(self, config): print('<b>initialized</b>')
    async def process(self, size): return len(bytearray(size))"""
CELLS = [
    "%load_ext agentplug",
    STRANGER,
    "await stranger.run(5_000_000)",
    "stranger",
    "%%sandbox --memory 64M --expect limited:memory\nprint('a \\x1b[31mred\\x1b[0m line')\nx = bytearray(1 << 28)",
    "%plugins",
    "%sandbox_doctor",
    "%%sandbox\nprint('about to fail')\ndef f():\n    raise ValueError('<b>no</b>')\nf()",
]
ALL_RAN = """() => {
    const cells = [...window.jupyterapp.shell.currentWidget.content.widgets];
    return cells.every(cell => cell.model.executionCount !== null)
        && window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle';
}"""


@pytest.fixture
def book(lab: Server) -> str:
    """The address of a notebook with these cells, without the token."""
    return f"{lab.address}/lab/tree/{lab.write('cards.ipynb', CELLS)}"


def test_cards_are_drawn_and_hostile_text_stays_text(book: str, browser: Any, tmp_path: Path) -> None:
    """A notebook runs in Lab: plugin and run cards, tables and short errors show, and a name's HTML runs nowhere."""
    with opened(browser, book, height=2400) as opened_book:
        page = opened_book.page
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_function(ALL_RAN, timeout=PATIENCE_S * 1e3)
        text = "\n".join(page.locator(".jp-OutputArea-output").all_inner_texts())
        page.screenshot(path=artefact("cards-light.png", tmp_path))
        opened_book.dark()
        page.screenshot(path=artefact("cards-dark.png", tmp_path))
        images, title = page.locator(".jp-OutputArea img").count(), page.title()
        drawn = draws(page)
    assert images == 0
    assert title != "owned"
    assert text.count(HOSTILE) >= 3  # in the plugin's card, the run's and the list
    assert r"1.0 \x1b[31m" in text
    assert "<b>initialized</b>" in text
    assert r"a \x1b[31mred\x1b[0m line" in text
    assert "PluginError: Plugin sandbox cell raised ValueError: <b>no</b>" in text
    assert 'File "<sandbox cell>", line 4, in <module>' in text
    assert "limited:memory" in text
    assert "interactiveshell.py" not in text
    assert drawn == {"cards": 4, "wide": 0}


def draws(page: Any) -> dict[str, int]:
    """How many cards there are, and how many boxes are wider than the notebook."""
    found: dict[str, int] = page.evaluate(
        """() => {
            const cards = [...document.querySelectorAll('.jp-OutputArea-output .mathjax_ignore')]
                .filter(card => card.tagName === 'DIV');
            const wide = [...document.querySelectorAll('.jp-OutputArea-output')]
                .filter(output => output.scrollWidth > output.clientWidth + 1);
            return {cards: cards.length, wide: wide.length};
        }"""
    )
    return found
