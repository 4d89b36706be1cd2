"""`report.plots`: pictures of many calls, of changes and of batteries, from runs, from traces, and from neither."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import Sample, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.doctor.battery.matrix import Matrix, Row
from agentplug.report.accessor import attached
from agentplug.report.frames import calls_frame, samples_frame
from agentplug.report.labels import short_names
from agentplug.report.marks import SERIES, VERDICTS
from agentplug.report.plots import (
    compare_runs,
    plot_calls,
    plot_change,
    plot_costs,
    plot_cpu,
    plot_memory,
    plot_run,
    plot_runs,
    plot_samples,
    plot_survival,
)
from agentplug.report.plots.canvas import amount, byte_unit, time_unit

attached(pd.DataFrame())  # makes `df.agentplug` known

mpl.use("Agg")

MIB = 1 << 20
BASE = 50 * MIB
POLICY = Policy(memory="64M", cpu_s=1.0)
HOSTILE = "<b>$\\frac{$\x1b[31m\u202e日" + "x" * 90
ENDS = {
    "completed": Event(0.01, "reply"),
    "limited": Event(0.01, "limit", {"by": "memory"}),
    "failed": Event(0.01, "error", {"type": "ValueError"}),
    "died": Event(0.01, "exit", {"status": "SIGSEGV"}),
}
START = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_run(
    number: int = 0,
    *,
    name: str = "hog",
    held: int = 0,
    added: int = 3 * MIB,
    cpu_s: float = 0.004,
    end: str = "completed",
    events: tuple[Event, ...] = (),
    readings: int = 0,
    policy: Policy = POLICY,
) -> Run:
    return Run(
        None,
        Usage(2 * cpu_s, cpu_s, cpu_s, 0.0, BASE + held + added, BASE + held, threads=1),
        (Event(0.0, "start", {"floor_bytes": BASE}), *events, ENDS[end]),
        policy,
        SourceInfo("./hog.py", "file", "sha256:3f9a", name, "1.0"),
        number,
        START + timedelta(seconds=number),
        readings=tuple(Sample(i * 1_000_000, BASE + held + i * MIB, i * 500_000, 1) for i in range(readings)),
    )


def a_trace(name: str = "hog", calls: int = 10, **rest: Any) -> pd.DataFrame:
    return calls_frame([a_run(number, name=name, **rest) for number in range(calls)])


def a_matrix(*rows: tuple[str, str, str, bool]) -> Matrix:
    return Matrix(
        tuple(Row(f"A{n}", *row[:2], "limited:memory", row[2], row[3], "", 0.1, 1.0) for n, row in enumerate(rows))
    )


def words(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def drawn(ax: Any) -> Any:
    ax.figure.canvas.draw()
    return ax


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


FROM_CALLS: dict[str, Callable[..., Any]] = {
    "calls": plot_calls,
    "costs": plot_costs,
    "change": lambda given, *rest, **options: plot_change(given, given, *rest, **options),
}


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
@pytest.mark.parametrize("by", ["memory", "cpu", "wall"])
def test_pictures_of_calls_take_runs_and_frames_and_draw_on_given_axes(plot: Callable[..., Any], by: str) -> None:
    """Runs and their trace give the same picture, on the Axes given, with units on the axis."""
    import matplotlib.pyplot as plt

    runs = [a_run(0), a_run(1, end="failed"), a_run(0, name="other", cpu_s=0.02)]
    _, ax = plt.subplots()
    assert plot(calls_frame(runs), ax, by=by) is ax
    other = plot(runs, by=by)
    labels = [(it.get_xlabel(), it.get_ylabel(), words(it)) for it in (drawn(ax), drawn(other))]
    assert labels[0] == labels[1]
    assert f"({'MiB' if by == 'memory' else 'ms'})" in labels[0][0] + labels[0][1]


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
def test_pictures_of_no_calls_say_so(plot: Callable[..., Any]) -> None:
    """An empty trace is a picture with labels and the words for it."""
    for nothing in ([], calls_frame([]), a_trace()[:0]):
        ax = drawn(plot(nothing))
        assert words(ax) == ["no calls yet"]
        assert ax.get_xlabel()
    for by, label in (("memory", "Added memory (MiB)"), ("cpu", "CPU time (ms)")):
        (ax,) = plot_runs([], by=by)  # type: ignore[arg-type]
        assert (words(drawn(ax)), ax.get_ylabel(), ax.get_xlabel()) == (["no calls yet"], label, "Time (ms)")
    assert words(drawn(compare_runs([]))) == ["no calls yet"]


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
def test_pictures_of_calls_refuse_other_frames(plot: Callable[..., Any]) -> None:
    """A frame of other origin, a samples frame and other objects are named for what they lack."""
    with pytest.raises(ValueError, match=r"has no plugin, verdict.*see plugin\.trace"):
        plot(pd.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match=r"has no plugin, verdict.*plot_samples draws readings"):
        plot(samples_frame(a_run()))
    with pytest.raises(ValueError, match=r"not from a int$"):
        plot(3)
    with pytest.raises(ValueError, match=r"not from a str$"):
        plot("trace.csv")
    with pytest.raises(ValueError, match=r"^by='disk'; calls are drawn by 'memory', 'cpu' or 'wall'$"):
        plot(a_trace(), by="disk")


@pytest.mark.parametrize("plot", [plot_run, plot_memory, plot_cpu])
@pytest.mark.parametrize("given", [None, 3, "run", [], a_run], ids=["none", "number", "text", "list", "function"])
def test_pictures_of_a_call_refuse_what_is_none(plot: Callable[..., Any], given: Any) -> None:
    """Named by its type, with the picture that may have been meant; frames too."""
    with pytest.raises(ValueError, match=rf"a single run, not from a {type(given).__name__}; plot_runs draws"):
        plot(given)
    with pytest.raises(ValueError, match=r"not from a DataFrame; .* plot_calls a trace"):
        plot(a_trace())


@pytest.mark.parametrize("plot", [plot_runs, compare_runs])
def test_pictures_of_runs_refuse_what_are_none(plot: Callable[..., Any]) -> None:
    """A frame, rubbish, rubbish among runs."""
    with pytest.raises(ValueError, match=r"from runs \(`plugin.runs`\), not from a frame; plot_calls draws a trace"):
        plot(a_trace())
    for given in (3, "trace.csv", [a_run(), 3], {"a": 1}):
        with pytest.raises(ValueError, match=r"not from a (int|str)$"):
            plot(given)


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
def test_pictures_of_calls_survive_what_frames_go_through(plot: Callable[..., Any]) -> None:
    """Lost attrs, holes, text for numbers, limits that are none: drawn with what is there."""
    frame = pd.concat([a_trace(calls=5), a_trace("other", calls=5)])
    frame.attrs = {}
    assert drawn(plot(frame)).has_data()
    torn = a_trace().astype({"cpu_s": object, "peak_memory_bytes": object})
    torn.loc[0, "cpu_s"], torn.loc[1, "cpu_s"], torn.loc[2, "peak_memory_bytes"] = None, np.inf, "much"
    torn.loc[3, "verdict"] = None
    assert drawn(plot(torn)).has_data()
    assert drawn(plot(torn, by="memory")).has_data()
    for limits in ("none", {"memory": "64M", "cpu_s": None}, {"hog": 3}, {"cpu_s": float("nan")}, {"cpu_s": True}):
        frame = a_trace()
        frame.attrs["limits"] = limits
        assert drawn(plot(frame)).has_data()


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
def test_pictures_of_calls_take_hostile_names_and_any_size(plot: Callable[..., Any]) -> None:
    """No name is parsed as math or fills the picture, and zero, tiny and huge costs have a scale."""
    runs = [a_run(n, name=HOSTILE, cpu_s=cost) for n, cost in enumerate((0.0, 1e-9, 1e-3, 1e6))]
    several = [a_run(n, name=f"{n}{HOSTILE}", added=1 << (5 * n)) for n in range(9)]
    for ax in (plot(runs), plot(several, by="memory"), plot([a_run(cpu_s=0.0)])):
        assert drawn(ax).has_data()
        assert all(np.isfinite(limit) for limit in (*ax.get_xlim(), *ax.get_ylim()))


def test_a_leak_shows_as_a_climb() -> None:
    """Memory that is kept from call to call adds up, measured from the lowest footprint, up to the limit's line."""
    frame = calls_frame([a_run(n, held=3 * MIB * n) for n in range(20)] + [a_run(20, held=60 * MIB, end="limited")])
    ax = drawn(plot_calls(frame))
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines["hog"].get_ydata()) == [*(3.0 * n for n in range(1, 21)), 63.0]
    assert lines["limit"].get_ydata()[0] == 64.0
    assert lines["limited (1)"].get_marker() == VERDICTS["limited"].marker
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hog", "limited (1)"]
    assert words(ax) == ["limit 64 MiB"]


