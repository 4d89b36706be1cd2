"""Attacks on the disk: filling it by one file, by many, by names alone, or behind the counter's back."""

from __future__ import annotations

import asyncio
import contextlib
import errno

import pytest
from arena import until

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

ONE_FILE = """
def attack(given):
    folder, megabytes = given
    with open(f"{folder}/big", "wb") as file:
        for _ in range(megabytes):
            file.write(bytes(1 << 20))
    return megabytes
"""

MANY_FILES = """
def attack(given):
    folder, count = given
    for number in range(count):
        with open(f"{folder}/{number}", "wb") as file:
            file.write(b"x" * 4096)
    return count
"""

EMPTY_FILES = """
def attack(given):
    folder, count = given
    for number in range(count):
        open(f"{folder}/{number}", "wb").close()
    return count
"""

FOLDERS = """
import os

def attack(given):
    folder, count = given
    for number in range(count):
        os.mkdir(f"{folder}/{number}")
    return count
"""

DEEP = """
import os

def attack(given):
    folder, count = given
    os.chdir(folder)
    for _ in range(count):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    return count
"""

LINKS = """
import os

def attack(given):
    folder, count = given
    open(f"{folder}/file", "wb").close()
    for number in range(count):
        os.symlink("x" * 4000, f"{folder}/{number}")
    return count
"""

NAMES = """
import os

def attack(given):
    folder, count = given
    open(f"{folder}/file", "wb").close()
    for number in range(count):
        if number % 50_000 == 0:
            os.mkdir(f"{folder}/{number}")
        os.link(f"{folder}/file", f"{folder}/{number // 50_000 * 50_000}/{number:05}" + "n" * 240)
    return count
"""

UNLINKED = """
import os, time

def attack(given):
    folder, megabytes = given
    held = []
    for number in range(megabytes):
        file = open(f"{folder}/f", "w+b")  # held open, in no directory any more
        os.unlink(f"{folder}/f")
        file.write(bytes(1 << 20))
        file.flush()
        held.append(file)
        time.sleep(0.005)  # or descriptors would run out before anyone looked
    return megabytes
"""

MAPPED = """
import ctypes, os

mmap = ctypes.CDLL(None).mmap
mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

def attack(given):
    folder, megabytes = given
    for number in range(megabytes):
        with open(f"{folder}/f", "w+b") as file:  # mapped in part, then neither open nor in a directory
            file.write(bytes(1 << 20))
            file.flush()
            mmap(None, 4096, 1, 1, file.fileno(), 0)
        os.unlink(f"{folder}/f")
    return megabytes
"""

UNREADABLE = """
import os

def attack(given):
    folder, megabytes = given
    os.mkdir(f"{folder}/closed", 0o300)  # its files can be made and reached, not listed
    for number in range(megabytes):
        with open(f"{folder}/closed/{number}", "wb") as file:
            file.write(bytes(1 << 19))
    return megabytes
"""

ALLOCATED = """
import os

def attack(given):
    folder, megabytes = given
    with open(f"{folder}/big", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, megabytes << 20)
    return megabytes
"""

APART = """
import ctypes, os, threading

libc = ctypes.CDLL(None, use_errno=True)
CLOSE_RANGE, UNSHARE = 436, 2

def attack(given):
    folder, megabytes = given
    outcome = []

    def hold():
        outcome.append(libc.syscall(CLOSE_RANGE, 1 << 20, 1 << 20, UNSHARE) and ctypes.get_errno())
        held = []
        for _ in range(0 if outcome[0] else megabytes):
            held.append(open(f"{folder}/f", "w+b", buffering=0))
            os.unlink(f"{folder}/f")
            held[-1].write(bytes(1 << 20))
        outcome.append(len(held))

    thread = threading.Thread(target=hold)  # with its own table of open files, in which nobody looks
    thread.start()
    thread.join()
    return outcome
"""

CLONE_APART = """
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
CLONE, CLONE_THREAD = {"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x10000

def attack(given):
    libc.syscall(CLONE, CLONE_THREAD, 0, 0, 0, 0)  # lacks CLONE_FILES, and what else the kernel asks for
    return os.strerror(ctypes.get_errno())
"""

TRANSIT = """
import os, socket, time

ours, theirs = socket.socketpair()

def attack(given):
    folder, megabytes, rest_s = given
    for _ in range(megabytes):
        file = open(f"{folder}/f", "w+b", buffering=0)
        os.unlink(f"{folder}/f")
        file.write(bytes(1 << 20))
        socket.send_fds(ours, [b"x"], [file.fileno()])
        file.close()
    time.sleep(rest_s)  # the next count is due within 50 ms
    return megabytes
"""

