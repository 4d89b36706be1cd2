"""Attacks on memory of the kernel that is easily missed: what can't be counted is refused, the rest counts."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest
from arena import MIB

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

PIN = """
import os, tempfile

def attack(way):
    held = 0
    reader, writer = os.pipe()
    second, copy = os.pipe()
    with tempfile.TemporaryFile() as file:
        for _ in range(4):
            os.pwrite(file.fileno(), b"x" * (1 << 20), 0)
            if way == "sendfile":
                held += os.sendfile(writer, file.fileno(), 0, 1)
            elif way == "splice":
                held += os.splice(file.fileno(), writer, 1, offset_src=0)
            else:
                import ctypes
                os.write(writer, b"x")
                number = {"x86_64": 276}.get(os.uname().machine, 77)
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.syscall(number, reader, copy, 1, 0) < 0:
                    raise OSError(ctypes.get_errno(), "tee")
                held += 1
            os.ftruncate(file.fileno(), 0)
    return held
"""

COPY = """
import shutil, socket, threading

def attack(size):
    with open("source", "wb") as file:
        file.write(b"x" * size)
    shutil.copyfile("source", "copy")
    ours, theirs = socket.socketpair()
    with ours, theirs, open("copy", "rb") as file:
        thread = threading.Thread(target=lambda: (ours.sendfile(file), ours.shutdown(socket.SHUT_WR)))
        thread.start()
        with theirs.makefile("rb") as stream:
            came = len(stream.read())
        thread.join()
    return came
"""

SIBLING = """
import ctypes, os, signal, time

CLONE_PARENT = 0x8000

