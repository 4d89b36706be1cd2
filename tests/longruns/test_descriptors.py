"""What one plugin takes of a bound that the kernel has for all of a user's: here, where no other test needs it."""

from __future__ import annotations

from typing import Any

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.sandboxed import SandboxedPlugin

pytestmark = pytest.mark.need("landlock", "seccomp")


class KeepingPlugin:
    """Sends itself descriptors and never takes them."""

    name, version = "keeping", "1.0"

    async def initialize(self, config: Any) -> None:
        """Nothing to prepare."""

    async def process(self, given: Any) -> str:
        """Why it could send no more."""
        import array
        import socket

        self.ends = socket.socketpair()
        self.ends[0].setblocking(False)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 250))]
        try:
            while True:
                self.ends[0].sendmsg([b"x"], rights)
        except OSError as error:
            return str(error)


class TryingPlugin:
    """Tries one thing that it has no right to."""

    name, version = "trying", "1.0"

    async def initialize(self, config: Any) -> None:
        """Nothing to prepare."""

    async def process(self, given: Any) -> str:
        """What became of it."""
        import os

        try:
            os.kill(os.getppid(), 9)
        except PermissionError:
            return "refused"
        return "done"


async def test_descriptors_on_their_way_keep_no_other_from_starting() -> None:
    """The kernel bounds how many of a user's may be. One that keeps as many there costs others the kernel's word on
    what they try, and nothing else: their own workers report it, and are named as the source."""
    async with SandboxedPlugin(KeepingPlugin, Policy(network=True)) as keeping:
        assert "Too many references" in await keeping.process(None)
        async with SandboxedPlugin(TryingPlugin) as trying:
            run = await trying.run(None)

    assert (run.verdict, run.value) == (Verdict("completed"), "refused")
    tried = [event.detail for event in run.events if event.kind == "tried"]
    assert [(detail["syscall"], detail["source"]) for detail in tried] == [("kill", "worker")]