def test_calls_are_drawn_in_the_order_of_their_start() -> None:
    """A frame put together backwards is drawn forwards."""
    frame = calls_frame([a_run(n, cpu_s=(n + 1) / 1000) for n in range(5)])
    backwards = frame.iloc[::-1]
    assert np.allclose(plot_calls(backwards, by="cpu").lines[0].get_ydata(), [1, 2, 3, 4, 5])


def test_too_many_plugins_are_left_out_aloud() -> None:
    """The ones that took most have a line each, and a title tells of the rest."""
    ax = drawn(plot_calls([a_run(name=f"p{n}", cpu_s=0.001 * (n + 1)) for n in range(len(SERIES) + 2)], by="cpu"))
    assert ax.get_title(loc="right") == "2 plugins that took less aren't drawn"
    assert next(line.get_label() for line in ax.lines) == f"p{len(SERIES) + 1}"


def test_a_hundred_thousand_calls_are_drawn_as_bands_and_quantiles() -> None:
    """So many points aren't drawn: a line of medians with a band to the extremes, and a box; counts stay true."""
    count = 100_000
    one = a_trace(calls=1)
    frame = one.loc[one.index.repeat(count)].reset_index(drop=True)
    frame["cpu_s"] = np.linspace(0.001, 0.9, count)
    frame.loc[::2, "verdict"] = "failed"
    ax = drawn(plot_calls(frame, by="cpu"))
    assert max(len(line.get_xdata()) for line in ax.lines) == 250
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hog, 100,000 calls", "failed (50,000)"]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.9)
    ax = drawn(plot_costs(frame))
    assert max(len(line.get_xdata()) for line in ax.lines) == 2
    assert [text.partition(", median")[0] for text in words(ax)] == ["50,000 calls", "50,000 calls"]


