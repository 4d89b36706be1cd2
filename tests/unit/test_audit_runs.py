"""What a manager did, read back from its audit log: the same verdicts, tables and pictures; and no secret in it."""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from rich.console import Console

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.profile import Place, Stack
from agentplug.contract.record import ErrorText, Sample, SourceInfo, Usage
from agentplug.core.profile import Profile
from agentplug.core.run import Run
from agentplug.errors import AuditError
from agentplug.manager.audit import Audit, AuditLog, read_audit, watching
from agentplug.manager.audit.runs import RunWriter
from agentplug.manager.manager import PluginManager
from agentplug.report.frames import calls_frame, samples_frame
from tests.leftovers import eventually

SECRET = "hunter2-is-no-secret"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def a_run(value: Any = None, **fields: Any) -> Run:
    return Run(
        value,
        fields.pop("usage", Usage(0.1 / 3, 0.02 / 7, peak_memory_bytes=50 << 20, baseline_memory_bytes=49 << 20)),
        fields.pop("events", (Event(0.0, "start", {"floor_bytes": 48 << 20}), Event(0.1, "reply"))),
        fields.pop("policy", Policy()),
        SourceInfo("./hog.py", "file", "sha256:00", fields.pop("plugin", "hog"), "1.0"),
        fields.pop("number", 0),
        fields.pop("started_at", datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)),
        **fields,
    )


def back(path: Path, runs: Sequence[Run], **options: Any) -> list[Run]:
    with AuditLog(path, **options) as log:
        for run in runs:
            log.record_run(run)
    return read_audit(path).runs()


# ---------------------------------------------------------------------- runs as values


def test_figures_that_a_line_lacks_are_missing_in_the_trace(path: Path, tmp_path: Path) -> None:
    """A newer agentplug continues the log of an older one. The older runs have the default of the figure."""
    usage = Usage(0.5, 0.25, read_bytes=7, write_bytes=8)
    with AuditLog(path) as log:
        for number in range(3):
            log.record_run(a_run(number=number, usage=usage), "hog")
    whole = read_audit(path)
    with AuditLog(tmp_path / "older.jsonl") as log:
        for entry in whole.select(kind="run"):
            fields = json.loads(json.dumps(entry.fields))
            if fields["run"] < 2:
                del fields["usage"]["read_bytes"], fields["usage"]["cpu_user_s"]
            log.record("run", fields | {"usage": fields["usage"] | {"of_tomorrow": 9}})
    older = read_audit(tmp_path / "older.jsonl")
    assert [run.usage.read_bytes for run in older.runs()] == [0, 0, 7]
    trace = older.trace
    assert trace["read_bytes"].isna().tolist() == trace["cpu_user_s"].isna().tolist() == [True, True, False]
    assert (trace["read_bytes"].dtype, trace["read_bytes"][2]) == ("Int64", 7)
    rest = [name for name in trace if name not in ("read_bytes", "cpu_user_s")]
    pd.testing.assert_frame_equal(trace[rest], whole.trace[rest])


def test_a_line_without_what_makes_a_usage_tells_of_no_run(path: Path, tmp_path: Path) -> None:
    """Only figures that came later may be unknown."""
    with AuditLog(path) as log:
        log.record_run(a_run())
    (entry,) = read_audit(path).select(kind="run")
    with AuditLog(tmp_path / "odd.jsonl") as log:
        log.record("run", {**entry.fields, "usage": {"wall_s": 1.0}})
    with pytest.raises(AuditError, match="its usage is none"):
        read_audit(tmp_path / "odd.jsonl").runs()


def test_a_run_comes_back_as_it_was(path: Path) -> None:
    """All but content, which wasn't asked for."""
    run = a_run(
        {"a": 1},
        number=7,
        events=(
            Event(0.0, "start", {"floor_bytes": 1}),
            Event(0.05, "tried", {"syscall": "connect", "argument": "\x1b[2J\ud800", "source": "kernel", "count": 2}),
            Event(0.1, "limit", {"by": "memory", "measured": 2, "bound": 1, "unit": "bytes"}),
        ),
        policy=Policy(read=("/usr",), network=(443,), hooks={"input": "veto"}, memory="64M"),
        readings=(Sample(0, 1, 2, 3), Sample(5_000_001, 2, 3, 4)),
        barriers={"landlock": "enforced"},
        profile=Profile("cpu", (Stack(5, 1, (Place("f", "a.py", 3),)),), 2),
    )
    (read,) = back(path, [run])
    assert vars(read) == {**vars(run), "value": None}
    assert read.verdict == run.verdict


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        {"a": [1.5, True, "\ud800"]},
        (1, 2),
        b"\0\xff",
        1 << 200,
        float("inf"),
        {1: "key"},
        pytest.param({"a", "b"}, id="set"),
    ],
    ids=str,
)
def test_content_comes_back_if_it_was_kept(path: Path, value: Any) -> None:
    """Values that JSON would change are kept in the form that they had on the wire."""
    run = a_run(value, stdout="out\n", stderr="\x1b", error=ErrorText("E", "message\ud800", "trace"))
    (read,) = back(path, [run], content=True)
    assert vars(read) == vars(run)
    assert type(read.value) is type(value)


