"""DataFrames (host): of runs, as calls, samples and a small table of verdicts; and of a worker's barriers.

Columns and dtypes are the same for no runs as for a thousand, and the same on pandas 2.2 and 3 (where text is
`object` and `str`). Names come from plugins, so they pass through `printable` before a table can show them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentplug.contract.policy import Policy
from agentplug.contract.record import KINDS, USAGE_FIELDS, RunRecord, plugin_name
from agentplug.contract.text import printable
from agentplug.report.machine import machine
from agentplug.report.recorder import ROW, Identity, Recorder

if TYPE_CHECKING:
    import pandas as pd

_NEVER_US = 1 << 62
About = Mapping[str, Mapping[str, Any]]
"""What `about` makes, by each name that a plugin has in a trace."""


def calls_frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """The calls frame of `runs`: see `recorded_frame`. `attrs` tells of their plugins' limits and barriers."""
    return named_frame((plugin_name(run), run) for run in runs)


def named_frame(runs: Iterable[tuple[str, RunRecord]]) -> pd.DataFrame:
    """The calls frame of `runs`, each under the name before it. Those of one name may be of several plugins at once,
    with limits of their own: in the order of their start each change of limits counts.
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


def recorded_frame(given: Iterable[tuple[Recorder, About]]) -> pd.DataFrame:
    """One row a call: `run`, `plugin`, `version`, `digest`, `verdict`, `by`, `started_at`, then the `Usage` columns.

    `verdict` is the kind, `by` what decided (missing for a completed call), `started_at` UTC with nanoseconds.
    Bytes, counts and `run` are int64, seconds float64; `plugin`, `verdict` and `by` are categories, those of
    `verdict` always all six kinds. Rows stand in the order of their start.

    Each recorder comes with what `about` makes of its plugin, by name. In `attrs`, JSON-safe: `frame` ("calls"),
    `limits`, `digest` and `barriers` as they are now (of the plugin; of several plugins, a dict by name each),
    `machine`, and `dropped`, the number of calls that were too many to keep. Where a plugin's limits were others
    before, `earlier_limits` has them by its name, oldest first: pairs of the microsecond since 1970 in which the last
    call under them began, and the limits.
    """
    import numpy as np
    import pandas as pd

    identities: list[Identity] = []
    parts: list[Any] = []
    by: list[Any] = []
    told: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    dropped = 0
    for recorder, of_plugin in given:
        dropped += recorder.dropped
        for name, of in of_plugin.items():
            told.setdefault(name, []).append((recorder.latest_us if len(recorder) else _NEVER_US, of))
        for identity, packed in recorder.snapshot():
            part = np.frombuffer(packed, dtype=ROW)
            parts.append(part)
            identities.append(identity)
            by.append(np.array([*recorder.words, None], dtype=object)[part["by"]])  # -1 stands for none
    rows = np.concatenate([np.empty(0, dtype=ROW), *parts])
    block = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    columns: dict[str, Any] = {
        "run": np.ascontiguousarray(rows["run"]),
        "plugin": _category([identity.plugin for identity in identities])[block],
        "version": _texts([identity.version for identity in identities], block),
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
    for all_of in told.values():
        all_of.sort(key=lambda one: one[0])
    present = {name: all_of[-1][1] for name, all_of in told.items()}
    frame.attrs = {"frame": "calls"} | _together(present) | {"machine": machine(), "dropped": dropped}
    if earlier := {name: before for name, all_of in told.items() if (before := _earlier(all_of))}:
        frame.attrs["earlier_limits"] = earlier
    return frame


def about(policy: Policy, digest: str, barriers: Mapping[str, str]) -> dict[str, Any]:
    """What a frame's `attrs` say of a plugin: `limits`, `digest`, `barriers` (name to status).

    Only the names of granted environment variables are kept, because their values may be secrets and frames get
    saved and shared.
    """
    limits = policy.to_dict()
    return {
        "limits": limits | {"env": dict.fromkeys(limits["env"], "…")},
        "digest": digest,
        "barriers": dict(barriers),
    }


def _earlier(told: Sequence[tuple[int, Mapping[str, Any]]]) -> list[list[Any]]:
    """The limits that no longer hold, each with the latest call under them."""
    changes: list[list[Any]] = []
    for latest_us, of in told:
        if changes and changes[-1][1] == of["limits"]:
            changes[-1][0] = latest_us
        else:
            changes.append([latest_us, of["limits"]])
    return [change for change in changes[:-1] if change[0] != _NEVER_US]


def _together(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = told.values() or ({},)
    if first and all(of == first for of in others):
        return dict(first)
    return {key: {name: of[key] for name, of in told.items()} for key in ("limits", "digest", "barriers")}


def _texts(words: Sequence[str], block: Any) -> pd.Series[str]:
    """The text of each row's block."""
    import pandas as pd

    return pd.Series(list(words), dtype=str).take(block).reset_index(drop=True)


def samples_frame(run: RunRecord) -> pd.DataFrame:
    """Readings of one call: TimedeltaIndex `t` (ns), `rss_bytes`, `cpu_s`, `cpu_percent`, `threads`.

    `cpu_percent` is the rate since the reading before (100 is one core; the first is 0.0). While a thread runs, the
    kernel counts its time in steps of some milliseconds, so over a few of them the rate jumps, above 100 too: take it
    over more with `cpu_s`. `threads` may be a second old while the worker is calm. Readings are denser at the start
    of a call and where memory changes, else 10 ms apart, in a crowd of busy workers more. `attrs`, JSON-safe, holds
    `frame` ("samples"), `plugin`, `version`, `verdict`, `limits` (the policy), `digest`, `barriers` and `machine`.
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
    attrs: dict[Hashable | None, Any] = {"frame": "samples", "plugin": plugin_name(run)}
    attrs |= {"version": printable(run.source.version, 100), "verdict": printable(str(run.verdict), 100)}
    frame.attrs = attrs | about(run.policy, run.source.digest, run.barriers) | {"machine": machine()}
    return frame


def _category(values: Iterable[str | None]) -> pd.Categorical:
    import pandas as pd

    values = list(values)
    categories = sorted({value for value in values if value is not None})
    return pd.Categorical(values, categories=pd.Index(categories, dtype=str))


def barriers_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a barrier: barrier, protects, status, detail."""
    import pandas as pd

    columns = ("barrier", "protects", "status", "detail")
    return pd.DataFrame(
        {name: [str(row[name]) for row in rows] for name in columns}, columns=list(columns), dtype="str"
    )