def test_costs_have_a_row_for_each_verdict() -> None:
    """Rows are plugins and verdicts in a fixed order, with count and median, hatches, and the limit's marks."""
    runs = [a_run(n, cpu_s=0.5 + 0.01 * n) for n in range(3)] + [a_run(3, end="died", cpu_s=0.9)]
    ax = drawn(plot_costs(runs))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["completed", "died"]
    assert words(ax) == ["3 calls, median 510 ms", "1 call, 900 ms"]
    assert [bar.get_hatch() for bar in ax.patches] == ["", "xx"]
    assert (ax.get_title(loc="left"), ax.get_title(loc="right")) == ("hog", "│ limit 1 s")
    ax = drawn(plot_costs([*runs, a_run(name="other")]))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "hog · completed",
        "hog · died",
        "other · completed",
    ]
    assert ax.get_xscale() == "log"


def test_costs_of_many_plugins_share_rows() -> None:
    """More rows than can be read become one for each verdict."""
    ax = drawn(plot_costs([a_run(name=f"p{n}", end=end) for n in range(20) for end in ("failed", "completed")]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["completed", "failed"]
    assert ax.get_title(loc="right") == ""


def test_a_share_of_a_window_is_what_a_call_cost() -> None:
    """Ten calls that were measured together cost a tenth each."""
    frame = a_trace(calls=1).assign(calls=10, cpu_s=1.0)
    assert words(drawn(plot_costs(frame))) == ["1 call, 100 ms"]


def test_change_is_told_in_words_and_order() -> None:
    """What grew most comes first, with both medians and their ratio; one-sided plugins have one circle."""
    before = calls_frame([a_run(name="a", cpu_s=0.010), a_run(name="b", cpu_s=0.020), a_run(name="gone")])
    after = calls_frame([a_run(name="a", cpu_s=0.005), a_run(name="b", cpu_s=0.050), a_run(name="new")])
    ax = drawn(plot_change(before, after))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a", "gone", "new"]
    assert words(ax) == ["20 ms → 50 ms (×2.5)", "10 ms → 5 ms (×0.5)", "4 ms, only before", "4 ms, only after"]
    assert ax.get_xlabel() == "CPU time of a call, median (ms)"


def test_small_multiples_share_their_scales() -> None:
    """Each run has Axes of its own, with name, number, verdict and figures, all on one scale."""
    runs = [a_run(n, added=n * 10 * MIB, readings=9) for n in range(5)] + [a_run(7, name=HOSTILE, end="failed")]
    axes = plot_runs(runs)
    drawn(axes[0])
    assert len(axes) == 6
    assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in axes}) == 1
    assert axes[4].get_title(loc="left") == "hog #4"
    assert words(axes[4]) == ["limit 64 MiB", "✓ completed", "40 MiB in 8 ms"]
    assert axes[0].get_ylabel() == "Added memory (MiB)"
    assert axes[-1].get_xlabel() == "Time (ms)"
    assert plot_runs(runs, by="cpu")[0].get_ylabel() == "CPU time (ms)"


