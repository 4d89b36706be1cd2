"""The columns of a trace (host): what a calls frame and a samples frame are known by."""

from __future__ import annotations

from typing import Any

from agentplug.contract.record import USAGE_FIELDS

CALLS_COLUMNS = ("run", "plugin", "version", "digest", "verdict", "by", "started_at", *USAGE_FIELDS)
SAMPLES_COLUMNS = ("rss_bytes", "cpu_s", "cpu_percent", "threads")


def kind_of(frame: Any) -> str:
    """`calls` or `samples`. Raises `AttributeError` for a frame that is no trace."""
    columns = set(getattr(frame, "columns", ()))
    if set(CALLS_COLUMNS) <= columns:
        return "calls"
    if set(SAMPLES_COLUMNS) <= columns and frame.index.name == "t":
        return "samples"
    if getattr(frame, "attrs", {}).get("frame") == "samples" or {"rss_bytes", "cpu_percent"} & columns:
        lacking = ", ".join([name for name in SAMPLES_COLUMNS if name not in columns])
        found = f"no columns {lacking}" if lacking else "no index t; set_index('t') makes a column t one"
        raise AttributeError(f"df.agentplug needs all of `run.samples`: this samples frame has {found}")
    lacking = ", ".join([name for name in CALLS_COLUMNS if name not in columns][:4])
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
