"""`dashboard(x)`: a live view of plugins in a notebook (host), on ipywidgets and the kernel's own channels.

`watch` looks, `drawing` makes HTML of what it saw, `view` shows that and keeps it up to date, `clicks` hears the
buttons also while a cell is busy, and `actions` does what they ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.errors import ContractError
from agentplug.manager.manager import PluginManager

if TYPE_CHECKING:
    from agentplug.jupyter.dashboard.view import Dashboard, StillDashboard


def dashboard(x: object) -> Dashboard | StillDashboard:
    """A live view of a `PluginManager`, a `SandboxedPlugin` or what `%plugins` returns; a still one of a `Run`.

    It appears where it is displayed: as the last expression of a cell, or by `display(dashboard(x))`. A row a plugin:
    state, added memory and CPU time of its call against their limits, calls, last verdict; buttons that stop the
    call, kill the worker, reload, quarantine, also while a cell is busy; below, events as they come. It rests when
    its output is cleared, and a saved notebook keeps its last state. `AGENTPLUG_LIVE=0` in the environment turns
    every view that moves off. Raises `ContractError` for anything else.
    """
    from agentplug.jupyter.dashboard.view import Dashboard, StillDashboard
    from agentplug.jupyter.session import PluginList

    if isinstance(x, PluginList):
        x = x.manager
    if isinstance(x, Run):
        return StillDashboard(x)
    if isinstance(x, (PluginManager, SandboxedPlugin)):
        return Dashboard(x)
    raise ContractError(f"dashboard(x): {_wrong(x)}")


def _wrong(x: object) -> str:
    """What is wrong with it, and what to give."""
    if not isinstance(x, type):
        what = f"there is nothing to watch about x, of type {printable(type(x).__name__, 100)}"
    else:
        what = f"x is the class {printable(x.__name__, 100)}"
        for kind, given in ((PluginManager, "{}()"), (SandboxedPlugin, "{}(SPEC)"), (Run, "plugin.runs[-1]")):
            if issubclass(x, kind):
                made = "take" if kind is Run else "make"
                return f"{what}; {made} one, as in dashboard({given.format(printable(x.__name__, 100))})"
    return f"{what}; give a PluginManager, a SandboxedPlugin or a Run"
