"""Single calls over time (host).

Lines connect readings of the worker. A dotted line is the kernel's figure for the whole call, which includes peaks
between readings. A call begins at 0; after the event that decided its verdict, the worker is only being ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agentplug.contract.limits import LIMITS
from agentplug.contract.record import RunRecord, added_memory_bytes, memory_floor_bytes, plugin_name
from agentplug.report.columns import SAMPLES_COLUMNS
from agentplug.report.labels import ink, mark_events, mark_phases, plot_text, width_pt
from agentplug.report.marks import CPU_COLOR, MEMORY_COLOR, verdict_mark
from agentplug.report.plots.canvas import (
    CLOSE,
    amount,
    canvas,
    dress,
    level,
    limit_level,
    new_axes,
    say,
    several,
    time_unit,
    top,
    unit_for,
)
from agentplug.report.plots.data import check_run, check_unique, limit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

By = Literal["memory", "cpu"]

_FEW_READINGS = 3
_HEADROOM = 1.38
_NO_READINGS = "no readings: the call was too short for one"


class Curve(NamedTuple):
    """One quantity over time, in bytes or seconds, with its limit and the kernel's `final` figure for the call."""

    by: By
    label: str
    t_s: list[float]
    values: list[float]
    limit: float | None
    final: float | None = None
    few: bool = False

    @property
    def color(self) -> str:
        """The quantity's colour."""
        return MEMORY_COLOR if self.by == "memory" else CPU_COLOR

    @property
    def most(self) -> float:
        """The highest value."""
        return max([self.final or 0.0, *self.values])


def plot_run(run: RunRecord, axes: Sequence[Axes] | NDArray[Any] | None = None) -> NDArray[Any]:
    """Draw memory above and CPU below, over time, with limits, phases and events.

    `axes` are two Axes to draw on. Returns an array of shape (2,). Raises `ValueError` for another number of Axes, or
    if `run` is no run.
    """
    check_run(run)
    both = new_axes(2, 1, (8, 5.6), sharex=True) if axes is None else several(axes)
    if len(both) != 2:
        raise ValueError(f"plot_run draws on two Axes, not on {len(both)}; give it two, or none")
    _draw_run(run, "memory", both[0])
    _draw_run(run, "cpu", both[1], headed=False)
    both[0].set_xlabel("")
    return both


def plot_memory(run: RunRecord, ax: Axes | None = None) -> Axes:
    """Draw the memory that the plugin added to its worker, over time, with limit, phases, events and verdict.

    Raises `ValueError` if `run` is no run.
    """
    return _plot_one(run, "memory", ax)


def plot_cpu(run: RunRecord, ax: Axes | None = None) -> Axes:
    """Draw the CPU time of the call, over time, with limit, phases, events and verdict.

    Raises `ValueError` if `run` is no run.
    """
    return _plot_one(run, "cpu", ax)


def _plot_one(run: RunRecord, by: By, ax: Axes | None) -> Axes:
    check_run(run)
    ax = canvas(ax, 8, 3.4)
    _draw_run(run, by, ax)
    return ax


def plot_samples(frame: pd.DataFrame, ax: Axes | None = None, by: By = "memory") -> Axes:
    """Draw a samples frame (`run.samples`) over time: memory above the first reading, or CPU time.

    The limit counts from the first reading here, so memory that earlier calls left makes the real one lower. Raises
    `ValueError` for another frame or another `by`.
    """
    curve = _samples_curve(frame, by)
    ax = canvas(ax, 8, 3.4)
    _draw(ax, curve, max([1e-6, *curve.t_s]))
    name, verdict = (frame.attrs.get(key) for key in ("plugin", "verdict"))
    if isinstance(name, str) and isinstance(verdict, str):
        _headings(ax, name, verdict)
    if not curve.t_s:
        say(ax, _NO_READINGS)
    return ax


def run_curve(run: RunRecord, by: By) -> Curve:
    """Make the curve of a run's memory or CPU time."""
    if by == "memory":
        floor, label, limit = memory_floor_bytes(run), "Added memory", float(run.policy.memory)
        first, final = max(0, run.usage.baseline_memory_bytes - floor), float(added_memory_bytes(run))
        readings = [(r.t_ns / 1e9, float(max(0, r.rss_bytes - floor))) for r in run._inside.readings]
    else:
        label, limit, first, final = "CPU time", run.policy.cpu_s, 0, run.usage.cpu_s
        readings = [(r.t_ns / 1e9, r.cpu_ns / 1e9) for r in run._inside.readings]
    few = len(readings) < _FEW_READINGS
    if few:  # too few for a line: draw one from the call's start to its end
        inside = [(t, value) for t, value in readings if 0 < t < run.usage.wall_s]
        readings = [(0.0, float(first)), *inside, (run.usage.wall_s, final)]
    return Curve(by, label, [t for t, _ in readings], [value for _, value in readings], limit, final, few)