def test_small_multiples_draw_on_given_axes_only_if_they_suffice() -> None:
    """Axes may be more than runs, not fewer; and nobody reads a hundred small pictures."""
    import matplotlib.pyplot as plt

    _, grid = plt.subplots(2, 2)
    assert list(plot_runs([a_run(), a_run(1), a_run(2)], grid)) == list(grid.ravel()[:3])
    with pytest.raises(ValueError, match=r"^plot_runs needs Axes for 5 runs, not 4; give it more, or none$"):
        plot_runs([a_run(n) for n in range(5)], grid)
    with pytest.raises(ValueError, match="at most 60 runs, not 61: choose some, or see all with plot_calls"):
        plot_runs([a_run(n) for n in range(61)])
    with pytest.raises(ValueError, match="'memory' or by 'cpu'"):
        plot_runs([a_run()], by="wall")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not from a int"):
        plot_runs([3])  # type: ignore[list-item]


@pytest.mark.parametrize(("by", "top", "limit"), [("memory", 8.0, 64.0), ("cpu", 4.0, 1000.0)])
def test_readings_are_drawn_from_the_first_one(by: Any, top: float, limit: float) -> None:
    """A samples frame is drawn above its first reading, with the limit, the plugin's name and its verdict."""
    frame = samples_frame(a_run(readings=9, policy=POLICY))
    ax = drawn(plot_samples(frame, by=by))
    assert max(ax.lines[0].get_ydata()) == pytest.approx(top)
    assert ax.get_title(loc="left") == "hog"
    assert "completed" in words(ax)
    unit = "MiB" if by == "memory" else "ms"
    assert f"({unit})" in ax.get_ylabel()
    assert any(line.get_label() == "limit" and line.get_ydata()[0] == pytest.approx(limit) for line in ax.lines)


def test_readings_without_attrs_or_without_rows_are_drawn() -> None:
    """No attrs: no limit and no headings. No readings: words for it."""
    frame = samples_frame(a_run(readings=9))
    frame.attrs = {}
    ax = drawn(plot_samples(frame))
    assert (words(ax), ax.get_title(loc="left")) == ([], "")
    assert "no readings: the call was too short for one" in words(drawn(plot_samples(samples_frame(a_run()))))
    with pytest.raises(ValueError, match=r"drawn from a samples frame \(`run.samples`\)"):
        plot_samples(calls_frame([a_run()]))
    with pytest.raises(ValueError, match="'memory' or by 'cpu'"):
        plot_samples(frame, by="wall")  # type: ignore[arg-type]


def test_both_accessors_draw() -> None:
    """`df.agentplug.plot()` draws a calls frame and a samples frame."""
    assert "footprint" in a_trace().agentplug.plot().get_ylabel()
    assert "first reading" in samples_frame(a_run(readings=5)).agentplug.plot().get_ylabel()


def test_the_time_in_which_a_worker_is_ended_is_a_phase_of_its_own() -> None:
    """From the deciding event to the last one the time is hatched and named; a completed call has no such phase."""
    events = (Event(0.3, "limit", {"by": "cpu"}), Event(0.3, "kill"), Event(0.4, "exit", {"status": "SIGKILL"}))
    ax = drawn(plot_memory(a_run(cpu_s=0.2, events=events)))
    assert "being ended" in words(ax)
    (span,) = ax.patches
    begins, ends = ax.transData.inverted().transform(span.get_window_extent())[:, 0]
    assert (begins, ends) == (pytest.approx(300), pytest.approx(400))
    assert "being ended" not in words(plot_memory(a_run()))
    assert not plot_memory(a_run()).patches


