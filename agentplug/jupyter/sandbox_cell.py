"""A cell of `%%sandbox` (host): run in a sandbox of its own, or in one that lasts, and its Run bound."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from IPython.display import display

from agentplug.contract.display import Described
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.host.conversation import wait_for
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.session import Sandbox
from agentplug.errors import ContractError, SpecError
from agentplug.jupyter.dashboard import moving


def run_cell(
    cell: str,
    policy: Policy | None,
    variables: Mapping[str, Any],
    wanted: Sequence[str],
    bind: Callable[[Run], None],
    *,
    lasting: Sandbox | None = None,
    live: bool = False,
) -> Run:
    """Run `cell` with `variables`, in the sandbox `lasting` or in a fresh one under `policy`; return its run.

    `bind` gets the run, also that of an interrupted cell. Raises `SpecError` for an empty cell.
    """
    if not cell.strip():
        raise SpecError("the cell is empty; write what the worker should run below the line of %%sandbox")
    code = f"\n{cell}"  # so that lines count from the magic's
    if lasting is not None:
        return _run_bound(lasting._plugin, lasting._run(code, variables, wanted), bind, live=live)
    sandbox = Sandbox(policy)
    sandbox._rename("sandbox cell", "sandbox cell")
    try:
        return _run_bound(sandbox._plugin, sandbox._run(code, variables, wanted), bind, live=live)
    finally:
        sandbox.close_sync()


def plain_value(run: Run) -> Any:
    """Return the value of a completed run. Raises its verdict's error, or `ContractError` for a value without a
    plain form."""
    value = run.check()
    if isinstance(value, Described):
        fact = f"The cell's last value, {printable(value.type, 100)}, has no plain form"
        raise ContractError(f"{fact}; end the cell with plain data, arrays or DataFrames for --plugin")
    return value


def call_plugin(plugin: SandboxedPlugin, value: Any, bind: Callable[[Run], None], *, live: bool = False) -> Run:
    """Call `plugin` with `value` and wait; `bind` gets the run, also that of an interrupted call."""
    return _run_bound(plugin, plugin.run(value), bind, live=live)


def _run_bound(
    plugin: SandboxedPlugin, call: Coroutine[Any, Any, Run], bind: Callable[[Run], None], *, live: bool
) -> Run:
    """Wait for a call of `plugin`; an interrupt stops the run, and is raised again after `bind` got it."""
    before = plugin.runs[-1] if plugin.runs else None
    try:
        run = _wait_under_dashboard(plugin, call) if live and moving() else wait_for(call)
    except KeyboardInterrupt:
        if plugin.runs and plugin.runs[-1] is not before:
            bind(plugin.runs[-1])
        raise
    bind(run)
    return run


def _wait_under_dashboard(plugin: SandboxedPlugin, call: Coroutine[Any, Any, Run]) -> Run:
    """Wait for a call of `plugin` under a dashboard, which becomes the run's card when the run has ended."""
    from agentplug.jupyter.dashboard.view import Dashboard

    view = Dashboard(plugin, actions=("stop", "kill"), title="this call")
    display(view)  # type: ignore[no-untyped-call]
    before = plugin.runs[-1] if plugin.runs else None
    try:
        return wait_for(call)
    finally:
        latest = plugin.runs[-1] if plugin.runs else None
        view.finish(latest if latest is not before else None)
