"""The battery on its stage: what it looks at shows harm, and what nothing ends is ended."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentplug.core.run import Run
from agentplug.doctor.battery import run as battery
from agentplug.doctor.battery.catalogue import CATALOGUE, TIGHT, Attack
from agentplug.doctor.battery.matrix import Row
from agentplug.doctor.battery.run import run_battery
from agentplug.doctor.battery.stage import Stage
from agentplug.doctor.battery.stock import Stock, left_since
from tests.unit.test_battery import attack

confined = pytest.mark.need("landlock", "seccomp")


def test_the_battery_imports_nothing_of_the_zoo() -> None:
    """The host names attacks, and never loads one; pandas waits until a frame is asked for."""
    code = "import agentplug.doctor.battery.run, sys; print(*[m for m in sys.modules if 'zoo' in m or m == 'pandas'])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.stderr) == ("\n", "")


# ---------------------------------------------------------------------- a stage that notices


HARM: dict[str, tuple[Callable[[Stage], object], str]] = {
    "ended": (lambda stage: os.kill(stage.bait["pids"][0], signal.SIGKILL), "the victim was ended"),
    "signalled": (lambda stage: os.kill(stage.bait["pids"][0], signal.SIGUSR1), "the victim got SIGUSR1"),
    "reniced": (
        lambda stage: os.setpriority(os.PRIO_PROCESS, stage.bait["pids"][0], 19),
        "victim's priority changed",
    ),
    "limited": (
        lambda stage: resource.prlimit(stage.bait["pids"][0], resource.RLIMIT_NOFILE, (9, 9)),
        "the victim's limits changed",
    ),
    "sibling": (lambda stage: os.kill(stage.bait["pids"][3], signal.SIGKILL), "the sibling"),
    "content": (lambda stage: Path(stage.bait["secret"]).write_text("x"), "project/secret.txt was changed"),
    "planted": (lambda stage: Path(stage.bait["project"], "json.py").touch(), "project/json.py was changed"),
    "removed": (lambda stage: os.unlink(stage.bait["module"]), "library/module.py was changed"),
    "mode": (lambda stage: os.chmod(stage.bait["secret"], 0o777), "project/secret.txt was changed"),
    "linked": (lambda stage: os.link(stage.bait["secret"], stage.bait["home"] + "/x"), "home/x was changed"),
    "called": (lambda stage: socket.create_connection(("127.0.0.1", stage.bait["tcp"])).close(), "tcp service"),
    "shared": (lambda stage: Path("/dev/shm", stage.bait["mark"]).touch(), "was made"),
}


@confined
@pytest.mark.parametrize("name", HARM)
async def test_harm_on_the_stage_shows(name: str) -> None:
    """Whatever an attack could do to what it aims at is seen; and before, nothing is."""
    harm, told = HARM[name]
    async with Stage() as stage:
        before = await stage.damage()
        harm(stage)
        after = "; ".join(await stage.damage())

    assert before == []
    assert told in after


@confined
async def test_a_change_to_this_process_shows() -> None:
    """The host's own limits are watched too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Stage() as stage:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        try:
            told = await stage.damage()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert told == ["this process's limits changed"]


@confined
async def test_what_is_left_behind_shows() -> None:
    """A process, a thread, a descriptor; and once they are gone, nothing."""
    before = Stock.take()
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, name="straggler")
    thread.start()
    with subprocess.Popen(["/bin/sleep", "60"]) as process, open("/dev/null"):
        told = "; ".join(Stock.take().since(before))
        process.kill()
    ended.set()
    thread.join()

    assert f"sleep ({process.pid})" in told
    assert "straggler" in told
    assert "/dev/null" in told
    assert await left_since(before) == []


# ---------------------------------------------------------------------- a battery that can fail


BREACHED = {
    "network": (
        attack("network:Caller", "completed", argument="$tcp", policy=TIGHT.replace(network=True)),
        "the tcp service was called",
    ),
    "key": (
        attack("files:Snoop", "completed", argument="$home", granted=(("read", ("$home",)),)),
        "the secret key was read",
    ),
    "file": (
        attack("scratch:Linker", "completed", argument="$secret", granted=(("read", ("$project",)),)),
        "the secret file was read",
    ),
    "content": (
        attack("files:Vandal", "completed", argument="$secret", granted=(("write", ("$project",)),)),
        "project/secret.txt was changed",
    ),
    "planted": (
        attack("files:Planter", "completed", argument=["$project"], granted=(("write", ("$project",)),)),
        "project/sitecustomize.py was changed",
    ),
    "verdict": (attack("cpu:Spinner", "completed"), "the verdict is none of completed"),
}


@confined
@pytest.mark.parametrize("name", BREACHED)
def test_an_attack_that_was_granted_its_way_is_reported_as_through(name: str) -> None:
    """A battery that could only say yes would prove nothing: here the policy lets the attack harm the stage."""
    breached, told = BREACHED[name]

    (row,) = asyncio.run(run_battery([breached])).rows

    assert not row.contained
    assert told in row.evidence


@confined
def test_the_stage_is_set_anew_after_a_breach() -> None:
    """The next attack isn't blamed for what the last one did."""
    breached, _ = BREACHED["content"]
    seen: list[Row] = []

    matrix = asyncio.run(run_battery([breached, attack("host:Quitter", "died:exit 3")], seen.append))

    assert [row.contained for row in matrix.rows] == [False, True]
    assert tuple(seen) == matrix.rows
    assert matrix.rows[1].verdict == matrix.rows[1].expected == "died:exit 3"


@confined
def test_a_held_up_loop_counts_against_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """But only if it happens each time: a busy machine may be late once."""
    tries = []

    async def late(attack: Attack, stage: Stage) -> tuple[Run | None, str]:
        tries.append(attack)
        time.sleep(0.2)  # noqa: ASYNC251
        return None, "refused"

    monkeypatch.setattr(battery, "let_loose", late)

    (row,) = asyncio.run(run_battery([CATALOGUE[0]])).rows

    assert not row.contained
    assert re.fullmatch(r"this process's loop was held up for \d+ ms", row.evidence)
    assert len(tries) == 3


@confined
def test_an_attack_that_nothing_ends_is_ended_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a limit fail, the battery still comes to its end."""
    monkeypatch.setattr(battery, "HARD_S", 0.3)

    (row,) = asyncio.run(run_battery([attack("cpu:Sleeper", "limited:wall")])).rows

    assert (row.contained, row.verdict) == (False, "still running after 0.3 s")
    assert row.evidence == "it didn't end by itself"
