"""The threads that decode replies: fair turns, a budget of time, imports between turns."""

from __future__ import annotations

import importlib
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from agentplug.core import decoders
from agentplug.core.boundary.codec import Costly, DecodeError
from agentplug.core.decoders import AtOnce, Share, in_turns


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules that decodings have imported: none yet."""
    modules: set[str] = set()
    monkeypatch.setattr(decoders, "_loaded", modules)
    return modules


def waits(count: int) -> None:
    """Wait until so many decodings wait for a turn."""
    _, turns = decoders._pool()
    while len(turns._waiting) < count:
        time.sleep(0.001)


class TestTurns:
    def test_who_used_the_least_goes_first(self) -> None:
        """One reply is decoded at a time; of those that wait, the plugin that took the least time lately is next."""
        order: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        def first(pace: Any) -> None:
            begun.set()
            go_on.wait()

        running = in_turns(Share(), 0, first)
        begun.wait()
        waiting: list[Future[None]] = []
        for name, used_s in (("much", 9.0), ("little", 1.0), ("none", 0.0)):
            share = Share()
            share.add(used_s)
            waiting.append(in_turns(share, 0, lambda pace, name=name: order.append(name)))
            waits(len(waiting))
        go_on.set()
        for future in (running, *waiting):
            future.result(5)

        assert order == ["none", "little", "much"]

    def test_a_long_decoding_lets_a_short_one_in(self) -> None:
        """At its next pause, and comes back to its own work afterwards."""
        order: list[str] = []
        begun, go_on = threading.Event(), threading.Event()
        hog = Share()
        hog.add(5.0)

        def long(pace: Any) -> None:
            begun.set()
            go_on.wait()
            pace.pause()
            order.append("long")

        running = in_turns(hog, 0, long)
        begun.wait()
        short = in_turns(Share(), 0, lambda pace: order.append("short"))
        waits(1)
        go_on.set()
        running.result(5)

        assert short.done()
        assert order == ["short", "long"]

    def test_a_decoding_that_fails_gives_its_turn_back(self) -> None:
        """Its error is its own."""
        with pytest.raises(ZeroDivisionError):
            in_turns(Share(), 0, lambda pace: 1 / 0).result(5)

        assert in_turns(Share(), 0, lambda pace: "next").result(5) == "next"

    def test_what_was_used_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By half every second."""
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        share = Share()
        share.add(4.0)
        now[0] += 2.0

        assert share.used_s == 1.0


class TestBudget:
    def test_a_reply_that_costs_too_much_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By this process's CPU time; at a pause, with the fact and the remedy."""
        monkeypatch.setattr(decoders, "BUDGET_S", 0.01)

        def endless(pace: Any) -> None:
            while True:
                pace.pause()

        with pytest.raises(DecodeError, match=r"^it took over 0\.0 s of the host's CPU time; send arrays"):
            in_turns(Share(), 0, endless).result(30)

    def test_what_an_audit_makes_of_it_is_not_the_replys_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It pauses too, and is never refused."""
        monkeypatch.setattr(decoders, "BUDGET_S", 0.0)

        def describe(pace: Any) -> str:
            pace.without_budget()
            sum(range(100_000))
            pace.pause()
            return "text"

        assert in_turns(Share(), 0, describe).result(30) == "text"

    def test_waiting_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A busy machine, or other plugins' turns, are no fault of the reply's."""
        monkeypatch.setattr(decoders, "BUDGET_S", 0.05)

        assert in_turns(Share(), 0, lambda pace: [time.sleep(0.2), pace.pause()]).result(5) == [None, None]

    def test_large_replies_have_more(self) -> None:
        """A second for 16 MiB."""
        assert in_turns(Share(), 32 << 20, lambda pace: pace._budget_s).result(5) == decoders.BUDGET_S + 2


class TestImports:
    def test_others_have_their_turn_meanwhile(self, monkeypatch: pytest.MonkeyPatch, loaded: set[str]) -> None:
        """A first table keeps nobody waiting, and the time isn't the reply's."""
        monkeypatch.setattr(decoders, "BUDGET_S", 0.02)
        importing, go_on = threading.Event(), threading.Event()

        def slow(name: str) -> None:
            importing.set()
            sum(range(10_000_000))
            go_on.wait()

        monkeypatch.setattr(importlib, "import_module", slow)
        table = in_turns(Share(), 0, lambda pace: pace.load("pandas"))
        importing.wait()

        assert in_turns(Share(), 0, lambda pace: "meanwhile").result(5) == "meanwhile"
        go_on.set()
        table.result(5)
        assert loaded == {"pandas"}

    def test_none_happens_on_a_loop(self) -> None:
        """Decoding at once ends where a module is missing, or after a few pauses."""
        pace = AtOnce()
        with pytest.raises(Costly):
            pace.load("pandas")
        for _ in range(decoders._PAUSES_AT_ONCE):
            pace.pause()
        with pytest.raises(Costly):
            pace.pause()
        in_turns(Share(), 0, lambda pace: pace.load("json")).result(5)
        AtOnce().load("json")


def test_without_a_thread_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads that are there already, one of them takes the reply."""
    decoders._pool.cache_clear()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            in_turns(Share(), 0, lambda pace: None)
    decoders._pool.cache_clear()
    begun, go_on = threading.Event(), threading.Event()

    def busy(pace: Any) -> None:
        begun.set()
        go_on.wait()

    running = in_turns(Share(), 0, busy)
    begun.wait()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        queued = in_turns(Share(), 0, lambda pace: "later")
    go_on.set()
    running.result(5)
    assert queued.result(5) == "later"