LATER = """
import threading, time

written = 0

def fill():
    global written
    for number in range(1_000):
        with open(f"{number}", "wb") as file:
            file.write(bytes(1 << 16))
        written += 1
        time.sleep(0.002)

def attack(given):
    if given == "begin":
        threading.Thread(target=fill, daemon=True).start()
    return written
"""

STUBBORN = """
import os

def attack(given):
    for _ in range(100):
        os.makedirs("a/" * 20)
        os.rename("a", f"b{_}")
    for number in range(50):
        open(f"file{number}", "w").close()
    deepest = "."
    for _ in range(30):
        deepest += "/" + "n" * 100
        os.mkdir(deepest)
    return "left behind"
"""

ONE_MIB, NOTHING = Policy(disk="1M"), Policy()
BY_DISK = Verdict("limited", "disk")


@pytest.mark.parametrize("policy", [ONE_MIB, NOTHING], ids=["1M", "default"])
@pytest.mark.parametrize(
    ("code", "free", "much"),
    [
        pytest.param(ONE_FILE, 16, 400, id="one_file"),
        pytest.param(MANY_FILES, 2_000, 2_000_000, id="many_files"),
        pytest.param(EMPTY_FILES, 2_000, 2_000_000, id="empty_files"),
        pytest.param(FOLDERS, 2_000, 2_000_000, id="folders"),
        pytest.param(DEEP, 500, 2_000_000, id="deep"),
        pytest.param(LINKS, 2_000, 2_000_000, id="links"),
        pytest.param(NAMES, 2_000, 2_000_000, id="names"),
        pytest.param(UNLINKED, 16, 2_000, id="unlinked"),
        pytest.param(MAPPED, 16, 2_000, id="mapped"),
        pytest.param(UNREADABLE, 16, 2_000, id="unreadable"),
        pytest.param(ALLOCATED, 16, 400, id="allocated"),
    ],
)
def test_the_disk_cannot_be_filled(unconfined, confined, tmp_path, code, free, much, policy):
    """Bytes and names in the scratch directory are bounded, in files and out of sight, also where none is granted."""
    folder = tmp_path / "free"
    folder.mkdir()
    assert unconfined(code, [str(folder), free]).value == free

    assert confined(code, [".", much], policy=policy).verdict == BY_DISK


@pytest.mark.need("seccomp")
@pytest.mark.parametrize("processes", [0, 1])
def test_a_thread_has_no_open_files_of_its_own(unconfined, confined, tmp_path, processes):
    """Those of the first thread are all that there are, so that a deleted file can't be open in another's table."""
    policy = Policy(disk="1M", processes=processes)
    assert unconfined(APART, [str(tmp_path), 16]).value == [0, 16]
    assert unconfined(CLONE_APART).value == "Invalid argument"

    assert confined(APART, [".", 16], policy=policy).value == [errno.EINVAL, 0]
    assert confined(CLONE_APART, policy=policy).value == "Operation not permitted"


@pytest.mark.need("seccomp")
def test_a_deleted_file_cannot_be_hidden_in_a_socket(unconfined, confined, tmp_path):
    """Nothing shows which files are on their way between two sockets, so none may be while the disk is counted."""
    assert unconfined(TRANSIT, [str(tmp_path), 16, 0]).value == 16

    assert confined(TRANSIT, [".", 40, 10], policy=Policy(disk="1M", network=True)).verdict == BY_DISK


def test_the_disk_cannot_be_filled_between_calls(arena):
    """A thread that goes on writing after its call is stopped by the kernel's bound, or ends its worker."""

    async def come_back():
        async with arena.plugin(LATER, ONE_MIB) as plugin:
            await plugin.run("begin")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await until(lambda: plugin.pid is None)
            if plugin.pid is None:
                return plugin._inside.events[0].detail["by"]
            return "disk" if await plugin.process("ask") <= 16 else "nothing"

    assert arena.watched(come_back) == "disk"


SMALL = """
import os

def attack(given):
    file = os.open(f"{given}/small", os.O_CREAT | os.O_WRONLY)
    return os.write(file, bytes(2_000))
"""


def test_not_a_byte_is_written_where_nothing_is_granted(unconfined, confined, tmp_path):
    """A file system in memory has one page at least, so that alone wouldn't keep disk=0."""
    assert unconfined(SMALL, str(tmp_path)).value == 2_000

    assert confined(SMALL, ".", policy=NOTHING).verdict == BY_DISK


def test_what_fits_fits(confined):
    """Not an attack: a plugin may use what it was granted."""
    assert confined(MANY_FILES, [".", 100], policy=ONE_MIB).verdict == Verdict("completed")


def test_nothing_stays_of_what_a_plugin_wrote(confined):
    """Deep, long or many: the scratch directory is gone when the plugin is closed (`unharmed` looks)."""
    assert confined(STUBBORN, policy=Policy(disk="64M")).value == "left behind"
