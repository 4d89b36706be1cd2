"""Measure the memory of TCP sockets (host): sock_diag(7).

A connection that was closed lives on while the kernel has data to send, or until a listener accepts it. No process
has it open then. It belongs to whoever had it open at an earlier look. One that was never seen open belongs to each
process that is connected with one of its ends, listens on its port, or connects to the same destination.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

_SOCK_DIAG, _BY_FAMILY = 4, 20
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE = (2, 3)  # NLMSG_ERROR, NLMSG_DONE
_MEMORY = 7  # INET_DIAG_SKMEMINFO
_FRESH_NS = 20_000_000
_MESSAGE, _HEAD, _INODE_AT = 16, 72, 68
_PORTS = {"here": slice(4, 6), "there": slice(6, 8)}
_ADDRESSES = {"here": slice(8, 24), "there": slice(24, 40)}
_MAPPED = b"\0" * 10 + b"\xff\xff"  # an IPv4 address of an IPv6 socket
_PORT = slice(0, 2)
_NO_PORT = b"\0\0"
_MOST_DESTINATIONS = 1_000


class _End(NamedTuple):
    """A TCP socket: inode (zero if nobody has it open), memory, and the port and address of each end."""

    inode: int
    size_bytes: int
    here: bytes
    there: bytes


class _Sockets(NamedTuple):
    """All TCP sockets of this network at one moment: those that are open, by inode, and closed ones with memory, each
    with the inode that it had when it was seen open, or zero."""

    open: Mapping[int, _End] = {}
    closed: Collection[_End] = ()


class TcpMemory:
    """The TCP memory of one worker and its children."""

    def __init__(self) -> None:
        self.is_open = False
        """True if any was open at the last look. Its memory grows without their doing: the other end sends."""
        self._inodes: set[int] = set()  # that they had open at any look, if the kernel still knows the socket
        self._destinations: dict[bytes, None] = {}  # that they were connected to, newest last

    def measure(self, inodes: Collection[int]) -> tuple[int, set[int]]:
        """Return the memory of their sockets, open and closed; and which of these inodes are TCP sockets."""
        self.is_open = False
        if not inodes and not self._destinations:
            return 0, set()  # they have connected to nothing so far
        sockets = _all_sockets()
        tcp = sockets.open.keys() & set(inodes)
        own = [sockets.open[inode] for inode in tcp]
        self.is_open = bool(own)
        self._inodes = tcp | (self._inodes & {end.inode for end in sockets.closed})
        for end in own:
            if end.there[_PORT] != _NO_PORT:
                self._destinations.pop(end.there, None)
                self._destinations[end.there] = None
        for destination in list(self._destinations)[:-_MOST_DESTINATIONS]:
            del self._destinations[destination]
        return sum(end.size_bytes for end in own) + sum(end.size_bytes for end in self._closed(sockets, own)), tcp

    def _closed(self, sockets: _Sockets, own: Iterable[_End]) -> list[_End]:
        """Return the closed sockets that are theirs, or may be."""
        ports = {end.here[_PORT] for end in own if end.there[_PORT] == _NO_PORT}
        connections = {(end.here, end.there) for end in own}
        theirs, others = [], []
        for end in sockets.closed:
            if end.inode:
                mine = end.inode in self._inodes
            else:
                mine = end.here[_PORT] in ports or end.there in self._destinations
            if mine or (end.there, end.here) in connections:
                theirs.append(end)
            elif not end.inode:
                others.append(end)
        connections |= {(end.here, end.there) for end in theirs}
        return theirs + [end for end in others if (end.there, end.here) in connections]


_latest: tuple[int, _Sockets] = (-_FRESH_NS, _Sockets())


def _all_sockets() -> _Sockets:
    """Return this network's TCP sockets, as they were at most a moment ago."""
    global _latest
    now_ns = time.perf_counter_ns()
    if now_ns - _latest[0] > _FRESH_NS:
        before = {(end.here, end.there): end.inode for end in (*_latest[1].open.values(), *_latest[1].closed)}
        ends: list[_End] = []
        with contextlib.suppress(OSError, struct.error):
            for family in (socket.AF_INET, socket.AF_INET6):
                ends += _dump(family)
        closed = [
            end._replace(inode=before.get((end.here, end.there), 0))
            for end in ends
            if not end.inode and end.size_bytes
        ]
        _latest = (now_ns, _Sockets({end.inode: end for end in ends if end.inode}, closed))
    return _latest[1]


def _dump(family: int) -> Iterable[_End]:
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


def _parse(message: bytes) -> _End:
    (inode,) = struct.unpack_from("=I", message, _INODE_AT)
    here, there = (message[_PORTS[side]] + _plain(message[_ADDRESSES[side]]) for side in ("here", "there"))
    at = _HEAD
    while at < len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        if kind == _MEMORY:
            received, _, _, _, _, queued, options, backlog = struct.unpack_from("=8I", message, at + 4)
            return _End(inode, received + queued + options + backlog, here, there)
        at += (size + 3) & ~3
    return _End(inode, 0, here, there)


def _plain(address: bytes) -> bytes:
    """Return an address as that of an IPv4 socket, if it is one: both ends of a connection are named alike then."""
    return address[12:] + bytes(12) if address.startswith(_MAPPED) else address
