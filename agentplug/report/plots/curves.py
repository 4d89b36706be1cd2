"""Pictures of runs, on matplotlib Axes (host).

Each function draws on the Axes it is given, or makes a figure when it is given none, and returns Axes; none calls
`plt.show()`. Lines are readings of the worker; a dotted line is the kernel's own figure for the whole call, which
no reading can miss. Names come from plugins: they are never parsed as math (see `labels.plot_text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agentplug.contract.explain import added_memory_bytes, memory_floor_bytes, plugin_name
from agentplug.contract.run import Run
from agentplug.report.labels import SMALL, halo, mark_events, plot_text, width_pt
from agentplug.report.marks import CPU_COLOR, LIMIT_COLOR, MEMORY_COLOR, verdict_mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MIB = 1 << 20
_FEW_READINGS = 3
_OFF_SCALE = 0.1
"""Use below this share of its limit gets the scale for itself, and the limit is told in words."""
_HEADROOM = 1.38
_CLOSE = 0.12


class _Curve(NamedTuple):
    """One quantity over time, its limit, and the kernel's figure for the whole call, all in `unit`."""

    label: str
    unit: str
    color: str
    t_s: list[float]
    values: list[float]
    limit: float
    final: float
    final_word: str


def plot_run(run: Run, axes: Sequence[Axes] | NDArray[Any] | None = None) -> NDArray[Any]:
    """Memory above and CPU below, against time. Returns the two Axes as an array of shape (2,).

    `axes` are two Axes to draw on. Raises `ValueError` for another number of them.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    if axes is None:
        _, axes = plt.subplots(2, 1, figsize=(8, 5.6), sharex=True, layout="constrained")
    both: NDArray[Any] = np.asarray(axes, dtype=object).ravel()
    if len(both) != 2:
        raise ValueError(f"plot_run draws on two Axes, not on {len(both)}; give it two, or none")
    _draw(run, _memory_curve(run), both[0])
    _draw(run, _cpu_curve(run), both[1], headed=False)
    both[0].set_xlabel("")
    return both


def plot_memory(run: Run, ax: Axes | None = None) -> Axes:
    """Memory that the plugin added to its worker, in MiB over time, with the limit and the verdict."""
    ax = ax or _new_axes(8, 3.4)
    _draw(run, _memory_curve(run), ax)
    return ax


def plot_cpu(run: Run, ax: Axes | None = None) -> Axes:
    """CPU seconds that the call has used, over time, with the limit and the verdict."""
    ax = ax or _new_axes(8, 3.4)
    _draw(run, _cpu_curve(run), ax)
    return ax


def compare_runs(runs: Sequence[Run], ax: Axes | None = None, by: Literal["memory", "cpu"] = "memory") -> Axes:
    """A bar a run, first on top: peak of added memory (MiB) or CPU time (s), each with a mark at its limit.

    Colour, hatch and word tell the verdict. Raises `ValueError` for another `by`.
    """
    if by == "memory":
        used = [added_memory_bytes(run) / _MIB for run in runs]
        limits, unit, label = [float(run.policy.memory) / _MIB for run in runs], "MiB", "Added memory at its peak"
    elif by == "cpu":
        used, limits = [run.usage.cpu_s for run in runs], [run.policy.cpu_s for run in runs]
        scale, unit = _time_unit(_top(max(used, default=0.0), max(limits, default=0.0)))
        used, limits, label = [value * scale for value in used], [limit * scale for limit in limits], "CPU time"
    else:
        raise ValueError(f"by={by!r}; runs are compared by 'memory' or by 'cpu'")
    ax = ax or _new_axes(8, min(20.0, 1.1 + 0.42 * max(1, len(runs))))
    ink = ax.xaxis.label.get_color()
    top = _top(max(used, default=0.0), max(limits, default=0.0)) or 1.0
    ax.set_xlim(0, top * 1.5)  # the words at the bars' ends need room
    for row, (run, value, limit) in enumerate(zip(runs, used, limits, strict=True)):
        mark = verdict_mark(run.verdict.kind)
        ax.barh(row, value, height=0.62, color=f"{mark.color}b0", edgecolor=mark.color, hatch=mark.hatch, zorder=2)
        halo(ax, ax.plot([limit, limit], [row - 0.42, row + 0.42], color=ink, lw=2, zorder=3)[0])
        words = f"{_amount(value, unit)} · {plot_text(str(run.verdict), 40)}"
        # Clear of the limit's mark: start behind it when the words would cross it.
        start = limit if value <= limit < min(top, value + 0.45 * top) else value
        text = ax.annotate(
            words, (start, row), (6, 0), textcoords="offset points", va="center", fontsize=SMALL, parse_math=False
        )
        halo(ax, text)
    names = [plot_text(plugin_name(run), 32) for run in runs]
    ax.set_yticks(range(len(runs)), names, parse_math=False)
    ax.set_ylim(max(len(runs), 1) - 0.4, -0.6)
    ax.set_xlabel(f"{label} ({unit})")
    _dress(ax, "x")
    ax.tick_params(axis="y", length=0)
    _limit_title(ax, sorted(set(limits)), unit)
    return ax


def _limit_title(ax: Axes, limits: list[float], unit: str) -> None:
    """What the marks mean, above the bars: the limit itself when all runs share one."""
    if not limits:
        return
    figures = " to ".join(_amount(limit, unit) for limit in dict.fromkeys((limits[0], limits[-1])))
    beyond = ", off the scale" if limits[0] > ax.get_xlim()[1] else ""
    ax.set_title(f"│ limit {figures}{beyond}", loc="right", fontsize=SMALL)


def _memory_curve(run: Run) -> _Curve:
    floor, peak = memory_floor_bytes(run), added_memory_bytes(run) / _MIB
    readings = [(r.t_ns / 1e9, max(0, r.rss_bytes - floor) / _MIB) for r in run.readings]
    held = max(0, run.usage.baseline_memory_bytes - floor) / _MIB
    t_s, values = _points(run, readings, held, peak)
    return _Curve("Added memory", "MiB", MEMORY_COLOR, t_s, values, float(run.policy.memory) / _MIB, peak, "peak")


def _cpu_curve(run: Run) -> _Curve:
    readings = [(reading.t_ns / 1e9, reading.cpu_ns / 1e9) for reading in run.readings]
    t_s, values = _points(run, readings, 0.0, run.usage.cpu_s)
    scale, unit = _time_unit(_top(max([run.usage.cpu_s, *values]), run.policy.cpu_s))
    values, limit, final = [value * scale for value in values], run.policy.cpu_s * scale, run.usage.cpu_s * scale
    return _Curve("CPU time", unit, CPU_COLOR, t_s, values, limit, final, "total")


def _points(
    run: Run, readings: list[tuple[float, float]], first: float, final: float
) -> tuple[list[float], list[float]]:
    """The readings; where they are too few for a line, between the call's known start and end."""
    if len(readings) < _FEW_READINGS:
        inside = [(t, value) for t, value in readings if 0 < t < run.usage.wall_s]
        readings = [(0.0, first), *inside, (run.usage.wall_s, final)]
    return [t for t, _ in readings], [value for _, value in readings]


