"""Bars for what lasts: none for what is quick, none where nobody looks, gone at the end."""

from __future__ import annotations

import asyncio
import io
import sys
import threading

import pytest

from agentplug import progress
from agentplug.progress import Progress, shown, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def looked_at(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Somebody looks, and a second is over at once. No fixture: pytest sets stderr anew for each test's body."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "_UNDER_TEST", "NO_TEST")
    monkeypatch.delenv("AGENTPLUG_PROGRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(progress, "_DELAY_S", 0.0)
    monkeypatch.setattr(progress, "_TICK_S", 0.0)
    return screen


def test_a_bar_counts_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch)
    threads = threading.active_count()
    with Progress("calls of p", 3) as bar:
        bar.step()
        assert "calls of p" in terminal.getvalue()
        assert "1/3" in terminal.getvalue()
        bar.step(2)
        assert threading.active_count() == threads
    assert terminal.getvalue().endswith("\r")


def test_work_that_is_quick_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch)
    monkeypatch.setattr(progress, "_DELAY_S", 60.0)
    with Progress("calls", 3) as bar:
        bar.step(3)
    assert terminal.getvalue() == ""


async def test_waiting_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = looked_at(monkeypatch)
    drawn = asyncio.Event()
    monkeypatch.setattr(Progress, "step", lambda self, count: (self._show(), drawn.set()))
    async with waiting("loading p"):
        await asyncio.wait_for(drawn.wait(), 10)
        assert "loading p" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


@pytest.mark.parametrize("word", ["0", "off", "No", "false"])
def test_one_switch_turns_all_off(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    looked_at(monkeypatch)
    assert shown()
    monkeypatch.setenv("AGENTPLUG_PROGRESS", word)
    assert not shown()


def test_where_nobody_looks_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at(monkeypatch)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not shown()
    monkeypatch.setattr(sys, "stderr", None)
    assert not shown()


def test_under_nbval_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels inherit the name of the test under way."""
    looked_at(monkeypatch)
    monkeypatch.setattr(progress, "_UNDER_TEST", "PYTEST_CURRENT_TEST")
    assert not shown()
