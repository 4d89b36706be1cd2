"""A trace for people: units, verdicts in one word, limits on request; and the plots of each cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import matplotlib as mpl
import pandas as pd
import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import Sample, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.report.accessor import attached

mpl.use("Agg")

MIB = 1 << 20
OVER = Event(0.1, "limit", {"by": "memory", "measured": 80 * MIB, "bound": 64 * MIB, "unit": "bytes"})


def a_run(number: int, *, name: str = "hog", over: bool = False) -> Run:
    return Run(
        None,
        Usage(0.25, 0.02, 0.02, 0.0, 60 * MIB, 50 * MIB, reply_bytes=2048, threads=1),
        (Event(0.0, "start"), OVER if over else Event(0.1, "reply")),
        Policy(memory="64M", cpu_s=1.0, wall_s=2.0, threads=8),
        SourceInfo("./hog.py", "file", "sha256:hog", name, "1.0"),
        number,
        datetime(2026, 3, 4, tzinfo=UTC) + timedelta(seconds=1.5 * number),
        readings=tuple(Sample(n * 10_000_000, (50 + n) * MIB, n * 5_000_000, 1) for n in range(3)),
    )


def trace(*runs: Run) -> pd.DataFrame:
    return attached(pd.concat([run.to_frame() for run in runs], ignore_index=True))


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_figures_have_units_and_a_verdict_is_one_word() -> None:
    """Moments are distances from the first call; columns that hold only zeros are left out."""
    lines = repr(trace(a_run(0), a_run(1, over=True)).agentplug.show()).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["run", "0", "1"]
    assert " ".join(lines[0].split()) == (
        "run plugin version verdict began wall CPU added by the call threads peak footprint reply"
    )
    assert " ".join(lines[2].split()) == ("1 hog 1.0 limited:memory +1.50 s 250 ms 20 ms 10 MiB 1 60 MiB 2 KiB")


def test_limits_stand_beside_the_figures_or_in_columns() -> None:
    """As text for people, as numbers for pandas; without `attrs` nobody knows them."""
    frame = a_run(0).to_frame()
    shown = " ".join(repr(frame.agentplug.show(limits=True)).split())
    assert "250 ms of 2 s 20 ms of 1 s 10 MiB 1 of 8 64 MiB 60 MiB" in shown
    limits = frame.agentplug.limits()[["memory_limit", "cpu_s_limit", "wall_s_limit", "threads_limit"]]
    assert limits.iloc[0].tolist() == [64 * MIB, 1.0, 2.0, 8]
    frame.attrs = {}
    with pytest.raises(ValueError, match="no longer knows all its limits"):
        frame.agentplug.limits()
    with pytest.raises(ValueError, match="no longer knows all its limits"):
        frame.agentplug.show(limits=True)


def test_a_long_trace_is_shown_at_both_ends() -> None:
    """Thirty calls each, and the number of the others."""
    view = trace(*(a_run(n) for n in range(100))).agentplug.show()
    lines = repr(view).splitlines()
    assert len(lines) == 62
    assert lines[31].startswith("70 ")
    assert lines[-1] == "The first and the last 30; 40 between them are left out."
    assert "40 between them are left out" in view._repr_html_()


def test_hostile_and_missing_values_are_shown_as_such() -> None:
    """HTML in a name is text; a figure that nobody measured is an empty cell."""
    frame = trace(a_run(0, name="<b>$x$</b>\x1b[2J"))
    frame["cpu_s"] = float("nan")
    view = frame.agentplug.show()
    assert "<b>&lt;b&gt;" in view._repr_html_()
    assert "nan" not in view._repr_html_() + repr(view)
    assert repr(view).replace("\n", "").isprintable()
    assert repr(frame.iloc[:0].agentplug.show()) == "No calls yet."


def test_a_samples_frame_has_units_too() -> None:
    """One row a reading."""
    lines = repr(a_run(0).samples.agentplug.show()).splitlines()
    assert " ".join(lines[2].split()) == "10 ms 51 MiB 5 ms 50 % 1"


@pytest.mark.parametrize(
    ("cost", "label"),
    [
        ("memory", "Peak above the lowest footprint (MiB)"),
        ("peak_memory_bytes", "Peak above the lowest footprint (MiB)"),
        ("cpu_s", "CPU time of a call (ms)"),
        ("wall_s", "Time that a call took (s)"),
        ("wall", "Time that a call took (s)"),
    ],
)
def test_each_cost_can_be_drawn(cost: str, label: str) -> None:
    """By its word or by its column."""
    assert trace(a_run(0)).agentplug.plot(cost=cost).get_ylabel() == label


def test_a_run_draws_itself() -> None:
    """Memory above, CPU below; of its readings either one."""
    run = a_run(0)
    assert [ax.get_ylabel() for ax in run.plot()] == ["Added memory (MiB)", "CPU time (ms)"]
    assert run.samples.agentplug.plot(cost="cpu_s").get_ylabel() == "CPU time (ms)"
    with pytest.raises(ValueError, match="by='dollars'"):
        trace(run).agentplug.plot(cost="dollars")
