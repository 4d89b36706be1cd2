"""`report`: frames with fixed dtypes, cards and tables where hostile text is text, plots with units and limits."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import KINDS, USAGE_FIELDS, ErrorText, Sample, SourceInfo, Usage, Verdict
from agentplug.core.run import Run
from agentplug.report.barriers import diagnosis_rich
from agentplug.report.cards import barriers_table, plugin_card, run_card
from agentplug.report.frames import calls_frame, samples_frame
from agentplug.report.labels import plot_text
from agentplug.report.machine import machine
from agentplug.report.marks import VERDICTS, barrier_mark, is_gap, verdict_mark
from agentplug.report.plots import compare_runs, plot_cpu, plot_memory, plot_run
from agentplug.report.sentences import explain

mpl.use("Agg")

MIB = 1 << 20
BASE = 50 * MIB
POLICY = Policy(memory="64M", cpu_s=1.0)
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e$\\frac{$[red]"
HOSTILE_SHOWN = "<img src=x onerror=alert(1)>\\x1b[31m\\u202e$\\frac{$[red]"
TEXT_DTYPE = pd.Series([], dtype=str).dtype
BARRIERS = [
    {"barrier": "seccomp", "protects": "system calls", "status": "enforced", "detail": "214 rules"},
    {"barrier": "landlock-net", "protects": "TCP ports", "status": "unavailable", "detail": "needs ABI 4"},
]


def a_run(
    *events: Event,
    readings: int = 0,
    name: str = "hog",
    usage: Usage | None = None,
    policy: Policy = POLICY,
    **rest: Any,
) -> Run:
    if not events:
        events = (Event(0.4, "limit", {"by": "memory", "measured": 300 * MIB, "bound": 64 * MIB, "unit": "bytes"}),)
    if usage is None:
        usage = Usage(0.4, 0.3, 0.1, 0.2, BASE + 300 * MIB, BASE, threads=1)
    samples = tuple(
        Sample(i * 400_000_000 // max(1, readings), BASE + i * MIB, i * 1_000_000, 1) for i in range(readings)
    )
    info = SourceInfo("./hog.py", "file", "sha256:3f9a", name, "1.0")
    started = datetime(2025, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    return Run(
        rest.pop("value", None),
        usage,
        (Event(0.0, "start"), *events),
        policy,
        info,
        7,
        started,
        readings=samples,
        **rest,
    )


def completed(**rest: Any) -> Run:
    return a_run(
        Event(0.012, "reply"), usage=Usage(0.012, 0.003, 0.003, 0.0, BASE + 4 * MIB, BASE, threads=1), **rest
    )


def hostile() -> Run:
    error = ErrorText("<script>E</script>", f"{HOSTILE}\nmore", f"<b>{HOSTILE}</b>")
    events = (Event(0.3, "error", {"type": "<script>E</script>", "<i>key": HOSTILE}),)
    return a_run(*events, name=HOSTILE, error=error, stdout=f"<u>{HOSTILE}\n", stderr=HOSTILE, value=HOSTILE)


class Elements(HTMLParser):
    """Collects the tags, attribute names and text that a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.parametrize("runs", [[], [a_run()], [a_run(), completed(), hostile()]], ids=["none", "one", "three"])
def test_calls_frame_has_the_same_columns_and_dtypes_for_any_number_of_runs(runs: list[Run]) -> None:
    """A calls frame can be concatenated, saved and compared, because its schema never depends on its rows."""
    frame = calls_frame(runs)
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert dtypes == {
        "run": "int64",
        "plugin": "category",
        "version": str(TEXT_DTYPE),
        "digest": str(TEXT_DTYPE),
        "verdict": "category",
        "by": "category",
        "started_at": "datetime64[ns, UTC]",
    } | {name: "float64" if name.endswith("_s") else "int64" for name in USAGE_FIELDS}
    assert list(frame.columns) == list(dtypes)
    assert tuple(frame["verdict"].cat.categories) == KINDS
    assert {frame[name].cat.categories.dtype for name in ("plugin", "verdict", "by")} == {TEXT_DTYPE}
    assert frame.index.equals(pd.RangeIndex(len(runs)))