def attack(given):
    clone = {"x86_64": 56}.get(os.uname().machine, 220)
    pid = ctypes.CDLL(None).syscall(clone, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        time.sleep(1)
        os._exit(0)
    if pid < 0:
        raise PermissionError
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return "somebody else's child"
"""

SPARSE = """
import ctypes, time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
PRIVATE, ANONYMOUS, NOREPLACE, GIB = 0x02, 0x20, 0x100000, 1 << 30

def attack(given):
    pieces, size = given
    held = [b"x" * (1 << 20) for _ in range(size)]
    made = 0
    for number in range(1, pieces + 1):
        at = ctypes.c_void_p((number + 64) * GIB - 4096)
        block = libc.mmap(at, ctypes.c_size_t(8192), 1, PRIVATE | ANONYMOUS | NOREPLACE, -1, ctypes.c_long(0))
        if block == at.value:
            made += ctypes.string_at(block, 1) + ctypes.string_at(block + 4096, 1) == b"\\0\\0"
    time.sleep(0.3)
    return made
"""

WAITING = """
import os, select, time

def attack(number):
    reader, _ = os.pipe()
    files = [os.dup(reader) for _ in range(number)]
    waiting = [select.epoll() for _ in range(number)]
    for epoll in waiting:
        for file in files:
            epoll.register(file, select.EPOLLIN)
    time.sleep(1)
    return number * number
"""

THREADS = """
import threading, time

def attack(number):
    threading.stack_size(1 << 16)
    for _ in range(number):
        threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
    time.sleep(0.3)
    return number
"""

SWAPPED = """
import mmap, time

PAGEOUT = 21

def attack(number):
    held = []
    for _ in range(number):
        block = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(b"xy" * (1 << 19))
        block.madvise(PAGEOUT)
        held.append(block)
    time.sleep(0.3)
    return number
"""

LEFT = """
import socket, time

def attack(given):
    number, port = given
    server = None if port else socket.create_server(("127.0.0.1", 0), backlog=1000)
    address = ("127.0.0.1", port) if port else server.getsockname()
    sent = 0
    for _ in range(number):
        with socket.create_connection(address) as ours:
            ours.setblocking(False)
            try:
                while True:
                    sent += ours.send(bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.005)
    time.sleep(0.3)
    return sent
"""

RECEIVED = """
import socket, time

def attack(port):
    ours = socket.create_connection(("127.0.0.1", port))
    left = 64 << 20  # the more is read, the more may be sent
    while left:
        left -= len(ours.recv(min(left, 1 << 20)))
    time.sleep(1.5)
    return "slept"
"""

HIDDEN_PASSING = """
import fcntl, socket, time

def attack(locks):
    ours, theirs = socket.socketpair()
    for start in range(0, 2 * locks, 2):
        fcntl.lockf(theirs, fcntl.LOCK_EX, 1, start)
    socket.send_fds(ours, [b"x"], [0])
    time.sleep(0.3)
    return locks
"""

PROTOCOL = """
import socket

def attack(given):
    socket.socket(*given).close()
    return "made"
"""


@pytest.mark.parametrize("way", ["splice", "tee", "sendfile"])
def test_no_page_of_a_file_is_kept_in_a_pipe(unconfined, confined, way):
    """One byte of it keeps all that the kernel read at once, and nothing shows how much that is."""
    assert unconfined(PIN, way).value == 4

    assert confined(PIN, way, policy=Policy(disk="2M")).verdict == Verdict("failed", "OSError")


def test_files_are_copied_and_sent_all_the_same(confined):
    """Libraries fall back on reading and writing."""
    run = confined(COPY, 3 * MIB, policy=Policy(disk="8M"))

    assert (run.verdict, run.value) == (Verdict("completed"), 3 * MIB)


@pytest.mark.parametrize("observe", ["", "files"])
def test_no_child_is_born_as_somebody_elses(unconfined, confined, observe):
    """It would count as the zygote's, which looks for such now and then."""
    assert unconfined(SIBLING).value == "somebody else's child"

    run = confined(SIBLING, policy=Policy(processes=2, observe=observe))

    assert run.verdict == Verdict("failed", "PermissionError")


@pytest.mark.parametrize("memory", ["64M", "512M"])
def test_page_tables_far_apart_count(unconfined, confined, memory):
    """Two pages in two tables each cost 16 KiB and are in no footprint, as nobody has written to them."""
    assert unconfined(SPARSE, [100, 0]).value == 100

    size = 24 if memory == "64M" else 448
    within = confined(SPARSE, [1500, 0], policy=Policy(memory=memory))
    beyond = confined(SPARSE, [8000, size], policy=Policy(memory=memory))

    assert (within.verdict, within.value) == (Verdict("completed"), 1500)
    if memory == "64M":  # there it is no trifle
        assert within.usage.peak_memory_bytes - within.usage.baseline_memory_bytes > 16 * MIB
    assert beyond.verdict == Verdict("limited", "memory")


def test_threads_count_with_what_the_kernel_has_for_each(unconfined, confined):
    """A stack and a record, beside the pages that the thread itself has used."""
    assert unconfined(THREADS, 20).value == 20

    usage = confined(THREADS, 400, policy=Policy(memory="64M", threads=500)).usage

    assert 13 * MIB < usage.peak_memory_bytes - usage.baseline_memory_bytes < 24 * MIB


def test_memory_that_a_plugin_sends_into_swap_counts(unconfined, confined):
    """It is in no resident page."""
    with open("/proc/swaps") as file:
        if len(file.readlines()) < 2:
            pytest.skip("this machine has no swap")
    assert unconfined(SWAPPED, 10).value == 10

    assert confined(SWAPPED, 100, policy=Policy(memory="64M")).verdict == Verdict("limited", "memory")


def test_what_is_waited_for_counts(unconfined, confined):
    """Each of many epolls has a record for each of many files."""
    assert unconfined(WAITING, 20).value == 400

    usage = confined(WAITING, 200, policy=Policy(memory="64M", open_files=500)).usage

    assert 7 * MIB < usage.peak_memory_bytes - usage.baseline_memory_bytes < 12 * MIB


@pytest.mark.parametrize("whose", ["its own listener", "another's"])
def test_what_closed_connections_still_send_counts(unconfined, confined, whose):
    """Nobody has them open any more, and nobody reads what they have sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        port = 0 if whose == "its own listener" else server.getsockname()[1]
        assert unconfined(LEFT, [10, port]).value > 20 * MIB

        policy = Policy(memory="64M", network=(port,) if port else True)
        beyond = confined(LEFT, [100, port], policy=policy)

    assert beyond.verdict == Verdict("limited", "memory")


def test_data_that_comes_while_a_plugin_sleeps_counts(confined):
    """It uses no CPU time meanwhile, so nothing else of it could have changed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=send_late, args=(server,))
        thread.start()
        policy = Policy(memory="64M", network=(server.getsockname()[1],))
        run = confined(RECEIVED, server.getsockname()[1], policy=policy)
        thread.join()

    assert run.value == "slept"
    asleep = run.samples["rss_bytes"][run.samples.index.total_seconds() > run.usage.wall_s - 0.5]
    assert asleep.median() - run.usage.baseline_memory_bytes > 4 * MIB


def send_late(server: socket.socket) -> None:
    """Send what is read, and after a while as much as is taken."""
    with server.accept()[0] as theirs:
        theirs.sendall(bytes(64 << 20))
        time.sleep(0.4)
        theirs.settimeout(0.1)
        with suppress(TimeoutError, OSError):
            while True:
                theirs.send(bytes(1 << 20))
        theirs.settimeout(10)
        with suppress(OSError):
            theirs.recv(1)


@pytest.mark.parametrize("locks", [0, 30])
def test_locks_on_a_socket_hide_nothing_of_it(unconfined, confined, locks):
    """The kernel lists them before the number of descriptors that are in transit to it."""
    assert unconfined(HIDDEN_PASSING, locks).value == locks

    policy = Policy(memory="64M", network=True)
    verdict = confined(HIDDEN_PASSING, locks, policy=policy).verdict
    assert str(verdict) in ("limited:memory", "limited:disk")  # nobody knows which of the two they are


@pytest.mark.parametrize("protocol", [262, 132], ids=["MPTCP", "SCTP"])
def test_a_network_is_tcp_and_udp(confined, protocol):
    """Other protocols have buffers that no reading shows."""
    code, policy = PROTOCOL, Policy(network=True)

    assert confined(code, [2, 1, protocol], policy=policy).verdict == Verdict("failed", "PermissionError")
    for usual in ([2, 1, 0], [10, 1, 6], [2, 2, 17], [10, 2, 0]):
        assert confined(code, usual, policy=policy).value == "made"
