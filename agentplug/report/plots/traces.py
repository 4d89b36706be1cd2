"""Many calls, one after another (host): a hundred as they are, a million as bands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from agentplug.contract.record import KINDS, RunRecord
from agentplug.report.labels import SMALL, short_names
from agentplug.report.marks import SERIES, verdict_mark
from agentplug.report.plots.canvas import byte_unit, canvas, dress, is_limit, limit_level, say, time_unit, top
from agentplug.report.plots.given import calls_of, cost, limit_of, once

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
    """What each call of a trace took, in the order of their start: memory, CPU time or elapsed time, and the limits.

    A line a plugin (six at most, those that took most), a marker where a call didn't complete. Memory is the peak of
    the call above the plugin's lowest footprint in this trace, so what is kept from call to call shows as a climb.
    Over 1,000 calls, each step of a line stands for many: it is their median, and a band spans the least to the most.
    Raises `ValueError` for what is no trace or for another `by`.
    """
    from matplotlib.ticker import MaxNLocator

    what = cost(by)
    table = calls_of(_in_order(calls), what.columns)
    ax = canvas(ax, 8, 3.8)
    table["value"] = _heights(table) if by == "memory" else what.measure(table)
    most = table.groupby("plugin")["value"].max().sort_values(ascending=False, kind="stable")
    shown, left_out = list(most.index[: len(SERIES)]), len(most) - len(SERIES)
    limits = {limit for plugin in shown if (limit := limit_of(table.attrs, what.limit, plugin)) is not None}
    reach = top(float(most.iloc[0]) if len(most) else 0.0, max(limits, default=0.0))
    scale, unit = time_unit(reach) if what.is_time else byte_unit(reach)
    names, longest = short_names(shown, 24), 1
    drawn: list[Line2D] = []
    for plugin, (color, style) in zip(shown, SERIES, strict=False):
        rows = table[table["plugin"] == plugin]
        longest = max(longest, len(rows))
        drawn.append(_series(ax, names[plugin], (rows["value"] * scale).to_numpy(), color, style))
    drawn += _troubles(ax, table[table["plugin"].isin(shown)], scale)
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
        ax.set_title(f"{left_out} plugins that took less aren't drawn", loc="right", fontsize=SMALL)
    return ax


def _legend(ax: Axes, entries: list[Any]) -> None:
    """All of them by their names, which are told only once it is made: it leaves out what begins with a `_`."""
    blank = [" "] * len(entries)
    legend = ax.legend(entries, blank, loc="upper left", ncols=3, fontsize=SMALL, frameon=False, handlelength=2.8)
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)
        text.set_text(entry.get_label())


def _in_order(calls: Any) -> Any:
    """A frame's rows by their start, where it has one: it may have been put together from several."""
    import pandas as pd

    if not isinstance(calls, pd.DataFrame) or "started_at" not in calls.columns:
        return calls
    once(calls, ["started_at"])
    started = pd.to_datetime(calls["started_at"], errors="coerce", utc=True).reset_index(drop=True)
    ordered = calls.iloc[started.sort_values(kind="stable").index]
    ordered.attrs = calls.attrs
    return ordered


def _heights(table: pd.DataFrame) -> pd.Series[float]:
    """Each call's peak above the lowest footprint of its plugin."""
    lowest = table.groupby("plugin")["baseline_memory_bytes"].transform("min")
    return (table["peak_memory_bytes"] - lowest).clip(lower=0)


def _series(ax: Axes, name: str, values: NDArray[Any], color: str, style: Any) -> Line2D:
    """One plugin's line; a band around it where many calls share a step."""
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
    """A marker at each call that didn't complete, at the highest of each step and verdict where they are many."""
    import numpy as np

    numbers = table.groupby("plugin").cumcount().to_numpy()
    found = [kind for kind in KINDS if kind != "completed" and (table["verdict"] == kind).any()]
    drawn: list[Line2D] = []
    for kind in found:
        these = (table["verdict"] == kind).to_numpy()
        x, y = numbers[these], table["value"].to_numpy()[these] * scale
        if len(x) > _MOST_POINTS:
            step = x * _BANDS // (int(numbers.max()) + 1)
            highest = np.lexsort((-y, step))
            kept = highest[np.unique(step[highest], return_index=True)[1]]
            x, y = x[kept], y[kept]
        mark, size = verdict_mark(kind), 7 if len(x) <= _FEW else 4
        label = f"{kind} ({these.sum():,})"
        drawn += ax.plot(
            x, y, ls="", marker=mark.marker, ms=size, color=mark.color, mec="black", mew=0.6, label=label, zorder=4
        )
    return drawn
