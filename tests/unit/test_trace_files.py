"""Traces in files: what pandas makes of a trace comes back as it was, or is refused before anything is written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug.contract.events import Event
from agentplug.contract.formats import TRACE_FORMAT
from agentplug.contract.policy import Policy
from agentplug.contract.record import Sample, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.report import columns, files
from agentplug.report.accessor import attached, read_trace
from agentplug.report.files import save_trace
from agentplug.report.frames import calls_frame, samples_frame
from agentplug.report.spreadsheet import plain_cell, safe_cell, safe_json

attached(pd.DataFrame())  # makes `df.agentplug` known

SUFFIXES = (".parquet", ".feather", ".csv")
OVER = Event(0.1, "limit", {"by": "memory", "measured": 80 << 20, "bound": 64 << 20, "unit": "bytes"})
START = datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)


def a_run(number: int, *events: Event, plugin: str = "hog") -> Run:
    return Run(
        None,
        Usage(wall_s=0.1 / 3, cpu_s=0.02 / 7, peak_memory_bytes=60 << 20, baseline_memory_bytes=50 << 20),
        (Event(0.0, "start"), *(events or (Event(0.1, "reply"),))),
        Policy(memory="64M", cpu_s=1.0, wall_s=2.0),
        SourceInfo(f"./{plugin}.py", "file", "sha256:hog", plugin, "1.0"),
        number,
        START,
        readings=tuple(Sample(n * 7_000_001, (50 << 20) + n, n * 1_234_567, 1 + n % 2) for n in range(9)),
        barriers={"landlock": "enforced"},
    )


def calls(*plugins: str) -> pd.DataFrame:
    """Four calls of each, of which the second was stopped."""
    runs = [a_run(n, *([OVER] * (n == 1)), plugin=plugin) for plugin in plugins or ("hog",) for n in range(4)]
    return calls_frame(runs)


def samples() -> pd.DataFrame:
    return samples_frame(a_run(0))


def with_nan(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[0, ["cpu_s", "peak_memory_bytes"]] = np.nan
    return frame


def with_by(frame: pd.DataFrame, *words: str | None) -> pd.DataFrame:
    return frame.assign(by=pd.Categorical(words, categories=pd.Index(sorted({*words} - {None}), dtype=str)))  # type: ignore[type-var]


def timed(unit: str) -> pd.DataFrame:
    frame = samples()
    return frame.set_index(pd.TimedeltaIndex([f"{n}s" for n in range(len(frame))], name="t").as_unit(unit))  # type: ignore[arg-type]


def started(dtype: str) -> pd.DataFrame:
    frame = calls()
    moments = frame["started_at"] + pd.to_timedelta(np.arange(4) * 3_600_000_000_001, unit="ns")
    frame["started_at"] = (moments if "," in dtype else moments.dt.tz_localize(None)).astype(dtype)  # type: ignore[call-overload]
    return frame


KEPT: dict[str, Callable[[], pd.DataFrame]] = {
    "seconds": lambda: timed("s"),
    "milliseconds": lambda: timed("ms"),
    "microseconds": lambda: timed("us"),
    "started_us": lambda: started("datetime64[us, UTC]"),
    "started_s": lambda: started("datetime64[s, UTC]"),
    "started_ns": lambda: started("datetime64[ns, UTC]"),
    "started_naive": lambda: started("datetime64[ns]"),
    "started_elsewhere": lambda: started("datetime64[ms, Europe/Berlin]"),
    "started_never": lambda: started("datetime64[ns, UTC]").assign(
        started_at=lambda frame: frame["started_at"].where(frame["run"] != 1)
    ),
    "nan": lambda: with_nan(calls()),
    "infinite": lambda: calls().assign(cpu_s=[np.inf, -np.inf, -0.0, 5e-324]),
    "resampled": lambda: samples().resample("10ms").mean(),
    "resampled_with_gaps": lambda: samples().resample("1ms").mean(),
    "empty_by": lambda: with_by(calls(), "", None, "", "x"),
    "by_like_nothing": lambda: with_by(calls(), "", None, "NA", "nan"),
    "some_by_missing": lambda: calls().query("verdict == 'completed'"),
    "no_rows": lambda: calls().iloc[:0],
    "no_samples": lambda: samples().iloc[:0],
    "nothing_known": lambda: calls().assign(plugin=lambda frame: frame["plugin"].where(frame["run"] < 0)),
    "concatenated": lambda: pd.concat([calls("hog"), calls("slow")], ignore_index=True),
    "concatenated_as_they_are": lambda: pd.concat([calls("hog"), calls("slow")]),
    "odd_texts": lambda: calls().assign(version=['a"b', "c,d\n", "e\rf", " é# "]),
    "version_missing": lambda: calls().assign(version=["1", None, "", "NA"]).astype({"version": "str"}),
    "narrow": lambda: calls().astype({"cpu_s": "float32", "run": "int32", "calls": "uint64"}),
    "other_order": lambda: calls()[sorted(calls().columns)],
    "named_index": lambda: calls().rename_axis("foo"),
    "named_labels": lambda: calls().iloc[::-2].rename_axis("foo"),
    "small_labels": lambda: calls().set_axis(np.arange(4, dtype="int8")),
    "over_limit": lambda: calls().agentplug.over_limit(0.01)[list(calls().columns)],
    "counted_t": lambda: samples().reset_index(drop=True).rename_axis("t"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", KEPT)
def test_what_pandas_makes_of_a_trace_comes_back_as_it_was(name: str, suffix: str, tmp_path: Path) -> None:
    frame = KEPT[name]()
    whole = frame.copy()
    back = read_trace(save_trace(frame, tmp_path / f"trace{suffix}"))
    pd.testing.assert_frame_equal(back, whole, check_exact=True, check_freq=False)
    assert back.attrs == whole.attrs
    pd.testing.assert_frame_equal(frame, whole)  # saving leaves it alone
    again = read_trace(save_trace(back, tmp_path / f"again{suffix}"))
    pd.testing.assert_frame_equal(again, back, check_exact=True, check_freq=False)


def test_pandas_reads_parquet_and_csv_of_a_trace_by_itself(tmp_path: Path) -> None:
    frame = calls()
    whole = pd.read_parquet(save_trace(frame, tmp_path / "trace.parquet"))
    assert whole.attrs == frame.attrs
    pd.testing.assert_frame_equal(whole, frame, check_categorical=False)
    frame = frame.assign(version=["1\r2", "a,b", '"', "x"])
    plain = pd.read_csv(save_trace(frame, tmp_path / "trace.csv"))
    assert list(plain) == [*frame, "agentplug"]
    assert plain["by"].isna().tolist() == [True, False, True, True]
    assert plain["version"].tolist() == frame["version"].tolist()
    assert json.loads(plain["agentplug"][0])["attrs"] == frame.attrs
    assert plain["agentplug"].isna().tolist() == [False, True, True, True]
    for name in ("run", "wall_s", "peak_memory_bytes", "threads"):
        pd.testing.assert_series_equal(plain[name], frame[name])
    assert pd.read_csv(save_trace(frame.iloc[:0], tmp_path / "trace.csv")).empty


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("when", datetime(2026, 1, 1)),
        ("count", np.int64(3)),
        ("pair", (1, 2)),
        ("by_number", {1: "a"}),
        ("nan", float("nan")),
        (3, "three"),
    ],
)
def test_attrs_that_are_no_json_are_named(name: Any, value: Any, suffix: str, tmp_path: Path) -> None:
    frame = calls()
    frame.attrs[name] = value
    with pytest.raises(ValueError, match=rf"attrs\[{name!r}\] isn't JSON"):
        save_trace(frame, tmp_path / f"trace{suffix}")
    assert not list(tmp_path.iterdir())


REFUSED: dict[str, tuple[Callable[[], pd.DataFrame], tuple[str, ...], str]] = {
    "t_twice": (
        lambda: samples().reset_index().set_index("t", drop=False),
        (".feather", ".csv"),
        r"has a column 't' beside its index: drop that column, or take \.parquet",
    ),
    "labels_twice": (
        lambda: calls().iloc[::2].assign(**{"row label": 0}),
        (".feather", ".csv"),
        "has a column 'row label' beside its index",
    ),
    "index_named_by_number": (lambda: calls().rename_axis(3), (".feather", ".csv"), "rows by number"),
    "one_name_twice": (lambda: pd.concat([calls(), calls()[["run"]]], axis=1), SUFFIXES, "two columns .* one name"),
    "objects": (lambda: calls().assign(cpu_s=[b"a", 1, None, {}]), SUFFIXES, "keep"),
    "nothings": (lambda: calls().assign(x=[{}, {}, {}, {}]), (".parquet", ".csv"), "keep"),
    "complex": (lambda: calls().assign(cpu_s=1j), SUFFIXES, "keep"),
    "truths": (lambda: calls().assign(calls=True), (".csv",), "a .csv keeps no bool in calls: take .parquet"),
    "nullable": (lambda: calls().astype({"run": "Int32"}), (".csv",), "keeps no Int32 in run"),
    "ordered": (
        lambda: calls().assign(by=lambda frame: frame["by"].cat.as_ordered()),
        (".csv",),
        "keeps no category in by",
    ),
    "categories_of_numbers": (lambda: calls().astype({"run": "category"}), (".csv",), "keeps no category in run"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_would_change_is_refused(name: str, tmp_path: Path) -> None:
    make, suffixes, why = REFUSED[name]
    for suffix in suffixes:
        with pytest.raises(ValueError, match=why):
            save_trace(make(), tmp_path / f"trace{suffix}")
    assert not list(tmp_path.iterdir())
    for suffix in set(SUFFIXES) - set(suffixes):
        back = read_trace(save_trace(make(), tmp_path / f"trace{suffix}"))
        pd.testing.assert_frame_equal(back, make(), check_exact=True)


@pytest.mark.parametrize(
    "head",
    [
        '{"attrs": 3, "index": [null, null], "dtypes": {}, "categories": {}, "missing": ""}',
        '{"attrs": {}, "index": 3, "dtypes": {}, "categories": {}, "missing": ""}',
        '{"attrs": {}, "index": [null, null], "dtypes": {"run": "odd"}, "categories": {}, "missing": ""}',
        '{"attrs": {}, "index": [null, null], "dtypes": {"run": "S300000000"}, "categories": {}, "missing": ""}',
        '{"attrs": {}, "index": [null, null], "dtypes": {"no": "int64"}, "categories": {}, "missing": ""}',
        '{"attrs": {}, "index": [null, null], "dtypes": {"run": 3}, "categories": {}, "missing": ""}',
        '{"attrs": {}, "index": [null, null], "dtypes": {"run": "str"}, "categories": {"run": 3}, "missing": ""}',
        '{"attrs": {}, "index": [null, null], "dtypes": 3, "categories": {}, "missing": {}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_head_says_so(head: str, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(f"run,agentplug\n1,{quoted(head)}\n")
    with pytest.raises(ValueError, match="is no trace that agentplug saved"):
        read_trace(tmp_path / "trace.csv")


# ---------------------------------------------------------------------- spreadsheets

RUN = ["=1+1", "+1", "-1", "@A1", "\tx", "\rx", "\n=1", "＝1", "＋1", "－1", "＠a", "  =1", "'=1", "''=1", "' =1"]
RUN += [
    "a,=1",
    "a;=1",
    "a|=1",
    "a;'=1",
    "a\t=1",
    "a,;=1",
    "=a;=b",
    "\r\n",
    '=HYPERLINK("http://x","y")',
    ";;=1",
    "'\t'",
]
QUIET = ["", "'", "''", "a'=1", "a=1", "1-1", " x", "'x", "a,b", "NA", "NANA", "#", "“", "$"]
CELL = st.text(st.sampled_from(";,|'\t\r\n \"=+-@＝xNA"), max_size=8)


@pytest.mark.parametrize("word", RUN + QUIET)
def test_no_text_of_a_csv_is_run_by_a_spreadsheet(word: str, tmp_path: Path) -> None:
    """However it divides lines; and what is read back is what was saved, in each column of texts and in `attrs`."""
    frame = with_by(calls(), word, None, "x", word).assign(version=[word, "1", f"x{word}", None])
    frame["plugin"] = pd.Categorical([word, "a", word, "a"])
    frame.attrs |= {word: {"of": [f"y{word}", word]}, "number": -5}
    path = save_trace(frame.astype({"version": "str"}), tmp_path / "trace.csv")

    back = read_trace(path)

    pd.testing.assert_frame_equal(back, frame.astype({"version": "str"}))
    assert back.attrs == frame.attrs
    text = path.read_text(encoding="utf-8")
    assert '"{""format"": 3, ""agentplug"": ' in text
    for delimiter in ",;|\t":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            for cell in row:
                assert not re.match(r"[=+@\t\r\n＝＋－＠]|-(?!\d)", cell.lstrip(' "')), cell


@settings(deadline=None, database=None)
@given(CELL)
def test_a_safe_cell_is_read_back_as_it_was(word: str) -> None:
    """Whatever quotes, signs and spaces stand before each other."""
    safe = safe_cell(word)
    assert plain_cell(safe) == word
    assert not re.search(r"(^|[;,|\t\r\n]) *[=+\-@＝]", safe)
    assert json.loads(safe_json(json.dumps([word, -1, 1e99]))) == [word, -1, 1e99]


@pytest.mark.parametrize("text", ["", "run\n", "run,agentplugs\n1,{}\n", 'run,"agentplug', "run,agentplug\n1"])
def test_a_csv_of_others_is_no_trace(text: str, tmp_path: Path) -> None:
    """Without what a trace's last column says it is refused, in a sentence."""
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(ValueError, match="is no trace that agentplug saved"):
        read_trace(tmp_path / "trace.csv")


