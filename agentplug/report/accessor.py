"""`df.agentplug`: what a calls frame or a samples frame can answer (host).

pandas attaches it to every frame once a trace was made or read in this process (`import agentplug` alone doesn't: it
would have to import pandas). So open a saved trace by `agentplug.read_trace`, not `pandas.read_parquet`.
A frame of other origin gets an AttributeError that says what is missing, so `hasattr(df, "agentplug")` tells the two
apart.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentplug.contract.limits import FIELDS
from agentplug.report.columns import SAMPLES_COLUMNS, kind_of
from agentplug.report.files import load_trace, save_trace
from agentplug.report.limits import earlier_limits

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COSTS = ("wall_s", "cpu_s", "peak_memory_bytes")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_SHARES: dict[str, Callable[[Any], Any]] = {  # what a call used of which limit; memory as far as it added it
    "memory": lambda frame: frame["peak_memory_bytes"] - frame["baseline_memory_bytes"],
    "cpu_s": lambda frame: frame["cpu_s"] / frame["calls"],
    "wall_s": lambda frame: frame["wall_s"] / frame["calls"],
    "threads": lambda frame: frame["threads"],
}
_LIMITED_BY = {FIELDS[name].by: name for name in _SHARES}


class TraceAccessor:
    """Questions to a trace. Raises `AttributeError` for a frame that is none."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.kind = kind_of(frame)

    # ------------------------------------------------------------------ tables

    def verdicts(self) -> pd.DataFrame:
        """How often each plugin's calls ended how: a row a plugin, a column a verdict (like `limited:memory`)."""
        import pandas as pd

        frame = self._calls("verdicts")
        words = frame["verdict"].astype(str)
        told = words.where(frame["by"].isna(), words + ":" + frame["by"].astype(str))
        table = pd.crosstab(frame["plugin"].astype(str), told)
        table.index.name, table.columns.name = "plugin", None
        # What went well comes first, then the most frequent.
        counts = {word: int(count) for word, count in table.sum().items()}
        return table[sorted(counts, key=lambda word: (word != "completed", -counts[word], word))]

    def summary(self) -> pd.DataFrame:
        """What a call cost: for each plugin `calls`, `completed` (their share), and p50, p90, p99, max of each cost.

        Columns are like `cpu_s p90`; seconds and bytes, a call's own share where a window shares its figures. Of a
        samples frame: the same quantiles of each of its columns, in one row.
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
        """The calls that used at least `share` of a limit, worst first.

        Two columns more: `limit`, the limit that it came closest to (or was stopped by), and `used`, the share of it.
        Memory counts as far as the call itself added it. Calls without figures are left out, unless a limit stopped
        them. Raises `ValueError` where the frame has lost its `attrs`.
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
        worst = used.fillna(float("-inf")).idxmax(axis=1) if len(used) else []  # which refuses a row of no figures
        found = frame.assign(limit=worst, used=used.max(axis=1)).astype({"limit": str})
        other = limited & ~frame["by"].isin(list(_LIMITED_BY))
        found.loc[other, "limit"] = frame.loc[other, "by"].astype(str)
        found.loc[other, "used"] = 1.0
        return found[found["used"] >= float(share)].sort_values("used", ascending=False, kind="stable")

    def compare(self, other: pd.DataFrame) -> pd.DataFrame:
        """This trace beside `other`: for each plugin and cost the medians `before` (here) and `after`, and `ratio`.

        Rows are indexed by plugin and cost; the costs are wall, CPU, peak memory, and the share of completed calls.
        A plugin that only one of them has shows missing figures on the other side.
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

    # ------------------------------------------------------------------ pictures and files

    def plot(self, ax: Axes | None = None) -> Axes:
        """Of calls: what each cost, in the order of their start, and its verdict. Of samples: memory over time.

        Draws on `ax` or on new Axes, and returns them.
        """
        from agentplug.report import plots  # matplotlib

        return plots.plot_calls(self._frame, ax) if self.kind == "calls" else plots.plot_samples(self._frame, ax)

    def save(self, path: str | Path) -> Path:
        """Write the trace to a `.parquet`, `.feather` or `.csv` file: `agentplug.read_trace` reads it back."""
        return save_trace(self._frame, path)

    # ------------------------------------------------------------------ inside

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
        """The limit that held for each row."""
        import pandas as pd

        plugins = self._frame["plugin"].astype(str)
        limits = self._frame.attrs.get("limits")
        limits = limits if isinstance(limits, Mapping) else {}
        own = limits.get(name)
        if own is not None and not isinstance(own, Mapping):  # of the only plugin
            limits = dict.fromkeys(plugins.unique(), limits)
        of_plugin = {plugin: of.get(name) for plugin, of in limits.items() if isinstance(of, Mapping)}
        told = pd.to_numeric(plugins.map(of_plugin), errors="coerce").astype("float64")
        began = pd.to_datetime(self._frame["started_at"], utc=True)
        for plugin, changes in earlier_limits(self._frame.attrs).items():
            for latest_us, of in reversed(changes):
                told[(plugins == plugin) & (began <= pd.Timestamp(latest_us, unit="us", tz="UTC"))] = of.get(name)
        if told.isna().any():
            raise ValueError(
                "this frame no longer knows all its limits (pandas drops `attrs` in some operations): ask the trace "
                "itself, or set `attrs` to those of the trace"
            )
        return told


def attached(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, with `df.agentplug` known to pandas."""
    _register()
    return frame


def read_trace(path: str | Path) -> pd.DataFrame:
    """The trace that `df.agentplug.save` wrote: same values, dtypes and `attrs`.

    Columns that an older agentplug didn't write are missing. Raises `ValueError` for the file of a newer agentplug
    whose format isn't known, and for any other file.
    """
    return attached(load_trace(path))


@functools.cache
def _register() -> None:
    """Make `df.agentplug` known to pandas; once is enough."""
    from pandas.api.extensions import register_dataframe_accessor

    register_dataframe_accessor("agentplug")(TraceAccessor)
