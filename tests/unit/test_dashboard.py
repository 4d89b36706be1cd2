"""The dashboard without a browser: what it draws, whose clicks it hears, what it says of bad input."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.session import Session

from agentplug import ContractError, PluginManager, Run, SandboxedPlugin, dashboard
from agentplug.jupyter.dashboard import drawing, view, watch
from agentplug.jupyter.dashboard.clicks import Wire
from agentplug.jupyter.dashboard.watch import EVENTS, Board, Events

HOSTILE = '<img src=x onerror="alert(1)">'


class SleeperPlugin:
    name = HOSTILE
    version = "1"

    async def initialize(self, config: dict[str, Any]) -> None:
        """Nothing to prepare."""

    async def process(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"


def test_what_loads_a_plugin_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The magic loads into the session's manager and no other."""
    manager = PluginManager()
    board = Board(manager)
    assert "<code>await manager.load(SPEC)</code> loads one" in drawing.table(board.rows, load=board.load)
    monkeypatch.setattr(watch, "session_manager", lambda: manager)
    assert "<code>%load_plugin SPEC</code> loads one" in drawing.table(board.rows, load=board.load)


async def test_each_update_counts_the_plugins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text beside the HTML is of the same moment."""
    sent: list[str] = []
    monkeypatch.setattr(view, "display", lambda data, **_: sent.append(data["text/plain"]))
    monkeypatch.setattr(view, "hear", lambda *_: lambda: None)
    async with PluginManager() as manager:
        shown = dashboard(manager)
        beside = view._View(shown._board, shown._actions, shown.__repr__)
        beside._save_still()
        await manager.register(SleeperPlugin(), trusted=True)
        beside._refresh()
        beside._save_still()
    assert sent == ["<Dashboard of 0 plugins>", "<Dashboard of 1 plugin>"]


def test_the_same_event_again_is_counted() -> None:
    """A flood of one event is one line; others push the oldest out."""
    events = Events()
    for _ in range(1000):
        events.add(1.0, "p", "tried", {"syscall": "fork"})
    assert [told.times for told in events.latest] == [1000]
    for i in range(100):
        events.add(1.0, "p", "exit", {"status": f"exit {i}"})
    assert len(events.latest) == EVENTS
    assert "×" not in drawing.events(events.latest)


@pytest.mark.parametrize("values", [[], [0.0], [1.0, 2.0, 1e9], [0.0] * 60])
@pytest.mark.parametrize("limit", [0.0, 1.0, 1e9])
def test_any_curve_stays_in_its_box(values: list[float], limit: float) -> None:
    """Nothing is drawn above the limit's line or outside, and both forms are told in words."""
    for still in (False, True):
        drawn = drawing.curve(values, limit, "#000000", "CPU 1 s of 2 s", still=still)
        assert "CPU 1 s of 2 s" in drawn
        assert "nan" not in drawn
        assert "-" not in drawn.partition('points="')[2].partition('"')[0]


@pytest.mark.parametrize("x", [None, 3, "worker", SleeperPlugin, []])
def test_nothing_to_watch_is_an_error_that_says_what_is(x: object) -> None:
    """It names what it was given, and what to give."""
    with pytest.raises(ContractError, match="give a PluginManager, a SandboxedPlugin, a Sandbox or a Run"):
        dashboard(x)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (PluginManager, r"x is the class PluginManager; make one, as in dashboard\(PluginManager\(\)\)"),
        (SandboxedPlugin, r"the class SandboxedPlugin; make one, as in dashboard\(SandboxedPlugin\(SPEC\)\)"),
        (Run, r"the class Run; take one, as in dashboard\(plugin.runs\[-1\]\)"),
        (SleeperPlugin, "x is the class SleeperPlugin; give a"),
        (3, "nothing to watch about x, of type int; give a"),
    ],
)
def test_a_class_is_told_from_what_is_made_of_it(x: object, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        dashboard(x)


def test_a_saved_state_says_as_of_when() -> None:
    """The time is not in what is compared with the state before, so that an idle view is sent once."""
    at_s = 1_764_563_696.0
    when = time.strftime("as of %Y-%m-%d %H:%M:%S %Z", time.localtime(at_s))
    assert when in drawing.still(drawing.state([], []), at_s)
    assert "as of" not in drawing.state([], []) + drawing.still("")


def test_text_is_short_and_the_same_each_time() -> None:
    """What nbval compares."""
    assert repr(dashboard(PluginManager())) == "<Dashboard of 0 plugins>"


# ---------------------------------------------------------------------- whose clicks


class Kernel:
    """As much of ipykernel 7 as takes part: a stream on a thread's loop."""

    def __init__(self) -> None:
        self.session = Session(key=b"secret")
        self.taken: list[Any] = []
        self.shell_stream = SimpleNamespace(on_recv=lambda *_, **__: None)
        loop = SimpleNamespace(add_callback=lambda *_, **__: None)
        self.shell_channel_thread = SimpleNamespace(io_loop=loop)

    def message(self, comm_id: str, data: Any, kind: str = "comm_msg") -> list[Any]:
        """As it comes over the wire, signed."""
        sent = self.session.serialize(self.session.msg(kind, {"comm_id": comm_id, "data": data}), ident=b"page")
        return [SimpleNamespace(buffer=memoryview(part)) for part in sent]


CLICK = {"method": "custom", "content": {"event": "click"}}


def test_a_click_is_heard_and_goes_on() -> None:
    """On its own comm alone, until its hearing ends; the kernel gets every message as it was."""
    kernel, heard = Kernel(), []
    wire = Wire(kernel, kernel.taken.append)
    end = wire.hear("ours", lambda: heard.append("ours"))
    wire.hear("other", lambda: heard.append("other"))
    messages = [kernel.message("ours", CLICK), kernel.message("theirs", CLICK)]
    messages += [kernel.message("ours", {"method": "update", "state": {"click": 1}})]
    messages += [kernel.message("ours", CLICK, "comm_open")]
    for message in messages:
        wire.take(message)
    assert heard == ["ours"]
    end()
    wire.take(messages[0])
    assert heard == ["ours"]
    assert kernel.taken == [*messages, messages[0]]


def test_a_forged_click_is_not_heard() -> None:
    """Without the kernel's key a message is nobody's click; nor is rubbish."""
    kernel, heard = Kernel(), []
    wire = Wire(kernel, kernel.taken.append)
    wire.hear("ours", lambda: heard.append("ours"))
    forger = Kernel()
    forger.session.key = b"guessed"
    rubbish = [SimpleNamespace(buffer=memoryview(part)) for part in (b"<IDS|MSG>", b"comm_msg", b"click")]
    for message in (forger.message("ours", CLICK), rubbish, [], [*rubbish, *rubbish, *rubbish]):
        wire.take(message)
    content = json.dumps({"comm_id": "ours", "data": {"content": {"event": "click"}}}).encode()
    wire.take([SimpleNamespace(buffer=memoryview(part)) for part in (b"<IDS|MSG>", b"", b"{", b"{}", b"{}", content)])
    assert heard == []
    assert len(kernel.taken) == 5