def test_calls_frame_tells_each_call() -> None:
    """A row holds identity, verdict, the UTC start and every figure of `Usage`."""
    rows = calls_frame([a_run(), completed()]).to_dict("records")
    assert rows[0] == {
        "run": 7,
        "plugin": "hog",
        "version": "1.0",
        "digest": "sha256:3f9a",
        "verdict": "limited",
        "by": "memory",
        "started_at": pd.Timestamp("2025-01-02 03:04:05.678901", tz="UTC"),
        "wall_s": 0.4,
        "cpu_s": 0.3,
        "cpu_user_s": 0.1,
        "cpu_system_s": 0.2,
        "peak_memory_bytes": BASE + 300 * MIB,
        "baseline_memory_bytes": BASE,
        "calls": 1,
        "request_bytes": 0,
        "reply_bytes": 0,
        "output_bytes": 0,
        "read_bytes": 0,
        "write_bytes": 0,
        "threads": 1,
    }
    assert (rows[1]["verdict"], pd.isna(rows[1]["by"])) == ("completed", True)


def test_calls_frame_turns_other_time_zones_into_utc() -> None:
    """A start that was recorded in another zone is the same instant in the frame."""
    run = a_run()
    moved = run.started_at.astimezone(timezone(timedelta(hours=5)))
    other = Run(None, run.usage, run.events, run.policy, run.source, 8, moved)
    assert calls_frame([run, other])["started_at"].nunique() == 1


def test_frames_hold_no_text_that_steers_a_display() -> None:
    """Names and verdicts are printable and no formulas before a table shows them."""
    in_table = HOSTILE_SHOWN.replace("$", "\\x24")
    assert calls_frame([hostile()]).loc[0, "plugin"] == in_table
    assert samples_frame(hostile()).attrs["plugin"] == in_table


@pytest.mark.parametrize("readings", [0, 1, 5])
def test_samples_frame_has_the_same_schema_for_any_number_of_readings(readings: int) -> None:
    """A samples frame has a nanosecond TimedeltaIndex `t` and fixed dtypes, even when empty."""
    frame = samples_frame(a_run(readings=readings))
    assert (frame.index.name, str(frame.index.dtype), len(frame)) == ("t", "timedelta64[ns]", readings)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "rss_bytes": "int64",
        "cpu_s": "float64",
        "cpu_percent": "float64",
        "threads": "int64",
    }


def test_samples_frame_tells_each_reading() -> None:
    """CPU percent is the rate since the reading before; the first, and one of no duration, is 0."""
    run = a_run()
    readings = (Sample(0, 10, 0, 1), Sample(10_000_000, 20, 5_000_000, 2), Sample(10_000_000, 20, 6_000_000, 2))
    run = Run(None, run.usage, run.events, run.policy, run.source, readings=readings)
    expected = pd.DataFrame(
        {
            "rss_bytes": [10, 20, 20],
            "cpu_s": [0.0, 0.005, 0.006],
            "cpu_percent": [0.0, 50.0, 0.0],
            "threads": [1, 2, 2],
        },
        index=pd.TimedeltaIndex(np.array([0, 10_000_000, 10_000_000], dtype="timedelta64[ns]"), name="t"),
    )
    pd.testing.assert_frame_equal(samples_frame(run), expected)
    pd.testing.assert_frame_equal(run.samples, expected)


def test_samples_attrs_are_json_and_keep_no_secret() -> None:
    """Limits and identity survive a file format that stores attrs as JSON; values of environment variables don't."""
    policy = Policy(memory="64M", network=(443,), read=("/usr",), env={"API_KEY": "s3cret"}, hooks={"input": "veto"})
    attrs = samples_frame(a_run(policy=policy, readings=3)).attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert attrs == {
        "frame": "samples",
        "limits": policy.to_dict() | {"env": {"API_KEY": "…"}},
        "plugin": "hog",
        "version": "1.0",
        "digest": "sha256:3f9a",
        "verdict": "limited:memory",
        "barriers": {},
        "machine": machine(),
    }


