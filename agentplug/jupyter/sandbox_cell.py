"""A cell as a plugin of its own, run once in a fresh worker (host)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from IPython.display import display

from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import wait_for
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.source import Module, Source
from agentplug.errors import ProtocolViolation, SpecError

_RUNNER_PATH = "<agentplug cell runner>"  # left out of tracebacks by the worker


def cell_plugin(cell: str, wanted: Sequence[str] = ()) -> Source:
    """Make the source of a plugin that runs `cell` and returns the variables `wanted`. Raises `SpecError`."""
    if not cell.strip():
        raise SpecError("the cell is empty; write what the worker should run below the line of %%sandbox")
    runner = files("agentplug.jupyter").joinpath("cell_runner.py").read_text("utf-8")
    code = f"{runner}\n\nCELL = {cell!a}\nWANTED = {tuple(wanted)!r}\n".encode()
    module = Module("sandbox_cell", _RUNNER_PATH, code)
    return Source("<sandbox cell>", "cell", text_digest(code), module.name, "SandboxCellPlugin", (module,))


def run_cell(
    cell: str,
    policy: Policy | None,
    variables: Mapping[str, Any],
    wanted: Sequence[str],
    bind: Callable[[Run], None],
    *,
    live: bool = False,
) -> tuple[Run, dict[str, Any]]:
    """Run `cell` with `variables`; return the run and, if it completed, the variables `wanted`.

    `bind` gets the run, also that of an interrupted cell.
    """
    plugin = SandboxedPlugin(cell_plugin(cell, wanted), policy)
    try:
        run = run_bound(plugin, dict(variables), bind, live=live)
    finally:
        plugin.close_sync()
    if run.verdict.kind != "completed":
        return run, {}
    value, left = _unwrap(run, wanted)
    run = run.__replace__(value=value)
    bind(run)
    return run, left


def _unwrap(run: Run, wanted: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Split the reply into the cell's last value and its variables. Raises `ProtocolViolation`.

    The cell can alter the runner in its worker, so the reply is checked: no other name of the notebook may be bound.
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
    """Run `plugin` on `value` and wait; an interrupt stops the run, and is raised again after `bind` got it."""
    before = plugin.runs[-1] if plugin.runs else None
    try:
        run = _run_under_dashboard(plugin, value) if live else wait_for(plugin.run(value))
    except KeyboardInterrupt:
        if plugin.runs and plugin.runs[-1] is not before:
            bind(plugin.runs[-1])
        raise
    bind(run)
    return run


def _run_under_dashboard(plugin: SandboxedPlugin, value: Any) -> Run:
    """Run `plugin` on `value` under a dashboard, whose last state stays when the run has ended."""
    from agentplug.jupyter.dashboard.view import Dashboard, moving

    if not moving():
        return wait_for(plugin.run(value))
    view = Dashboard(plugin, actions=("stop", "kill"), title="this call")
    display(view)  # type: ignore[no-untyped-call]
    try:
        return wait_for(plugin.run(value))
    finally:
        view.finish()
