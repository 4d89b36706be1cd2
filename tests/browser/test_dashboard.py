"""The dashboard in a real browser, on every supported ipykernel: it moves, its buttons work while a cell is busy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentplug.jupyter.magics import AgentplugMagics
from agentplug.jupyter.options import known_options
from tests.browser.lab import KERNELS, PATIENCE_S, Page, Server, artefact, opened
from tests.kernels import Watched

pytestmark = [pytest.mark.need("chromium", "landlock", "seccomp")]

WITHIN_S = 0.5
HOSTILE = '<img src=x onerror="document.title=1"> $E=mc^2$'
LOAD = """%load_ext agentplug
import os, time
from agentplug import *
source = '''
class StrangerPlugin:
    name = "stranger"
    version = "1.0"
    async def initialize(self, config): ...
    async def process(self, steps):
        import time
        kept = []
        for step in range(steps):
            kept.append(bytearray(1 << 20))
            until = time.process_time() + 0.05
            while time.process_time() < until: pass
            time.sleep(0.1)
        return len(kept)
'''
with open('stranger.py', 'w') as file:
    print(source, file=file)
manager = PluginManager(Policy(memory='64M', cpu_s=60, wall_s=300))
stranger = await manager.load('./stranger.py', "stranger")
def told(run):
    print(run.verdict, 'at', run.started_at.timestamp() + run.usage.wall_s)"""
CELLS = [
    LOAD,
    "view = dashboard(manager); view",
    "told(manager.plugins['stranger'].run_sync(2000))",
    "told(await manager.plugins['stranger'].run(2000))",
    "print(manager.plugins['stranger'].run_sync(1).value)",
    "print(os.getpid())",
    "%%sandbox --",
]


# An ipykernel makes a difference to what reaches a busy one and to its end; the rest is the page's.
every_kernel = pytest.mark.parametrize("kernel", list(KERNELS), indirect=True, scope="session")
one_kernel = pytest.mark.parametrize("kernel", list(KERNELS)[-1:], indirect=True, scope="session")


@pytest.fixture(scope="module")
def lasting(lab: Server, browser: Any, kernel: str) -> Iterator[Page]:
    """A notebook for all tests of one ipykernel: a JupyterLab takes seconds to be drawn, a kernel to restart none."""
    name = lab.write(f"{kernel}.ipynb", CELLS, kernel)
    try:
        with opened(browser, f"{lab.address}/lab/tree/{name}") as page:
            yield page
    finally:
        lab.end_sessions()


@pytest.fixture
def book(lasting: Page) -> Page:
    """A notebook, its kernel new, whose first two cells have run: a plugin is loaded and watched."""
    lasting.start_over(CELLS)
    assert lasting.finish(0) == ""
    lasting.finish(1)
    lasting.until(lambda: "stranger" in lasting.text(1), "the dashboard is drawn")
    return lasting


def shows(page: Page, text: str) -> None:
    """Wait until the dashboard says so."""
    page.until(lambda: text in page.outputs(1).first.inner_text(), f"the dashboard says {text!r}")


def click(page: Page, button: str) -> float:
    """Click a button of the dashboard: when that was, in seconds since the epoch."""
    found = page.outputs(1).first.get_by_role("button", name=button, exact=True)
    at_ms: float = found.evaluate("button => { button.click(); return Date.now(); }")
    return at_ms / 1e3


@every_kernel
@pytest.mark.parametrize("cell", [pytest.param(2, id="sync"), pytest.param(3, id="async")])
def test_stop_and_kill_reach_a_call_while_its_cell_is_busy(book: Page, cell: int) -> None:
    """The figures move while the cell runs; a click ends the call in half a second; the kernel and the view go on."""
    for button, verdict in (("stop", "stopped:interrupt"), ("kill", "stopped:kill")):
        book.run(cell)
        shows(book, "busy")
        before = book.outputs(1).first.inner_html()
        book.until(lambda before=before: book.outputs(1).first.inner_html() != before, "the figures move")
        assert "[*]" in book.page.locator(".jp-Notebook .jp-Cell").nth(cell).inner_text()
        clicked_s = click(book, button)
        book.until_ran(cell)
        said, _, ended_s = book.text(cell).partition(" at ")
        assert said == verdict
        print(f"{button}: {float(ended_s) - clicked_s:.3f} s from click to verdict")
        assert float(ended_s) - clicked_s < WITHIN_S
        shows(book, verdict)
    assert book.finish(4) == "1"


@one_kernel
def test_reload_and_quarantine(book: Page) -> None:
    """Quarantine ends the call and refuses the next; reload lifts it, also when it is pressed with a key."""
    book.run(2)
    shows(book, "busy")
    click(book, "quarantine")
    book.until_ran(2)
    shows(book, "quarantined")
    assert "was quarantined by hand; reload it" in book.finish(4)
    book.outputs(1).first.get_by_role("button", name="stop", exact=True).focus()
    for _ in range(2):
        book.page.keyboard.press("Tab")
    book.page.keyboard.press("Enter")
    shows(book, "ready")
    assert book.finish(4) == "1"


@every_kernel
def test_a_kernel_restart_leaves_no_orphan(book: Page) -> None:
    """With a call under way and a view open: zygote and workers are gone with the kernel."""
    below = [Watched(process.pid) for process in psutil.Process(int(book.finish(5))).children(recursive=True)]
    assert below
    book.run(2)
    shows(book, "busy")
    book.settle("async () => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    assert all(process.ended() for process in below)
    book.finish(0)
    assert book.finish(4) == "1"


@one_kernel
def test_completion_offers_exactly_our_options(book: Page) -> None:
    """Tab behind `--` lists the options of that magic and nothing else."""
    expected = {name for name in known_options(AgentplugMagics.sandbox) if name.startswith("--")}
    book.page.locator(".jp-Notebook .jp-Cell").nth(6).locator(".cm-content").click()
    book.page.keyboard.press("Control+End")
    book.page.keyboard.press("Tab")
    book.page.wait_for_selector(".jp-Completer .jp-Completer-item", timeout=PATIENCE_S * 1e3)
    assert set(book.page.locator(".jp-Completer .jp-Completer-match").all_inner_texts()) == expected


@one_kernel
def test_it_rests_while_nobody_sees_it_and_comes_back(book: Page) -> None:
    """Clearing the output ends the updates; showing it again begins them."""
    state = "import threading\nprint(view._view._watched)"
    book.page.evaluate(
        """code => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.widgets[5].model.sharedModel.setSource(code);
        }""",
        state,
    )
    assert book.finish(5) == "True"
    book.page.evaluate(
        """() => {
            window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1;
            window.jupyterapp.commands.execute('notebook:clear-cell-output');
        }"""
    )
    book.until(lambda: book.finish(5) == "False", "it rests")
    book.page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets[5].model.sharedModel.setSource('view')"""
    )
    book.finish(5)
    book.until(lambda: "stranger" in book.outputs(5).first.inner_text(), "it is drawn again")


