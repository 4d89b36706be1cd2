"""The comparison judges by what was seen, and its translation keeps an attack's meaning."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agentplug.doctor.battery.catalogue import CATALOGUE, Attack
from tests.peers.__main__ import ROOT, Row, applies, got_its_way, table
from tests.peers.translated import translate

NAMED: dict[str, Attack] = {f"{attack.family}:{attack.name}": attack for attack in CATALOGUE}


@pytest.mark.parametrize(
    ("name", "outcome", "expected"),
    [
        ("signals:LimitRaiser", "completed", True),
        ("signals:LimitRaiser", "failed:PermissionError", False),
        ("network:Whisperer", "completed", False),  # sent into a namespace of its own: the stage says who was called
        ("network:Netlinker", "completed", True),
        ("runtime:BasePatcher", "completed", False),  # no refusal is due: our worker falls over it
        ("cpu:LateSpinner", "completed", False),
    ],
)
def test_an_attack_got_its_way_if_it_ended_where_a_refusal_is_due(name: str, outcome: str, expected: bool) -> None:
    """Fair to ways that contain without refusing."""
    assert got_its_way(NAMED[name], outcome) is expected


def test_attacks_on_what_agentplug_alone_has_do_not_apply() -> None:
    """Its frames, replies, displays and plugins beside it."""
    left_out = {attack.family for attack in CATALOGUE if not applies(attack)}

    assert left_out == {"protocol", "replies", "display", "runtime", "spying"}
    assert sum(applies(attack) for attack in CATALOGUE) > 100


def test_an_attack_is_translated_with_what_it_needs() -> None:
    """No coroutines, annotations or bases; helpers of its module come along."""
    text = translate("agentplug.zoo.cpu:Spinner")

    assert "class Spinner:" in text
    assert "def process(self, input_data):" in text
    assert not {"async", "import", "ZooPlugin"} & set(text.split())
    compile(text, "<attack>", "exec")


def test_the_table_counts_each_result_and_names_what_cannot_run() -> None:
    """A row a way, and a row a family."""
    rows = [Row("pebble", "cpu", "Spinner", result, "timeout", "", 1.0, 2.0) for result in ("contained", "escaped")]

    lines = list(table(rows, {}, 3))

    assert lines[2].split(" | ")[2:] == ["2", "1", "0", "1", "0", "3 |"]
    assert lines[-1] == "| cpu | 1 of 2 |"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_is_refused() -> None:
    """Some of the ways confine nothing."""
    command = [sys.executable, "-m", "tests.peers"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "confine nothing" in done.stdout
