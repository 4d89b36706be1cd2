"""The shared parts of plots: Axes, units, amounts and limits (host)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from agentplug.report.labels import SMALL, halo, ink, note, short_names
from agentplug.report.marks import LIMIT_COLOR

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container
    from numpy.typing import NDArray

_INK, _INK_Y = "#7b7b7b", "#818181"
"""As readable on white as on a notebook's dark page: a contrast over 4 on both. Jupyter puts something light or dark
behind a transparent figure whose tick labels are all dark or all light, so those at the left are a shade lighter.
"""
_STYLE: Any = ("figure.facecolor", "axes.facecolor", "axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color")
CLOSE = 0.12
"""Levels closer than this share of the axis have their words on different sides."""
_KIB = 1 << 10
_LIMIT = "agentplug-limit"
_OFF_SCALE = 0.1
"""If the use is below this share of its limit, the scale ends at the use, and the limit is only written."""


def canvas(ax: Any, width: float, height: float) -> Axes:
    """Return `ax`; for None, the Axes of a new figure of this size in inches.

    Raises `TypeError` for anything but one Axes with x and y.
    """
    if ax is not None:
        _check(ax)
        return cast("Axes", ax)
    return cast("Axes", new_axes(1, 1, (width, height))[0])


def new_axes(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> NDArray[Any]:
    """Return the Axes of a new figure, row by row, in the user's style.

    If that is matplotlib's own, they have no background, and a grey that can be read on any.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **shared)
    panels: NDArray[Any] = axes.ravel()
    if all(mpl.rcParams[name] == mpl.rcParamsDefault[name] for name in _STYLE):
        figure.set_facecolor("none")
        for ax in panels:
            _grey(ax)
    return panels


def _grey(ax: Axes) -> None:
    ax.set_facecolor("none")
    ax.spines[:].set_color(_INK)
    ax.tick_params(axis="x", which="both", colors=_INK)
    ax.tick_params(axis="y", which="both", colors=_INK_Y)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(_INK)


def several(axes: Any) -> NDArray[Any]:
    """Return the Axes of a list or grid as a flat array. Raises `TypeError` if anything else is in it."""
    import numpy as np

    panels: NDArray[Any] = np.asarray(axes, dtype=object).ravel()
    for ax in panels:
        _check(ax)
    return panels


def _check(ax: Any) -> None:
    from matplotlib.axes import Axes

    # Polar Axes and maps have other spines. Three-dimensional Axes have these, but other arguments for bars.
    if not isinstance(ax, Axes) or "top" not in ax.spines or hasattr(ax, "get_zlim"):
        raise TypeError(
            f"a picture is drawn on one matplotlib Axes with x and y, not on a {type(ax).__name__} "
            "(a figure's are in figure.axes)"
        )


def dress(ax: Axes, grid: Literal["x", "y"]) -> None:
    """Draw light lines along one axis, and no frame."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, alpha=0.25, lw=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=SMALL)


def name_rows(ax: Axes, names: list[str]) -> None:
    """Name the rows at the left, from top to bottom."""
    words = short_names(names, 32)
    ax.set_yticks(range(len(names)), [words[name] for name in names], parse_math=False)
    ax.set_ylim(max(len(names), 1) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0, pad=7)


def say(ax: Axes, words: str) -> None:
    """Write `words` in the middle of empty Axes."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", fontsize=SMALL + 2, color=ink(ax))


def mark_limit(ax: Axes, limit: float, row: float) -> None:
    """Draw a short line across a row, at its limit."""
    halo(ax, ax.plot([limit, limit], [row - 0.42, row + 0.42], color=ink(ax), lw=2, zorder=3)[0])


def limit_title(ax: Axes, limits: list[float], unit: str) -> None:
    """Explain the marks above the rows: the limit, or the range of limits."""
    if not limits:
        return
    least, most = min(limits), max(limits)
    figures = " to ".join(amount(limit, unit) for limit in dict.fromkeys((least, most)))
    beyond = ", off the scale" if least > ax.get_xlim()[1] else ""
    ax.set_title(f"│ limit {figures}{beyond}", color=ink(ax), loc="right", fontsize=SMALL)


def limit_level(ax: Axes, limit: float, unit: str, final: float | None = None) -> None:
    """Draw the limit as a line with words; only as words if the line would be off the scale.

    The words keep clear of those for the call's `final` figure.
    """
    highest = ax.get_ylim()[1]
    ax.axhline(limit, color=LIMIT_COLOR, lw=1.6, ls="--", zorder=2, label="limit", gid=_LIMIT)
    words = f"limit {amount(limit, unit)}"
    if limit > highest:
        level(ax, 0.83 * highest, f"↑ {words}, off the scale", LIMIT_COLOR, above=True)
    else:
        below = final is not None and -CLOSE * highest < limit - final < 0
        level(ax, limit, words, LIMIT_COLOR, above=not below)


def is_limit(entry: Artist | Container) -> bool:
    """True if this entry of a legend is a limit's line. Its label doesn't prove it: a plugin may be named `limit`."""
    return hasattr(entry, "get_gid") and entry.get_gid() == _LIMIT  # bars are a container, which has none


def level(ax: Axes, y: float, words: str, color: str, *, above: bool) -> None:
    """Write words at a level, at the left, where curves are low."""
    offset, side = ((0, 3), "bottom") if above else ((0, -4), "top")
    note(ax, words, (0.012, y), offset, xycoords=ax.get_yaxis_transform(), va=side, color=color, zorder=5)


def top(most: float, limit: float) -> float:
    """Return the value that an axis must reach: the limit too, unless the use is far below it."""
    return most if 0 < most < limit * _OFF_SCALE else max(most, limit)


def time_unit(most_s: float) -> tuple[float, str]:
    """Return the factor and name of the unit for times up to `most_s` seconds."""
    if 0 < most_s < 1e-3:
        return 1e6, "µs"
    return (1e3, "ms") if most_s < 1 else (1.0, "s")


def byte_unit(most_bytes: float) -> tuple[float, str]:
    """Return the factor and name of the unit for sizes up to `most_bytes`."""
    if 0 < most_bytes < _KIB**2:
        return 1 / _KIB, "KiB"
    return (1 / _KIB**2, "MiB") if most_bytes < 10 * _KIB**3 else (1 / _KIB**3, "GiB")


def unit_for(by: str, reach: float) -> tuple[float, str]:
    """Return the factor and name of the unit for an axis up to `reach`, of sizes for `memory`, else of seconds."""
    return byte_unit(reach) if by == "memory" else time_unit(reach)


def amount(value: float, unit: str) -> str:
    """Format a value with three significant digits: `1.03 s`, `20 ms`, `300 MiB`."""
    if unit in _LARGER and value >= _LARGER[unit][0]:
        _, step, larger = _LARGER[unit]
        return amount(value / step, larger)
    if unit in _SMALLER and 0 < value < 1:
        step, smaller = _SMALLER[unit]
        return amount(value * step, smaller)
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


# The value from which the next unit is used, the size of that unit, and its name.
_LARGER = {
    "µs": (1_000, 1_000, "ms"),
    "ms": (1_000, 1_000, "s"),
    "KiB": (_KIB, _KIB, "MiB"),
    "MiB": (10 * _KIB, _KIB, "GiB"),
    "GiB": (10 * _KIB, _KIB, "TiB"),
}
_SMALLER = {"s": (1_000, "ms"), "ms": (1_000, "µs"), "MiB": (_KIB, "KiB")}
