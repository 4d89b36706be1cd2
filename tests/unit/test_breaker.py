"""The breaker of a hook: after failures it is skipped, then one call alone may try again."""

from __future__ import annotations

import pytest

from agentplug.manager.hooks import breaker


def test_one_alone_is_let_through_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(breaker, "now_s", lambda: now_s)
    hook = breaker.Breaker()
    for _ in range(breaker.FAILURES):
        hook.record(success=False)
    now_s += breaker.OPEN_S
    assert [hook.allows_call() for _ in range(3)] == [True, False, False]
    hook.cancel()
    assert hook.allows_call()
