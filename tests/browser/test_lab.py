"""JupyterLab in a real browser: the cards are drawn, and a plugin's text stays text."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = [pytest.mark.need("chromium", "landlock", "seccomp")]

PATIENCE_S = 90.0
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
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
}
CHROMIUM = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
RUN_ALL = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    window.jupyterapp.commands.execute('notebook:run-all-cells');
}"""
ALL_RAN = """() => {
    const cells = [...window.jupyterapp.shell.currentWidget.content.widgets];
    return cells.every(cell => cell.model.executionCount !== null)
        && window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle';
}"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """A running JupyterLab without anybody's settings: the address of its notebook, without the token."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "work").mkdir()
    nbformat.write(book, tmp_path / "work" / "cards.ipynb")
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(tmp_path / name.lower()) for name in folders}
    for name, settings in SETTINGS.items():
        path = tmp_path / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = (
        f"--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --ServerApp.port_retries=0 "
        "--IdentityProvider.token=t --LabApp.expose_app_in_browser=True --ServerApp.disable_check_xsrf=True"
    )
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options.split()],
            cwd=tmp_path / "work",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(server, f"http://127.0.0.1:{port}/api/status?token=t", tmp_path / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/cards.ipynb"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def wait_until_up(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.1)


def test_cards_are_drawn_and_hostile_text_stays_text(lab: str, tmp_path: Path) -> None:
    """A notebook runs in Lab: plugin and run cards, tables and short errors show, and a name's HTML runs nowhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1280, "height": 2400})
        page.goto(f"{lab}?token=t&reset")
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=PATIENCE_S * 1e3
        )
        page.evaluate(RUN_ALL)
        page.wait_for_function(ALL_RAN, timeout=PATIENCE_S * 1e3)
        outputs = page.locator(".jp-OutputArea-output")
        text = "\n".join(outputs.all_inner_texts())
        page.screenshot(path=tmp_path / "light.png")
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.screenshot(path=tmp_path / "dark.png")
        images, title = page.locator(".jp-OutputArea img").count(), page.title()
        drawn = draws(page)
        browser.close()
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
