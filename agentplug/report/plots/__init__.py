"""Pictures of runs, traces and batteries, on matplotlib Axes (host).

Each function draws on the Axes it is given, or makes a figure when it is given none, and returns Axes; none calls
`plt.show()`. Units stand on every axis, and what a colour says a hatch, a marker or a word says again. Names come
from plugins: they are never parsed as math (see `labels.plot_text`). Where there is nothing to draw, the Axes say so;
what can't be drawn at all is a `ValueError`, what can't be drawn on a `TypeError`.

`curves` draws single calls over time, `bars` a few calls beside each other, `traces` many, `costs` what they cost,
`survival` a battery; `canvas` holds what these share.
"""

from agentplug.report.plots.bars import compare_runs
from agentplug.report.plots.costs import plot_change, plot_costs
from agentplug.report.plots.curves import plot_cpu, plot_memory, plot_run, plot_samples
from agentplug.report.plots.grid import plot_runs
from agentplug.report.plots.survival import plot_survival
from agentplug.report.plots.traces import plot_calls

__all__ = [
    "compare_runs",
    "plot_calls",
    "plot_change",
    "plot_costs",
    "plot_cpu",
    "plot_memory",
    "plot_run",
    "plot_runs",
    "plot_samples",
    "plot_survival",
]