def _draw(run: Run, curve: _Curve, ax: Axes, *, headed: bool = True) -> None:
    end_s = max([run.usage.wall_s, 1e-6, *curve.t_s, *(event.t_s for event in run.events)])
    scale, time_unit = _time_unit(end_s)
    times = [t * scale for t in curve.t_s]
    if len(run.readings) < _FEW_READINGS:
        ax.plot(times, curve.values, color=curve.color, lw=1.6, ls="--", marker="o", zorder=3)
    else:
        ax.plot(times, curve.values, color=curve.color, lw=2, zorder=3)
        ax.fill_between(times, curve.values, color=curve.color, alpha=0.15, lw=0)
    ax.axhline(curve.limit, color=LIMIT_COLOR, lw=1.6, ls="--", zorder=2, label="limit")
    ax.axhline(curve.final, color=curve.color, lw=1.2, ls=":", zorder=2, label=curve.final_word)
    ax.set_xlim(0, end_s * scale * 1.02)
    ax.set_ylim(0, _top(max([curve.final, *curve.values]), curve.limit) * _HEADROOM)
    _level_words(ax, curve)
    ax.set_xlabel(f"Time since the call began ({time_unit})")
    ax.set_ylabel(f"{curve.label} ({curve.unit})")
    _dress(ax, "y")
    if headed:
        _headings(run, ax)
    mark_events(ax, run.events, scale, labelled=headed)


def _top(most: float, limit: float) -> float:
    """The value that an axis must reach: the limit too, unless use stays far below it."""
    return most if 0 < most < limit * _OFF_SCALE else max(most, limit)


def _level_words(ax: Axes, curve: _Curve) -> None:
    """The limit and the kernel's figure in words, at the left where curves are low, each on its own side."""
    top = ax.get_ylim()[1]
    gap = curve.limit - curve.final
    limit_words = f"limit {_amount(curve.limit, curve.unit)}"
    if curve.limit > top:
        _level(ax, 0.78 * top, f"↑ {limit_words}, off the scale", LIMIT_COLOR, above=True)
    else:
        _level(ax, curve.limit, limit_words, LIMIT_COLOR, above=not -_CLOSE * top < gap < 0)
    words = f"{curve.final_word} {_amount(curve.final, curve.unit)}"
    _level(ax, curve.final, words, curve.color, above=not 0 <= gap < _CLOSE * top)


def _level(ax: Axes, y: float, words: str, color: str, *, above: bool) -> None:
    text = ax.annotate(
        words,
        (0.012, y),
        (0, 3 if above else -4),
        xycoords=ax.get_yaxis_transform(),
        textcoords="offset points",
        va="bottom" if above else "top",
        color=color,
        fontsize=SMALL,
        zorder=5,
    )
    halo(ax, text)


def _headings(run: Run, ax: Axes) -> None:
    """The plugin's name at the left, its verdict in a pill at the right, neither running into the other."""
    mark = verdict_mark(run.verdict.kind)
    verdict = plot_text(str(run.verdict), 30)
    room = int((width_pt(ax) - 7 * len(verdict) - 24) / 9)  # a bold character of 12 points is 9 wide at most
    name = plot_text(plugin_name(run), max(6, room))
    ax.set_title(name, loc="left", fontsize=12, fontweight="bold", pad=9, parse_math=False)
    ax.annotate(
        verdict,
        (1, 1),
        (-5, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=10,
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": f"{mark.color}30", "edgecolor": mark.color},
    )


def _dress(ax: Axes, grid: Literal["x", "y"]) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, alpha=0.25, lw=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=SMALL)


def _time_unit(most_s: float) -> tuple[float, str]:
    """The factor and name of the unit for times up to `most_s` seconds."""
    return (1e3, "ms") if most_s < 1 else (1.0, "s")


def _amount(value: float, unit: str) -> str:
    """A value in words, with three digits that count: `1.03 s`, `20 ms`, `300 MiB`."""
    if unit == "ms" and value >= 1000:
        value, unit = value / 1000, "s"
    elif unit == "s" and value < 1:
        value, unit = value * 1000, "ms"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _new_axes(width: float, height: float) -> Axes:
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax
