"""Measure what the kernel holds for some processes in sockets, pipes and file locks (host): sock_diag(7), proc(5).

The kernel says of each TCP socket how much memory it has. A pipe, or another socket, counts as much as it can hold.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

from agentplug.core.boundary.bounds import PIPE_BYTES
from agentplug.core.host.readings import folder_of

LOCK_BYTES = 200
_SOCK_DIAG, _BY_FAMILY = 4, 20
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE = (2, 3)  # NLMSG_ERROR, NLMSG_DONE
_MEMORY = 7  # INET_DIAG_SKMEMINFO
_FRESH_NS = 20_000_000
_MESSAGE, _HEAD, _NAMES = 16, 72, slice(4, 40)  # the socket's message: ports and addresses, then its inode at 68


class _Tcp(NamedTuple):
    """A TCP socket: its memory, its own ports and addresses, and those of its peer."""

    size_bytes: int
    own: bytes
    peer: bytes


def socket_bytes() -> int:
    """Return what a socket can hold that isn't TCP: the usual size of a send buffer, see socket(7), and one message
    of half that size, which the kernel takes as long as there is any room."""
    size_bytes = 212_992
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/net/core/wmem_default") as file:
        size_bytes = int(file.read())
    return size_bytes * 3 // 2


def buffers_bytes(pids: Iterable[int], each_bytes: int, *, network: bool, in_transit: int) -> int:
    """Return what these processes' sockets and pipes may hold, `each_bytes` for a socket that isn't TCP.

    With `network`, TCP sockets are measured, and if descriptors are in transit between sockets, `in_transit` of them
    count: the kernel bounds their number, but nothing shows what they are.
    """
    sockets: set[int] = set()
    pipes: set[int] = set()
    passing = False
    for pid in pids:
        folder = folder_of(pid)
        with contextlib.suppress(OSError):
            for name in os.listdir(f"{folder}/fd"):
                with contextlib.suppress(OSError):
                    kind, _, number = os.readlink(f"{folder}/fd/{name}").partition(":[")
                    if kind == "pipe":
                        pipes.add(int(number[:-1]))
                    elif kind == "socket":
                        sockets.add(int(number[:-1]))
                        passing = passing or (network and passes_descriptors(f"{folder}/fdinfo/{name}"))
    total = len(pipes) * PIPE_BYTES + passing * in_transit * each_bytes
    if network and sockets:
        total += _tcp_bytes(sockets)
    return total + len(sockets) * each_bytes


def locks_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes' locks on parts of files: the kernel lists them with each descriptor.

    Its list of all locks is out of question: who reads it waits for every processor. Two pieces may share a line,
    one of a thousand.
    """
    count = 0
    piece = bytearray(1 << 16)
    for pid in pids:
        folder = folder_of(pid)
        with contextlib.suppress(OSError):
            for name in os.listdir(f"{folder}/fdinfo"):
                with contextlib.suppress(OSError), open(f"{folder}/fdinfo/{name}", "rb", buffering=0) as file:
                    while size := file.readinto(piece):
                        count += piece.count(b"\nlock:", 0, size)
    return count * LOCK_BYTES


def passes_descriptors(fdinfo: str) -> bool:
    """Return true if a UNIX socket holds descriptors in transit, by its file in fdinfo. Raises `OSError`."""
    with open(fdinfo, "rb", buffering=0) as file:
        return file.read(512).partition(b"\nscm_fds: ")[2].split(b"\n")[0] not in (b"", b"0")


def _tcp_bytes(sockets: set[int]) -> int:
    """Return the memory of the TCP sockets among these inodes and of closed peers on this machine; remove them."""
    table, orphans = _tcp_sockets()
    total = 0
    for inode in sockets & table.keys():
        sockets.remove(inode)
        total += table[inode].size_bytes + orphans.get(table[inode].peer, 0)
    return total


_latest: tuple[int, tuple[dict[int, _Tcp], dict[bytes, int]]] = (-_FRESH_NS, ({}, {}))


def _tcp_sockets() -> tuple[dict[int, _Tcp], dict[bytes, int]]:
    """Return this network's TCP sockets by inode, and the memory of those that nobody has open, by their names."""
    global _latest
    now_ns = time.perf_counter_ns()
    if now_ns - _latest[0] > _FRESH_NS:
        table: dict[int, _Tcp] = {}
        orphans: dict[bytes, int] = {}
        with contextlib.suppress(OSError, struct.error):
            for family in (socket.AF_INET, socket.AF_INET6):
                for inode, tcp in _dump(family):
                    if inode:
                        table[inode] = tcp
                    else:
                        orphans[tcp.own] = tcp.size_bytes
        _latest = (now_ns, (table, orphans))
    return _latest[1]


def _dump(family: int) -> Iterable[tuple[int, _Tcp]]:
    if sys.platform != "linux":
        return
    request = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (_MEMORY - 1), 0, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
        link.settimeout(0.1)
        link.send(struct.pack("=IHHII", _MESSAGE + len(request), _BY_FAMILY, _DUMP, 1, 0) + request)
        while True:
            data = link.recv(1 << 16)
            at = 0
            while at < len(data):
                size, kind = struct.unpack_from("=IH", data, at)
                if kind in _DONE:
                    return
                yield _parse(data[at + _MESSAGE : at + size])
                at += (size + 3) & ~3


def _parse(message: bytes) -> tuple[int, _Tcp]:
    (inode,) = struct.unpack_from("=I", message, 68)
    names = message[_NAMES]
    peer = names[2:4] + names[:2] + names[20:36] + names[4:20]
    at = _HEAD
    while at < len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        if kind == _MEMORY:
            received, _, _, _, _, queued, options, backlog = struct.unpack_from("=8I", message, at + 4)
            return inode, _Tcp(received + queued + options + backlog, names, peer)
        at += (size + 3) & ~3
    return inode, _Tcp(0, names, peer)
