"""Traces: rows kept by the million, frames that files give back whole, and the questions that a frame answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import KINDS, Sample, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.report import recorder
from agentplug.report.accessor import attached, read_trace
from agentplug.report.files import save_trace
from agentplug.report.frames import about, calls_frame, recorded_frame, samples_frame
from agentplug.report.plots.data import limit_of
from agentplug.report.recorder import ROW, Recorder

attached(pd.DataFrame())  # makes `df.agentplug` known

ROW_BYTES = np.dtype(ROW).itemsize
MIB = 1 << 20
POLICY = Policy(memory="64M", cpu_s=1.0, wall_s=2.0)
START = datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)
SUFFIXES = (".parquet", ".feather", ".csv")
REPLY = Event(0.1, "reply")
OVER = Event(0.1, "limit", {"by": "memory", "measured": 80 * MIB, "bound": 64 * MIB, "unit": "bytes"})


def a_run(number: int = 0, *events: Event, plugin: str = "hog", added: int = MIB, **usage: float) -> Run:
    figures = {"wall_s": 0.1 / 3, "cpu_s": 0.02 / 7} | usage
    whole = Usage(peak_memory_bytes=50 * MIB + added, baseline_memory_bytes=50 * MIB, **figures)  # type: ignore[arg-type]
    return Run(
        None,
        whole,
        (Event(0.0, "start"), *(events or (REPLY,))),
        POLICY,
        SourceInfo(f"./{plugin}.py", "file", f"sha256:{plugin}", plugin, "1.0"),
        number,
        START + timedelta(milliseconds=number),
        readings=(Sample(0, 50 * MIB, 0, 1), Sample(5_000_001, 51 * MIB, 1_234_567, 2)),
        barriers={"landlock": "enforced", "cgroup": "unavailable"},
    )


def raised(name: str) -> Event:
    return Event(0.1, "error", {"type": name})


MIXED: Sequence[Run] = (
    a_run(0),
    a_run(1, OVER, added=80 * MIB),
    a_run(2, raised("Od,d\"#'Error"), plugin="slow", wall_s=1.9),
    a_run(3, plugin="slow", wall_s=0.5),
)


def plain(count: int, name: str = "hog") -> list[Run]:
    return [a_run(number, plugin=name) for number in range(count)]


class TestRecorder:
    def test_rows_are_those_of_the_runs(self) -> None:
        frame = recorded_frame([(Recorder(MIXED), {})])
        assert frame["run"].tolist() == [0, 1, 2, 3]
        assert frame["plugin"].tolist() == ["hog", "hog", "slow", "slow"]
        assert frame["verdict"].tolist() == ["completed", "limited", "failed", "completed"]
        assert frame["by"].isna().tolist() == [True, False, False, True]
        assert frame["by"].tolist()[1:3] == ["memory", "Od,d\"#'Error"]
        assert frame["started_at"].tolist() == [pd.Timestamp(run.started_at) for run in MIXED]
        assert frame["wall_s"].tolist() == [run.usage.wall_s for run in MIXED]
        assert frame["peak_memory_bytes"].tolist() == [run.usage.peak_memory_bytes for run in MIXED]

    def test_the_oldest_rows_go_in_blocks_and_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recorder, "BLOCK_ROWS", 10)
        monkeypatch.setattr(recorder, "MAX_ROWS", 30)
        kept = Recorder(plain(47))
        assert (len(kept), kept.dropped) == (27, 20)
        frame = recorded_frame([(kept, {"hog": about(POLICY, "d", {})})])
        assert frame["run"].tolist() == list(range(20, 47))
        assert frame.attrs["dropped"] == 20

    def test_a_full_block_takes_a_quarter_of_the_room(self) -> None:
        runs = plain(recorder.BLOCK_ROWS + 1)
        full, last = Recorder(runs).blocks
        assert (full.count, last.count) == (recorder.BLOCK_ROWS, 1)
        assert len(full.rows()) == full.count * len(last.rows())
        assert len(full._rows) < len(full.rows()) / 4

    def test_a_frame_is_the_same_while_calls_go_on(self) -> None:
        """A block may be compressed while it is read."""
        kept = Recorder(plain(1))
        for number, run in enumerate(plain(3 * recorder.BLOCK_ROWS)[1:], start=2):
            looked = kept.snapshot() if number % 100 == 0 else None
            kept.add(run)
            if looked is not None:
                assert sum(len(rows) for _, rows in looked) in {ROW_BYTES * number, ROW_BYTES * (number - 1)}
        assert recorded_frame([(kept, {})])["run"].tolist() == list(range(3 * recorder.BLOCK_ROWS))

    def test_rows_of_another_are_absorbed_with_their_words(self) -> None:
        """`by` is a code into the words of the recorder that wrote it."""
        one = Recorder([a_run(0, raised("First")), *plain(2)[1:]])
        other = Recorder([a_run(2, raised("Second")), a_run(3, raised("First")), a_run(4)])
        other.dropped = 3
        one.absorb(other)
        one.add(a_run(5, raised("Third")))
        assert (len(one), len(one.blocks), one.dropped) == (6, 1, 3)
        frame = recorded_frame([(one, {})])
        assert frame["run"].tolist() == list(range(6))
        assert [None if pd.isna(by) else by for by in frame["by"]] == [
            "First",
            None,
            "Second",
            "First",
            None,
            "Third",
        ]

    def test_a_replaced_worker_begins_no_block(self) -> None:
        """Each start makes another `SourceInfo`; only another plugin, version or digest is news."""
        assert len(Recorder(plain(50)).blocks) == 1

    def test_plugins_that_invent_exceptions_fill_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recorder, "_MAX_WORDS", 5)
        kept = Recorder(a_run(number, raised(f"E{number}")) for number in range(40))
        assert kept.words == ["E0", "E1", "E2", "E3", "E4", "(other)"]
        assert len(kept._codes) <= 12
        assert recorded_frame([(kept, {})])["by"].tolist()[-1] == "(other)"

    def test_a_block_that_another_thread_has_just_begun_is_passed_over(self) -> None:
        kept = Recorder(MIXED[:1])
        latest_us = kept.latest_us
        kept.blocks.append(recorder.Block(recorder.Identity("another", "1", "d")))
        assert kept.latest_us == latest_us == round(MIXED[0].started_at.timestamp() * 1e6)

    def test_several_plugins_stand_in_the_order_of_their_calls(self) -> None:
        both = [Recorder(MIXED[2:]), Recorder(MIXED[:2])]
        told = {name: about(POLICY, name, {"landlock": "enforced"}) for name in ("slow", "hog")}
        frame = recorded_frame(zip(both, ({name: of} for name, of in told.items()), strict=True))
        assert frame["run"].tolist() == [0, 1, 2, 3]
        assert frame.attrs["limits"]["hog"]["memory"] == 64 * MIB
        assert frame.attrs["digest"] == {"slow": "slow", "hog": "hog"}
        assert frame.attrs["barriers"]["slow"] == {"landlock": "enforced"}


class TestAttrs:
    def test_they_tell_limits_digest_barriers_and_machine(self) -> None:
        for frame in (calls_frame(MIXED[:1]), samples_frame(MIXED[0])):
            attrs = frame.attrs
            assert json.loads(json.dumps(attrs)) == attrs
            assert attrs["limits"]["memory"] == 64 * MIB
            assert attrs["digest"] == "sha256:hog"
            assert attrs["barriers"] == {"landlock": "enforced", "cgroup": "unavailable"}
            assert attrs["machine"]["cpus"] >= 1
            assert attrs["machine"]["memory_bytes"] > MIB

    def test_they_hold_no_secret(self) -> None:
        assert about(Policy(env={"API_KEY": "s3cret"}), "", {})["limits"]["env"] == {"API_KEY": "…"}


class TestFiles:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("runs", [MIXED, (), MIXED[:1]], ids=["mixed", "empty", "one"])
    def test_calls_come_back_whole(self, runs: Sequence[Run], suffix: str, tmp_path: Path) -> None:
        frame = calls_frame(runs)
        back = read_trace(save_trace(frame, tmp_path / f"trace{suffix}"))
        pd.testing.assert_frame_equal(back, frame, check_exact=True)
        assert back.attrs == frame.attrs

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_samples_come_back_whole(self, suffix: str, tmp_path: Path) -> None:
        frame = samples_frame(MIXED[0])
        back = read_trace(frame.agentplug.save(tmp_path / f"samples{suffix}"))
        pd.testing.assert_frame_equal(back, frame, check_exact=True, check_freq=False)
        assert back.attrs == frame.attrs

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_some_rows_keep_their_labels(self, suffix: str, tmp_path: Path) -> None:
        some = calls_frame(MIXED).loc[[3, 1]]
        back = read_trace(save_trace(some, tmp_path / f"some{suffix}"))
        pd.testing.assert_frame_equal(back, some, check_exact=True)
        assert back.attrs == some.attrs

    def test_what_a_file_would_lose_is_refused(self, tmp_path: Path) -> None:
        frame = calls_frame(MIXED)
        over = frame.agentplug.over_limit()
        with pytest.raises(ValueError, match=r"not limit, used: take \.parquet or \.feather, or drop them"):
            over.agentplug.save(tmp_path / "over.csv")
        for suffix in (".csv", ".feather"):
            with pytest.raises(ValueError, match=r"by number: reset_index\(\) first, or take \.parquet"):
                save_trace(frame.set_index("plugin", drop=False), tmp_path / f"named{suffix}")
        assert not list(tmp_path.iterdir())
        for suffix in (".parquet", ".feather"):
            back = read_trace(over.agentplug.save(tmp_path / f"over{suffix}"))
            pd.testing.assert_frame_equal(back, over, check_dtype=False)  # of `limit`, which pandas 3 reads as str

    def test_other_frames_and_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="this int has no columns run, plugin"):
            save_trace(3, tmp_path / "x.csv")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="is for the trace of a run, plugin or manager"):
            save_trace(pd.DataFrame({"a": [1]}), tmp_path / "x.csv")
        with pytest.raises(ValueError, match=r"a file ending in \.parquet, \.feather, \.csv"):
            save_trace(calls_frame(()), tmp_path / "x.xlsx")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("suffix", "content"),
        [
            (".csv", b"a,b\n1,2\n"),
            (".csv", b""),
            (".csv", b"# agentplug {}\nrun\n1\n"),
            (".csv", b"# agentplug [1]\nrun\n1\n"),
            (".csv", b'# agentplug {"attrs": {}, "categories": {}}\nrun\n1\n'),
            (".csv", b'# agentplug {"attrs": {}, "categories": {}}\n'),
            (".csv", b"\xff\xfe"),
            (".parquet", b"PAR1 no"),
            (".feather", b""),
        ],
    )
    def test_a_damaged_file_says_so(self, suffix: str, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"trace{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no trace that agentplug saved"):
            read_trace(path)

    def test_a_parquet_of_other_origin_says_so(self, tmp_path: Path) -> None:
        pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
        with pytest.raises(ValueError, match="its columns are others"):
            read_trace(tmp_path / "other.parquet")


class TestAccessor:
    def test_it_attaches_to_traces_alone(self) -> None:
        calls_frame(())
        assert not hasattr(pd.DataFrame({"run": [1]}), "agentplug")
        with pytest.raises(AttributeError, match="no columns run, plugin, version"):
            _ = pd.DataFrame({"a": [1]}).agentplug
        assert calls_frame(()).agentplug.kind == "calls"
        assert samples_frame(MIXED[0]).agentplug.kind == "samples"

    def test_verdicts_are_counted_with_what_went_well_first(self) -> None:
        table = calls_frame(MIXED).agentplug.verdicts()
        assert table.columns.tolist() == ["completed", "failed:Od,d\"#'Error", "limited:memory"]
        assert table.loc["hog"].tolist() == [1, 0, 1]
        assert table.loc["slow"].tolist() == [1, 1, 0]

    def test_summary_has_shares_and_percentiles(self) -> None:
        table = calls_frame([*plain(99), a_run(99, wall_s=9.0)]).agentplug.summary()
        row = table.loc["hog"]
        assert (row["calls"], row["completed"]) == (100, 1.0)
        assert row["wall_s p50"] == pytest.approx(0.1 / 3)
        assert row["wall_s max"] == 9.0
        assert 0.1 / 3 < row["wall_s p99"] < 9.0
        assert row["peak_memory_bytes p90"] == 51 * MIB

    def test_calls_of_a_window_count_with_their_share(self) -> None:
        row = calls_frame([a_run(0, wall_s=1.0, calls=10)]).agentplug.summary().loc["hog"]
        assert row["wall_s max"] == pytest.approx(0.1)

    def test_summary_of_samples(self) -> None:
        table = samples_frame(MIXED[0]).agentplug.summary()
        assert table["rss_bytes max"].tolist() == [51 * MIB]

    def test_over_limit_names_the_limit_and_its_share(self) -> None:
        found = calls_frame(MIXED).agentplug.over_limit(0.9)
        assert found["run"].tolist() == [1, 2]
        assert found["limit"].tolist() == ["memory", "wall_s"]
        assert found["used"].tolist() == pytest.approx([80 / 64, 0.95])
        assert calls_frame(MIXED).agentplug.over_limit()["run"].tolist() == [1]

    def test_a_plugin_may_bear_the_name_of_a_limit(self) -> None:
        frame = calls_frame([a_run(0, OVER, plugin="memory", added=80 * MIB), a_run(1)])
        frame.attrs["limits"] = {name: POLICY.to_dict() for name in ("memory", "hog")}
        assert frame.agentplug.over_limit()["used"].tolist() == [80 / 64]
        assert limit_of(frame.attrs, "memory", "memory") == 64 * MIB

    def test_a_limit_without_a_figure_counts_as_reached(self) -> None:
        run = a_run(0, Event(0.1, "limit", {"by": "disk", "measured": 2, "bound": 1, "unit": "bytes"}))
        found = calls_frame([run]).agentplug.over_limit()
        assert found[["limit", "used"]].values.tolist() == [["disk", 1.0]]

    def test_compare_puts_medians_side_by_side(self) -> None:
        before = calls_frame(plain(3))
        after = calls_frame([a_run(n, OVER, wall_s=0.2 / 3) for n in range(3)] + plain(1, "new"))
        table = before.agentplug.compare(after)
        assert table.loc[("hog", "wall_s"), "ratio"] == pytest.approx(2.0)
        assert table.loc[("hog", "completed")].tolist()[:2] == [1.0, 0.0]
        assert pd.isna(table.loc[("new", "wall_s"), "before"])

    def test_empty_traces_have_empty_answers(self) -> None:
        empty = calls_frame(())
        assert empty["verdict"].cat.categories.tolist() == list(KINDS)
        assert empty.agentplug.verdicts().empty
        assert empty.agentplug.summary().empty
        assert empty.agentplug.over_limit().empty
        assert len(empty.agentplug.compare(calls_frame(MIXED))) == 8

    def test_wrong_questions_say_what_to_ask(self) -> None:
        with pytest.raises(ValueError, match=r"see `plugin\.trace`"):
            samples_frame(MIXED[0]).agentplug.verdicts()
        with pytest.raises(AttributeError, match="is for the trace"):
            calls_frame(MIXED).agentplug.compare(pd.DataFrame({"a": [1]}))
        with pytest.raises(AttributeError, match="this int has no columns run, plugin"):
            calls_frame(MIXED).agentplug.compare(3)
        frame = calls_frame(MIXED)
        alone = {"hog": POLICY.to_dict()}
        for attrs in ({}, {"limits": {}}, {"limits": {"memory": None}}, {"limits": alone}, {"limits": {"hog": 3}}):
            frame.attrs = attrs
            with pytest.raises(ValueError, match="no longer knows all its limits"):
                frame.agentplug.over_limit()
        with pytest.raises(ValueError, match="a number above 0"):
            calls_frame(MIXED).agentplug.over_limit(0)
