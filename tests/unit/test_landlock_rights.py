"""What Landlock is asked to handle: all that this binding knows, for the kernels that have it."""

from __future__ import annotations

from landlockpy.flags import LATEST_ABI, net_for_abi

from agentplug.core.worker.barriers.landlock import NETWORK


def test_every_right_to_the_network_is_handled() -> None:
    """UDP too, where a kernel knows it."""
    assert net_for_abi(LATEST_ABI) == NETWORK
