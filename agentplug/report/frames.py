"""DataFrames of calls, of samples, and of a worker's barriers (host).

Columns and dtypes don't depend on the number of runs, and are the same on pandas 2.2 and 3 (where text is `object`
and `str`). Names come from plugins, so they go through `printable` and `no_formula`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import Policy
from agentplug.contract.record import KINDS, USAGE_FIELDS, RunRecord, plugin_name
from agentplug.contract.text import no_formula, printable
from agentplug.report.machine import machine
from agentplug.report.recorder import ROW, Identity, Recorder

if TYPE_CHECKING:
    import pandas as pd

_NEVER_US = 1 << 62
About = Mapping[str, Mapping[str, Any]]
"""The results of `about`, by the plugin's names in a trace."""


def calls_frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """Make the calls frame of `runs`: see `recorded_frame`."""
    return named_frame((plugin_name(run), run) for run in runs)


def named_frame(runs: Iterable[tuple[str, RunRecord]]) -> pd.DataFrame:
    """Make the calls frame of `runs`, each under the name before it.

    Runs of one name may be of several plugins with limits of their own. A change of limits counts from one run to the
    next, in the order of their start.
    """
    parts: list[tuple[Recorder, About]] = []
    latest: dict[str, tuple[object, Recorder]] = {}
    for name, run in sorted(runs, key=lambda named: named[1].started_at):
        key = run.policy, run.source.digest, run.barriers
        if name not in latest or latest[name][0] != key:
            recorder = Recorder()
            recorder.known_as = name
            latest[name] = key, recorder
            parts.append((recorder, {name: about(*key)}))
        latest[name][1].add(run)
    return recorded_frame(parts)


def recorded_frame(recorders: Iterable[tuple[Recorder, About]]) -> pd.DataFrame:
    """Make the calls frame: one row a call, with the columns `CALLS_COLUMNS`.

    `verdict` is the kind, `by` what decided (missing for a completed call), `started_at` UTC with nanoseconds.
    Bytes, counts and `run` are int64, seconds float64; `plugin`, `verdict` and `by` are categories, those of
    `verdict` always all six kinds. Rows stand in the order of their start.

    Each recorder comes with the `about` of its plugin, by name. `attrs`, JSON-safe, holds `frame` ("calls"), the
    present `limits`, `digest` and `barriers` (for several plugins, a dict by name each), `machine`, and `dropped`,
    the number of calls that were too many to store. If a plugin's limits changed, `earlier_limits` has the earlier
    ones by its name, oldest first: pairs of the microsecond since 1970 in which the last call under them began, and
    the limits.
    """
    import numpy as np
    import pandas as pd

    identities: list[Identity] = []
    parts: list[Any] = []
    by: list[Any] = []
    abouts: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    dropped = 0
    for recorder, about_plugin in recorders:
        dropped += recorder.dropped
        for name, of in about_plugin.items():
            abouts.setdefault(no_formula(name), []).append((recorder.latest_us if len(recorder) else _NEVER_US, of))
        for identity, packed in recorder.snapshot():
            part = np.frombuffer(packed, dtype=ROW)
            parts.append(part)
            identities.append(identity)
            words = [*map(no_formula, recorder.words), None]
            by.append(np.array(words, dtype=object)[part["by"]])  # -1 stands for none
    rows = np.concatenate([np.empty(0, dtype=ROW), *parts])
    block = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    columns: dict[str, Any] = {
        "run": np.ascontiguousarray(rows["run"]),
        "plugin": _category([no_formula(identity.plugin) for identity in identities])[block],
        "version": _texts([no_formula(identity.version) for identity in identities], block),
        "digest": _texts([identity.digest for identity in identities], block),
        "verdict": pd.Categorical.from_codes(rows["verdict"], categories=pd.Index(list(KINDS), dtype=str)),
        "by": _category(np.concatenate([np.empty(0, dtype=object), *by])),
        "started_at": pd.DatetimeIndex((rows["started_us"] * 1000).view("datetime64[ns]")).tz_localize("UTC"),
    }
    for name in USAGE_FIELDS:
        columns[name] = np.ascontiguousarray(rows[name])
    frame = pd.DataFrame(columns)
    if len(parts) > 1:
        frame = frame.sort_values("started_at", kind="stable", ignore_index=True)
    for history in abouts.values():
        history.sort(key=lambda entry: entry[0])
    present = {name: history[-1][1] for name, history in abouts.items()}
    frame.attrs = {"frame": "calls"} | _together(present) | {"machine": machine(), "dropped": dropped}
    if earlier := {name: before for name, history in abouts.items() if (before := _earlier(history))}:
        frame.attrs["earlier_limits"] = earlier
    return frame