def test_hundreds_of_attempts_are_ticks_and_leave_room_for_what_decided() -> None:
    """What only tells never hides the deciding event, and its labels never overlap."""
    tried = tuple(Event(n / 1000, "tried", {"syscall": f"call{n}", "count": n}) for n in range(300))
    ax = drawn(plot_run(a_run(cpu_s=0.2, events=(*tried, Event(0.35, "limit", {"by": "cpu"}))))[0])
    labels = [text for text in ax.texts if text.get_text().startswith(("tried", "limit cpu"))]
    assert any(text.get_text() == "limit cpu" for text in labels)
    boxes = [text.get_window_extent() for text in labels]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[n + 1 :])


def test_what_happened_before_the_call_is_told_as_that() -> None:
    """Loading's cost and what was tried meanwhile stand at the start, in words."""
    events = (
        Event(0.0, "loaded", {"wall_s": 0.12, "cpu_s": 0.1}),
        Event(0.0, "tried", {"syscall": "socket", "count": 3, "during": "load"}),
    )
    ax = drawn(plot_memory(a_run(events=events)))
    assert "before: loaded in 120 ms · tried socket ×3 during load" in words(ax)


def test_a_battery_is_a_heat_map() -> None:
    """Cells count the attacks of a family and verdict; one that got through is hatched and told apart."""
    matrix = a_matrix(
        ("memory", "memory", "limited:memory", True),
        ("memory", "memory", "limited:disk", True),
        ("files", "the disk", "failed:PermissionError", True),
        ("files", "the user's files", "completed", False),
    )
    ax = drawn(plot_survival(matrix))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["memory", "files"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["completed", "failed", "limited"]
    assert sorted(words(ax)) == ["0 of 1", "1", "2"]
    assert [patch.get_hatch() for patch in ax.patches] == ["///"]
    assert ax.get_title(loc="left") == "3 of 4 attacks were contained"
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("Family of attacks", "Verdict")
    by_target = drawn(plot_survival(matrix.to_frame(), by="target"))
    assert [label.get_text() for label in by_target.get_xticklabels()] == ["memory", "the disk", "the user's files"]


def test_batteries_of_several_environments_stand_beside_each_other() -> None:
    """A dict of matrices gives a column for each; a family that wasn't run there has an empty cell."""
    here = a_matrix(("memory", "memory", "limited:memory", True), ("cpu", "cpu", "limited:cpu", True))
    there = a_matrix(("memory", "memory", "completed", False))
    ax = drawn(plot_survival({"here": here, HOSTILE: there.to_frame()}))
    assert len(ax.get_xticklabels()) == 2
    assert sorted(words(ax)) == ["0 of 1", "1", "1"]
    assert ax.get_xlabel() == "Environment"


def test_an_empty_battery_and_what_is_none() -> None:
    """No attacks: words for it. No matrix, too many columns, another `by`: refused with the reason."""
    for nothing in (Matrix(()), Matrix(()).to_frame(), {}):
        assert words(drawn(plot_survival(nothing))) == ["no attack was run"]
    with pytest.raises(ValueError, match="there is no family, target, verdict, contained in it"):
        plot_survival(3)
    with pytest.raises(ValueError, match="there is no family, target, contained in it"):
        plot_survival(a_trace())
    with pytest.raises(ValueError, match="41 columns are too many"):
        plot_survival(a_matrix(*(("f", f"t{n}", "completed", True) for n in range(41))), by="target")
    with pytest.raises(ValueError, match="'verdict' or by 'target'"):
        plot_survival(Matrix(()), by="attack")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (0.0, "s", "0 s"),
        (0.02, "s", "20 ms"),
        (2e-5, "s", "20 µs"),
        (1500.0, "ms", "1.5 s"),
        (300.4, "MiB", "300 MiB"),
        (0.5, "MiB", "512 KiB"),
        (1 << 20, "MiB", "1024 GiB"),
        (20 * 1024, "MiB", "20 GiB"),
    ],
)
def test_amounts_in_words(value: float, unit: str, told: str) -> None:
    """Three digits that count, in the unit that fits."""
    assert amount(value, unit) == told


def test_units_follow_what_is_drawn() -> None:
    """From microseconds to seconds and from KiB to GiB; nothing at all is told in the usual unit."""
    assert [time_unit(most)[1] for most in (0.0, 1e-5, 0.5, 60.0)] == ["ms", "µs", "ms", "s"]
    assert [byte_unit(most)[1] for most in (0, 5_000, 5 * MIB, 1 << 40)] == ["MiB", "KiB", "MiB", "GiB"]


