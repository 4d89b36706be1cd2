"""The queue of an observer: what it holds is bounded, and room comes back."""

from __future__ import annotations

import pytest

from agentplug.manager.hooks import observers


async def test_what_was_seen_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "MAX_WAITING_BYTES", 250_000)
    queue = observers.ObserverQueue()

    async def work() -> None: ...

    for _ in range(5):
        assert queue.put(queue, work, 100_000)
        await queue.drain()