def test_tables_come_back_if_content_was_kept(path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(1000), "b": "text"})
    assert_frame_equal(back(path, [a_run(frame)], content=True)[0].value, frame)


def test_without_content_there_are_digests_of_it(path: Path) -> None:
    """Equal content has equal digests, and that is all the file tells."""
    runs = [a_run(SECRET, stdout=SECRET, error=ErrorText("E", SECRET, SECRET)) for _ in range(2)] + [a_run("other")]
    read = back(path, runs)
    assert SECRET not in path.read_text()
    assert [run.value for run in read] == [None] * 3
    assert (read[0].stdout, read[0].error) == ("", ErrorText("E", "", ""))
    digests = [entry.fields["value"]["sha256"] for entry in read_audit(path) if entry.kind == "run"]
    assert digests[0] == digests[1] != digests[2]


def test_content_that_is_too_long_for_a_line_is_left_out(path: Path) -> None:
    run = a_run(np.zeros(1 << 20), stdout="x" * (2 << 20))
    (entry,) = [entry for entry in _written(path, run) if entry.kind == "run"]
    assert entry.fields["truncated"] == ["stdout"]
    assert entry.fields["value"]["bytes"] > 8 << 20
    assert read_audit(path).runs() == []


def _written(path: Path, run: Run) -> Audit:
    with AuditLog(path, content=True) as log:
        log.record_run(run)
    return read_audit(path)


def test_variables_are_named_and_their_values_never_written(path: Path) -> None:
    run = a_run(policy=Policy(env={"TOKEN": SECRET}))
    (read,) = back(path, [run], content=True)
    assert SECRET not in path.read_text()
    assert read.policy.env == {"TOKEN": "…"}
    assert calls_frame([read]).attrs == calls_frame([run]).attrs