def test_a_saved_notebook_keeps_the_last_state(lab: Server, browser: Any, tmp_path: Path) -> None:
    """Without its kernel a notebook shows the table as it was, as HTML; a hostile name is text in it, and before."""
    load = LOAD.replace('name = "stranger"', f"name = {HOSTILE!r}").replace(', "stranger")', ")")
    busy = "import asyncio\ntask = asyncio.ensure_future(next(iter(manager.plugins.values())).run(30))"
    cells = [load, "dashboard(manager)", busy, "await task\nprint(task.result().verdict)"]
    name = lab.write("saved.ipynb", cells)
    with opened(browser, f"{lab.address}/lab/tree/{name}") as page:
        assert [page.finish(0), page.finish(1) and "", page.finish(2)] == ["", "", ""]
        shows(page, "busy")
        page.page.screenshot(path=artefact("dashboard-light.png", tmp_path))
        page.dark()
        page.page.screenshot(path=artefact("dashboard-dark.png", tmp_path))
        page.dark(False)
        assert page.finish(3) == "completed"
        shows(page, "completed")
        assert HOSTILE in page.outputs(1).first.inner_text()
        assert page.page.locator(".jp-OutputArea img").count() == 2  # the still one's curves, out of sight
        assert not page.page.locator(".jp-OutputArea img").first.is_visible()
        assert page.page.title() != "1"
        page.settle("async () => window.jupyterapp.shell.currentWidget.context.save()")
        page.settle("async () => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert "widgets" not in json.loads((lab.folder / name).read_text())["metadata"]
    with opened(browser, f"{lab.address}/lab/tree/{name}") as page:
        still = page.page.locator(".jp-OutputArea table")
        still.wait_for(state="visible", timeout=PATIENCE_S * 1e3)
        assert "completed" in still.inner_text()
        looked_for, gone = (page.page.get_by_text(words) for words in ("Loading widget", "model not found"))
        assert not looked_for.is_visible()
        gone.wait_for(state="attached", timeout=PATIENCE_S * 1e3)
        assert not gone.is_visible()
        page.page.screenshot(path=artefact("dashboard-reopened.png", tmp_path))
        assert page.page.title() != "1"


def test_what_is_before_a_dashboard_stays(lab: Server, browser: Any) -> None:
    """Widgets of the user's in the same cell, before a still one and a live one, which leaves no empty place."""
    load = f"{LOAD}\nimport ipywidgets as widgets\nfrom tqdm.auto import tqdm\nrun = stranger.run_sync(1)"
    cells = [
        load,
        "display(widgets.HTML('MYWIDGET')); display(dashboard(run))",
        "for _ in tqdm([1], desc='MYBAR'): pass\ndashboard(run)",
        "display(widgets.HTML('MYWIDGET')); display(dashboard(manager))",
        "await manager.close()",
    ]
    name = lab.write("before.ipynb", cells)
    with opened(browser, f"{lab.address}/lab/tree/{name}") as page:
        assert page.finish(0) == ""
        for cell, words in ((1, "MYWIDGET"), (2, "MYBAR"), (3, "MYWIDGET")):
            page.finish(cell)
            page.until(lambda cell=cell, words=words: words in page.text(cell), f"{words} is drawn")
            page.until(lambda cell=cell: "stranger" in page.text(cell), "the dashboard is drawn")
            assert page.outputs(cell).first.is_visible()
        page.finish(4)
        page.until(lambda: "The manager is closed; this is its last state." in page.text(3), "it has ended")
        page.until(lambda: page.outputs(3).nth(2).is_visible(), "the still one is shown")
        assert [page.outputs(3).nth(n).is_visible() for n in range(3)] == [True, False, True]
        assert "stranger" in page.outputs(3).nth(2).inner_text()
