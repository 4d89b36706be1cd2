"""A JupyterLab and a Chromium for tests, with a kernel for each ipykernel that the project supports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.conftest import demand

PATIENCE_S = 60.0
KERNELS = {"6.29": "ipykernel==6.29.5", "7.3": "ipykernel==7.3.0", "7.4": "ipykernel==7.4.0"}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
}
CHROMIUM = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
READY = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
}"""
START_OVER = """async cells => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.sessionContext.restartKernel();
    await panel.sessionContext.session.kernel.requestKernelInfo();  // what is run before it answers may be lost
    panel.content.widgets.forEach((cell, n) => {
        cell.model.sharedModel.setSource(cells[n]);
        cell.model.clearExecution();
    });
}"""
SOON = """([code, given, patience_ms]) => Promise.race([
    eval(code)(given),
    new Promise((_, refuse) => setTimeout(() => refuse(new Error(`no end of this: ${code}`)), patience_ms)),
])"""
IDLE = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"


class Server:
    """A running server, and the folder that it serves."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.address = f"http://127.0.0.1:{port}"

    def write(self, name: str, cells: Sequence[str], kernel: str = "python3") -> str:
        """Write a notebook of code cells; returns its path on the server."""
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        nbformat.write(book, self.folder / name)
        return name

    def end_sessions(self) -> None:
        """End every kernel. A page's own request may come to nothing: it forgets a kernel that is just restarting."""
        for session in json.loads(self._ask("GET", "sessions")):
            self._ask("DELETE", f"sessions/{session['id']}")

    def _ask(self, method: str, what: str) -> bytes:
        request = urllib.request.Request(f"{self.address}/api/{what}?token=t", method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            told: bytes = answer.read()
        return told


class Page:
    """A notebook open in a browser."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def start_over(self, cells: Sequence[str]) -> None:
        """Its cells as they were written, without outputs, and a new kernel."""
        self.page.keyboard.press("Escape")
        self.settle(START_OVER, list(cells))
        self.page.wait_for_function(IDLE, timeout=PATIENCE_S * 1e3)

    def settle(self, promise: str, given: object = None) -> None:
        """Wait until the page keeps a promise, but not for ever: JupyterLab forgets one now and then."""
        self.page.evaluate(SOON, [promise, given, PATIENCE_S * 1e3])

    def run(self, cell: int) -> None:
        """Begin to run one cell."""
        self.page.evaluate(
            """cell => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = cell;
                notebook.deselectAll();
                window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            cell,
        )

    def finish(self, cell: int) -> str:
        """Run one cell to its end; its outputs' text."""
        self.run(cell)
        self.until_ran(cell)
        return self.text(cell)

    def until_ran(self, cell: int) -> None:
        """Wait for the end of a cell that was begun."""
        self.page.wait_for_function(
            """cell => {
                const panel = window.jupyterapp.shell.currentWidget;
                const model = panel.content.widgets[cell].model;
                return model.executionCount !== null && panel.sessionContext.session.kernel.status === 'idle';
            }""",
            arg=cell,
            timeout=PATIENCE_S * 1e3,
        )

    def outputs(self, cell: int) -> Any:
        """The outputs of a cell, to look for things in."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".jp-OutputArea-output")

    def text(self, cell: int) -> str:
        """What the outputs of a cell say."""
        return "\n".join(self.outputs(cell).all_inner_texts()).strip()

    def until(self, happened: Callable[[], object], what: str = "") -> None:
        """Wait until something is so, as seen from here."""
        until_s = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < until_s, f"that never happened: {what}"
            self.page.wait_for_timeout(50)

    def dark(self, dark: bool = True) -> None:
        """Change the theme."""
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.settle("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.wait_for_selector(f"body[data-jp-theme-light={'false' if dark else 'true'}]", state="attached")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")


def artefact(name: str, tmp_path: Path) -> Path:
    """Where a picture goes: to the folder that the environment names, else to the test's own."""
    folder = Path(os.environ.get("AGENTPLUG_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


@contextmanager
def opened(browser: Any, address: str, *, height: int = 1000) -> Iterator[Page]:
    """A notebook in a window of its own, its kernel ready."""
    page = browser.new_page(viewport={"width": 1280, "height": height})
    try:
        page.goto(f"{address}?token=t&reset")
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=PATIENCE_S * 1e3
        )
        book = Page(page)
        book.settle(READY)
        page.wait_for_function(IDLE, timeout=PATIENCE_S * 1e3)
        yield book
    finally:
        page.close()


@contextmanager
def server(folder: Path, app: str = "jupyterlab") -> Iterator[Server]:
    """A server without anybody's settings."""
    work = folder / "work"
    work.mkdir(parents=True)
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    names += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {name: str(folder / name.lower()) for name in names}
    for name, settings in SETTINGS.items():
        path = folder / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = (
        f"--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --ServerApp.port_retries=0 "
        "--IdentityProvider.token=t --ServerApp.disable_check_xsrf=True "
        "--LabApp.expose_app_in_browser=True --JupyterNotebookApp.expose_app_in_browser=True"
    )
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", app, *options.split()],
            cwd=work,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(process, f"http://127.0.0.1:{port}/api/status?token=t", folder / "server.log")
        yield Server(work, port)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def wait_until_up(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until the server answers."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.1)


def provide_kernel(name: str, data: Path, cache: Path) -> str:
    """A kernel spec for this ipykernel, below the data folder; skips the test where it can't be had.

    The version that is installed is used as it is; another one lies in a folder of its own, before it on the path.
    """
    spec: dict[str, Any] = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"ipykernel {name}",
        "language": "python",
    }
    if not version("ipykernel").startswith(f"{name}."):
        spec["env"] = {"PYTHONPATH": str(_downloaded(KERNELS[name], cache / name))}
    folder = data / "kernels" / f"ipykernel-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
    return folder.name


def _downloaded(requirement: str, folder: Path) -> Path:
    if not (folder / "ipykernel").is_dir():
        demand("index")
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), requirement]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.fail(f"{requirement} can't be installed: {done.stderr.strip()[-300:]}")
    return folder
