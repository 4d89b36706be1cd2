"""Fixtures for tests of the notebook side: IPython shells, and a place for what is remembered of locks."""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import agentplug


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send what is remembered of locks to a place of the test run's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@contextlib.contextmanager
def bare_shell() -> Iterator[InteractiveShell]:
    """A shell without history; afterwards none is left, and the extension is unloaded."""
    hooks = sys.displayhook, sys.excepthook
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    ip = InteractiveShell.instance(config=config)
    yield ip
    agentplug.unload_ipython_extension(ip)
    ip.atexit_operations()
    atexit.unregister(ip.atexit_operations)
    InteractiveShell.clear_instance()
    sys.displayhook, sys.excepthook = hooks


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell without history, in a folder of its own."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    with bare_shell() as ip:
        yield ip


@pytest.fixture
def ip(shell: InteractiveShell) -> InteractiveShell:
    """A shell with the extension loaded."""
    agentplug.load_ipython_extension(shell)
    return shell
