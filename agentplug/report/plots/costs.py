"""The cost of calls: its spread for each verdict, and its change from one trace to another (host)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from agentplug.contract.record import KINDS, RunRecord
from agentplug.report.labels import SMALL, ink, note, plot_text, short_names
from agentplug.report.marks import LIMIT_COLOR, MEMORY_COLOR, verdict_mark
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
from agentplug.report.plots.data import calls_of, cost, limit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

By = Literal["memory", "cpu", "wall"]

_MOST_POINTS = 200
_MOST_ROWS = 24
_WIDE = 100
"""The ratio of the most to the least from which on an axis is logarithmic."""
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.99, 1.0)


def plot_costs(calls: pd.DataFrame | RunRecord | Iterable[RunRecord], ax: Axes | None = None, by: By = "cpu") -> Axes:
    """Draw the spread of the cost of calls, a row for each plugin and verdict.

    The cost is CPU time, the memory that the call itself added (`memory`), or the elapsed time (`wall`).

    The box spans the middle half, with a line at the median. The thin line goes from the least to the most, with a
    stroke at the 99th percentile. Up to 200 calls of a row are drawn as points too. If there were more than 24 rows,
    all plugins share a row for each verdict. Raises `ValueError` if `calls` is no trace, or for another `by`.
    """
    what = cost(by)
    table = calls_of(calls, what.columns)
    table["value"] = what.measure(table)
    rows = _rows(table)
    ax = canvas(ax, 8, 1.3 + 0.5 * max(1, len(rows)))
    plugins = table["plugin"].unique()
    limits = {plugin: limit_of(table.attrs, what.limit, plugin) for plugin in plugins}
    most = float(table["value"].max()) if len(table) else 0.0
    reach = top(most, max((limit for limit in limits.values() if limit), default=0.0))
    scale, unit = unit_for(by, reach)
    _scale_axis(ax, table["value"].to_numpy() * scale, reach * scale)
    for row, (plugin, kind, values) in enumerate(rows):
        _box(ax, row, kind, values * scale, unit)
        if (limit := limits.get(plugin)) is not None:
            mark_limit(ax, limit * scale, row)
    ax.set_xlabel(f"{what.label} ({unit})")
    dress(ax, "x")
    alone = len(plugins) == 1
    names = short_names([plugin for plugin, _, _ in rows], 20)
    name_rows(ax, [kind if alone or not plugin else f"{names[plugin]} · {kind}" for plugin, kind, _ in rows])
    if alone:
        ax.set_title(
            plot_text(plugins[0], 30), color=ink(ax), loc="left", fontsize=12, fontweight="bold", parse_math=False
        )
    if all(plugin for plugin, _, _ in rows):
        limit_title(ax, [limit * scale for limit in limits.values() if limit], unit)
    if not rows:
        say(ax, "no calls yet")
    return ax


def plot_change(
    before: pd.DataFrame | RunRecord | Iterable[RunRecord],
    after: pd.DataFrame | RunRecord | Iterable[RunRecord],
    ax: Axes | None = None,
    by: By = "cpu",
) -> Axes:
    """Draw the median cost of each plugin's calls in two traces, the largest growth first.

    An open circle is before, a full one after; a plugin of one trace only has one circle. Raises `ValueError` for
    data that is no trace, or for another `by`.
    """
    import numpy as np
    import pandas as pd

    what = cost(by)
    medians = []
    for trace in (before, after):
        table = calls_of(trace, what.columns)
        medians.append(what.measure(table).groupby(table["plugin"]).median())
    both = pd.DataFrame({"before": medians[0], "after": medians[1]}, dtype="float64")
    growth = (both["after"] / both["before"].where(both["before"] > 0)).where(both["after"] > 0)
    both = both.loc[growth.sort_values(ascending=False, kind="stable", na_position="last").index]
    ax = canvas(ax, 8, 1.3 + 0.45 * max(1, len(both)))
    most = float(np.nanmax(both.to_numpy())) if len(both) else 0.0
    scale, unit = unit_for(by, most)
    both = both * scale
    values = both.to_numpy().ravel()
    _scale_axis(ax, values[np.isfinite(values)], most * scale, room=0.7)
    for row, (was, now) in enumerate(both.to_numpy()):
        grew = now > was
        color = LIMIT_COLOR if grew else MEMORY_COLOR
        ends = [end for end in (was, now) if np.isfinite(end)]
        ax.plot(ends, [row] * len(ends), color=color, lw=2.2, ls="-" if grew else (0, (3, 1)), zorder=2)
        if np.isfinite(was):
            ax.plot(was, row, "o", ms=9, mfc=ax.get_facecolor(), mec=color, mew=2, zorder=3, clip_on=False)
        if np.isfinite(now):
            ax.plot(now, row, "o", ms=9, color=color, zorder=3, clip_on=False)
        note(ax, _change_words(was, now, unit), (max(ends), row), (9, 0), va="center")
    ax.set_xlabel(f"{what.label}, median ({unit})")
    dress(ax, "x")
    name_rows(ax, [str(plugin) for plugin in both.index])
    ax.set_title("○ before   ● after", color=ink(ax), loc="right", fontsize=SMALL)
    if not len(both):
        say(ax, "no calls yet")
    return ax


def _change_words(was: float, now: float, unit: str) -> str:
    if math.isnan(was):
        return f"{amount(now, unit)}, only after"
    if math.isnan(now):
        return f"{amount(was, unit)}, only before"
    ratio = f" (×{now / was:.3g})" if was > 0 and now > 0 else ""
    return f"{amount(was, unit)} → {amount(now, unit)}{ratio}"


def _rows(table: pd.DataFrame) -> list[tuple[str, str, NDArray[Any]]]:
    """Return (plugin, verdict, values) of each row, plugins as they appear; an empty plugin stands for all."""
    groups: dict[Any, NDArray[Any]]
    groups = {key: group.to_numpy() for key, group in table.groupby(["plugin", "verdict"], sort=False)["value"]}
    if len(groups) > _MOST_ROWS:
        groups = {("", key): group.to_numpy() for key, group in table.groupby("verdict", sort=False)["value"]}
    plugins = list(dict.fromkeys(plugin for plugin, _ in groups))
    order = {kind: place for place, kind in enumerate(KINDS)}
    keys = sorted(groups, key=lambda key: (plugins.index(key[0]), order.get(key[1], len(KINDS))))
    return [(plugin, kind, groups[plugin, kind]) for plugin, kind in keys]


def _scale_axis(ax: Axes, values: NDArray[Any], reach: float, room: float = 0.4) -> None:
    """Scale the axis, with room for words at the ends; logarithmic if values differ by orders of magnitude."""
    positive = values[values > 0]
    reach = reach or 1.0
    least = max(float(positive.min()), reach * 1e-7) if len(positive) else reach
    if reach / least < _WIDE:
        ax.set_xlim(0, reach * (1 + room))
        return
    if (values <= 0).any():
        least = 10.0 ** math.floor(math.log10(least))  # the first tick after 0, a decade away from it
        ax.set_xscale("symlog", linthresh=least)
        ax.set_xlim(0, reach * (reach / least) ** room)
    else:
        ax.set_xscale("log")
        ax.set_xlim(least / 1.5, reach * (reach / least) ** room)
    ax.xaxis.set_major_formatter("{x:g}")


def _box(ax: Axes, row: int, kind: str, values: NDArray[Any], unit: str) -> None:
    import numpy as np

    mark = verdict_mark(kind)
    least, low, median, high, p99, most = (float(value) for value in np.quantile(values, _QUANTILES))
    ax.plot([least, most], [row, row], color=mark.color, lw=1.4, zorder=2)
    ax.plot([p99, p99], [row - 0.16, row + 0.16], color=mark.color, lw=1.6, zorder=2)
    ax.barh(
        row,
        high - low,
        left=low,
        height=0.5,
        color=f"{mark.color}60",
        edgecolor=mark.color,
        hatch=mark.hatch,
        zorder=2,
    )
    if len(values) > 1:
        ax.plot([median, median], [row - 0.25, row + 0.25], color=ink(ax), lw=2, zorder=4)
    if len(values) <= _MOST_POINTS:
        spread = ((np.arange(len(values)) * 0.618 + 0.5) % 1 - 0.5) * 0.36
        ax.plot(
            values,
            row + spread,
            ls="",
            marker=mark.marker,
            ms=7 if len(values) == 1 else 3.5,
            color=mark.color,
            mec=ink(ax),
            mew=0.4,
            zorder=3,
        )
    words = (
        f"1 call, {amount(median, unit)}"
        if len(values) == 1
        else f"{len(values):,} calls, median {amount(median, unit)}"
    )
    note(ax, words, (most, row), (8, 0), va="center", zorder=6)
