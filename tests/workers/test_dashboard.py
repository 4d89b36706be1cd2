"""The dashboard over live plugins, without a browser: what it draws, and what its buttons do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentplug import PluginManager, PluginQuarantined, Policy, Run, SandboxedPlugin, dashboard
from agentplug.contract.record import added_memory_bytes
from agentplug.jupyter.dashboard import drawing
from agentplug.jupyter.dashboard.actions import ACTIONS, Actions
from agentplug.jupyter.dashboard.watch import Board, row_of
from tests.unit.test_dashboard import HOSTILE, SleeperPlugin

need_confinement = pytest.mark.need("landlock", "seccomp")


@pytest.fixture
async def sleeper() -> AsyncIterator[SandboxedPlugin]:
    """A plugin that sleeps as long as it is told."""
    async with SandboxedPlugin(SleeperPlugin, Policy(wall_s=60)) as plugin:
        yield plugin


async def until(happened: Callable[[], object]) -> None:
    """Wait until something is so that happens in another thread."""
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def busy(plugin: SandboxedPlugin) -> asyncio.Task[Run]:
    """A call under way."""
    task = asyncio.ensure_future(plugin.run(50))
    await until(lambda: plugin.state == "busy")
    return task


def offered(board: Board) -> list[tuple[str, ...]]:
    return [Actions(board).offered(row) for row in board.rows]


def words(board: Board) -> list[tuple[str, dict[str, Any]]]:
    return [(told.kind, dict(told.detail)) for told in board.events.latest]


# ---------------------------------------------------------------------- what it shows


@need_confinement
async def test_a_board_follows_a_call_from_its_begin_to_its_verdict(sleeper: SandboxedPlugin) -> None:
    """State, calls, verdict and figures are those of the plugin; a board over one at rest doesn't move."""
    board = Board(sleeper)
    assert board.look()
    assert not board.look()
    task = await busy(sleeper)
    assert board.look()
    assert (board.rows[0].state, board.rows[0].calls) == ("busy", 0)
    sleeper._inside.stop("interrupt")
    await task
    assert board.look()
    row = board.rows[0]
    assert (row.name, row.state, row.calls, row.verdict) == (HOSTILE, "ready", 1, "stopped:interrupt")
    assert row.cpu_s == sleeper.runs[-1].usage.cpu_s
    assert words(board)[-1] == ("stop", {"by": "interrupt"})
    assert not board.look()


@need_confinement
async def test_a_call_between_two_looks_is_told_if_it_failed(sleeper: SandboxedPlugin) -> None:
    """Quick calls that complete leave no line each; one that raised does, whatever came after it."""
    board = Board(sleeper)
    board.look()
    await sleeper.run("no number")
    for _ in range(3):
        await sleeper.run(0)
    board.look()
    assert [kind for kind, _ in words(board)] == ["reply", "error"]
    assert board.rows[0].calls == 4


@need_confinement
async def test_a_call_whose_worker_is_gone_keeps_its_figures(sleeper: SandboxedPlugin) -> None:
    """Killed or closed between two looks: the row shows what the call came to, no zero and no old reading."""
    board = Board(sleeper)
    board.look()
    task = await busy(sleeper)
    board.look()
    sleeper._inside.stop("kill")
    killed = await task
    board.look()
    row = board.rows[0]
    assert (row.verdict, row.cpu_s, row.cpu_percent) == ("stopped:kill", killed.usage.cpu_s, None)
    run = await sleeper.run(0)
    await sleeper.close()
    board.look()
    assert (row.state, row.verdict) == ("closed", "completed")
    assert (row.memory_bytes, row.cpu_s) == (added_memory_bytes(run), run.usage.cpu_s)
    assert row.points[-1] == (row.memory_bytes, row.cpu_s)