# ---------------------------------------------------------------------- formats


def quoted(cell: str) -> str:
    """A cell as a CSV has it."""
    return '"' + cell.replace('"', '""') + '"'


def with_head(path: Path, **changes: Any) -> Path:
    """The saved trace with other entries in its head; None takes one out."""

    def changed(text: str | bytes) -> str:
        return json.dumps({name: x for name, x in (json.loads(text) | changes).items() if x is not None})

    if path.suffix == ".csv":
        text = path.read_text()
        head = list(csv.reader(io.StringIO(text)))[1][-1]
        path.write_text(text.replace(quoted(head), quoted(changed(head)), 1))
        return path
    from pyarrow import feather, parquet

    table = (parquet if path.suffix == ".parquet" else feather).read_table(path)
    metadata = table.schema.metadata
    table = table.replace_schema_metadata(metadata | {b"agentplug": changed(metadata[b"agentplug"])})
    parquet.write_table(table, path) if path.suffix == ".parquet" else feather.write_feather(table, path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trace_of_before_formats_had_numbers_is_read(suffix: str, tmp_path: Path) -> None:
    for frame in (calls(), samples()):
        path = with_head(save_trace(frame, tmp_path / f"trace{suffix}"), format=None)
        back = read_trace(path)
        pd.testing.assert_frame_equal(back, frame, check_exact=True, check_freq=False)
        assert back.attrs == frame.attrs


@pytest.mark.parametrize("number", [None, 1, 2])
def test_a_csv_whose_head_is_its_first_line_is_read(number: int | None, tmp_path: Path) -> None:
    """The layout of formats 1 and 2. Texts that a spreadsheet would run have an apostrophe in 2 alone."""
    for frame in (calls(), samples()):
        if "plugin" in frame:
            frame["plugin"] = frame["plugin"].cat.rename_categories(lambda name: f"={name}")
        path = save_trace(frame, tmp_path / "trace.csv")
        rows = list(csv.reader(io.StringIO(path.read_text())))
        head = json.loads(rows[1][-1]) | {"format": number}
        texts = io.StringIO()
        csv.writer(texts, lineterminator="\n").writerows(row[:-1] for row in rows)
        table = texts.getvalue() if number == 2 else texts.getvalue().replace("'=", "=")
        path.write_text(f"# agentplug {json.dumps({name: x for name, x in head.items() if x is not None})}\n{table}")

        back = read_trace(path)

        pd.testing.assert_frame_equal(back, frame, check_exact=True, check_freq=False)
        assert back.attrs == frame.attrs


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_that_a_file_knows_nothing_of_are_missing(suffix: str, tmp_path: Path) -> None:
    """In their places, with a dtype that has a missing figure; and such a trace can be saved again."""
    older = calls().drop(columns=["cpu_user_s", "read_bytes", "write_bytes"])
    back = read_trace(with_head(save_trace(older, tmp_path / f"trace{suffix}"), format=None))
    assert list(back.columns) == list(calls().columns)
    assert back["read_bytes"].dtype == back["write_bytes"].dtype == "Int64"
    assert back["cpu_user_s"].dtype == "float64"
    assert back[["cpu_user_s", "read_bytes", "write_bytes"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(back[older.columns], older, check_exact=True)
    assert back.agentplug.over_limit(0.01)["run"].tolist() == [1, 0, 2, 3]
    back.loc[1, "read_bytes"] = (1 << 53) + 1  # as in a trace of which an older agentplug wrote a part
    again = read_trace(save_trace(back, tmp_path / f"again{suffix}"))
    pd.testing.assert_frame_equal(again, back, check_exact=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_column_more_leaves_the_files_of_before_readable(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tomorrow's agentplug reads today's trace, and today's reads tomorrow's."""
    path = save_trace(calls(), tmp_path / f"trace{suffix}")
    monkeypatch.setattr(columns, "CALLS_COLUMNS", (*columns.CALLS_COLUMNS, "gpu_s"))
    monkeypatch.setattr(files, "CALLS_COLUMNS", columns.CALLS_COLUMNS)
    assert read_trace(path)["gpu_s"].isna().all()
    later = save_trace(calls().assign(gpu_s=1.5), tmp_path / f"later{suffix}")
    monkeypatch.undo()
    assert read_trace(later)["gpu_s"].tolist() == [1.5] * 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_what_makes_a_trace_is_none(suffix: str, tmp_path: Path) -> None:
    """Of a calls frame that is what plugin ended how, when, at what cost."""
    for name in ("plugin", "verdict", "wall_s", "peak_memory_bytes"):
        with pytest.raises(ValueError, match=f"no columns {name}"):
            save_trace(calls().drop(columns=name), tmp_path / f"trace{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_newer_format_says_which_is_read(suffix: str, tmp_path: Path) -> None:
    path = save_trace(calls(), tmp_path / f"trace{suffix}")
    reads = f"in format {TRACE_FORMAT + 1}; this one reads formats up to {TRACE_FORMAT}: upgrade"
    for writer, words in (
        ("9.1", f"was written by agentplug 9.1 {reads} to agentplug 9.1 or later"),
        (None, f"was written by a newer agentplug {reads} agentplug"),
    ):
        with_head(path, format=TRACE_FORMAT + 1, agentplug=writer, dtypes=None, attrs=None)
        with pytest.raises(ValueError) as failure:
            read_trace(path)
        assert str(failure.value) == f"{path} {words}"
    for nonsense in ("2", -1, True, 1.5, [1]):
        with pytest.raises(ValueError, match="is no trace that agentplug saved: it names no format"):
            read_trace(with_head(path, format=nonsense))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_trace_names_its_format_and_its_writer(suffix: str, tmp_path: Path) -> None:
    """Also where pandas dropped `attrs`, which name the machine."""
    frame = calls()
    frame.attrs = {}
    path = save_trace(frame, tmp_path / f"trace{suffix}")
    with_head(path, format=TRACE_FORMAT + 1)
    with pytest.raises(ValueError, match=f"by agentplug {re.escape(version('agentplug'))} in format"):
        read_trace(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trace_takes_a_link_s_place(suffix: str, tmp_path: Path) -> None:
    """What the link leads to stays as it is: a plugin that may write to the folder may have made the link."""
    (outside := tmp_path / "outside").write_text("mine")
    (folder := tmp_path / "folder").mkdir()
    path = folder / f"trace{suffix}"
    path.symlink_to(outside)

    save_trace(calls(), path)

    assert outside.read_text() == "mine"
    assert os.listdir(folder) == [path.name]
    pd.testing.assert_frame_equal(read_trace(path), calls())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trace_that_can_t_be_written_leaves_the_old_one(suffix: str, tmp_path: Path, monkeypatch: Any) -> None:
    """The old one is whole, and nothing lies beside it."""
    path = save_trace(calls(), tmp_path / f"trace{suffix}")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_csv" if suffix == ".csv" else "_write_arrow", full)
    with pytest.raises(OSError, match="No space left"):
        save_trace(calls(), path)

    assert (path.read_bytes(), os.listdir(tmp_path)) == (before, [path.name])


def test_over_limit_leaves_rows_without_figures_out() -> None:
    frame = calls()
    figures = frame.columns[frame.columns.get_loc("started_at") + 1 :]
    frame = frame.astype(dict.fromkeys(figures, "float64"))
    frame.loc[[0, 1], figures] = np.nan
    found = frame.agentplug.over_limit(0.01)
    assert found["run"].tolist() == [1, 2, 3]  # a limit stopped the first of them
    assert found["limit"].tolist() == ["memory"] * 3
    assert found["used"].tolist() == pytest.approx([1.0, 10 / 64, 10 / 64])


def test_over_limit_takes_any_real_number() -> None:
    frame = calls()
    for share in (1, np.int64(1), np.float32(0.5), np.float64(1)):
        assert frame.agentplug.over_limit(share)["run"].tolist() == [1]
    for share in (True, np.True_, "1", None, float("nan"), 1j):
        with pytest.raises(ValueError, match="a number above 0, please"):
            frame.agentplug.over_limit(share)


def test_a_part_of_a_samples_frame_says_what_it_lacks() -> None:
    with pytest.raises(AttributeError, match=r"this samples frame has no index t; set_index\('t'\)"):
        _ = samples().reset_index().agentplug
    for frame in (samples()[["rss_bytes"]], pd.DataFrame(samples()[["rss_bytes"]].to_dict("list"))):
        with pytest.raises(
            AttributeError, match=r"all of `run\.samples`: .* has no columns cpu_s, cpu_percent, threads"
        ):
            _ = frame.agentplug


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_without_pyarrow_a_csv_is_advised(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyarrow", "pyarrow.parquet", "pyarrow.feather"):
        monkeypatch.setitem(sys.modules, module, None)
    for work in (lambda path: save_trace(calls(), path), read_trace):
        with pytest.raises(ImportError, match=r"pip install 'agentplug\[arrow\]'; \.csv doesn't"):
            work(tmp_path / f"trace{suffix}")
    assert not list(tmp_path.iterdir())
