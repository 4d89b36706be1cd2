"""All calls of a trace, one after another: a hundred as lines, a million as bands (host)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from agentplug.contract.record import KINDS, RunRecord
from agentplug.report.labels import SMALL, ink, short_names
from agentplug.report.marks import SERIES, verdict_mark
from agentplug.report.plots.canvas import canvas, dress, is_limit, limit_level, say, top, unit_for
from agentplug.report.plots.data import calls_of, check_unique, cost, limit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

_MOST_POINTS = 1_000
_BANDS = 250
_FEW = 80


def plot_calls(
    calls: pd.DataFrame | RunRecord | Iterable[RunRecord],
    ax: Axes | None = None,
    by: Literal["memory", "cpu", "wall"] = "memory",
) -> Axes:
    """Draw the memory, CPU time or elapsed time of each call of a trace, in the order of their start, and the limits.

    Draws a line a plugin (the six with the highest figures), and a marker at each call that didn't complete. Memory
    is the call's peak above the plugin's lowest footprint in this trace, so a leak shows as a climb.
    Over 1,000 calls, a step of the line is the median of many calls, and a band spans the least to the most. Raises
    `ValueError` if `calls` is no trace, or for another `by`.
    """
    from matplotlib.ticker import MaxNLocator

    what = cost(by)
    table = calls_of(_in_order(calls), what.columns)
    ax = canvas(ax, 8, 3.8)
    table["value"] = _heights(table) if by == "memory" else what.measure(table)
    most = table.groupby("plugin")["value"].max().sort_values(ascending=False, kind="stable")
    plugins, left_out = list(most.index[: len(SERIES)]), len(most) - len(SERIES)
    limits = {limit for plugin in plugins if (limit := limit_of(table.attrs, what.limit, plugin)) is not None}
    reach = top(float(most.iloc[0]) if len(most) else 0.0, max(limits, default=0.0))
    scale, unit = unit_for(by, reach)
    names, longest = short_names(plugins, 24), 1
    drawn: list[Line2D] = []
    for plugin, (color, style) in zip(plugins, SERIES, strict=False):
        rows = table[table["plugin"] == plugin]
        longest = max(longest, len(rows))
        drawn.append(_series(ax, names[plugin], (rows["value"] * scale).to_numpy(), color, style))
    drawn += _troubles(ax, table[table["plugin"].isin(plugins)], scale)
    ax.set_xlim(-0.02 * longest, longest * 1.02)
    ax.set_ylim(0, (reach * scale or 1.0) * (1.2 + 0.1 * -(-len(drawn) // 3)))
    for limit in sorted(limits):
        if limit * scale <= ax.get_ylim()[1] or limit == min(limits):
            limit_level(ax, limit * scale, unit)
    label = "Peak above the lowest footprint" if by == "memory" else what.label
    ax.set_xlabel("Call of the plugin (number, in the order of start)")
    ax.set_ylabel(f"{label} ({unit})")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(ax, "y")
    if not len(table):
        say(ax, "no calls yet")
        return ax
    before = [entry for entry in ax.get_legend_handles_labels()[0] if entry not in drawn and not is_limit(entry)]
    _legend(ax, [*before, *drawn])
    if left_out > 0:
        ax.set_title(f"{left_out} plugins that took less aren't drawn", color=ink(ax), loc="right", fontsize=SMALL)
    return ax


def _legend(ax: Axes, entries: list[Any]) -> None:
    """Make the legend, then set the names: matplotlib leaves out entries whose name begins with `_`."""
    blank = [" "] * len(entries)
    legend = ax.legend(
        entries, blank, loc="upper left", ncols=3, fontsize=SMALL, frameon=False, handlelength=2.8, labelcolor=ink(ax)
    )
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(entry.get_label())


def _in_order(calls: Any) -> Any:
    """Sort a frame's rows by their start, if they have one: a frame may be put together from several."""
    import pandas as pd

    if not isinstance(calls, pd.DataFrame) or "started_at" not in calls.columns:
        return calls
    check_unique(calls, ["started_at"])
    started = pd.to_datetime(calls["started_at"], errors="coerce", utc=True).reset_index(drop=True)
    ordered = calls.iloc[started.sort_values(kind="stable").index]
    ordered.attrs = calls.attrs
    return ordered


def _heights(table: pd.DataFrame) -> pd.Series[float]:
    """Return each call's peak above the lowest footprint of its plugin."""
    lowest = table.groupby("plugin")["baseline_memory_bytes"].transform("min")
    return (table["peak_memory_bytes"] - lowest).clip(lower=0)


def _series(ax: Axes, name: str, values: NDArray[Any], color: str, style: Any) -> Line2D:
    """Draw one plugin's line, with a band around it if many calls share a step."""
    import numpy as np

    numbers = np.arange(len(values))
    if len(values) <= _MOST_POINTS:
        marker = "." if len(values) <= _FEW else ""
        return ax.plot(numbers, values, color=color, ls=style, lw=1.6, marker=marker, label=name, zorder=3)[0]
    parts = np.array_split(values, _BANDS)
    middles = [part.mean() for part in np.array_split(numbers, _BANDS)]
    ax.fill_between(
        middles,
        [part.min() for part in parts],
        [part.max() for part in parts],
        color=color,
        alpha=0.25,
        lw=0,
        zorder=2,
    )
    label = f"{name}, {len(values):,} calls"
    medians = [np.median(part) for part in parts]
    return ax.plot(middles, medians, color=color, ls=style, lw=1.6, label=label, zorder=3)[0]


def _troubles(ax: Axes, table: pd.DataFrame, scale: float) -> list[Line2D]:
    """Draw a marker at each call that didn't complete; of many, only at the highest of each step and verdict."""
    import numpy as np

    numbers = table.groupby("plugin").cumcount().to_numpy()
    drawn: list[Line2D] = []
    for kind in KINDS[1:]:  # all but completed
        these = (table["verdict"] == kind).to_numpy()
        if not these.any():
            continue
        x, y = numbers[these], table["value"].to_numpy()[these] * scale
        if len(x) > _MOST_POINTS:
            step = x * _BANDS // (int(numbers.max()) + 1)
            highest = np.lexsort((-y, step))
            first = highest[np.unique(step[highest], return_index=True)[1]]
            x, y = x[first], y[first]
        mark, size = verdict_mark(kind), 7 if len(x) <= _FEW else 4
        label = f"{kind} ({these.sum():,})"
        drawn += ax.plot(
            x, y, ls="", marker=mark.marker, ms=size, color=mark.color, mec=ink(ax), mew=0.6, label=label, zorder=4
        )
    return drawn
