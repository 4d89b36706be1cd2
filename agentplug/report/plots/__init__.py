"""Plots of runs, traces and batteries on matplotlib Axes (host).

Each function draws on the Axes that the caller passes, or on a new figure, and returns Axes; none calls `plt.show()`.
Every axis has its unit, and a hatch, a marker or a word repeats the meaning of a colour. Names come from plugins, so
they are never parsed as math (see `labels.plot_text`). If there is nothing to draw, the Axes say so. Data that can't
be drawn raises `ValueError`, an object that can't be drawn on `TypeError`.

`curves` draws single calls over time, `grid` many of them in small plots, `bars` a few calls beside each other,
`traces` all calls of a trace, `costs` the spread of their cost, `survival` a battery. `data` checks the input and
`canvas` has the parts that the others share.
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
