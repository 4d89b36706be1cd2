"""A trace for people (host): the value of `df.agentplug.show()`, a table with units, as text and as HTML.

A call's moment is its distance from the first call, so that a notebook's output compares equal from run to run.
Texts come from plugins or from files, so all of them are escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.report.aligned import aligned
from agentplug.report.html import esc, figure, pill, table
from agentplug.report.marks import verdict_mark
from agentplug.report.sentences import format_seconds
from agentplug.report.units import measured_size

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 60
_SIZES = ("request_bytes", "reply_bytes", "output_bytes", "read_bytes", "write_bytes")
_WORDS = {"run", "plugin", "verdict"}


class TraceView:
    """A trace as a table with units; `limits` holds the limit of each row by its field, if they are shown."""

    def __init__(self, frame: pd.DataFrame, limits: pd.DataFrame | None = None) -> None:
        half = _MOST_ROWS // 2
        self._left_out = max(0, len(frame) - _MOST_ROWS)
        rows = range(len(frame))
        chosen = [*rows[:half], *rows[len(frame) - half :]] if self._left_out else list(rows)
        make = _call_rows if "verdict" in frame.columns else _sample_rows
        self._rows = make(frame, None if limits is None else limits.iloc[chosen], chosen)

    def __repr__(self) -> str:
        if not self._rows:
            return "No calls yet."
        rows = [{name: printable(text, 200) for name, text in row.items()} for row in self._rows]
        return aligned(rows) + (f"\n{self._note()}" if self._left_out else "")

    def _repr_html_(self) -> str:
        if not self._rows:
            return "<p>No calls yet.</p>"
        cells = [[_cell(name, text) for name, text in row.items()] for row in self._rows]
        return table(list(self._rows[0]), cells) + (f"<p>{esc(self._note())}</p>" if self._left_out else "")

    def _note(self) -> str:
        return f"The first and the last {_MOST_ROWS // 2}; {self._left_out:,} between them are left out."


def _cell(name: str, text: str) -> str:
    if name == "verdict" and text:
        return pill(verdict_mark(text.partition(":")[0]), text)
    return f"<b>{esc(text)}</b>" if name == "plugin" else esc(text) if name in _WORDS else figure(text)


def _call_rows(frame: pd.DataFrame, limits: pd.DataFrame | None, chosen: list[int]) -> list[dict[str, str]]:
    import pandas as pd

    began = pd.to_datetime(frame["started_at"], errors="coerce", utc=True)
    after_s = (began - began.min()).dt.total_seconds()
    shared = bool((frame["calls"] > 1).any())
    used = [name for name in _SIZES if name in frame.columns and (frame[name] > 0).any()]
    rows = []
    for place, at in enumerate(chosen):
        call = frame.iloc[at]
        by = "" if pd.isna(call["by"]) else f":{call['by']}"
        added = call["peak_memory_bytes"] - call["baseline_memory_bytes"]
        row = {"run": str(call["run"]), "plugin": str(call["plugin"]), "version": str(call.get("version", ""))}
        row |= {"verdict": f"{call['verdict']}{by}", "began": _amount(after_s.iloc[at], _after)}
        figures = (("wall_s", call["wall_s"], format_seconds), ("cpu_s", call["cpu_s"], format_seconds))
        figures += (("memory", added, measured_size), ("threads", call["threads"], str))  # type: ignore[assignment]
        for name, value, form in figures:
            text = _amount(value, form)
            if limits is not None and name != "memory" and (limit := limits[name].iloc[place]) == limit:
                text += f" of {_LIMITS[name](limit)}"
            row[_TITLES[name]] = text
        if limits is not None:  # it counts from another footprint than the call's own, so it isn't "of" that figure
            row["memory limit"] = format_size(limits["memory"].iloc[place])
        row["peak footprint"] = _amount(call["peak_memory_bytes"], measured_size)
        row |= {name.removesuffix("_bytes"): _amount(call[name], measured_size) for name in used}
        if shared:
            row["shared by"] = _amount(call["calls"], lambda calls: f"{calls:.0f} call{'' if calls == 1 else 's'}")
        rows.append(row)
    return rows


def _sample_rows(frame: pd.DataFrame, limits: pd.DataFrame | None, chosen: list[int]) -> list[dict[str, str]]:
    rows = []
    for at in chosen:
        sample = frame.iloc[at]
        rows.append(
            {
                "t": _amount(frame.index[at].total_seconds(), format_seconds),
                "footprint": _amount(sample["rss_bytes"], measured_size),
                "CPU": _amount(sample["cpu_s"], format_seconds),
                "CPU share": _amount(sample["cpu_percent"], lambda percent: f"{percent:.0f} %"),
                "threads": _amount(sample["threads"], lambda threads: f"{threads:.0f}"),
            }
        )
    return rows


_TITLES = {"wall_s": "wall", "cpu_s": "CPU", "memory": "added by the call", "threads": "threads"}
_LIMITS: dict[str, Callable[[float], str]] = {
    "wall_s": lambda limit: f"{limit:g} s",
    "cpu_s": lambda limit: f"{limit:g} s",
    "threads": lambda limit: f"{limit:g}",
}


def _after(seconds: float) -> str:
    return f"+{format_seconds(seconds)}"


def _amount(value: Any, form: Callable[[Any], str]) -> str:
    """Return a figure with its unit, or nothing for a missing one: a trace may have been read from a file."""
    import pandas as pd

    return "" if pd.isna(value) else form(value)
