"""Replies of a few bytes that would cost the host gigabytes, minutes or its life are refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.fuzz.runner import ROOT
from tests.fuzz.traps import TRAPS

SLOWEST_S = 0.25
MOST_BYTES = 64 << 20


@pytest.fixture(scope="module")
def told() -> dict[str, list]:
    """How each trap ended, in a process that may die of it."""
    argv = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.traps"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_harmless_reply_of_that_form_is_taken(told: dict[str, list]) -> None:
    """It isn't the form that is refused."""
    assert told["harmless"][0] == "completed"


@pytest.mark.parametrize("name", TRAPS)
def test_trap_is_refused_soon_and_without_memory(told: dict[str, list], name: str) -> None:
    """A verdict, not a crash: within the time and the memory that any reply of that length may take."""
    outcome, seconds, grown_bytes = told[name]

    assert outcome == "broken:protocol"
    assert seconds < SLOWEST_S
    assert grown_bytes < MOST_BYTES