@need_confinement
async def test_a_managers_plugins_come_and_go() -> None:
    """Each has a row under the name it is registered as; a trusted one has no buttons."""
    async with PluginManager() as manager:
        board = Board(manager)
        board.look()
        assert "No plugin is loaded" in drawing.table(board.rows)
        await manager.load(SleeperPlugin, "one")
        await manager.register(SleeperPlugin(), trusted=True)
        assert board.look()
        assert [row.name for row in board.rows] == ["one", HOSTILE]
        assert offered(board) == [("stop", "kill", "reload", "quarantine"), ()]
        assert "trusted" in drawing.table(board.rows)
        await manager.unregister("one")
        assert board.look()
        assert [row.name for row in board.rows] == [HOSTILE]


@need_confinement
async def test_a_call_of_a_plugin_loaded_since_the_last_look_is_told() -> None:
    """Load and failed call in one cell: its worker's end is an event; what was before the board is none."""
    async with PluginManager() as manager:
        old = await manager.load(SleeperPlugin, "old")
        await old.run("no number")
        board = Board(manager)
        board.look()
        assert words(board) == []
        plugin = await manager.load(SleeperPlugin, "new")
        await plugin.run("no number")
        task = await busy(plugin)
        plugin._inside.stop("kill")
        await task
        board.look()
        assert {told.plugin for told in board.events.latest} == {"new"}
        assert ("stop", {"by": "kill"}) in words(board)
        assert [kind for kind, _ in words(board)].count("error") == 1
        told = words(board)
        board.look()
        assert words(board) == told


@need_confinement
async def test_a_first_call_that_completed_is_told_once() -> None:
    """Its worker is there still, and so is the exchange of its call; that of loading a plugin is no call's."""
    async with PluginManager() as manager:
        board = Board(manager)
        board.look()
        await manager.load(SleeperPlugin, "idle")
        board.look()
        assert words(board) == []
        plugin = await manager.load(SleeperPlugin, "new")
        await plugin.run(0)
        board.look()
        assert [kind for kind, _ in words(board)] == ["reply"]


@need_confinement
async def test_a_closed_plugin_tells_how_its_calls_failed(sleeper: SandboxedPlugin) -> None:
    await sleeper.run("no number")
    await sleeper.close()
    board = Board(sleeper)
    board.look()
    assert [kind for kind, _ in words(board)] == ["error"]


@need_confinement
async def test_a_closed_manager_keeps_its_last_state() -> None:
    """Its rows stay, closed; plugins that are unregistered go, and one that is loaded again is watched again."""
    manager = PluginManager()
    board = Board(manager)
    shown = dashboard(manager)
    for name in ("one", "two"):
        await manager.load(SleeperPlugin, name)
        shown._board.look()
        board.look()
    await manager.unregister("two")
    assert board.look()
    await manager.close()
    assert board.look()
    assert [(row.name, row.state) for row in board.rows] == [("one", "closed")]
    assert board.over == "The manager is closed; this is its last state."
    shown._board.look()
    assert repr(shown) == "<Dashboard of 1 plugin>"
    await manager.load(SleeperPlugin, "three")
    board.look()
    assert ([row.name for row in board.rows], board.over) == (["three"], "")
    await manager.unregister("three")
    board.look()
    assert (board.rows, board.over) == ([], "")


@need_confinement
async def test_a_manager_that_came_and_went_between_two_looks_is_shown() -> None:
    """As in one cell, `async with`; the reload of a closed plugin is refused."""
    async with PluginManager() as manager:
        board = Board(manager)
        board.look()
        plugin = await manager.load(SleeperPlugin, "one")
        await plugin.run("no number")
    assert board.look()
    assert [(row.name, row.state, row.verdict) for row in board.rows] == [("one", "closed", "failed:TypeError")]
    assert [kind for kind, _ in words(board)] == ["error"]
    assert board.over == "The manager is closed; this is its last state."
    Actions(board).do("reload", "one")
    assert words(board)[0] == ("reload", {"what": "it is closed"})


@need_confinement
async def test_a_manager_that_was_closed_before_is_shown_as_it_was() -> None:
    """Until it gets other plugins: then those count, also once they have gone."""
    async with PluginManager() as manager:
        await manager.load(SleeperPlugin, "one")
    board = Board(manager)
    assert board.look()
    assert [(row.name, row.state) for row in board.rows] == [("one", "closed")]
    await manager.load(SleeperPlugin, "two")
    await manager.unregister("two")
    board.look()
    assert (list(board.rows), board.over) == ([], "")