def _samples_curve(frame: pd.DataFrame, by: By) -> Curve:
    """Make the curve of a samples frame. Raises `ValueError` for another frame or another `by`."""
    import numpy as np
    import pandas as pd

    if by not in ("memory", "cpu"):
        raise ValueError(f"by={by!r}; readings are drawn by 'memory' or by 'cpu'")
    column = "rss_bytes" if by == "memory" else "cpu_s"
    if not isinstance(frame, pd.DataFrame) or column not in frame or not isinstance(frame.index, pd.TimedeltaIndex):
        wanted = ", ".join(SAMPLES_COLUMNS)
        raise ValueError(f"readings are drawn from a samples frame (`run.samples`): a TimedeltaIndex, and {wanted}")
    check_unique(frame, [column])
    t_s = frame.index.total_seconds().to_numpy(dtype="float64")
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    there = np.isfinite(t_s) & np.isfinite(values)
    t_s, values = t_s[there], values[there]
    if by == "memory" and len(values):
        values = np.maximum(values - values[0], 0.0)
    label = "Memory above the first reading" if by == "memory" else "CPU time"
    limit = limit_of(frame.attrs, LIMITS[by].name)
    return Curve(by, label, t_s.tolist(), values.tolist(), limit, few=len(values) < _FEW_READINGS)


def _draw(ax: Axes, curve: Curve, end_s: float) -> float:
    """Draw the line, its levels and the axes. Returns the factor that turns seconds into x."""
    reach = top(curve.most, curve.limit or 0.0)
    scale, unit = unit_for(curve.by, reach)
    time_scale, time_name = time_unit(end_s)
    times, values = [t * time_scale for t in curve.t_s], [value * scale for value in curve.values]
    if curve.few:
        ax.plot(times, values, color=curve.color, lw=1.6, ls="--", marker="o", zorder=3)
    else:
        ax.plot(times, values, color=curve.color, lw=2, zorder=3)
        ax.fill_between(times, values, color=curve.color, alpha=0.15, lw=0)
    ax.set_xlim(0, end_s * time_scale * 1.02)
    ax.set_ylim(0, (reach * scale or 1.0) * _HEADROOM)
    final = None if curve.final is None else curve.final * scale
    if curve.limit is not None:
        limit_level(ax, curve.limit * scale, unit, final)
    if final is not None:
        word = "peak" if curve.by == "memory" else "total"
        ax.axhline(final, color=curve.color, lw=1.2, ls=":", zorder=2, label=word)
        near = curve.limit is not None and 0 <= curve.limit * scale - final < CLOSE * ax.get_ylim()[1]
        level(ax, final, f"{word} {amount(final, unit)}", curve.color, above=not near)
    ax.set_xlabel(f"Time since the call began ({time_name})")
    ax.set_ylabel(f"{curve.label} ({unit})")
    dress(ax, "y")
    return time_scale


def _draw_run(run: RunRecord, by: By, ax: Axes, *, headed: bool = True) -> None:
    curve = run_curve(run, by)
    end_s = max([run.usage.wall_s, 1e-6, *curve.t_s, *(event.t_s for event in run.events)])
    scale = _draw(ax, curve, end_s)
    if headed:
        _headings(ax, plugin_name(run), str(run.verdict))
    mark_phases(ax, run.events, scale, end_s, labelled=headed)
    mark_events(ax, run.events, scale, labelled=headed)


def _headings(ax: Axes, name: str, verdict: str) -> None:
    """Write the plugin's name at the left and its verdict in a pill at the right, cut so that they don't touch."""
    mark = verdict_mark(verdict.partition(":")[0])
    verdict = plot_text(verdict, 30)
    room = int((width_pt(ax) - 7 * len(verdict) - 24) / 9)  # a bold character of 12 points is 9 wide at most
    name = plot_text(name, max(6, room))
    ax.set_title(name, color=ink(ax), loc="left", fontsize=12, fontweight="bold", pad=9, parse_math=False)
    ax.annotate(
        verdict,
        (1, 1),
        (-5, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=10,
        color=ink(ax),
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": f"{mark.color}18", "edgecolor": mark.color},
    )
