"""What pictures are drawn from (host): runs, or frames that may have been filtered, saved, read or made elsewhere.

A frame is checked for the columns that a picture needs, and for nothing more; figures that are none are left out.
Limits come from the frame's `attrs`, which pandas may have dropped: then there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.record import RunRecord
from agentplug.report.frames import calls_frame
from agentplug.report.limits import earlier_limits

if TYPE_CHECKING:
    import pandas as pd


class Cost(NamedTuple):
    """Something that a call costs: its name, the column it is drawn from, and the limit that bounds it."""

    label: str
    columns: tuple[str, ...]
    measure: Callable[[Any], Any]
    limit: str

    @property
    def is_time(self) -> bool:
        """Seconds; else bytes."""
        return self.limit != "memory"


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
"""Where a window of calls shares its figures, each has its share."""


def cost(by: str) -> Cost:
    """The cost of that name. Raises `ValueError` for another."""
    if not isinstance(by, str) or by not in COSTS:
        raise ValueError(f"by={by!r}; calls are drawn by 'memory', 'cpu' or 'wall'")
    return COSTS[by]


def calls_of(given: Any, needed: Iterable[str]) -> pd.DataFrame:
    """`given` as a calls frame with the columns that are `needed`: plugin and verdict as text, the others as floats.

    Rows without a figure are left out. Raises `ValueError` for what is neither a calls frame nor runs.
    """
    import numpy as np
    import pandas as pd

    frame = given if isinstance(given, pd.DataFrame) else calls_frame(runs_of(given))
    numbers = [name for name in needed if name not in ("plugin", "verdict")]
    lacking = [name for name in ("plugin", "verdict", *numbers) if name not in frame.columns]
    if lacking:
        hint = "plot_samples draws readings" if frame.attrs.get("frame") == "samples" else "see plugin.trace"
        raise ValueError(
            f"this picture is drawn from a calls frame, and this one has no {', '.join(lacking)}; {hint}"
        )
    once(frame, ["plugin", "verdict", *numbers])
    table = pd.DataFrame({name: _words(frame[name]) for name in ("plugin", "verdict")})
    for name in numbers:
        figures = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
        # A window of no calls has nothing to share.
        table[name] = np.where(np.isfinite(figures) & ((figures >= 1) | (name != "calls")), figures, np.nan)
    table.attrs = frame.attrs
    return table.dropna(ignore_index=True)


def once(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """Raises `ValueError` if one of these columns is there several times."""
    twice = [name for name in names if frame[name].ndim > 1]
    if twice:
        raise ValueError(
            f"this frame has several columns {', '.join(twice)}; keep one: frame.loc[:, ~frame.columns.duplicated()]"
        )


def _words(column: pd.Series[Any]) -> Any:
    """Values as text, made once for each that differs; a missing one is a question mark."""
    import numpy as np
    import pandas as pd

    codes, different = pd.factorize(column)
    return np.array([*(str(value) for value in different), "?"], dtype=object)[codes]


def runs_of(given: Any) -> list[RunRecord]:
    """`given` as a list of runs. Raises `ValueError` if something else is in it."""
    import pandas as pd

    if isinstance(given, pd.DataFrame):
        raise ValueError(
            "this picture is drawn from runs (`plugin.runs`), not from a frame; plot_calls draws a trace"
        )
    runs = [given] if isinstance(given, RunRecord) else list(given) if isinstance(given, Iterable) else [given]
    for run in runs:
        if not isinstance(run, RunRecord):
            raise ValueError(f"a picture is drawn from runs or from a trace's frame, not from a {type(run).__name__}")
    return runs


def one_run(given: Any) -> RunRecord:
    """`given`, if it is a run. Raises `ValueError` for anything else."""
    if not isinstance(given, RunRecord):
        raise ValueError(
            f"this picture is drawn from a single run, not from a {type(given).__name__}; plot_runs draws several, "
            "plot_samples a run's readings, plot_calls a trace"
        )
    return given


def limit_of(attrs: Mapping[Any, Any], field: str, plugin: str | None = None) -> float | None:
    """The limit that a frame's `attrs` tell of, for this plugin where they tell of several; else None.

    None too if it was another one for earlier calls: no single line would be true for all.
    """
    limits = attrs.get("limits")
    if isinstance(limits, Mapping) and plugin is not None and isinstance(limits.get(field, {}), Mapping):
        limits = limits.get(plugin)  # of several plugins, one of which may bear the name of a limit
    told = limits.get(field) if isinstance(limits, Mapping) else None
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not math.isfinite(told) or told <= 0:
        return None
    if any(before.get(field) != told for _, before in earlier_limits(attrs).get(str(plugin), ())):
        return None
    return float(told)
