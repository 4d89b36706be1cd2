"""The columns by which a frame is a trace, a calls frame or a samples frame; earlier limits in its `attrs` (host)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.record import USAGE_FIELDS

if TYPE_CHECKING:
    import pandas as pd

_CALL = ("run", "plugin", "version", "digest", "verdict", "by", "started_at")
CORE_COSTS = ("wall_s", "cpu_s", "peak_memory_bytes", "baseline_memory_bytes", "calls", "threads")
CALLS_COLUMNS = (*_CALL, *USAGE_FIELDS)
SAMPLES_COLUMNS = ("rss_bytes", "cpu_s", "cpu_percent", "threads")
CORE = {"calls": (*_CALL, *CORE_COSTS), "samples": ("rss_bytes", "cpu_s", "cpu_percent", "threads")}
"""The columns that make a frame a trace. Never extend them: older files would be no traces."""
_MOST_US = 1 << 52
"""Beyond the year 2100, and small enough for a timestamp of nanoseconds."""


def dtype_of(name: str) -> Any:
    """Return the dtype of a column of figures in which values may be missing."""
    return "float64" if name.endswith(("_s", "_percent")) else "Int64"


def add_missing_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that an older writer didn't know, in their places, with all values missing."""
    import pandas as pd

    known = CALLS_COLUMNS if kind_of(frame) == "calls" else SAMPLES_COLUMNS
    for at, name in enumerate(known):
        if name not in frame.columns:
            frame.insert(min(at, frame.shape[1]), name, pd.Series(None, index=frame.index, dtype=dtype_of(name)))
    return frame


def kind_of(frame: Any) -> str:
    """Return `calls` or `samples`. Raises `AttributeError` for a frame that is no trace."""
    columns = set(getattr(frame, "columns", ()))
    if set(CORE["calls"]) <= columns:
        return "calls"
    if set(CORE["samples"]) <= columns and frame.index.name == "t":
        return "samples"
    if getattr(frame, "attrs", {}).get("frame") == "samples" or {"rss_bytes", "cpu_percent"} & columns:
        lacking = ", ".join([name for name in CORE["samples"] if name not in columns])
        lack = f"no columns {lacking}" if lacking else "no index t; set_index('t') makes a column t one"
        raise AttributeError(f"df.agentplug needs all of `run.samples`: this samples frame has {lack}")
    lacking = ", ".join([name for name in CORE["calls"] if name not in columns][:4])
    raise AttributeError(
        "df.agentplug is for the trace of a run, plugin or manager (`plugin.trace`, `run.samples`); this "
        f"{type(frame).__name__} has no columns {lacking} …"
    )


def is_trace(frame: Any) -> bool:
    """True for a calls frame or a samples frame."""
    try:
        return bool(kind_of(frame))
    except AttributeError:
        return False


def earlier_limits(attrs: Mapping[Any, Any]) -> Mapping[str, Sequence[tuple[int, Mapping[str, Any]]]]:
    """Read `earlier_limits` of a frame's `attrs`; return nothing if somebody changed its form."""
    try:
        plugins = attrs.get("earlier_limits") or {}
        limits = {str(name): [(int(us), dict(of)) for us, of in changes] for name, changes in plugins.items()}
    except (AttributeError, OverflowError, TypeError, ValueError):
        return {}
    in_time = all(abs(us) < _MOST_US for changes in limits.values() for us, _ in changes)
    return limits if in_time else {}
