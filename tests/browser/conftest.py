"""One JupyterLab and one browser for all tests of this folder; a kernel for each supported ipykernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import CHROMIUM, Server, provide_kernel, server


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running JupyterLab without anybody's settings."""
    with server(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield running
        running.close()


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest, lab: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a kernel that runs on this ipykernel."""
    cache: Path = tmp_path_factory.getbasetemp() / "ipykernels"
    return provide_kernel(request.param, lab.folder.parent / "jupyter_data_dir", cache)
