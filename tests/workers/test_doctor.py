"""The doctor on this machine and on poorer ones: a status is what was seen in a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agentplug.doctor
from agentplug.core.host import launcher
from agentplug.core.host.launcher import zygote_for
from agentplug.doctor import Diagnosis, entry
from agentplug.doctor.examination import examine

MACHINES = str(Path(__file__).parents[1] / "escapes" / "machines")
EXTRA = {"cgroup", "namespaces"}
confined = pytest.mark.need("landlock", "seccomp")


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    """This machine, examined once."""
    return agentplug.doctor.doctor()


@pytest.fixture(scope="module")
def poorer() -> Iterator[Any]:
    """Examine a machine of `tests/escapes/machines`."""
    real = launcher.worker_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "worker_path", lambda: [*real(), MACHINES])
        yield lambda name: {row["barrier"]: row for row in asyncio.run(examine((name, *entry.OWN_ZYGOTE)))}


# ---------------------------------------------------------------------- what is found


@confined
def test_each_barrier_of_a_fit_machine_is_proved_by_attempts(found: Diagnosis) -> None:
    """All that is promised holds; extra layers may be missing, and then say what would add them."""
    rows = {row["barrier"]: row for row in found.rows}

    assert found.fit
    assert {name for name, row in rows.items() if row["status"] != "enforced"} <= EXTRA
    assert list(rows)[-2:] == ["watchdog", "channel"]
    assert "read a key: EACCES" in rows["landlock"]["evidence"]
    assert "call a TCP service: EPERM" in rows["seccomp"]["evidence"]
    assert "its zygote is killed: it ends too" in rows["lifetime"]["evidence"]
    assert "take too much memory: limited:memory" in rows["watchdog"]["evidence"]
    assert all(bool(row["remedy"]) == (row["status"] != "enforced") for row in found.rows)


@confined
def test_what_is_found_is_the_same_each_time_and_nothing_is_left(found: Diagnosis) -> None:
    """No process id, port or path of a run stands in it, so that a notebook's output stays as it is. Its zygote was
    its own, and is gone; other plugins' zygote lives on."""
    shared = zygote_for().pid

    again = agentplug.doctor.doctor()

    assert repr(again) == repr(found)
    assert zygote_for().pid == shared
    assert entry.OWN_ZYGOTE not in launcher._registry


@confined
@pytest.mark.parametrize(
    ("machine", "barrier", "told"),
    [
        ("machine_no_landlock", "landlock", "read a key: it got through (the secret key was read)"),
        ("machine_no_seccomp", "seccomp", "limit it: it got through (the victim's limits changed)"),
    ],
)
def test_a_missing_barrier_is_seen_by_what_gets_through(poorer: Any, machine: str, barrier: str, told: str) -> None:
    """The stage says so, whatever the worker says of itself; and the remedy is named."""
    rows = poorer(machine)

    assert rows[barrier]["status"] == "unavailable"
    assert told in rows[barrier]["evidence"]
    assert rows[barrier]["lost"]
    assert rows[barrier]["remedy"]
    assert rows["watchdog"]["status"] == "enforced"


@confined
def test_ports_of_an_old_landlock_get_through_and_files_do_not(poorer: Any) -> None:
    """Partial is a status of its own: a list of ports can't be kept, a default policy can."""
    row = poorer("machine_landlock_3")["landlock"]

    assert row["status"] == "partial"
    assert row["evidence"].startswith("connect to a port that isn't granted: it got through")
    assert "read a key: EACCES" in row["evidence"]
    assert "6.7" in row["remedy"]
    assert row["lost"] == []
