"""Measure what the kernel holds for some processes in sockets, pipes, locks and epolls (host): proc(5).

A pipe, and a socket that isn't TCP, counts as much as it can hold.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from agentplug.core.boundary.bounds import PIPE_BYTES
from agentplug.core.host.readings import folder_of
from agentplug.core.host.tcp_memory import TcpMemory

RECORD_BYTES = 200
"""The memory of a lock on a part of a file, or of a file that an epoll waits for."""


def socket_bytes() -> int:
    """Return what a socket can hold that isn't TCP: the usual size of a send buffer, see socket(7), and one message
    of half that size, which the kernel takes as long as there is any room."""
    size_bytes = 212_992
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/net/core/wmem_default") as file:
        size_bytes = int(file.read())
    return size_bytes * 3 // 2


def buffers_bytes(pids: Iterable[int], each_bytes: int, tcp: TcpMemory | None, in_transit: int) -> Iterator[int]:
    """Yield what these processes' sockets and pipes may hold, so far, `each_bytes` for a socket that isn't TCP.

    If they have a network, `tcp` measures its sockets at last. If descriptors are in transit between sockets,
    `in_transit` of them count: the kernel bounds their number, but nothing shows what they are.
    """
    sockets: set[int] = set()
    pipes: set[int] = set()
    passing_bytes = 0
    for pid in pids:
        folder = folder_of(pid)
        for name in _names_in(f"{folder}/fd"):
            with contextlib.suppress(OSError):
                kind, _, number = os.readlink(f"{folder}/fd/{name}").partition(":[")
                if kind == "pipe":
                    pipes.add(int(number[:-1]))
                elif kind == "socket":
                    sockets.add(int(number[:-1]))
                    if tcp is not None and not passing_bytes and passes_descriptors(f"{folder}/fdinfo/{name}"):
                        passing_bytes = in_transit * each_bytes
            yield len(pipes) * PIPE_BYTES + passing_bytes + (len(sockets) * each_bytes if tcp is None else 0)
    if tcp is not None:
        tcp_bytes, counted = tcp.measure(sockets)
        yield len(pipes) * PIPE_BYTES + passing_bytes + len(sockets - counted) * each_bytes + tcp_bytes


def records_bytes(pids: Iterable[int]) -> Iterator[int]:
    """Yield the memory of these processes' locks on parts of files, and of the files that they wait for by epoll(7),
    so far: the kernel lists both with each descriptor.

    Its list of all locks is out of question: who reads it waits for every processor.
    """
    count = 0
    for pid in pids:
        folder = folder_of(pid)
        locked: set[bytes] = set()  # files whose locks are counted: each is listed with all of its descriptors
        for name in _names_in(f"{folder}/fdinfo"):
            with contextlib.suppress(OSError):
                head, locks, watched, _ = _read_fdinfo(f"{folder}/fdinfo/{name}")
                count += watched
                if locks and head not in locked:
                    locked.add(head)
                    count += locks
            yield count * RECORD_BYTES


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # it has ended; the footprint finds out


def _read_fdinfo(path: str) -> tuple[bytes, int, int, bytes]:
    """Read /proc/PID/fdinfo/FD, of any length: proc_pid_fdinfo(5). Raises `OSError`.

    Returns the lines that tell which file it is, the number of its locks, that of files which it waits for, and its
    last line. The kernel writes no text of a plugin's there.
    """
    locks = watched = 0
    head = last = rest = b""
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 16):
            lines = rest + piece
            head = head or b"\n".join(lines.split(b"\n", 4)[2:4])  # mount and inode
            whole, newline, rest = lines.rpartition(b"\n")
            locks += whole.count(b"\nlock:")
            watched += whole.count(b"\ntfd:")
            rest = newline + rest  # each line after its line break
            last = whole.rpartition(b"\n")[2]
    return head, locks, watched, last


def passes_descriptors(fdinfo: str) -> bool:
    """Return true if descriptors are in transit to a socket: the last line tells how many, since Linux 5.6.

    Raises `OSError`.
    """
    return _read_fdinfo(fdinfo)[3].partition(b"scm_fds: ")[2] not in (b"", b"0")