@need_confinement
async def test_only_a_live_view_hides_what_is_before_it(sleeper: SandboxedPlugin) -> None:
    """Its own dead widgets; before a finished run is somebody else's output."""
    run = await sleeper.run(0)
    assert "<style" not in dashboard(run)._repr_html_()
    assert drawing.saved("x", "").count(":not(:has(*)){display:none}") == 1


@need_confinement
async def test_a_hostile_name_is_text(sleeper: SandboxedPlugin) -> None:
    """In the live table, in the still one, and among the events."""
    run = await sleeper.run("no number")
    shown = dashboard(run)._repr_html_()
    board = Board(sleeper)
    board.look()
    board.events.add(0.0, HOSTILE, "error", {"type": "<b>x</b>"})
    for html in (shown, drawing.table(board.rows), drawing.events(board.events.latest)):
        assert "<img src=x" not in html
        assert "<b>x" not in html
        assert "&lt;img src=x" in html


@need_confinement
async def test_a_finished_run_is_a_still_row(sleeper: SandboxedPlugin) -> None:
    """Its figures and events, without anything that moves."""
    run = await sleeper.run(0)
    row, events = row_of(run)
    assert (row.verdict, row.cpu_s, row.calls) == ("completed", run.usage.cpu_s, 1)
    assert [told.kind for told in events.latest] == ["reply"]
    assert repr(dashboard(run)) == f"<Dashboard of {run!r}>"


# ---------------------------------------------------------------------- what it does


@need_confinement
async def test_stop_kill_and_quarantine(sleeper: SandboxedPlugin) -> None:
    """Each ends the call; a quarantined plugin takes none any more, until a reload."""
    board = Board(sleeper)
    actions = Actions(board)
    for action, verdict in (("stop", "stopped:interrupt"), ("kill", "stopped:kill"), ("quarantine", "stopped:kill")):
        task = await busy(sleeper)
        actions.do(action, "")
        assert str((await task).verdict) == verdict
    assert sleeper.state == "quarantined"
    with pytest.raises(PluginQuarantined, match="was quarantined by hand; reload it"):
        await sleeper.run(0)
    actions.do("stop", "")
    assert words(board)[0] == ("stop", {"what": "it isn't busy"})


@need_confinement
async def test_reload_begins_anew_or_says_why_not(tmp_path: Any) -> None:
    """What the file holds now is loaded; if it can't be, the old one stays, and an event says why."""
    path = tmp_path / "p.py"
    text = (
        "class P{n}Plugin:\n    name = 'p'\n    version = '{n}'\n"
        "    async def initialize(self, config): ...\n    async def process(self, x): return {n}\n"
    )
    path.write_text(text.format(n=1))
    async with PluginManager() as manager:
        await manager.load(str(path), "p")
        board = Board(manager)
        actions = Actions(board)
        path.write_text(text.format(n=2))
        actions.do("reload", "p")
        await until(lambda: words(board)[0] == ("reload", {"what": "done"}))
        assert await manager.process(0) == 2
        path.write_text("what is this?")
        actions.do("reload", "p")
        await until(lambda: "failed: SpecError" in words(board)[0][1]["what"])
        assert await manager.process(0) == 2


@need_confinement
async def test_a_plugin_that_is_gone_is_said_so(sleeper: SandboxedPlugin) -> None:
    """A button of a row that is gone raises nothing; a plugin that was closed while it was watched ends the view."""
    async with PluginManager() as manager:
        board = Board(manager)
        Actions(board).do("kill", "nobody")
        assert words(board) == [("kill", {"what": "it isn't there any more"})]
    board = Board(sleeper)
    assert board.over == ""
    await sleeper.close()
    board.look()
    assert board.rows[0].state == "closed"
    assert board.over == "The plugin is closed; this is its last state."
    for action in ACTIONS:
        Actions(board).do(action, "")
        assert words(board)[0] == (action, {"what": "it is closed"})
