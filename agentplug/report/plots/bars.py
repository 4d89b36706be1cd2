"""Bars for a few calls beside each other (host)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from agentplug.contract.record import RunRecord, added_memory_bytes, plugin_name
from agentplug.report.labels import note, plot_text
from agentplug.report.marks import verdict_mark
from agentplug.report.plots.canvas import (
    amount,
    canvas,
    dress,
    limit_title,
    mark_limit,
    name_rows,
    say,
    top,
    unit_for,
)
from agentplug.report.plots.data import runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def compare_runs(runs: Iterable[RunRecord], ax: Axes | None = None, by: Literal["memory", "cpu"] = "memory") -> Axes:
    """Draw a bar a run, the first on top: the peak of added memory, or CPU time, with a mark at its limit.

    Colour, hatch and word show the verdict. Raises `ValueError` if `runs` holds anything else, or for another `by`.
    """
    runs = runs_of(runs)
    if by == "memory":
        used = [float(added_memory_bytes(run)) for run in runs]
        limits, label = [float(run.policy.memory) for run in runs], "Added memory at its peak"
    elif by == "cpu":
        used, limits, label = [run.usage.cpu_s for run in runs], [run.policy.cpu_s for run in runs], "CPU time"
    else:
        raise ValueError(f"by={by!r}; runs are compared by 'memory' or by 'cpu'")
    ax = canvas(ax, 8, min(20.0, 1.1 + 0.42 * max(1, len(runs))))
    reach = top(max(used, default=0.0), max(limits, default=0.0))
    scale, unit = unit_for(by, reach)
    reach = reach * scale or 1.0
    limits = [limit * scale for limit in limits]
    ax.set_xlim(0, reach * 1.5)  # the words at the bars' ends need room
    for row, (run, value, limit) in enumerate(zip(runs, [value * scale for value in used], limits, strict=True)):
        mark = verdict_mark(run.verdict.kind)
        ax.barh(row, value, height=0.62, color=f"{mark.color}b0", edgecolor=mark.color, hatch=mark.hatch, zorder=2)
        mark_limit(ax, limit, row)
        words = f"{amount(value, unit)} · {plot_text(str(run.verdict), 40)}"
        # Words that would cross the limit's mark start behind it.
        start = limit if value <= limit < min(reach, value + 0.45 * reach) else value
        note(ax, words, (start, row), (6, 0), va="center")
    ax.set_xlabel(f"{label} ({unit})")
    dress(ax, "x")
    name_rows(ax, [plugin_name(run) for run in runs])
    limit_title(ax, limits, unit)
    if not runs:
        say(ax, "no calls yet")
    return ax
