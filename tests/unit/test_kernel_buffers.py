"""What sockets and pipes may hold, read for this process: by what the kernel says, or by what they can hold."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from agentplug.core.boundary.bounds import PIPE_BYTES
from agentplug.core.host import tcp_memory
from agentplug.core.host.kernel_buffers import RECORD_BYTES, buffers_bytes, records_bytes
from agentplug.core.host.tcp_memory import TcpMemory

EACH = 1 << 20
TCP = TcpMemory()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opens."""
    with ExitStack() as stack:
        yield stack


def measured(*, network: bool = False, in_transit: int = 0) -> int:
    tcp_memory._latest = (-tcp_memory._FRESH_NS, tcp_memory._latest[1])
    return complete(buffers_bytes([os.getpid()], EACH, TCP if network else None, in_transit))


def complete(reading: Iterator[int]) -> int:
    """What a reading comes to; each step shows no less than the one before."""
    steps = list(reading)
    assert steps == sorted(steps)
    return steps[-1] if steps else 0


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


def test_what_closed_connections_still_send_counts_for_whoever_had_them_open(stack: ExitStack) -> None:
    """To a listener of somebody else's, who reads nothing: those that were seen open, and then others like them."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener = os.fstat(server.fileno()).st_ino

    def send(before_close: Callable[[], object]) -> int:
        with socket.create_connection(server.getsockname()) as ours:
            ours.setblocking(False)
            sent = ours.send(bytes(1 << 20))
            before_close()
        return sent

    others, ours = TcpMemory(), TcpMemory()
    sent = send(lambda: None)
    assert tcp_bytes(others, {listener}) > 0, "the connection that nobody has accepted is the listener's"
    assert tcp_bytes(ours, set()) == 0

    sent += send(lambda: tcp_bytes(ours, _sockets() - {listener}))

    assert tcp_bytes(ours, set()) > sent


def tcp_bytes(memory: TcpMemory, inodes: set[int]) -> int:
    """The memory of these sockets now, and of closed ones."""
    tcp_memory._latest = (-tcp_memory._FRESH_NS, tcp_memory._latest[1])
    return memory.measure(inodes)[0]


def _sockets() -> set[int]:
    inodes = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            status = os.stat(int(fd))
            if stat.S_ISSOCK(status.st_mode):
                inodes.add(status.st_ino)
    return inodes


def test_an_address_is_the_same_for_both_families() -> None:
    """The server's end of a connection from 127.0.0.1 may be an IPv6 socket."""
    mapped = bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
    assert tcp_memory._plain(mapped) == tcp_memory._plain(bytes([127, 0, 0, 1]) + bytes(12))


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
    assert complete(buffers_bytes([1 << 22], EACH, None, 1)) == 0
    assert complete(records_bytes([1 << 22])) == 0


def test_locks_count_once_however_many_descriptors_show_them(stack: ExitStack, tmp_path: Path) -> None:
    """The kernel lists them with each. A file that the process locks by two names is one file."""
    before = complete(records_bytes([os.getpid()]))
    path = tmp_path / "lock:\nlock:"
    files = [os.open(path, os.O_WRONLY | os.O_CREAT) for _ in range(2)]
    for fd in (*files, os.dup(files[0])):
        stack.callback(os.close, fd)
    for start in range(0, 6, 2):
        fcntl.lockf(files[0], fcntl.LOCK_EX, 1, start)

    assert complete(records_bytes([os.getpid()])) - before == 3 * RECORD_BYTES


def test_what_is_waited_for_counts_and_locks_of_any_file_do(stack: ExitStack) -> None:
    """A socket and an epoll have locks too, and neither hides what else is shown of it."""
    ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
    waiting = select.epoll()
    stack.callback(waiting.close)
    before = complete(records_bytes([os.getpid()]))
    in_transit = measured(network=True, in_transit=3)
    for fd in (theirs.fileno(), waiting.fileno()):
        for start in range(0, 40, 2):
            fcntl.lockf(fd, fcntl.LOCK_EX, 1, start)
    for end in (ours, theirs):
        waiting.register(end, select.EPOLLIN)
    socket.send_fds(ours, [b"x"], [0])

    assert complete(records_bytes([os.getpid()])) - before == 42 * RECORD_BYTES
    assert measured(network=True, in_transit=3) - in_transit == 3 * EACH
