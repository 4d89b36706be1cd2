"""A cell as a plugin of its own, run once in a fresh worker (host)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import wait_for
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.source import Module, Source
from agentplug.errors import ProtocolViolation, SpecError
from agentplug.jupyter.live import with_dashboard

_RUNNER_PATH = "<agentplug cell runner>"  # `reporting` leaves frames of it out of tracebacks


class CellOutcome(NamedTuple):
    """How a cell's run ended, and the variables it left that were asked for (of a completed run)."""

    run: Run
    left: dict[str, Any]


def cell_plugin(cell: str, wanted: Sequence[str] = ()) -> Source:
    """The source of a plugin that runs `cell` and brings the variables `wanted` back. Raises `SpecError`."""
    if not cell.strip():
        raise SpecError("the cell is empty; write what the worker should run below the line of %%sandbox")
    runner = files("agentplug.jupyter").joinpath("cell_runner.py").read_text("utf-8")
    code = f"{runner}\n\nCELL = {cell!a}\nWANTED = {tuple(wanted)!r}\n".encode()
    module = Module("sandbox_cell", _RUNNER_PATH, code)
    return Source("<sandbox cell>", "cell", text_digest(code), module.name, "SandboxCellPlugin", (module,))


def run_cell(
    cell: str,
    policy: Policy | None,
    given: Mapping[str, Any],
    wanted: Sequence[str],
    bind: Callable[[Run], None],
    *,
    live: bool = False,
) -> CellOutcome:
    """Run `cell` with the variables `given`. `bind` gets the run, also that of an interrupted cell."""
    plugin = SandboxedPlugin(cell_plugin(cell, wanted), policy)
    try:
        run = run_bound(plugin, dict(given), bind, live=live)
    finally:
        plugin.close_sync()
    if run.verdict.kind != "completed":
        return CellOutcome(run, {})
    value, left = _unwrapped(run, wanted)
    run = run.__replace__(value=value)
    bind(run)
    return CellOutcome(run, left)


def _unwrapped(run: Run, wanted: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The cell's last value and the variables it left. The cell shares its worker with the runner: believe neither.

    Else what it ran could bind any name in the user's notebook. Raises `ProtocolViolation`.
    """
    match run.value:
        case {"last value": value, "-o": dict(left)} if len(run.value) == 2 and left.keys() == set(wanted):
            return value, left
    error = ProtocolViolation(
        "The sandbox cell answered what it was not asked: its code has meddled with its runner."
    )
    error.run = run
    raise error


def run_bound(plugin: SandboxedPlugin, value: Any, bind: Callable[[Run], None], *, live: bool = False) -> Run:
    """`plugin.run(value)`, waited for; an interrupt stops it, and is raised on once `bind` has the partial run."""
    before = plugin.runs[-1] if plugin.runs else None
    try:
        run = with_dashboard(plugin, value) if live else wait_for(plugin.run(value))
    except KeyboardInterrupt:
        if plugin.runs and plugin.runs[-1] is not before:
            bind(plugin.runs[-1])
        raise
    bind(run)
    return run