ON_ONE: dict[str, Callable[..., Any]] = {
    **{name: lambda ax, plot=plot: plot([a_run()], ax) for name, plot in FROM_CALLS.items()},
    "compare": lambda ax: compare_runs([a_run()], ax),
    "memory": lambda ax: plot_memory(a_run(), ax),
    "cpu": lambda ax: plot_cpu(a_run(), ax),
    "samples": lambda ax: plot_samples(samples_frame(a_run(readings=3)), ax),
    "survival": lambda ax: plot_survival(Matrix(()), ax),
    "accessor": a_trace().agentplug.plot,
}


@pytest.mark.parametrize("plot", ON_ONE.values(), ids=ON_ONE)
def test_what_is_no_axes_is_refused_by_name(plot: Callable[..., Any]) -> None:
    """A grid, a figure, none at all in a list, Axes without x and y: one sentence, before anything is drawn."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, 2)
    others = [plt.figure().add_subplot(projection=name) for name in ("polar", "mollweide", "3d")]
    for given in (grid, figure, [], 3, *others):
        with pytest.raises(TypeError, match=rf"one matplotlib Axes with x and y, not on a {type(given).__name__} \("):
            plot(given)
    assert not any(ax.has_data() for ax in (*grid, *others))


def test_pictures_on_several_axes_refuse_others_too() -> None:
    """Lists and grids of Axes are taken; figures, numbers and polar Axes in them aren't."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, 2)
    polar = plt.figure().add_subplot(projection="polar")
    for plot in (lambda axes: plot_run(a_run(), axes), lambda axes: plot_runs([a_run(), a_run(1)], axes)):
        assert list(plot(list(grid))) == list(grid)
        for given in (figure, [grid[0], 3], [grid[0], polar]):
            with pytest.raises(TypeError, match="one matplotlib Axes with x and y, not on a"):
                plot(given)


def test_every_plugin_is_in_the_legend_whatever_its_name_is() -> None:
    """A plugin may be called like the limit's line, or begin as matplotlib's hidden entries do."""
    names = ["limit", "_hidden", "__x$_1$"]
    runs = [a_run(n, name=name, end="failed", cpu_s=0.3 - 0.1 * n) for n, name in enumerate(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = drawn(plot_calls(runs, by="cpu"))
    names[2] = r"__x\x24_1\x24"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*names, "failed (3)"]
    assert len({text.get_window_extent().width for text in ax.get_legend().get_texts()}) == 4
    ax.bar([0], [1], label="bar")
    again = drawn(plot_calls([a_run(name="more")], ax, by="cpu"))
    assert {"more", "bar"} <= {text.get_text() for text in again.get_legend().get_texts()}
    alone = drawn(plot_calls([a_run(name="limit")]))
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["limit"]


def test_long_names_stay_distinct() -> None:
    """They are cut in the middle, and numbered where that isn't enough; none is longer than its line."""
    names = [f"a-rather-long-plugin-name-{n}" for n in range(6)]
    ax = drawn(plot_calls([a_run(name=name) for name in names]))
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == [f"a-rather-long-p…n-name-{n}" for n in range(6)]
    alike = [f"a-rather-long-{n}-plugin-with-a-name" for n in range(3)]
    assert list(short_names(alike, 20).values()) == [
        "a-rather-long…a-name",
        "a-rather-…a-name (2)",
        "a-rather-…a-name (3)",
    ]
    ax = drawn(plot_costs([a_run(name=name) for name in alike]))
    assert len({label.get_text() for label in ax.get_yticklabels()}) == 3


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
def test_windows_of_no_calls_are_left_out(plot: Callable[..., Any]) -> None:
    """They have nothing to share: the others are drawn, or words where there are none."""
    for by in ("cpu", "wall"):
        assert words(drawn(plot(a_trace().assign(calls=0), by=by))) == ["no calls yet"]
        frame = a_trace()
        frame.loc[0, "calls"] = 0
        assert drawn(plot(frame, by=by)).has_data()


@pytest.mark.parametrize("plot", FROM_CALLS.values(), ids=FROM_CALLS)
def test_another_by_and_columns_that_are_there_twice_are_named(plot: Callable[..., Any]) -> None:
    """Whatever their type is, and whichever column it is."""
    for by in ([], None, {}):
        with pytest.raises(ValueError, match=r"^by=.*; calls are drawn by 'memory', 'cpu' or 'wall'$"):
            plot(a_trace(), by=by)
    for name in ("plugin", "cpu_s"):
        with pytest.raises(ValueError, match=rf"^this frame has several columns {name}; keep one: frame\.loc"):
            plot(pd.concat([a_trace(), a_trace()[[name]]], axis=1), by="cpu")


def test_other_pictures_name_columns_that_are_there_twice() -> None:
    """Starts, readings and batteries."""
    matrix = a_matrix(("memory", "memory", "completed", True)).to_frame()
    readings = samples_frame(a_run(readings=3))
    for name, plot, frame in (
        ("started_at", plot_calls, a_trace()),
        ("rss_bytes", plot_samples, readings),
        ("family", plot_survival, matrix),
    ):
        with pytest.raises(ValueError, match=f"^this frame has several columns {name}; keep one"):
            plot(pd.concat([frame, frame[[name]]], axis=1))


@pytest.mark.parametrize("plot", [plot_costs, lambda runs, by: plot_change(runs, runs, by=by)])
@pytest.mark.parametrize("least", [1, 1 << 10, 3 << 10, 9 << 10, 1 << 18])
def test_ticks_from_zero_on_do_not_overlap(plot: Callable[..., Any], least: int) -> None:
    """Zero stands clear of the first power of ten, wherever the least value lies."""
    runs = [a_run(n, name=str(n), added=added) for n, added in enumerate((0, least, MIB, 64 * MIB))]
    ax = drawn(plot(runs, by="memory"))
    assert ax.get_xscale() == "symlog"
    low, high = ax.get_xlim()
    ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    boxes = [label.get_window_extent() for tick, label in ticks if low <= tick <= high]
    assert len(boxes) > 2
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[n + 1 :])


