"""Which runs are kept: what a plugin has a say in counts, its profiles too."""

from __future__ import annotations

import tracemalloc

import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.profile import Place, Stack
from agentplug.contract.record import SourceInfo, Usage
from agentplug.core import history as kept
from agentplug.core.profile import Profile
from agentplug.core.run import Run


def profiled(number: int) -> Run:
    """A run whose profile holds as many long names as one can, each of four bytes a character for its rare one."""
    places = [Place("\U0001f600", "\U0001f600" + str(n).rjust(199, "y"), n) for n in range(1_000)]
    stacks = tuple(Stack(1, 1, tuple(places[(n * 64 + i) % 1_000] for i in range(64))) for n in range(250))
    source = SourceInfo("p.py", "file", "sha256:0", "p", "1")
    return Run(None, Usage(), (Event(0.0, "start"),), Policy(), source, number, profile=Profile("cpu", stacks))


def test_profiles_count_as_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a megabyte each: a thousand of them would be four times what is kept of a plugin."""
    monkeypatch.setattr(kept, "MAX_RUNS_BYTES", 8 << 20)
    runs = kept.History()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(20):
            runs.add([profiled(number)])
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert runs.latest[-1].number == 19
    assert len(runs.latest) > 2
    assert grown < 10 << 20
