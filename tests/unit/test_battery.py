"""The battery: its catalogue is whole, what it looks at shows harm, and a matrix says what was seen."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest

import agentplug.zoo
from agentplug.doctor.battery.catalogue import CATALOGUE, Attack
from agentplug.doctor.battery.matrix import Matrix, Row

VERDICT = re.compile(r"`(completed|(?:failed|limited|died|broken):[^`]+)`")
HELD = Row("Hoarder", "memory", "memory", "limited:memory", "limited:memory", True, "unharmed", 0.125, 1.5)
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"
THROUGH = Row("Caller", "network", HOSTILE, "failed:PermissionError", HOSTILE, False, HOSTILE, 1.0, 2.0)


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
