"""What sockets and pipes may hold, read for this process: by what the kernel says, or by what they can hold."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agentplug.core.boundary.bounds import PIPE_BYTES
from agentplug.core.host import kernel_buffers
from agentplug.core.host.kernel_buffers import buffers_bytes

EACH = 1 << 20


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


def measured(*, network: bool = False, in_transit: int = 0) -> int:
    kernel_buffers._latest = (-kernel_buffers._FRESH_NS, ({}, {}))
    return buffers_bytes([os.getpid()], EACH, network=network, in_transit=in_transit)


def test_a_pair_counts_twice_and_a_pipe_once(stack: ExitStack) -> None:
    """Each end of a pair has a buffer of its own. A copy of a descriptor counts as nothing."""
    before = measured()
    for end in socket.socketpair():
        stack.enter_context(end)
    pipe = os.pipe()
    for fd in (*pipe, os.dup(pipe[0])):
        stack.callback(os.close, fd)

    assert measured() - before == 2 * EACH + PIPE_BYTES


def test_tcp_counts_by_what_it_holds(stack: ExitStack) -> None:
    """Nothing while it is empty; the data of both ends, whoever has them."""
    before = measured(network=True)
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    ours = stack.enter_context(socket.create_connection(server.getsockname()))
    stack.enter_context(server.accept()[0])
    assert measured(network=True) - before < 4096
    ours.setblocking(False)
    sent = ours.send(bytes(1 << 20))

    assert sent <= measured(network=True) - before < 2 * sent + (1 << 20)

    ours.close()

    assert measured(network=True) - before > sent // 2


def test_descriptors_in_transit_are_noticed(stack: ExitStack) -> None:
    """They count as the number that may be there."""
    ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
    before = measured(network=True, in_transit=3)
    socket.send_fds(ours, [b"x"], [0])
    assert measured(network=True, in_transit=3) - before == 3 * EACH

    for fd in socket.recv_fds(theirs, 1, 1)[1]:
        os.close(fd)

    assert measured(network=True, in_transit=3) == before


def test_a_process_that_is_gone_holds_nothing() -> None:
    """It may end at any moment."""
    assert buffers_bytes([1 << 22], EACH, network=True, in_transit=1) == 0
