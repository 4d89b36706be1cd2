"""`dashboard(x)`: a live view of plugins in a notebook (host), on ipywidgets and the kernel's own channels.

`watch` collects the data, `drawing` makes HTML of them, `view` shows and updates it, `clicks` receives the clicks on
buttons also while a cell is busy, and `actions` has the actions behind the buttons.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from IPython.core.getipython import get_ipython

from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.session import Sandbox
from agentplug.errors import ContractError
from agentplug.manager.manager import PluginManager

if TYPE_CHECKING:
    from agentplug.jupyter.dashboard.view import Dashboard, StillDashboard


def moving() -> bool:
    """True if views may be live here: in a kernel, unless `AGENTPLUG_LIVE=0` or nbval compares outputs."""
    under_nbval = ".ipynb::" in os.environ.get("PYTEST_CURRENT_TEST", "")
    return hasattr(get_ipython(), "kernel") and os.environ.get("AGENTPLUG_LIVE") != "0" and not under_nbval


def dashboard(x: object) -> Dashboard | StillDashboard:
    """Make a live view of a manager, a plugin, a `Sandbox` or the value of `%plugins`; a still one of a `Run`.

    The view appears where it is displayed: as the last expression of a cell, or by `display(dashboard(x))`. Each
    plugin has a row: state, added memory and CPU time of its call against their limits, calls, last verdict. Buttons
    stop the call, kill the worker, reload and quarantine, also while a cell is busy. Events stand below. The view
    rests when its output is cleared; a saved notebook has its last state. `AGENTPLUG_LIVE=0` in the environment turns
    all live views off. Raises `ContractError` for any other `x`.
    """
    from agentplug.jupyter.dashboard.view import Dashboard, StillDashboard
    from agentplug.jupyter.session import PluginList

    if isinstance(x, PluginList):
        x = x.manager
    if isinstance(x, Sandbox):
        return Dashboard(x._plugin, actions=("stop", "kill"))
    if isinstance(x, Run):
        return StillDashboard(x)
    if isinstance(x, (PluginManager, SandboxedPlugin)):
        return Dashboard(x)
    raise ContractError(f"dashboard(x): {_wrong(x)}")


def _wrong(x: object) -> str:
    """Say why there is no dashboard of `x`, and which objects have one."""
    if not isinstance(x, type):
        what = f"there is nothing to watch about x, of type {printable(type(x).__name__, 100)}"
    else:
        what = f"x is the class {printable(x.__name__, 100)}"
        for kind, example in (
            (PluginManager, "{}()"),
            (SandboxedPlugin, "{}(SPEC)"),
            (Sandbox, "{}()"),
            (Run, "plugin.runs[-1]"),
        ):
            if issubclass(x, kind):
                made = "take" if kind is Run else "make"
                return f"{what}; {made} one, as in dashboard({example.format(printable(x.__name__, 100))})"
    return f"{what}; give a PluginManager, a SandboxedPlugin, a Sandbox or a Run"