# ---------------------------------------------------------------------- on any page

PICTURES: dict[str, Callable[[], Any]] = {
    "calls": lambda: plot_calls(mixed()),
    "change": lambda: plot_change(mixed(), mixed()),
    "costs": lambda: plot_costs(mixed()),
    "compare": lambda: compare_runs(mixed()),
    "runs": lambda: plot_runs(mixed())[0],
    "run": lambda: plot_run(mixed()[1])[0],
    "samples": lambda: plot_samples(samples_frame(mixed()[0])),
    "nothing": lambda: compare_runs([]),
}


def mixed() -> list[Run]:
    """One run of each end."""
    return [a_run(number, end=end) for number, end in enumerate(ENDS)]


def texts(figure: Any) -> Iterator[Any]:
    """Every text that stands on a figure."""
    for text in figure.findobj(mpl.text.Text):
        if text.get_text() and text.get_visible():
            yield text


def contrast(color: Any, page: str) -> float:
    """The contrast of two colours, as the Web Content Accessibility Guidelines define it."""
    lights = []
    for one in (color, page):
        rgb = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(one)]
        lights.append(0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2] + 0.05)
    return max(lights) / min(lights)


@pytest.mark.parametrize("draw", PICTURES.values(), ids=list(PICTURES))
@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_a_picture_can_be_read_on_a_light_and_on_a_dark_page(draw: Callable[[], Any], page: str) -> None:
    """It has no background of its own, and each text stands out from either page."""
    figure = draw().figure
    assert figure.get_facecolor()[3] == 0
    assert {ax.get_facecolor()[3] for ax in figure.axes} == {0}
    for text in texts(figure):
        assert contrast(text.get_color(), page) > 2.9, text


@pytest.mark.parametrize("draw", PICTURES.values(), ids=list(PICTURES))
def test_a_picture_in_the_users_dark_style_can_be_read(draw: Callable[[], Any]) -> None:
    """What is added to the Axes of a style is of its colours."""
    with mpl.style.context("dark_background"):
        figure = draw().figure
        assert mpl.colors.to_hex(figure.get_facecolor()) == "#000000"
        for text in texts(figure):
            assert contrast(text.get_color(), "#000000") > 2.9, text


def test_jupyter_puts_nothing_behind_a_picture() -> None:
    """It would, if all tick labels were dark, or all light: then the page would be a patchwork."""
    from matplotlib_inline.backend_inline import _fetch_figure_metadata

    for name, draw in PICTURES.items():
        assert name == "nothing" or _fetch_figure_metadata(draw().figure) is None
