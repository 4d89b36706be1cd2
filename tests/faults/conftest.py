"""A zygote for each test, which may be killed or made to fail, and is gone afterwards."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentplug import Policy
from agentplug.core.host import launcher
from agentplug.core.host.launcher import Zygote, zygote_for

PRELOAD = ("tests.faults.in_zygote",)  # never imported here: it changes what it is loaded into
PATIENCE_S = 30.0


class FaultyPlugin:
    """Hangs where it is told to, and gives back what it gets."""

    name, version = "faulty", "1"

    def initialize(self, config: dict[str, Any]) -> None:
        """Hang if the configuration says so."""
        if config.get("hang"):
            time.sleep(60)

    def process(self, what: Any) -> Any:
        """What came in; nothing for `hang`; `much`: more bytes than a socket holds."""
        if what == "hang":
            time.sleep(60)
        return b"x" * (8 << 20) if what == "much" else what

    def shutdown(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Faulty:
    """A policy whose workers come from a zygote of the test's own, and what can be done to that."""

    policy: Policy

    @property
    def zygote(self) -> Zygote:
        """The present one, or a new one."""
        return zygote_for(PRELOAD)

    def ask(self, fault: str) -> None:
        """Let something fail from now on: `fork` or `confine`; nothing for an empty text."""
        file = Path(self.zygote.scratch_root, "fault")
        if fault:
            file.write_text(fault)
        else:
            file.unlink()


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A zygote of its own for this test. In the end nothing is left where it has its scratch directories."""
    place = tmp_path / "scratch"
    place.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))
        yield Faulty(Policy(preload=PRELOAD))
        last = launcher._registry.get(PRELOAD)
        if last is not None:
            last.close()
        assert list(place.iterdir()) == []


def slay(pid: int) -> None:
    """SIGKILL to a process, and wait until it has ended (not until somebody has waited for it)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it was quicker
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(PATIENCE_S * 1e3), "it never ended"
    finally:
        os.close(pidfd)