@pytest.mark.parametrize(
    "render",
    [
        lambda: run_card(hostile()),
        lambda: barriers_table([dict.fromkeys(("barrier", "protects", "status", "detail"), HOSTILE)]),
        lambda: plugin_card(
            SourceInfo(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
            state=HOSTILE,
            policy=Policy(best_effort=True, env={HOSTILE.replace("=", ""): "x"}),
            barriers=[dict.fromkeys(("barrier", "protects", "status", "detail"), HOSTILE)],
            last_verdict=Verdict("failed", HOSTILE),
        ),
    ],
    ids=["run_card", "barriers_table", "plugin_card"],
)
def test_html_shows_hostile_text_as_text(render: Callable[[], str]) -> None:
    """A plugin's name, message, output or type can't add an element, an attribute or a control character."""
    html = render()
    seen = Elements(html)
    ours = {"div", "span", "b", "code", "pre", "details", "summary", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(seen.tags) <= ours
    assert seen.attributes <= {"style", "class", "role", "open"}
    assert HOSTILE_SHOWN in seen.text
    assert html.replace("\n", "").isprintable()
    assert 'class="tex2jax_ignore mathjax_ignore"' in html
    assert seen.open == []


def test_run_card_leads_with_verdict_and_sentence() -> None:
    """The first words of a run card are the verdict, then who it was, then what happened."""
    text = Elements(run_card(a_run())).text
    assert re.sub(r"\s+", " ", text).startswith(f"■ limited:memory \xa0hog 1.0{explain(a_run())}".replace("\xa0", ""))
    assert "added memory300 MiB of 64 MiB – over" in text
    assert "CPU300 ms of 1 s" in text
    assert "wall400 ms of 30 s" in text


def test_run_card_shows_the_value_of_completed_runs_only() -> None:
    """A value is shown short, and never for a run that has none."""
    assert "value {'x': 1}" in Elements(run_card(completed(value={"x": 1}))).text
    assert "value DataFrame of 2 × 1" in Elements(run_card(completed(value=pd.DataFrame({"a": [1, 2]})))).text
    assert "value bytes of 1.953 KiB" in Elements(run_card(completed(value=bytes(2000)))).text
    assert "value int" in Elements(run_card(completed(value=10**5000))).text
    assert "value" not in Elements(run_card(a_run())).text


def test_run_card_shows_the_end_of_long_output() -> None:
    """A card keeps the last 4,000 characters of a stream and says that it does."""
    text = Elements(run_card(completed(stdout="a" * 5_000 + "b" * 4_000))).text
    assert "stdout (the last 4,000 of 9,000 characters)" + "b" * 4_000 in text


def test_run_card_is_what_a_notebook_shows() -> None:
    """The rich display of a run is its card, and its text holds no figure that varies from run to run."""
    run = a_run()
    assert run._repr_html_() == run_card(run)
    assert repr(run) == "<Run of hog: limited:memory>"


def test_plugin_card_tells_missing_barriers_in_plain_sight() -> None:
    """What best_effort goes on without stands in the open, not in a folded part."""
    html = plugin_card(SourceInfo("", "file", "", "p"), policy=Policy(best_effort=True), barriers=BARRIERS)
    warning = (
        "⚠ Not enforced on this machine: landlock-net for TCP ports is unavailable. "
        "Policy(best_effort=True) goes on without."
    )
    assert warning in Elements(html.partition("<details")[0]).text
    assert "⚠" not in plugin_card(
        SourceInfo("", "file", "", "p"), policy=Policy(best_effort=True), barriers=BARRIERS[:1]
    )


def test_plugin_card_tells_that_a_trusted_plugin_is_unconfined() -> None:
    """A trusted plugin is marked, and shows no limits or barriers that it isn't under."""
    text = Elements(plugin_card(SourceInfo("", "file", "", "p"), trusted=True, state="ready", barriers=BARRIERS)).text
    assert "⚠ Trusted: runs in the notebook's own process, without limits and without barriers." in text
    assert "limits" not in text.replace("without limits", "")
    assert "seccomp" not in text


def test_plugin_card_tells_rights_and_no_secrets() -> None:
    """Granted rights are listed; of environment variables the names only."""
    policy = Policy(network=(443,), read=("/usr",), env={"API_KEY": "s3cret"}, hooks={"input": "veto"})
    html = plugin_card(
        SourceInfo("", "file", "", "p"), policy=policy, calls=1, last_verdict=Verdict("died", "SIGSEGV")
    )
    text = Elements(html).text
    assert "rights: network to TCP 443 · reads /usr · env API_KEY · veto at input" in text
    assert "1 call · last verdict † died:SIGSEGV" in text
    assert "s3cret" not in html


def test_every_verdict_kind_has_its_own_colour_icon_and_hatch() -> None:
    """Verdicts differ without colour, too."""
    assert tuple(VERDICTS) == KINDS
    for looks in zip(*VERDICTS.values(), strict=True):
        assert len(set(looks)) == len(KINDS)
    assert verdict_mark("new kind").icon == "?"


def test_plugin_card_tells_lost_promises_and_remedies() -> None:
    """Where barriers tell what is lost, the card tells that and the remedy, and leaves out extra layers."""
    rows = [
        {"barrier": "landlock", "status": "partial", "lost": ["network"], "remedy": "use Linux 6.7"},
        {"barrier": "cgroup", "status": "unavailable", "lost": []},
    ]
    html = plugin_card(SourceInfo("", "file", "", "p"), policy=Policy(best_effort=True), barriers=rows)
    assert (
        "⚠ Not enforced on this machine: landlock for network is partial (use Linux 6.7). Policy(best_effort=True)"
    ) in Elements(html.partition("<details")[0]).text


@pytest.mark.parametrize(
    ("row", "gap", "mark"),
    [
        ({"status": "enforced"}, False, ("#009E73", "✓")),
        ({"status": "enforced", "lost": []}, False, ("#009E73", "✓")),
        ({"status": "partial"}, True, ("#E69F00", "◐")),
        ({"status": "unavailable", "lost": ["files"]}, True, ("#D55E00", "✗")),
        ({"status": "unavailable", "lost": []}, False, ("#8C8C8C", "✗")),
        ({"status": "a new word"}, True, ("#D55E00", "✗")),
        ({}, True, ("#D55E00", "✗")),
    ],
)
def test_a_barrier_is_never_shown_as_there_when_it_isnt(
    row: dict[str, Any], gap: bool, mark: tuple[str, str]
) -> None:
    """Only `enforced` is green; an unknown status counts as a gap, a missing extra layer doesn't."""
    assert (is_gap(row), barrier_mark(row)[:2]) == (gap, mark)


def test_memory_is_drawn_from_where_the_limit_counts() -> None:
    """Memory held since earlier calls lifts the curve, so that it meets the limit line where the limit struck."""
    run = completed()
    start = Event(0.0, "start", {"floor_bytes": BASE - 40 * MIB})
    held = Run(None, run.usage, (start, *run.events[1:]), run.policy, run.source)
    assert list(plot_memory(held).lines[0].get_ydata()) == [40.0, 44.0]


def rich_text(renderable: object) -> str:
    console = Console(width=200, color_system="truecolor", force_terminal=True)
    with console.capture() as capture:
        console.print(renderable)
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get())


def test_rich_tables_show_markup_as_text() -> None:
    """A plugin's name can't style a terminal's table, nor smuggle escapes into it."""
    barriers = rich_text(diagnosis_rich([*BARRIERS, {"barrier": HOSTILE, "status": "partial"}]))
    assert HOSTILE_SHOWN in barriers
    assert "✗ unavailable" in barriers
    assert barriers.replace("\n", "").isprintable()


@pytest.mark.parametrize("readings", [0, 1, 2, 50])
def test_time_plots_have_units_limits_and_the_kernels_figure(readings: int) -> None:
    """Memory and CPU are drawn from 0, in named units, with the limit and the high-water mark, for any readings."""
    memory, cpu = plot_run(a_run(readings=readings))
    memory.figure.canvas.draw()
    assert (memory.get_ylabel(), cpu.get_ylabel()) == ("Added memory (MiB)", "CPU time (s)")
    assert (memory.get_xlabel(), cpu.get_xlabel()) == ("", "Time since the call began (ms)")
    assert (memory.get_ylim()[0], cpu.get_ylim()[0]) == (0, 0)
    levels = {line.get_label(): line.get_ydata()[0] for line in (*memory.lines, *cpu.lines)}
    assert (levels["limit"], levels["peak"], levels["total"]) == (1.0, 300.0, 0.3)
    assert {"limit 64 MiB", "peak 300 MiB", "limited:memory", "limit memory"} <= {t.get_text() for t in memory.texts}
    assert memory.get_title(loc="left") == "hog"
    curve = memory.lines[0]
    assert curve.get_xdata()[0] == 0
    assert len(curve.get_xdata()) == max(readings, {0: 2, 1: 2, 2: 3}.get(readings, 0))


@pytest.mark.parametrize(("plot", "limit"), [(plot_memory, 64.0), (plot_cpu, 1.0)])
def test_a_plot_draws_on_the_axes_it_is_given(plot: Callable[..., Any], limit: float) -> None:
    """Axes in, the same Axes out, no figure beside, and the limit on them."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert plot(a_run(readings=9), ax) is ax
    assert [line.get_ydata()[0] for line in ax.lines if line.get_label() == "limit"] == [limit]
    assert len(plt.get_fignums()) == 1


def test_plot_run_wants_two_axes() -> None:
    """Another number of Axes is refused with what to do."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(3)
    with pytest.raises(ValueError, match=r"^plot_run draws on two Axes, not on 3; give it two, or none$"):
        plot_run(a_run(), axes)


def test_a_limit_far_above_use_is_told_in_words() -> None:
    """Small use isn't squeezed flat under a distant limit; the limit is then named as off the scale."""
    memory, cpu = plot_run(completed())
    assert "↑ limit 64 MiB, off the scale" in {text.get_text() for text in memory.texts}
    assert (cpu.get_ylabel(), [text.get_text() for text in cpu.texts]) == (
        "CPU time (ms)",
        ["↑ limit 1 s, off the scale", "total 3 ms"],
    )


def test_event_labels_share_or_change_lanes() -> None:
    """Events of one moment are told together; near ones stand below each other and never on top."""
    events = (
        Event(0.300, "dropped", {"what": "output"}),
        Event(0.350, "error", {"type": "ValueError"}),
        Event(0.352, "kill"),
    )
    ax = plot_memory(a_run(*events, readings=30))
    ax.figure.canvas.draw()
    labels = [text for text in ax.texts if text.get_text() in ("dropped output", "raised ValueError · kill")]
    first, second = (label.get_window_extent() for label in labels)
    assert not first.overlaps(second)


def test_compare_runs_draws_bars_verdicts_and_limits() -> None:
    """Each run has a bar with hatch, figure and verdict, and a mark at its own limit."""
    ax = compare_runs([a_run(), completed(name="other", policy=Policy(memory="128M"))])
    ax.figure.canvas.draw()
    assert ax.get_xlabel() == "Added memory at its peak (MiB)"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["hog", "other"]
    assert [(bar.get_width(), bar.get_hatch()) for bar in ax.patches] == [(300.0, "////"), (4.0, "")]
    assert [text.get_text() for text in ax.texts] == ["300 MiB · limited:memory", "4 MiB · completed"]
    assert [line.get_xdata()[0] for line in ax.lines] == [64.0, 128.0]
    assert ax.get_title(loc="right") == "│ limit 64 MiB to 128 MiB"


def test_compare_runs_by_cpu_and_of_nothing() -> None:
    """CPU time is compared in seconds or milliseconds, no runs give empty Axes, another `by` is refused."""
    assert compare_runs([a_run()], by="cpu").get_xlabel() == "CPU time (s)"
    assert compare_runs([completed()], by="cpu").get_xlabel() == "CPU time (ms)"
    assert len(compare_runs([]).patches) == 0
    with pytest.raises(ValueError, match="'memory' or by 'cpu'"):
        compare_runs([], by="wall")  # type: ignore[arg-type]


def test_plots_take_hostile_names() -> None:
    """Dollar signs aren't parsed as math, and characters that the font lacks don't warn."""
    run = a_run(Event(0.1, "error", {"type": "$\\frac{$"}), name="$\\frac{$ 日本語 \U0001f600", readings=5)
    plot_run(run)[0].figure.canvas.draw()
    compare_runs([run, hostile()]).figure.canvas.draw()
    assert plot_text("a日" + "b" * 60, 5) == "a�bb…"


def test_a_card_bears_both_names_of_a_plugin_that_was_given_one() -> None:
    """First the one that it was given, then what it calls itself, as text."""
    run = hostile()
    given = run_card(run.__replace__(source=dataclasses.replace(run.source, known_as="guest")))
    own = f"({html.escape(HOSTILE_SHOWN).replace('$', '&#36;')})"
    assert 0 < given.index("<b>guest</b>") < given.index(own)
    assert HOSTILE not in given
    assert own not in run_card(run)
