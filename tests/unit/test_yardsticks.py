"""What stress-ng says is read rightly, and what must not be is named."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from agentplug.contract.record import Verdict
from tests.yardsticks.__main__ import table
from tests.yardsticks.stress_ng import MIB, Row, came_of

START = "stress-ng: info:  [17] dispatching hogs: 2 sock\n"
REFUSAL = "stress-ng: fail:  [21] sock: bind failed on port 5001, errno=1 (Operation not permitted)\n"
SKIP = "stress-ng: info:  [17] swap stressor will be skipped, need to be running with CAP_SYS_ADMIN rights\n"
ROW = Row("sock", "ran", "", 1.0, 40 * MIB, 10 * MIB, MIB, 0, 0.02, (), "")


@pytest.mark.parametrize(
    ("verdict", "value", "outcome", "why"),
    [
        (Verdict("limited", "memory"), None, "limited:memory", ""),
        (Verdict("completed"), [0, START], "ran", ""),
        (Verdict("completed"), [0, ""], "ran", ""),
        (Verdict("completed"), [0, START + REFUSAL], "ran, not all of it", "sock: bind failed on port …, errno=1"),
        (Verdict("completed"), [2, START + REFUSAL], "refused", "sock: bind failed on port …, errno=1"),
        (Verdict("completed"), [0, SKIP], "didn't start", "swap stressor will be skipped"),
        (Verdict("completed"), [3, START], "didn't start", ""),
    ],
)
def test_what_came_of_a_stressor_is_read_from_its_verdict_and_words(
    verdict: Verdict, value: Any, outcome: str, why: str
) -> None:
    """A refusal isn't a failure, and what was skipped didn't start; numbers that change from run to run are cut."""
    run: Any = SimpleNamespace(verdict=verdict, value=value)

    word, complaint = came_of(run)

    assert word == outcome
    assert complaint.startswith(why)
    assert bool(complaint) == bool(why)


def test_what_must_not_be_is_named() -> None:
    """A loop that stood still, memory that nobody tells of, memory and things that stay."""
    bad = replace(ROW, lag_s=0.2, pages_bytes=120 * MIB, kept_bytes=65 * MIB, left=("a file",), guarded="ended")

    assert ROW.faults == []
    assert bad.faults == [
        "a file",
        "ended",
        "the loop stood still for 200 ms",
        "81 MiB more than the run tells",
        "65 MiB stayed",
    ]
    assert list(table([ROW]))[2] == "| sock | ran | 1.0 | 40 | 10 | 1 | 20 | 1 |  |"
