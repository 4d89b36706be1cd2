"""`Run` as a value."""

from __future__ import annotations

import pytest

from agentplug import Policy
from agentplug.contract.events import Event
from agentplug.contract.record import SourceInfo, Usage
from agentplug.core.run import Run

RUN = Run(1, Usage(wall_s=0.5), (Event(0.0, "reply"),), Policy(), SourceInfo("p", "file", "00"), 3, stdout="out")


def test_a_changed_copy_differs_in_what_was_changed() -> None:
    """The run itself stays as it was."""
    changed = RUN.__replace__(value=2)
    assert vars(changed) == {**vars(RUN), "value": 2}
    assert RUN.value == 1
    assert changed.verdict == RUN.verdict


def test_what_a_run_has_not_cannot_be_changed() -> None:
    """A misspelt field isn't a new one, and no field is set in place."""
    with pytest.raises(TypeError, match="valeu"):
        RUN.__replace__(valeu=2)
    with pytest.raises(AttributeError, match="a Run can't be changed"):
        RUN.value = 2
