"""Account of a worker's shared anonymous memory, which may live on in no footprint (host).

A page of such memory stays until its last map has gone, also if no page table refers to it any more: madvise(2), a
map that is partly removed, a child that ended. So it is counted where it is made, at its full length and what a map
costs, and given up when no process of the worker maps it. The kernel lists maps and not lengths, so where two could
be meant, the longer one is believed. The worker's lock guards an account.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
from collections.abc import Iterable
from typing import NamedTuple

from agentplug.core.host.readings import folder_of

_MOST_MAPS_BYTES = 1 << 18  # a longer list is read by nobody: then nothing is given up
_NAME = b"/dev/zero (deleted)\n"
_EARLY = 16  # maps are looked for before they make up this part of the bound
_UNDER_WAY_NS = 1_000_000_000
_EVERY_NS = 50_000_000
_PAGE = 4096
_EACH_BYTES = 2048  # for a map's inode, name and tables, whatever its length


class _Request(NamedTuple):
    """A map that was allowed and hasn't been seen yet."""

    thread: int
    size_bytes: int
    t_ns: int


class _Maps(NamedTuple):
    """Memory seen for the first time at the same moment: inodes, and their lengths, which is whose unknown."""

    inodes: set[int]
    sizes_bytes: list[int]  # longest first


class SharedMemory:
    """The account of one worker and its children, with at most `bound_bytes` in all."""

    def __init__(self, bound_bytes: int) -> None:
        self.used = False  # true from the first request on
        self._bound_bytes = bound_bytes
        self._before: set[int] = set()  # inodes older than the first request
        self._requests: list[_Request] = []
        self._maps: list[_Maps] = []
        self._longest_bytes = 0
        self.scanned_ns = 0

    @property
    def size_bytes(self) -> int:
        """The length of all memory that is mapped."""
        return sum(sum(maps.sizes_bytes) for maps in self._maps)

    def admit(self, thread: int, size_bytes: int, pids: Iterable[int], now_ns: int) -> bool:
        """Enter a map that `thread` asks for; return false if it is too much. `pids` are the worker's processes."""
        size_bytes = -(-size_bytes // _PAGE) * _PAGE + _EACH_BYTES
        if not self.used:
            self._before = _visible(pids) or set()
            self.used = True
        requested = size_bytes + sum(request.size_bytes for request in self._requests)
        if requested * _EARLY > self._bound_bytes or self.size_bytes + requested > self._bound_bytes:
            self._scan(pids, now_ns, thread)
            requested = size_bytes + sum(request.size_bytes for request in self._requests)
        if self.size_bytes + requested > self._bound_bytes:
            return False
        self._requests.append(_Request(thread, size_bytes, now_ns))
        self._longest_bytes = max(self._longest_bytes, size_bytes)
        return True

    def hidden_bytes(self, pids: Iterable[int], resident_bytes: int, room_bytes: int, now_ns: int) -> int:
        """Return how much more than `resident_bytes` is mapped. More than `room_bytes` is never old news."""
        old = now_ns - self.scanned_ns > _EVERY_NS
        if old or self.size_bytes - resident_bytes > room_bytes:
            self._scan(pids, now_ns)
        return max(0, self.size_bytes - resident_bytes)

    def _scan(self, pids: Iterable[int], now_ns: int, thread: int = 0) -> None:
        """Look which memory is mapped. The earlier requests of `thread` are surely done."""
        self.scanned_ns = now_ns
        visible = _visible(pids)
        if visible is None:
            return
        visible -= self._before
        left = []
        for maps in self._maps:
            if inodes := maps.inodes & visible:
                left.append(_Maps(inodes, maps.sizes_bytes[: len(inodes)]))  # the longest, for all we know
                visible -= inodes
        self._maps = left
        self._requests.sort(key=lambda request: -request.size_bytes)
        seen = [request.size_bytes for request in self._requests[: len(visible)]]
        if visible:  # more than requests: one was taken for done before the kernel got to it
            self._maps.append(_Maps(visible, [self._longest_bytes] * (len(visible) - len(seen)) + seen))
        self._requests = [
            request
            for request in self._requests[len(visible) :]
            if request.thread != thread and now_ns - request.t_ns < _UNDER_WAY_NS
        ]


def _visible(pids: Iterable[int]) -> set[int] | None:
    """Return the inodes of the shared anonymous memory that these processes map; None if their lists are too long."""
    inodes: set[int] = set()
    left = _MOST_MAPS_BYTES
    for pid in pids:
        with contextlib.suppress(OSError), open(f"{folder_of(pid)}/maps", "rb", buffering=0) as file:
            while lines := file.read(1 << 16):  # whole lines
                left -= len(lines)
                if left <= 0:
                    return None
                if _NAME in lines:
                    for line in lines.splitlines(True):
                        if line.endswith(_NAME) and (fields := line.split(None, 5))[3] == _device():
                            inodes.add(int(fields[4]))
    return inodes


@functools.cache
def _device() -> bytes:
    """Return the device of all such memory, by a map of our own: a file on a disk may have any name."""
    with mmap.mmap(-1, _PAGE), open("/proc/self/maps", "rb") as file:
        return next(fields[3] for line in file if (fields := line.split(None, 5))[5:] == [_NAME])
