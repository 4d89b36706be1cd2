"""The battery: its catalogue is whole, what it looks at shows harm, and a matrix says what was seen."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pkgutil
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
from typing import Any

import pytest

import agentplug.zoo
from agentplug.core.run import Run
from agentplug.doctor.battery import run as battery
from agentplug.doctor.battery.catalogue import CATALOGUE, TIGHT, Attack
from agentplug.doctor.battery.matrix import Matrix, Row
from agentplug.doctor.battery.run import run_battery
from agentplug.doctor.battery.stage import Stage
from agentplug.doctor.battery.stock import Stock, left_since

VERDICT = re.compile(r"`(completed|(?:failed|limited|died|broken):[^`]+)`")
HELD = Row("Hoarder", "memory", "memory", "limited:memory", "limited:memory", True, "unharmed", 0.125, 1.5)
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"
THROUGH = Row("Caller", "network", HOSTILE, "failed:PermissionError", HOSTILE, False, HOSTILE, 1.0, 2.0)
confined = pytest.mark.need("landlock", "seccomp")


def zoo() -> dict[str, type]:
    """Each plugin of the zoo by its spec."""
    names = [f"agentplug.zoo.{module.name}" for module in pkgutil.iter_modules(agentplug.zoo.__path__)]
    return {
        f"{name}:{cls.__name__}": cls
        for name in names
        if not name.rpartition(".")[2].startswith("_")
        for cls in vars(importlib.import_module(name)).values()
        if inspect.isclass(cls) and cls.__module__ == name and not cls.__name__.startswith("_")
    }


def attack(spec: str, *contained: str, **options: Any) -> Attack:
    """An attack of the zoo, under another policy than the catalogue's."""
    return Attack(f"agentplug.zoo.{spec}", "the stage", contained, **options)


# ---------------------------------------------------------------------- the catalogue


def test_the_catalogue_has_each_attack_once() -> None:
    """Whoever adds a class to the zoo says here what it is for; and none is run twice."""
    specs = [attack.spec for attack in CATALOGUE]

    assert sorted(specs) == sorted(zoo())


@pytest.mark.parametrize("attack", CATALOGUE, ids=lambda attack: f"{attack.family}:{attack.name}")
def test_a_class_names_the_verdict_that_the_catalogue_expects_first(attack: Attack) -> None:
    """What a reader of the zoo is told is what the battery asks for."""
    assert VERDICT.findall(inspect.getdoc(zoo()[attack.spec]) or "") == [attack.contained[0]]


def test_the_battery_imports_nothing_of_the_zoo() -> None:
    """The host names attacks, and never loads one; pandas waits until a frame is asked for."""
    code = "import agentplug.doctor.battery.run, sys; print(*[m for m in sys.modules if 'zoo' in m or m == 'pandas'])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout, done.stderr) == ("\n", "")


# ---------------------------------------------------------------------- the matrix


def test_a_matrix_survives_if_every_attack_was_contained() -> None:
    """One that wasn't is enough, and none at all proves nothing."""
    assert Matrix((HELD,)).survived
    assert not Matrix((HELD, THROUGH)).survived
    assert not Matrix(()).survived
    assert Matrix((HELD, THROUGH)).escapes == (THROUGH,)


def test_a_matrix_is_a_frame_with_a_row_an_attack() -> None:
    """The columns are the fields of a row, also where there is none."""
    frame = Matrix((HELD, THROUGH)).to_frame()

    columns = "attack family target expected verdict contained evidence wall_s host_gap_ms".split()
    assert list(frame.columns) == list(Matrix(()).to_frame().columns) == columns
    assert frame["contained"].tolist() == [True, False]
    assert frame["wall_s"].tolist() == [0.125, 1.0]


def test_a_matrix_as_text_names_what_got_through() -> None:
    """A family in a line, and below it what wasn't contained, and why."""
    lines = str(Matrix((HELD, THROUGH))).splitlines()

    assert lines[0].split() == ["✓", "memory", "1", "of", "1"]
    assert lines[1].split() == ["✗", "network", "0", "of", "1"]
    assert lines[2].split()[:2] == ["✗", "network:Caller"]
    assert lines[-1] == "1 of 2 attacks were contained; network:Caller got through."
    assert repr(Matrix((HELD, THROUGH))) == "<Matrix: 2 attacks, 1 contained>"


def test_nothing_in_a_matrix_steers_a_display() -> None:
    """Verdicts and evidence hold what plugins say: it shows as text, in a terminal and in a page."""
    matrix = Matrix((THROUGH,))

    assert not {"\x1b", "\u202e"} & set(str(matrix) + repr(matrix) + matrix._repr_html_())
    assert "<script" not in matrix._repr_html_()
    assert "&lt;script&gt;" in matrix._repr_html_()


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