def about(policy: Policy, digest: str, barriers: Mapping[str, str]) -> dict[str, Any]:
    """Return a plugin's part of a frame's `attrs`: `limits`, `digest`, `barriers` (name to status)."""
    return {"limits": policy_fields(policy), "digest": digest, "barriers": dict(barriers)}


def policy_fields(policy: Policy) -> dict[str, Any]:
    """Return a policy as a dict without the values of its variables: they may be secrets, and frames get shared."""
    fields = policy.to_dict()
    return fields | {"env": dict.fromkeys(fields["env"], "…")}


def _earlier(history: Sequence[tuple[int, Mapping[str, Any]]]) -> list[list[Any]]:
    """Return the limits that aren't valid any more, each with the latest call under them."""
    changes: list[list[Any]] = []
    for latest_us, of in history:
        if changes and changes[-1][1] == of["limits"]:
            changes[-1][0] = latest_us
        else:
            changes.append([latest_us, of["limits"]])
    return [change for change in changes[:-1] if change[0] != _NEVER_US]


def _together(abouts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = abouts.values() or ({},)
    if first and all(of == first for of in others):
        return dict(first)
    return {key: {name: of[key] for name, of in abouts.items()} for key in ("limits", "digest", "barriers")}


def _texts(words: Sequence[str], block: Any) -> pd.Series[str]:
    """Return the text of each row's block."""
    import pandas as pd

    return pd.Series(list(words), dtype=str).take(block).reset_index(drop=True)


def samples_frame(run: RunRecord) -> pd.DataFrame:
    """Make the samples frame of one call: TimedeltaIndex `t` (ns), `rss_bytes`, `cpu_s`, `cpu_percent`, `threads`.

    `cpu_percent` is the rate since the previous reading (100 is one core; the first is 0.0). The kernel counts a
    running thread's time in steps of some milliseconds, so the rate jumps, also above 100; use `cpu_s` for rates over
    longer times. `threads` may be a second old while the worker is calm. Readings are 10 ms apart; closer at the
    start of a call and where memory changes, farther if many workers are busy. `attrs`, JSON-safe, holds `frame`
    ("samples"), `plugin`, `version`, `verdict`, `limits` (the policy), `digest`, `barriers` and `machine`.
    """
    import numpy as np
    import pandas as pd

    readings = run._inside.readings
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
    attrs: dict[Hashable | None, Any] = {"frame": "samples", "plugin": no_formula(plugin_name(run))}
    attrs |= {"version": printable(run.source.version, 100), "verdict": printable(str(run.verdict), 100)}
    frame.attrs = attrs | about(run.policy, run.source.digest, run.barriers) | {"machine": machine()}
    return frame


def _category(values: Iterable[str | None]) -> pd.Categorical:
    import pandas as pd

    values = list(values)
    categories = sorted({value for value in values if value is not None})
    return pd.Categorical(values, categories=pd.Index(categories, dtype=str))


def barriers_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a frame with one row a barrier: barrier, protects, status, detail."""
    from agentplug.report.text_table import TextTable

    columns = ("barrier", "protects", "status", "detail")
    texts = {name: [str(row[name]) for row in rows] for name in columns}
    return without_formulas(TextTable(texts, columns=list(columns), dtype="str"))


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Escape TeX in the texts and categories of a frame, in place; see `no_formula`. Return the frame."""
    import pandas as pd

    for name, column in frame.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            words = list(column.cat.categories)
            if (safe := [_no_formula(word) for word in words]) != words:
                frame[name] = column.cat.rename_categories(pd.Index(safe))
        elif pd.api.types.is_string_dtype(column.dtype) or column.dtype == object:
            frame[name] = column.map(_no_formula)
    return frame


def _no_formula(cell: Any) -> Any:
    return no_formula(cell) if isinstance(cell, str) else cell
