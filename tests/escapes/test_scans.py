"""Attacks on the host's readings: a worker that makes so much of what is counted that counting takes the time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from arena import MACHINES, Arena

from agentplug.core.host.scratch import ScratchCount, scratch_usage
from tests.leftovers import python

pytestmark = pytest.mark.need("landlock", "seccomp")

MAPS = """
import ctypes, time

def attack(seconds):
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.mmap(None, 4096 * 60_000, 0, 0x22, -1, 0)
    for page in range(0, 60_000, 2):
        if libc.mprotect(start + 4096 * page, 4096, 1):
            break
    time.sleep(seconds)
    return page
"""
FILES = """
import time

def attack(seconds):
    for number in range(20_000):
        open(str(number), "wb").close()
    time.sleep(seconds)
    return number
"""
HOST = """
import json, sys, time
from agentplug import Policy, SandboxedPlugin
machines, path, seconds = sys.argv[1:]
from agentplug.core.host import launcher
real = launcher.worker_path
launcher.worker_path = lambda: [*real(), machines]
plugin = SandboxedPlugin(path, Policy(disk="256M", wall_s=200, cpu_s=100, preload=("machine_no_namespaces",)))
assert plugin.run_sync(0).value
assert plugin._inside.life.worker.limits.counts_scratch
before, began = time.process_time(), time.monotonic()
plugin.run_sync(float(seconds))
print(json.dumps([time.process_time() - before, time.monotonic() - began]))
plugin.close_sync()
"""


@pytest.mark.parametrize("attack", [MAPS, FILES], ids=["maps", "files"])
def test_what_a_worker_does_to_itself_hardly_costs_the_host(arena: Arena, attack: str) -> None:
    """Tens of thousands of maps or files take the host a small share of a processor."""
    arena.plugin(attack)
    done = python(HOST, MACHINES, str(arena.folder / "attack_1.py"), "4", timeout_s=110)
    assert (done.returncode, done.stderr) == (0, "")
    cpu_s, wall_s = json.loads(done.stdout)
    assert cpu_s < 0.15 * wall_s


def test_a_long_count_is_done_in_pieces_and_is_exact(tmp_path: Path) -> None:
    """Each piece takes its time and no more, and the bounds hold in all of them together."""
    for number in range(20_000):
        (tmp_path / str(number)).touch()
    (tmp_path / "1").write_bytes(b"x" * 4096)
    count = ScratchCount(str(tmp_path), [], 1 << 20, 1 << 20)
    pieces = 1
    while not count.go_on(3_000_000):
        pieces += 1
    assert pieces >= 3
    assert count.use == (4096, 20_000)
    assert scratch_usage(str(tmp_path), [], 1 << 20, 100)[1] == 101
    assert scratch_usage(str(tmp_path), [], 0, 1 << 20)[0] in (0, 4096)


def test_a_folder_counts_as_large_as_many_names_have_made_it(tmp_path: Path) -> None:
    """Some file systems leave it so large when the names have gone; a block of its own is for nothing."""
    folder = tmp_path / "grown"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:0250}").touch()
    for path in folder.iterdir():
        path.unlink()
    bytes_now = folder.stat().st_blocks * 512

    assert scratch_usage(str(tmp_path), [], 1 << 20, 100) == (max(0, bytes_now - 4096), 1)


def test_each_name_of_a_file_counts_as_a_file(tmp_path: Path) -> None:
    """The bytes are there once, the names take room in their folder."""
    (tmp_path / "one").write_bytes(b"x" * 4096)
    (tmp_path / "two").hardlink_to(tmp_path / "one")

    assert scratch_usage(str(tmp_path), [], 1 << 20, 100) == (4096, 2)
