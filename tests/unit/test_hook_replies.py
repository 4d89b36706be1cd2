"""Transforms' answers: bounded in values, whose copies an agent's loop would wait for."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from agentplug.contract.messages.message import AgentMessage
from agentplug.manager.hooks import replies
from agentplug.manager.hooks.replies import BadReply, check_size, transformed, value_count

HI = AgentMessage(point="input", parts=[{"type": "text", "content": "hi"}])


@pytest.mark.parametrize(
    ("reply", "count"),
    [
        (None, 0),
        ("text", 0),
        ([], 0),
        ([1, 2], 2),
        ({"a": 1, "b": [1, 2]}, 6),
        (([[]], {}), 3),
        ([{"type": "text", "content": "x"}] * 10, 50),
    ],
)
def test_values_are_counted(reply: Any, count: int) -> None:
    """Items of lists, keys and values of dicts."""
    assert value_count(reply, 1_000) == count


@pytest.mark.parametrize(
    "reply",
    [
        [{"type": "x", "v": [1] * 480_000}],
        [{"type": "x", "v": [[1, 2]] * 120_000}],
        [{"type": "x", "v": {str(at): 1 for at in range(90_000)}}],
        [{"type": "text", "content": "x"}] * 30_000,
        {"parts": [{"type": "x", "v": [None] * 60_000}]},
        [{"type": "x", "v": [{"a": [1]}] * 20_000}],
    ],
    ids=["ints", "lists", "keys", "parts", "whole message", "dicts"],
)
def test_an_answer_of_too_many_is_refused(reply: Any) -> None:
    """With the bound and what to do, and without a copy."""
    with pytest.raises(BadReply, match=r"^a transform returned over 50000 values; return longer"):
        check_size(HI, reply)


def test_an_answer_may_hold_as_many_as_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host itself sends can be sent back."""
    monkeypatch.setattr(replies, "MOST_VALUES", 10)
    message = HI.replace(parts=[{"type": "x", "v": [1] * 100}])

    check_size(message, message.payload)
    check_size(HI, HI.payload)
    with pytest.raises(BadReply, match="over 105 values"):
        check_size(message, [*message.payload, {"type": "y"}])


@pytest.mark.parametrize("foreign", [pd.Series(["x"]), [pd.Series(["x"])], {"id": pd.Series([1])}])
def test_arrays_and_tables_are_never_compared(monkeypatch: pytest.MonkeyPatch, foreign: Any) -> None:
    """A message with one in another field was changed, whatever it holds."""

    def compare(one: Any, other: Any) -> Any:
        pytest.fail("a table was compared")

    monkeypatch.setattr(pd.Series, "__eq__", compare)
    sent = {**HI.for_plugin(), "redactions": ["x"], "agent": {"id": "x"}}
    for name in ("redactions", "agent", "id"):
        with pytest.raises(BadReply, match=f"a transform changed {name}"):
            transformed(HI, {**sent, name: foreign}, lambda: sent, "hook")
