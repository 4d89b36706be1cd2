"""An audit log as a table: for pandas, for terminals and for notebooks (host).

Much of the fields' text came from plugins, so every text goes through `printable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.record import KINDS, USAGE_FIELDS, RunRecord
from agentplug.contract.text import no_formula, printable
from agentplug.manager.audit.lines import Entry, plugins_of, verdict_of
from agentplug.report.accessor import attached
from agentplug.report.columns import dtype_of
from agentplug.report.frames import named_frame, without_formulas
from agentplug.report.html import card, esc, figure, line, pill, table
from agentplug.report.marks import Mark, verdict_mark
from agentplug.report.sentences import format_seconds

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

_GOOD = frozenset(("allowed", "kept", "changed", "queued", "observed", "loaded", "ok"))
_MOST_DETAIL = 120
_MOST = 1e15
_QUIET_COLOR = "#8C8C8C"
_DTYPES: dict[str, Any] = {
    "n": "int64",
    "at": "datetime64[ns, UTC]",
    **dict.fromkeys(("kind", "plugin", "version", "digest", "point", "verdict", "by"), str),
    "wall_s": "float64",
    "cpu_s": "float64",
    "peak_memory_bytes": "Int64",
    "detail": str,
    "hash": str,
}
_HEADINGS = ("n", "time (UTC)", "kind", "plugin", "point", "verdict", "wall", "detail")


def audit_frame(entries: Iterable[Entry]) -> pd.DataFrame:
    """Build a pandas table with one row an entry and the columns `n`, `at` (UTC), `kind`, `plugin`, `version`,
    `digest`, `point`, `verdict`, `by`, `wall_s`, `cpu_s`, `peak_memory_bytes`, `detail`, `hash`.

    `digest` is that of the plugin's bytes; `verdict` and `by` are a run's, a hook's or a message's. Costs are missing
    if an entry has none. `attrs["frame"]` is "audit".
    """
    import pandas as pd

    rows = [_row(entry) for entry in entries]
    log = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in _DTYPES.items()})
    log.attrs = {"frame": "audit"}
    return without_formulas(log)


def audited_trace(runs: Sequence[tuple[Entry, RunRecord]], machine: Mapping[str, Any] | None) -> pd.DataFrame:
    """Build the calls table of a log's runs, with the plugins' names in the log; `attrs` names the machine."""
    import numpy as np

    frame = named_frame((_name(entry), run) for entry, run in runs)
    for name in USAGE_FIELDS:  # an older agentplug didn't write all of them
        lacking = [(no_formula(_name(of)), run) for of, run in runs if name not in of.fields["usage"]]
        if older := {(plugin, run.number, run.started_at) for plugin, run in lacking}:
            keys = zip(frame["plugin"].astype(str), frame["run"], frame["started_at"], strict=True)
            frame[name] = frame[name].astype(dtype_of(name)).mask(np.array([key in older for key in keys]))
    if machine is not None:
        frame.attrs["machine"] = dict(machine)
    return attached(frame)


def _name(entry: Entry) -> str:
    return printable(str(entry.fields.get("plugin", "")), 100)


def audit_table(entries: Sequence[Entry], most: int = 50) -> Table:
    """Render the last `most` entries for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rendered = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS:
        folds = heading in ("verdict", "detail")
        rendered.add_column(
            heading,
            justify="right" if heading in ("n", "wall") else "left",
            no_wrap=not folds and heading != "plugin",
            overflow="fold" if folds else "ellipsis",
        )
    for entry in entries[-most:] if most > 0 else ():
        *texts, verdict, wall, detail = _cells(entry)
        mark = _mark(verdict)
        rendered.add_row(
            *map(Text, texts),
            Text(f"{mark.icon} {verdict}", style=f"bold {mark.color}") if verdict else Text(""),
            Text(wall),
            Text(detail, style="dim"),
        )
    return rendered


def audit_html(entries: Sequence[Entry], verification: str, ok: bool, most: int = 50) -> str:
    """Render the last `most` entries for a notebook, below the log's verification."""
    rows = []
    for entry in entries[-most:]:
        n, at, kind, plugin, point, verdict, wall, detail = _cells(entry)
        marked = pill(_mark(verdict), verdict) if verdict else ""
        cells = [figure(n), figure(at), esc(kind), f"<b>{esc(plugin)}</b>", esc(point), marked]
        rows.append([*cells, figure(wall) if wall else "", esc(detail)])
    mark = verdict_mark("completed" if ok else "broken")
    head = line(f"{pill(mark, 'verified' if ok else 'not verified')} &nbsp;{esc(verification, 600)}")
    more = line(esc(f"the last {most} of {len(entries)} entries")) if len(entries) > most else ""
    return card(mark.color, head, more, table(_HEADINGS, rows))


def _cells(entry: Entry) -> list[str]:
    """Return the entry's texts below `_HEADINGS`."""
    row = _row(entry)
    verdict = f"{row['verdict']}:{row['by']}" if row["by"] else row["verdict"]
    wall = format_seconds(row["wall_s"]) if row["wall_s"] is not None else ""
    time = f"{row['at']:%Y-%m-%d %H:%M:%S}"
    return [str(row["n"]), time, row["kind"], row["plugin"], row["point"], verdict, wall, row["detail"]]


def _row(entry: Entry) -> dict[str, Any]:
    fields = entry.fields
    verdict, _, by = verdict_of(entry).partition(":")
    usage = fields.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    own = "plugin" in fields or entry.kind == "hook"
    version, digest = (fields.get(name) if "plugin" in fields else None for name in ("version", "digest"))
    wall = usage.get("wall_s", fields.get("duration_s"))
    return {
        "n": entry.n,
        "at": entry.at,
        "kind": printable(entry.kind, 40),
        "plugin": ", ".join(printable(name, 60) for name in plugins_of(entry)) if own else "",
        "version": _text(version),
        "digest": _text(digest),
        "point": _text(fields.get("point")),
        "verdict": printable(verdict, 100),
        "by": printable(by, 100),
        "wall_s": _number(wall),
        "cpu_s": _number(usage.get("cpu_s")),
        "peak_memory_bytes": _whole_number(usage.get("peak_memory_bytes")),
        "detail": _detail(entry),
        "hash": entry.hash,
    }


def _detail(entry: Entry) -> str:
    """Return a few words on fields that have no column of their own."""
    fields = entry.fields
    words = []
    if entry.kind == "run":
        words.append(f"call {fields.get('run')}")
    hooks = fields.get("hooks")
    if entry.kind == "dispatch" and isinstance(hooks, list):
        words += [f"{hook.get('hook')} {hook.get('outcome')}" for hook in hooks if isinstance(hook, dict)]
    for name in ("reason", "error", "why", "spec", "bytes", "lines", "part"):
        value = fields.get(name)
        if value not in (None, "", {}):
            value = value.get("type") if isinstance(value, dict) else value
            words.append(f"{name} {value}")
    if fields.get("truncated"):
        words.append("truncated")
    return printable(", ".join(map(str, words)), _MOST_DETAIL)


def _mark(verdict: str) -> Mark:
    kind = verdict.partition(":")[0]
    if kind in KINDS:
        return verdict_mark(kind)
    if kind in _GOOD:
        return verdict_mark("completed")
    return verdict_mark("failed") if verdict else Mark(_QUIET_COLOR, "")


def _text(value: object) -> str:
    return printable(value, 200) if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    """Return `value` if it is a number of reasonable size, else None: anyone may have written the log."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _MOST:
        return None
    return float(value)


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) and _number(value) is not None else None
