"""Small multiples: many calls over time, a small plot each, all on one scale (host)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from agentplug.contract.record import RunRecord, plugin_name
from agentplug.report.labels import ink, mark_phases, note, plot_text
from agentplug.report.marks import LIMIT_COLOR, verdict_mark
from agentplug.report.plots.canvas import amount, dress, new_axes, say, several, time_unit, top, unit_for
from agentplug.report.plots.curves import run_curve
from agentplug.report.plots.data import runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MOST_RUNS = 60
_WORDS_SIZE = 8
_HEADROOM = 1.45


def plot_runs(
    runs: Iterable[RunRecord],
    axes: Sequence[Axes] | NDArray[Any] | None = None,
    by: Literal["memory", "cpu"] = "memory",
) -> NDArray[Any]:
    """Draw memory or CPU time of each run over time, a small plot a run, all with the same scales and units.

    Returns the Axes, one a run and in their order. Raises `ValueError` for more than 60 runs, for fewer `axes` than
    runs, or for another `by`.
    """
    runs = runs_of(runs)
    if by not in ("memory", "cpu"):
        raise ValueError(f"by={by!r}; runs are drawn by 'memory' or by 'cpu'")
    if len(runs) > MOST_RUNS:
        raise ValueError(
            f"plot_runs draws at most {MOST_RUNS} runs, not {len(runs)}: choose some, or see all with plot_calls"
        )
    panels = _grid(len(runs)) if axes is None else several(axes)
    if len(panels) < max(1, len(runs)):
        raise ValueError(f"plot_runs needs Axes for {len(runs)} runs, not {len(panels)}; give it more, or none")
    if not runs:
        dress(panels[0], "y")
        say(panels[0], "no calls yet")
        _axis_words(panels[:1], "Added memory (MiB)" if by == "memory" else "CPU time (ms)", "Time (ms)")
        return panels[:1]
    curves = [run_curve(run, by) for run in runs]
    reach = top(max(curve.most for curve in curves), max(curve.limit or 0.0 for curve in curves))
    scale, unit = unit_for(by, reach)
    end_s = max([1e-6, *(t for curve in curves for t in curve.t_s), *(run.usage.wall_s for run in runs)])
    time_scale, time_name = time_unit(end_s)
    for run, curve, ax in zip(runs, curves, panels, strict=False):
        times, values = [t * time_scale for t in curve.t_s], [value * scale for value in curve.values]
        dashes = {"ls": "--", "marker": ".", "ms": 4} if curve.few else {"ls": "-"}
        ax.plot(times, values, color=curve.color, lw=1.6, zorder=3, **dashes)
        ax.fill_between(times, values, color=curve.color, alpha=0.15, lw=0)
        ax.set_xlim(0, end_s * time_scale * 1.02)
        ax.set_ylim(0, (reach * scale or 1.0) * _HEADROOM)
        _limit(ax, (curve.limit or 0.0) * scale, unit)
        mark_phases(ax, run.events, time_scale, end_s, labelled=False)
        _headings(ax, run)
        # The call's figures may be too small to see on the common scale.
        words = f"{amount((curve.final or 0.0) * scale, unit)} in {amount(run.usage.wall_s * time_scale, time_name)}"
        style = {"xycoords": "axes fraction", "fontsize": _WORDS_SIZE - 1, "zorder": 5}
        note(ax, words, (1, 0), (-2, 2), ha="right", **style)
        dress(ax, "y")
        ax.tick_params(labelsize=_WORDS_SIZE)
    _axis_words(panels[: len(runs)], f"{curves[0].label} ({unit})", f"Time ({time_name})")
    return panels[: len(runs)]


def _grid(count: int) -> NDArray[Any]:
    """Make a figure of `count` Axes on one scale, up to six beside each other."""
    columns = min(6, max(1, math.ceil(math.sqrt(1.6 * count))))
    rows = max(1, math.ceil(count / columns))
    size = (max(4.0, 1.9 * columns), 0.5 + 1.45 * rows)
    panels = new_axes(rows, columns, size, sharex=True, sharey=True)
    for spare in panels[max(1, count) :]:
        spare.remove()
    for ax in panels[max(0, count - columns) : count]:  # the lowest of each column: the last row may not be full
        ax.tick_params(labelbottom=True)
    return panels[: max(1, count)]


def _limit(ax: Axes, limit: float, unit: str) -> None:
    highest = ax.get_ylim()[1]
    if limit <= highest:
        ax.axhline(limit, color=LIMIT_COLOR, lw=1.2, ls="--", zorder=2)
    words = f"limit {amount(limit, unit)}" if limit <= highest else f"↑ limit {amount(limit, unit)}"
    at, style = (0.03, min(limit, 0.7 * highest)), {"xycoords": ax.get_yaxis_transform(), "color": LIMIT_COLOR}
    note(ax, words, at, (0, 2), fontsize=_WORDS_SIZE - 1, zorder=5, **style)


def _headings(ax: Axes, run: RunRecord) -> None:
    """Write name and number above, and the verdict below them in its colour and with its icon."""
    name = f"{plot_text(plugin_name(run), 18)} #{run.number}"
    ax.set_title(name, color=ink(ax), loc="left", fontsize=_WORDS_SIZE, parse_math=False)
    mark = verdict_mark(run.verdict.kind)
    text = ax.annotate(
        plot_text(f"{mark.icon} {run.verdict}", 24),
        (0.03, 1),
        (0, -3),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=_WORDS_SIZE,
        color=ink(ax),
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": f"{mark.color}18", "edgecolor": "none"},
        zorder=6,
    )
    text.set_in_layout(False)


def _axis_words(panels: NDArray[Any], y: str, x: str) -> None:
    """Label the left and the bottom Axes of the grid; all Axes if there is no grid."""
    for n, ax in enumerate(panels):
        spec = ax.get_subplotspec()
        columns = spec.get_gridspec().ncols if spec is not None else 1
        if spec is None or spec.is_first_col():
            ax.set_ylabel(y, fontsize=_WORDS_SIZE)
        if spec is None or n + columns >= len(panels):
            ax.set_xlabel(x, fontsize=_WORDS_SIZE)
