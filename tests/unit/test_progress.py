"""Bars for what lasts: none for what is quick, none where nobody looks, gone at the end."""

from __future__ import annotations

import asyncio
import functools
import io
import sys
import threading

import pytest

from agentplug.core import progress
from agentplug.core.progress import Progress, bars_are_visible, waiting


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


@pytest.mark.parametrize(("total", "said"), [(8, "4/8 [00:07<00:07,  1.7"), (None, "calls 00:07")])
def test_the_clock_starts_with_the_work(monkeypatch: pytest.MonkeyPatch, total: int | None, said: str) -> None:
    """Not when the bar is first drawn, and no drawing says otherwise."""
    terminal = looked_at(monkeypatch)
    with Progress("calls", total) as bar:
        bar._began_s -= 7
        bar.step(4)
        assert said in terminal.getvalue()
        assert "00:00" not in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_tqdms_own_switch_turns_bars_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from tqdm.auto import tqdm

    terminal = looked_at(monkeypatch)
    monkeypatch.setattr(tqdm, "__init__", functools.partialmethod(tqdm.__init__, disable=True))
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
    assert bars_are_visible()
    monkeypatch.setenv("AGENTPLUG_PROGRESS", word)
    assert not bars_are_visible()


def test_where_nobody_looks_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at(monkeypatch)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not bars_are_visible()
    monkeypatch.setattr(sys, "stderr", None)
    assert not bars_are_visible()


def test_under_nbval_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels inherit the name of the test under way."""
    looked_at(monkeypatch)
    monkeypatch.setattr(progress, "_UNDER_TEST", "PYTEST_CURRENT_TEST")
    assert not bars_are_visible()
