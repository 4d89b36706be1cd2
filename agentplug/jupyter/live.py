"""`--live` (host): the dashboard that a magic shows, of a cell or a plugin."""

from __future__ import annotations

from typing import Any

from IPython.display import display

from agentplug.core.host.conversation import wait_for
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin


def with_dashboard(plugin: SandboxedPlugin, value: Any) -> Run:
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


def show_dashboard(plugin: SandboxedPlugin) -> None:
    """Show the dashboard of a plugin that was just loaded."""
    from agentplug.jupyter.dashboard.view import Dashboard, moving

    if moving():
        display(Dashboard(plugin))  # type: ignore[no-untyped-call]
