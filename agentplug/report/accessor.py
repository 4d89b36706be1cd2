"""`df.agentplug`: questions to a calls frame or a samples frame (host).

The accessor is registered once a trace is made or read in this process, and not on `import agentplug`, which would
have to import pandas. So open a saved trace by `agentplug.read_trace`, not by `pandas.read_parquet`. For any other
frame the accessor raises an AttributeError that says what is missing, so `hasattr(df, "agentplug")` is false for it.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentplug.contract.limits import FIELDS
from agentplug.report.columns import SAMPLES_COLUMNS, earlier_limits, kind_of
from agentplug.report.files import load_trace, save_trace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from agentplug.report.trace_view import TraceView

COST_OF_COLUMN = {"wall_s": "wall", "cpu_s": "cpu", "peak_memory_bytes": "memory", "rss_bytes": "memory"}
_COSTS = ("wall_s", "cpu_s", "peak_memory_bytes")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_SHARES: dict[str, Callable[[Any], Any]] = {  # the use that counts against each limit; of memory, what the call added
    "memory": lambda frame: frame["peak_memory_bytes"] - frame["baseline_memory_bytes"],
    "cpu_s": lambda frame: frame["cpu_s"] / frame["calls"],
    "wall_s": lambda frame: frame["wall_s"] / frame["calls"],
    "threads": lambda frame: frame["threads"],
}
_LIMITED_BY = {FIELDS[name].by: name for name in _SHARES}


class TraceAccessor:
    """Questions to a trace. Raises `AttributeError` for a frame that is no trace."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.kind = kind_of(frame)

    # ------------------------------------------------------------------ tables

    def verdicts(self) -> pd.DataFrame:
        """Count each plugin's verdicts: a row a plugin, a column a verdict (like `limited:memory`)."""
        import pandas as pd

        frame = self._calls("verdicts")
        words = frame["verdict"].astype(str)
        verdicts = words.where(frame["by"].isna(), words + ":" + frame["by"].astype(str))
        table = pd.crosstab(frame["plugin"].astype(str), verdicts)
        table.index.name, table.columns.name = "plugin", None
        counts = {word: int(count) for word, count in table.sum().items()}
        return table[sorted(counts, key=lambda word: (word != "completed", -counts[word], word))]

    def summary(self) -> pd.DataFrame:
        """Summarize costs: for each plugin `calls`, `completed` (their share), and p50, p90, p99, max of each cost.

        Columns are like `cpu_s p90`, in seconds and bytes; calls of a window count with their share of its figures.
        A samples frame gives the same quantiles of each of its columns, in one row.
        """
        import pandas as pd

        frame = self._frame
        if self.kind == "samples":
            costs = frame[list(SAMPLES_COLUMNS)].astype("float64")
            row = {f"{name} {word}": costs[name].quantile(q) for name in costs for word, q in _QUANTILES.items()}
            return pd.DataFrame([{"samples": len(frame), **row}])
        plugins = frame["plugin"].astype(str)
        rows = {}
        for plugin, calls in frame.groupby(plugins, sort=True):
            costs = self._costs(calls)
            rows[plugin] = {
                "calls": len(calls),
                "completed": float((calls["verdict"] == "completed").mean()),
                **{f"{name} {word}": costs[name].quantile(q) for name in costs for word, q in _QUANTILES.items()},
            }
        names = ["calls", "completed", *(f"{name} {word}" for name in _COSTS for word in _QUANTILES)]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
        table.index.name = "plugin"
        return table.astype({"calls": "int64"})

    def over_limit(self, share: float = 1.0) -> pd.DataFrame:
        """Return the calls that used at least `share` of a limit, worst first.

        Adds two columns: `limit`, the limit that the call came closest to (or was stopped by), and `used`, the share
        of it. Of memory, only what the call itself added counts. Calls without figures are left out, unless a limit
        stopped them. Raises `ValueError` if the frame has lost its `attrs`.
        """
        import pandas as pd

        frame = self._calls("over_limit")
        if isinstance(share, bool) or not isinstance(share, numbers.Real) or not share > 0:
            raise ValueError(f"share={share!r}: a number above 0, please; 0.9 is 90 % of a limit")
        used = pd.DataFrame(
            {name: measure(frame) / self._limit(name) for name, measure in _SHARES.items()}, index=frame.index
        )
        limited = frame["verdict"] == "limited"
        for by, name in _LIMITED_BY.items():
            hit = limited & (frame["by"] == by)
            used.loc[hit, name] = used.loc[hit, name].fillna(1.0).clip(lower=1.0)
        worst = used.fillna(float("-inf")).idxmax(axis=1) if len(used) else []  # idxmax refuses a row without figures
        calls = frame.assign(limit=worst, used=used.max(axis=1)).astype({"limit": str})
        other = limited & ~frame["by"].isin(list(_LIMITED_BY))
        calls.loc[other, "limit"] = frame.loc[other, "by"].astype(str)
        calls.loc[other, "used"] = 1.0
        return calls[calls["used"] >= float(share)].sort_values("used", ascending=False, kind="stable")

    def compare(self, other: pd.DataFrame) -> pd.DataFrame:
        """Compare with `other`: for each plugin and cost the medians `before` (this trace) and `after`, and `ratio`.

        Rows are indexed by plugin and cost: wall, CPU, peak memory, and the share of completed calls. The figures of
        a plugin that is in one trace only are missing for the other.
        """
        import pandas as pd

        before, after = self._medians(), TraceAccessor(other)._medians()
        table = pd.DataFrame({"before": before, "after": after})
        table["ratio"] = table["after"] / table["before"].where(table["before"] != 0)
        table.index.names = ["plugin", "cost"]
        return table

    def _medians(self) -> Any:
        import pandas as pd

        frame = self._calls("compare")
        costs = self._costs(frame).assign(completed=(frame["verdict"] == "completed").astype("float64"))
        grouped = costs.groupby(frame["plugin"].astype(str), sort=True)
        table = grouped[list(_COSTS)].median().assign(completed=grouped["completed"].mean())
        return table.stack() if len(table) else pd.Series(dtype="float64", index=pd.MultiIndex.from_arrays([[], []]))

    def limits(self) -> pd.DataFrame:
        """Return the trace with the limits of each row as more columns, as in a policy: `memory_limit`, in bytes,
        `cpu_s_limit`, `wall_s_limit`, `threads_limit`.

        Raises `ValueError` if the frame has lost its `attrs`.
        """
        return self._calls("limits").assign(**{f"{name}_limit": self._limit(name) for name in _SHARES})

    def show(self, limits: bool = False) -> TraceView:
        """Return a table for people: the same rows with units, a verdict in one word; `limits` beside the figures.

        Of more than 60 rows the first and the last 30. Raises `ValueError` for `limits` of a frame without `attrs`.
        """
        from agentplug.report.trace_view import TraceView

        if not limits:
            return TraceView(self._frame)
        frame = self._calls("show(limits=True)").reset_index(drop=True)
        return TraceView(frame, frame.assign(**{name: self._limit(name).to_numpy() for name in _SHARES}))

    # ------------------------------------------------------------------ plots and files

    def plot(self, ax: Axes | None = None, cost: str = "memory") -> Axes:
        """Draw the calls (cost and verdict of each, in the order of their start) or the samples (cost over time).

        `cost` is `memory`, `cpu` or (of calls) `wall`, or a column like `wall_s`. Draws on `ax` or on new Axes, and
        returns them. Raises `ValueError` for another cost.
        """
        from agentplug.report import plots  # imports matplotlib

        by: Any = COST_OF_COLUMN.get(cost, cost)
        return (
            plots.plot_calls(self._frame, ax, by) if self.kind == "calls" else plots.plot_samples(self._frame, ax, by)
        )

    def save(self, path: str | Path) -> Path:
        """Write the trace to a `.parquet`, `.feather` or `.csv` file: `agentplug.read_trace` reads it back."""
        return save_trace(self._frame, path)

    # ------------------------------------------------------------------ internals

    def _calls(self, method: str) -> pd.DataFrame:
        if self.kind != "calls":
            raise ValueError(
                f".{method}() asks about calls; this is a samples frame, of a single one (see `plugin.trace`)"
            )
        return self._frame

    @staticmethod
    def _costs(frame: pd.DataFrame) -> pd.DataFrame:
        costs = frame[list(_COSTS)].astype("float64")
        return costs.assign(wall_s=costs["wall_s"] / frame["calls"], cpu_s=costs["cpu_s"] / frame["calls"])

    def _limit(self, name: str) -> Any:
        """Return the limit that was valid for each row."""
        import pandas as pd

        plugins = self._frame["plugin"].astype(str)
        limits = self._frame.attrs.get("limits")
        limits = limits if isinstance(limits, Mapping) else {}
        own = limits.get(name)
        if own is not None and not isinstance(own, Mapping):  # the trace of a single plugin
            limits = dict.fromkeys(plugins.unique(), limits)
        of_plugin = {plugin: of.get(name) for plugin, of in limits.items() if isinstance(of, Mapping)}
        values = pd.to_numeric(plugins.map(of_plugin), errors="coerce").astype("float64")
        began = pd.to_datetime(self._frame["started_at"], utc=True)
        for plugin, changes in earlier_limits(self._frame.attrs).items():
            for latest_us, of in reversed(changes):
                values[(plugins == plugin) & (began <= pd.Timestamp(latest_us, unit="us", tz="UTC"))] = of.get(name)
        if values.isna().any():
            raise ValueError(
                "this frame no longer knows all its limits (pandas drops `attrs` in some operations): ask the trace "
                "itself, or set `attrs` to those of the trace"
            )
        return values


def attached(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` after registering `df.agentplug` with pandas."""
    _register()
    return frame


def read_trace(path: str | Path) -> pd.DataFrame:
    """Read the trace that `df.agentplug.save` wrote: same values, dtypes and `attrs`.

    In columns that an older agentplug didn't write all values are missing. Raises `ValueError` for a newer format,
    and for a file that is no trace.
    """
    return attached(load_trace(path))


@functools.cache
def _register() -> None:
    from pandas.api.extensions import register_dataframe_accessor

    register_dataframe_accessor("agentplug")(TraceAccessor)
