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
    assert "a red line" in text  # a stream's colours are colours
    assert "    raise ValueError('<b>no</b>')\nValueError: <b>no</b>" in text
    assert 'File "<sandbox cell>", line 5, in <module>' in text
    assert "limited:memory" in text
    assert "interactiveshell.py" not in text
    assert drawn == {"cards": 4, "wide": 0}


FLAME = """%load_ext agentplug
from agentplug import *
source = '''
import time

class KeenPlugin:
    name, version = "keen", "1.0"
    async def initialize(self, config): ...
    def burn(self):
        until = time.process_time() + 0.15
        while time.process_time() < until: pass
    def twice(self, data):
        self.burn()
        return [data, bytes(data)]
    async def process(self, size):
        kept = self.twice(bytearray(b"x" * size)), bytearray(size // 4)
        self.burn()
        return len(kept)
'''
with open('keen.py', 'w') as file:
    print(source, file=file)"""
PROFILE = "(await SandboxedPlugin('./keen.py', Policy(profile={!r})).run(1 << 23)).profile"
BOXES = r"""graph => {
    let count = 0, astray = 0;
    for (const box of graph.querySelectorAll('div > div[style="display:flex"] > div')) {
        const own = box.getBoundingClientRect(), around = box.parentElement.getBoundingClientRect();
        const share = parseFloat(box.style.flexBasis) / 100;
        count += 1;
        if (Math.abs(own.width - share * around.width) > 1.5 || own.right > around.right + 1.5) astray += 1;
    }
    return {count, astray};
}"""
CONTRAST = r"""graph => {
    const parts = color => color.match(/[\d.]+/g).map(Number);
    const light = color => color.map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const behind = element => {
        const [r, g, b, a = 1] = parts(getComputedStyle(element).backgroundColor);
        if (a === 1) return [r, g, b];
        const [R, G, B] = behind(element.parentElement);
        return [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
    };
    return Math.min(...[...graph.querySelectorAll('div[title]')].map(box => {
        const ink = parts(getComputedStyle(box).color).slice(0, 3);
        const [low, high] = [light(behind(box)), light(ink)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    }));
}"""


def test_a_flame_graph_fits_and_can_be_read(lab: Server, browser: Any, tmp_path: Path) -> None:
    """Every box lies within its caller's, as wide as its share; words stand out from their boxes, light and dark."""
    name = lab.write("flame.ipynb", [FLAME, PROFILE.format("memory"), PROFILE.format("cpu")])
    with opened(browser, f"{lab.address}/lab/tree/{name}") as book:
        assert book.finish(0) == ""
        said = [book.finish(cell) for cell in (1, 2)]
        graphs = [book.outputs(cell).first.get_by_role("group", name="Flame graph") for cell in (1, 2)]
        found = [graph.evaluate(BOXES) for graph in graphs]
        contrasts = []
        for theme in ("light", "dark"):
            book.dark(theme == "dark")
            for graph, kind in zip(graphs, ("memory", "cpu"), strict=True):
                graph.screenshot(path=artefact(f"flame-{kind}-{theme}.png", tmp_path))
                contrasts.append(graph.evaluate(CONTRAST))
    assert all("as the plugin's own process says" in text for text in said)
    assert "twice" in said[0]
    assert all(boxes["count"] > 2 for boxes in found)
    assert [boxes["astray"] for boxes in found] == [0, 0]
    assert min(contrasts) > 4.5, contrasts  # WCAG 2.2, 1.4.3, for words of this size


def draws(page: Any) -> dict[str, int]:
    """How many cards there are, and how many boxes are wider than the notebook."""
    found: dict[str, int] = page.evaluate(
        """() => {
            const cards = [...document.querySelectorAll('.jp-OutputArea-output .mathjax_ignore')]
                .filter(card => card.tagName === 'DIV' && card.style.borderLeftWidth === '4px');
            const wide = [...document.querySelectorAll('.jp-OutputArea-output')]
                .filter(output => output.scrollWidth > output.clientWidth + 1);
            return {cards: cards.length, wide: wide.length};
        }"""
    )
    return found
