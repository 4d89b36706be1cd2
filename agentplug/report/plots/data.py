"""The input of plots: runs, or frames that may have been filtered, saved, read or made elsewhere (host).

A frame is checked only for the columns that a plot needs. Rows without figures are left out. Limits come from the
frame's `attrs`, and are missing if pandas dropped these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.record import RunRecord
from agentplug.report.columns import earlier_limits
from agentplug.report.frames import calls_frame

if TYPE_CHECKING:
    import pandas as pd


class Cost(NamedTuple):
    """A kind of cost: its label, its columns, the function that computes it from them, and its limit."""

    label: str
    columns: tuple[str, ...]
    measure: Callable[[Any], Any]
    limit: str


COSTS = {
    "memory": Cost(
        "Memory added by the call",
        ("peak_memory_bytes", "baseline_memory_bytes"),
        lambda frame: (frame["peak_memory_bytes"] - frame["baseline_memory_bytes"]).clip(lower=0),
        "memory",
    ),
    "cpu": Cost("CPU time of a call", ("cpu_s", "calls"), lambda frame: frame["cpu_s"] / frame["calls"], "cpu_s"),
    "wall": Cost(
        "Time that a call took", ("wall_s", "calls"), lambda frame: frame["wall_s"] / frame["calls"], "wall_s"
    ),
}
"""The kinds of cost. Calls of a window count with their share of its figures."""


def cost(by: str) -> Cost:
    """Return the kind of cost. Raises `ValueError` for an unknown one."""
    if not isinstance(by, str) or by not in COSTS:
        raise ValueError(f"by={by!r}; calls are drawn by 'memory', 'cpu' or 'wall'")
    return COSTS[by]


def calls_of(calls: Any, needed: Iterable[str]) -> pd.DataFrame:
    """Return runs or a calls frame as a table of plugin and verdict (text) and the `needed` columns (floats).

    Rows without a figure are left out. Raises `ValueError` if `calls` is neither a calls frame nor runs.
    """
    import numpy as np
    import pandas as pd

    frame = calls if isinstance(calls, pd.DataFrame) else calls_frame(runs_of(calls))
    numbers = [name for name in needed if name not in ("plugin", "verdict")]
    lacking = [name for name in ("plugin", "verdict", *numbers) if name not in frame.columns]
    if lacking:
        hint = "plot_samples draws readings" if frame.attrs.get("frame") == "samples" else "see plugin.trace"
        raise ValueError(
            f"this picture is drawn from a calls frame, and this one has no {', '.join(lacking)}; {hint}"
        )
    check_unique(frame, ["plugin", "verdict", *numbers])
    table = pd.DataFrame({name: _words(frame[name]) for name in ("plugin", "verdict")})
    for name in numbers:
        figures = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
        # A window of no calls has nothing to share.
        table[name] = np.where(np.isfinite(figures) & ((figures >= 1) | (name != "calls")), figures, np.nan)
    table.attrs = frame.attrs
    return table.dropna(ignore_index=True)


def check_unique(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise `ValueError` if one of these columns is there several times."""
    twice = [name for name in names if frame[name].ndim > 1]
    if twice:
        raise ValueError(
            f"this frame has several columns {', '.join(twice)}; keep one: frame.loc[:, ~frame.columns.duplicated()]"
        )


def _words(column: pd.Series[Any]) -> Any:
    """Return the values as text, a question mark for a missing one."""
    import numpy as np
    import pandas as pd

    codes, different = pd.factorize(column)
    return np.array([*(str(value) for value in different), "?"], dtype=object)[codes]


def runs_of(runs: Any) -> list[RunRecord]:
    """Return a run or several as a list. Raises `ValueError` for anything else."""
    import pandas as pd

    if isinstance(runs, pd.DataFrame):
        raise ValueError(
            "this picture is drawn from runs (`plugin.runs`), not from a frame; plot_calls draws a trace"
        )
    items = list(runs) if isinstance(runs, Iterable) else [runs]
    for run in items:
        if not isinstance(run, RunRecord):
            raise ValueError(f"a picture is drawn from runs or from a trace's frame, not from a {type(run).__name__}")
    return items


def check_run(run: Any) -> None:
    """Raise `ValueError` for anything but a single run."""
    if not isinstance(run, RunRecord):
        raise ValueError(
            f"this picture is drawn from a single run, not from a {type(run).__name__}; plot_runs draws several, "
            "plot_samples a run's readings, plot_calls a trace"
        )


def limit_of(attrs: Mapping[Any, Any], field: str, plugin: str | None = None) -> float | None:
    """Return the limit in a frame's `attrs`; if they have several plugins, that of `plugin`.

    None if there is none, or if earlier calls had another limit, so that no single line would be right for all.
    """
    limits = attrs.get("limits")
    if isinstance(limits, Mapping) and plugin is not None and isinstance(limits.get(field, {}), Mapping):
        limits = limits.get(plugin)  # of several plugins, one of which may bear the name of a limit
    limit = limits.get(field) if isinstance(limits, Mapping) else None
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit) or limit <= 0:
        return None
    if any(before.get(field) != limit for _, before in earlier_limits(attrs).get(str(plugin), ())):
        return None
    return float(limit)