def test_granted_paths_come_back_wherever_links_lead_now(path: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    run = a_run(policy=Policy(read=(str(tmp_path / "data"),)))
    with AuditLog(path) as log:
        log.record_run(run)
    (tmp_path / "data").rmdir()
    (tmp_path / "data").symlink_to("/etc")
    assert read_audit(path).runs()[0].policy == run.policy


@pytest.mark.parametrize(
    "profile",
    [
        Profile("disk", (Stack(5, 1, (Place("f", "a.py", 3),)),)),
        Profile("cpu", (Stack(5, 1, ()),)),
        Profile("cpu", (Stack(5, 1, (Place("f", "a.py", 3),) * 3_000),)),
        Profile("memory", (Stack(10**300, 1, (Place("f", "a.py", 3),)),)),
        Profile("memory", (Stack(-5, 1, (Place("f", "a.py", 3),)),)),
    ],
)
def test_a_profile_that_no_worker_could_have_told_is_none(path: Path, profile: Profile) -> None:
    """Whoever writes a log of their own may write any; a card would fail of it."""
    written = _written(path, a_run(profile=profile))

    with pytest.raises(AuditError, match="its profile is none"):
        written.runs()


def test_a_line_that_tells_of_no_run_is_named(path: Path) -> None:
    with AuditLog(path) as log:
        log.record("run", {"plugin": "hog", "policy": {"memory": "none"}})
    with pytest.raises(AuditError, match=r"Line 2 of .* tells of no run"):
        read_audit(path).runs()


async def test_a_cell_that_is_run_again_goes_on_with_the_same_log(path: Path) -> None:
    """The manager of the first run still has it, closed or not."""
    manager = PluginManager(audit=path)
    manager = PluginManager(audit=str(path))
    assert manager.audit is not None
    manager.audit.record("note", {})
    gc.collect()
    assert not manager.audit.closed
    await manager.close()
    assert manager.audit.closed
    assert [entry.kind for entry in read_audit(path)] == ["header", "note", "close"]


@pytest.mark.parametrize("whose", ["the logs'", "this log's"])
def test_a_manager_is_dropped_in_the_middle_of_anything(path: Path, whose: str) -> None:
    """The collector may come while this very thread holds a lock that closing the log takes."""
    manager = PluginManager(audit=path)
    log = manager.audit
    assert log is not None
    lock = watching._guard if whose == "the logs'" else log._guard

    def drop() -> None:
        nonlocal manager
        with lock:
            del manager
            gc.collect()

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    dropping.join(30)
    assert not dropping.is_alive(), "it waits for a lock that its own thread holds"
    assert eventually(lambda: log.closed)
    assert [entry.kind for entry in read_audit(path)] == ["header", "close"]


async def test_a_log_that_was_given_stays_open(path: Path) -> None:
    with AuditLog(path, content=True) as log:
        async with PluginManager(audit=log) as manager:
            assert manager.audit is log
        log.record("note", {})
    assert PluginManager().audit is None


# ---------------------------------------------------------------------- tables


def table_text(audit: Audit) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(audit.table())
    return console.export_text()


def test_the_frame_has_a_row_an_entry(path: Path) -> None:
    runs = [a_run(), a_run(events=(Event(0.1, "limit", {"by": "cpu"}),), plugin="\x1b[31m<b>")]
    back(path, runs)
    frame = read_audit(path).to_frame()
    assert frame["kind"].tolist() == ["header", "run", "run", "close"]
    assert frame["n"].tolist() == [1, 2, 3, 4]
    assert frame["verdict"].tolist() == ["", "completed", "limited", ""]
    assert frame["by"].tolist() == ["", "", "cpu", ""]
    assert frame["plugin"].tolist() == ["", "hog", "\\x1b[31m<b>", ""]
    assert frame["wall_s"].isna().tolist() == [True, False, False, True]
    assert str(frame["at"].dtype) == "datetime64[ns, UTC]"
    assert str(frame["peak_memory_bytes"].dtype) == "Int64"
    assert frame.attrs == {"frame": "audit"}


def test_an_empty_selection_has_the_same_columns(path: Path) -> None:
    back(path, [a_run()])
    read = read_audit(path)
    none = read.select(kind="nothing").to_frame()
    assert none.dtypes.to_dict() == read.to_frame().dtypes.to_dict()


def test_text_of_plugins_is_escaped_in_tables(path: Path) -> None:
    with AuditLog(path) as log:
        log.record_run(a_run(plugin="\x1b[31m<script>"))
        hook = {"hook": "\x1b]0;x<i>", "outcome": "died:<i>", "kind": "veto", "point": "input", "duration_s": 0.1}
        log.record("hook", hook | {"reason": "\u202e<u>"})
        log.record("odd", {"plugin": ["list"], "verdict": 3, "usage": "x", "hooks": 7, "point": {}, "wall_s": "y"})
    read = read_audit(path)
    text, html = table_text(read), read._repr_html_()
    assert not {"\x1b", "\u202e"} & set(text + html)
    assert "<script>" in text
    assert not any(tag in html for tag in ("<script>", "<i>", "<u>"))


def test_entries_are_chosen_by_time(path: Path) -> None:
    back(path, [a_run(), a_run()])
    read = read_audit(path)
    middle = read[2].at
    assert len(read.select(since=middle)) == 2
    assert len(read.select(until=middle)) == 2
    assert len(read.select(since=middle.replace(tzinfo=None).isoformat())) == 2
    assert len(read.select(since="2000-01-01", until="2000-01-02")) == 0
    for wrong in ("yesterday", "", 3):
        with pytest.raises(AuditError, match="is no time"):
            read.select(since=wrong)  # type: ignore[arg-type]


def test_a_closed_manager_writes_nothing_more(path: Path) -> None:
    manager = PluginManager(audit=path)
    asyncio.run(manager.close())
    asyncio.run(manager.close())
    assert [entry.kind for entry in read_audit(path)] == ["header", "close"]


# ---------------------------------------------------------------------- logs that somebody else wrote

_ODD = st.sampled_from(
    [
        *(None, True, -1, 1 << 70, 1e308, "", "\ud800\x1b[2J", "9999-12-31T23:59:59-10:00", [], {}),
        [[0, "limit", {}]],
        [[1e300, "error", {"type": 3}]],
        [[0, "start", {"floor_bytes": 1 << 80}]],
        [[0, "start", {"floor_bytes": "x"}]],
    ]
)


@given(st.data())
@settings(max_examples=100, deadline=None, database=None)
def test_forged_fields_are_shown_or_an_audit_error(data: st.DataObject) -> None:
    """Whoever writes a whole log can write anything: nothing of it reaches a table as it is, or ends it."""
    readings = (Sample(0, 1, 2, 3),) * 2
    run = a_run({"a": (1,)}, error=ErrorText("E", "m"), readings=readings, barriers={"landlock": "enforced"})
    fields = json.loads(RunWriter(content=True).to_json(run, None))
    holder, key = fields, data.draw(st.sampled_from(sorted(fields)))
    while isinstance(holder[key], dict) and holder[key] and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder)))
    holder[key] = data.draw(_ODD)
    with tempfile.TemporaryDirectory() as folder:
        with AuditLog(Path(folder, "log"), fsync="never") as log:
            log.record(data.draw(st.sampled_from(["run", "hook", "dispatch", "load"])), fields)
        read = read_audit(Path(folder, "log"))
    read.to_frame()
    assert not {"\x1b", "\ud800"} & set(table_text(read) + read._repr_html_())
    try:
        runs = read.runs()
    except AuditError:
        return
    assert len(read.trace) == len(runs)
    for found in runs:
        samples_frame(found)
        assert isinstance(found.explain(), str)
