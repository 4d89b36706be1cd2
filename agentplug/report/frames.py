"""Runs as DataFrames (host): calls, samples, and a small table of verdicts.

Columns and dtypes are the same for no runs as for a thousand, and the same on pandas 2.2 and 3 (where text is
`object` and `str`). Names come from plugins, so they pass through `printable` before a table can show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.explain import added_memory_bytes, plugin_name
from agentplug.contract.run import KINDS, USAGE_FIELDS, Run
from agentplug.contract.text import printable

if TYPE_CHECKING:
    import pandas as pd

_MIB = 1 << 20


def calls_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a call: `run`, `plugin`, `version`, `digest`, `verdict`, `by`, `started_at`, then the `Usage` columns.

    `verdict` is the kind, `by` what decided (missing for a completed call), `started_at` UTC with nanoseconds.
    Bytes, counts and `run` are int64, seconds float64; `plugin`, `verdict` and `by` are categories, those of
    `verdict` always all six kinds.
    """
    import pandas as pd

    columns: dict[str, Any] = {
        "run": pd.Series([run.number for run in runs], dtype="int64"),
        "plugin": _category(plugin_name(run) for run in runs),
        "version": pd.Series([printable(run.source.version, 100) for run in runs], dtype=str),
        "digest": pd.Series([run.source.digest for run in runs], dtype=str),
        "verdict": _category((run.verdict.kind for run in runs), KINDS),
        "by": _category(None if run.verdict.by is None else printable(run.verdict.by, 100) for run in runs),
        "started_at": pd.DatetimeIndex(pd.to_datetime([run.started_at for run in runs], utc=True)).as_unit("ns"),
    }
    for name in USAGE_FIELDS:
        dtype = "float64" if name.endswith("_s") else "int64"
        columns[name] = pd.Series([getattr(run.usage, name) for run in runs], dtype=dtype)
    return pd.DataFrame(columns)


def samples_frame(run: Run) -> pd.DataFrame:
    """Readings of one call: TimedeltaIndex `t` (ns), `rss_bytes`, `cpu_s`, `cpu_percent`, `threads`.

    `cpu_percent` is the rate since the reading before (100 is one core; the first is 0.0). `attrs` holds
    `limits` (the policy), `plugin`, `version`, `digest` and `verdict`, JSON-safe. Only the names of granted
    environment variables are kept there, because their values may be secrets and frames get saved and shared.
    """
    import numpy as np
    import pandas as pd

    readings = run.readings
    t_ns = np.array([reading.t_ns for reading in readings], dtype="int64")
    cpu_ns = np.array([reading.cpu_ns for reading in readings], dtype="int64")
    percent = np.zeros(len(readings), dtype="float64")
    if len(readings) > 1:
        elapsed = np.diff(t_ns)
        np.divide(100.0 * np.diff(cpu_ns), elapsed, out=percent[1:], where=elapsed > 0)
    frame = pd.DataFrame(
        {
            "rss_bytes": np.array([reading.rss_bytes for reading in readings], dtype="int64"),
            "cpu_s": cpu_ns / 1e9,
            "cpu_percent": percent,
            "threads": np.array([reading.threads for reading in readings], dtype="int64"),
        },
        index=pd.TimedeltaIndex(t_ns.view("timedelta64[ns]"), name="t"),
    )
    limits = run.policy.to_dict()
    frame.attrs = {
        "limits": limits | {"env": dict.fromkeys(limits["env"], "…")},
        "plugin": plugin_name(run),
        "version": printable(run.source.version, 100),
        "digest": run.source.digest,
        "verdict": printable(str(run.verdict), 100),
    }
    return frame


def verdict_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """A small table for people: `plugin`, `verdict` (like `limited:memory`), and what each call cost.

    `peak_memory_mib` is the worker's footprint at its highest, `added_memory_mib` how much of it counts against
    the limit.
    """
    import pandas as pd

    usages = [run.usage for run in runs]
    return pd.DataFrame(
        {
            "plugin": pd.Series([plugin_name(run) for run in runs], dtype=str),
            "verdict": pd.Series([printable(str(run.verdict), 100) for run in runs], dtype=str),
            "wall_s": pd.Series([round(usage.wall_s, 3) for usage in usages], dtype="float64"),
            "cpu_s": pd.Series([round(usage.cpu_s, 3) for usage in usages], dtype="float64"),
            "peak_memory_mib": pd.Series([_mib(usage.peak_memory_bytes) for usage in usages], dtype="float64"),
            "added_memory_mib": pd.Series([_mib(added_memory_bytes(run)) for run in runs], dtype="float64"),
            "output_bytes": pd.Series([usage.output_bytes for usage in usages], dtype="int64"),
        }
    )


def _mib(size_bytes: int) -> float:
    return round(size_bytes / _MIB, 1)


def _category(values: Iterable[str | None], categories: Iterable[str] | None = None) -> pd.Categorical:
    import pandas as pd

    values = list(values)
    if categories is None:
        categories = sorted({value for value in values if value is not None})
    return pd.Categorical(values, categories=pd.Index(list(categories), dtype=str))


def barriers_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a barrier: barrier, protects, status, detail."""
    import pandas as pd

    columns = ("barrier", "protects", "status", "detail")
    return pd.DataFrame(
        {name: [str(row[name]) for row in rows] for name in columns}, columns=list(columns), dtype="str"
    )
