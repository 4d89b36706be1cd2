"""The account of shared anonymous memory: what is believed where the kernel doesn't say which map is which."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from agentplug.core.host import shared_memory
from agentplug.core.host.shared_memory import SharedMemory

SECOND_NS = 1_000_000_000


class Kernel:
    """A worker's maps, as the host sees them: a set of inodes, or None for a list that is too long."""

    def __init__(self) -> None:
        self.inodes: set[int] | None = set()
        self.looks = 0

    def visible(self, pids: object) -> set[int] | None:
        self.looks += 1
        return None if self.inodes is None else set(self.inodes)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """What the account sees."""
    kernel = Kernel()
    monkeypatch.setattr(shared_memory, "_visible", kernel.visible)
    return kernel


@pytest.fixture
def account(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> SharedMemory:
    """An account of at most 100 pages, in which a map costs no more than its pages."""
    monkeypatch.setattr(shared_memory, "_EACH_BYTES", 0)
    return SharedMemory(100 * 4096)


def admit(account: SharedMemory, pages: int, *, thread: int = 1, t_s: float = 0.0) -> bool:
    return account.admit(thread, pages * 4096, [1], int(t_s * SECOND_NS))


def hidden(account: SharedMemory, *, resident: int = 0, t_s: float = 1.0) -> float:
    return account.hidden_bytes([1], resident * 4096, 0, int(t_s * SECOND_NS)) / 4096


def test_maps_count_at_their_length_until_they_are_gone(account: SharedMemory, kernel: Kernel) -> None:
    """A part of a page counts as one."""
    assert account.admit(1, 59 * 4096 + 1, [1], 0)
    kernel.inodes = {7}
    assert hidden(account, resident=10) == 50
    assert not admit(account, 41)

    kernel.inodes = set()

    assert admit(account, 41)


def test_a_map_costs_more_than_its_pages(kernel: Kernel) -> None:
    """The kernel has an inode and a name for each."""
    account = SharedMemory(100 * 4096)
    assert all(admit(account, 1) for _ in range(20))
    kernel.inodes = set(range(20))

    assert hidden(account) == 20 * 1.5


def test_a_map_that_is_under_way_counts_for_other_threads(account: SharedMemory, kernel: Kernel) -> None:
    """The kernel may not have come to it yet. Its own thread has, if it asks again."""
    assert admit(account, 60)

    assert not admit(account, 60, thread=2, t_s=0.5)
    assert admit(account, 60, thread=1, t_s=0.5)


def test_of_maps_made_between_two_looks_the_longest_are_believed_to_stay(
    account: SharedMemory, kernel: Kernel
) -> None:
    """Of 1, 2 and 60 pages two have gone: it may be the 60 that are left."""
    assert all(admit(account, pages, thread=pages) for pages in (1, 2, 60))
    kernel.inodes = {7, 8, 9}
    assert hidden(account) == 63

    kernel.inodes = {8}

    assert hidden(account, t_s=2) == 60


def test_a_map_that_nobody_asked_for_counts_as_the_longest(account: SharedMemory, kernel: Kernel) -> None:
    """Its thread was held up for so long that it was taken for done."""
    assert admit(account, 60)
    assert hidden(account, t_s=3) == 0

    kernel.inodes = {7}

    assert hidden(account, t_s=4) == 60


def test_maps_from_before_the_first_request_do_not_count(account: SharedMemory, kernel: Kernel) -> None:
    """A preloaded module may have made some."""
    kernel.inodes = {3}
    assert admit(account, 10)
    kernel.inodes = {3, 4}

    assert hidden(account) == 10


def test_a_list_that_is_too_long_gives_nothing_up(account: SharedMemory, kernel: Kernel) -> None:
    """Whoever hides a map among ten thousand others is believed to have it."""
    assert admit(account, 60)
    kernel.inodes = {7}
    assert hidden(account) == 60

    kernel.inodes = None

    assert hidden(account, t_s=2) == 60
    assert not admit(account, 60, t_s=5)


def test_small_maps_are_looked_for_seldom(account: SharedMemory, kernel: Kernel) -> None:
    """Only when they make up a sixteenth of what is allowed."""
    for _ in range(90):
        assert admit(account, 1)

    assert kernel.looks < 20


def test_a_file_on_a_disk_is_no_shared_memory_whatever_its_name(tmp_path: Path) -> None:
    """Its inode might be that of a map that is to come, and pass for older."""
    path = tmp_path / "dev" / "zero (deleted)"
    path.parent.mkdir()
    path.write_bytes(bytes(mmap.PAGESIZE))
    before = shared_memory._visible([os.getpid()])
    assert before is not None
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE), mmap.mmap(-1, mmap.PAGESIZE):
        visible = shared_memory._visible([os.getpid()])
        assert visible is not None

    assert len(visible - before) == 1
    assert path.stat().st_ino not in visible
