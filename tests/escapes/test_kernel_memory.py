"""Attacks on memory that no footprint shows: it is counted, bounded or refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from arena import MIB, machines

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

PLAIN, SILENT = "machine_plain", "machine_no_listener"

OWN_CLOCKS = """
import os, threading, time

def attack(given):
    clocks = [time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID, time.CLOCK_MONOTONIC]
    clocks += [time.pthread_getcpuclockid(threading.get_ident()), ~os.getpid() << 3 | 2]
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    clocks.append(time.pthread_getcpuclockid(thread.ident))
    seconds = [time.clock_gettime(clock) for clock in clocks] + [time.clock_getres(clock) for clock in clocks]
    other.set()
    return all(second >= 0 for second in seconds)
"""

OTHER_CLOCKS = """
import ctypes, os, time

TIMER_CREATE, CLOCK_NANOSLEEP = {"x86_64": (222, 230)}.get(os.uname().machine, (107, 115))

def attack(way):
    clock = ~os.getppid() << 3 | 2
    if way == "gettime":
        return time.clock_gettime(clock)
    if way == "getres":
        return time.clock_getres(clock)
    libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(64)
    call = TIMER_CREATE if way == "timer" else CLOCK_NANOSLEEP
    second = (ctypes.c_long * 2)(0, 1) if way == "sleep" else 0
    clock |= 0xABCD << 32  # the kernel looks at the lower half alone
    clock &= (1 << 64) - 1
    if libc.syscall(ctypes.c_long(call), ctypes.c_ulong(clock), 0, second, buffer) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return 1
"""

PARK = """
import ctypes, mmap, os, time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p

def drop(block, way):
    at = ctypes.addressof(ctypes.c_char.from_buffer(block))
    if way == "dropped":
        block.madvise(mmap.MADV_DONTNEED)
    elif way == "unmapped":
        libc.munmap(ctypes.c_void_p(at + mmap.PAGESIZE), ctypes.c_size_t(len(block) - mmap.PAGESIZE))
    elif way == "covered":
        libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(len(block) - mmap.PAGESIZE), 3, 0x32, -1, ctypes.c_long(0))

def fill(block):
    for _ in range(len(block) >> 16):
        block.write(bytes(1 << 16))

def attack(given):
    way, pieces, size = given
    held = []
    for _ in range(pieces):
        block = mmap.mmap(-1, size << 20)
        if way == "child":
            pid = os.fork()
            if pid == 0:
                fill(block)
                os._exit(0)
            os.waitpid(pid, 0)
        else:
            fill(block)
            drop(block, way)
        held.append(block)
    time.sleep(0.1)
    return len(held) * size
"""

PASSING = """
import mmap, threading

def take(times, size):
    for _ in range(times):
        with mmap.mmap(-1, size << 20) as block:
            block[0] = 1

def attack(given):
    threads, times, size = given
    others = [threading.Thread(target=take, args=(times, size)) for _ in range(threads)]
    for thread in others: thread.start()
    for thread in others: thread.join()
    held = bytearray(b"x") * (40 << 20)
    return len(held) >> 20
"""

HUGE_PAGES = """
import mmap

def attack(given):
    return len(mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000))
"""


SOCKETS = """
import socket, time

def attack(pairs):
    held, blocks = 0, []
    for _ in range(pairs):
        for end in socket.socketpair():
            blocks.append(end)
            end.setblocking(False)
            try:
                while True:
                    held += end.send(bytes(1 << 16))
            except BlockingIOError:
                pass
    time.sleep(0.3)
    return held
"""

TCP = """
import socket, time

def attack(given):
    connections, orphaned = given
    held, blocks = 0, [socket.create_server(("127.0.0.1", 0))]
    for _ in range(connections):
        ours = socket.create_connection(blocks[0].getsockname())
        blocks.append(blocks[0].accept()[0])
        ours.setblocking(False)
        for _ in range(50):
            try:
                held += ours.send(bytes(1 << 16))
            except BlockingIOError:
                time.sleep(0.001)
        if orphaned:
            ours.close()  # what it has sent, nobody has read
        else:
            blocks.append(ours)
    time.sleep(0.3)
    return held
"""

IN_TRANSIT = """
import array, socket, time

def attack(given):
    ours, theirs = socket.socketpair()
    for _ in range(given):
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
            try:
                while True:
                    end.send(bytes(1 << 16))
            except BlockingIOError:
                pass
            ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))])
            end.close()
    time.sleep(0.3)
    return given
"""

LOCKS = """
import fcntl, os, tempfile, time

def attack(given):
    number, processes = given
    files = [tempfile.TemporaryFile() for _ in range(50)]
    if processes and (pid := os.fork()):
        os.waitpid(pid, 0)
        return number
    for start in range(2 * number // len(files), 0, -2):
        for file in files:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, start)
    time.sleep(1)
    if processes:
        os._exit(0)
    return number
"""

PIECES = """
import mmap, time

def attack(number):
    held = [mmap.mmap(-1, 4096) for _ in range(number)]
    for block in held:
        block[0] = 1
    time.sleep(0.2)
    return len(held)
"""

TABLES = """
import mmap, time

def attack(gigabytes):
    block = mmap.mmap(-1, gigabytes << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, mmap.PROT_READ)
    total = sum(block[at] for at in range(0, len(block), 2 << 20))
    time.sleep(0.3)
    return total
"""


@pytest.fixture(scope="module", autouse=True)
def _machines() -> Iterator[None]:
    with machines(PLAIN, SILENT):
        yield


@pytest.fixture(params=[PLAIN, SILENT])
def machine(request: pytest.FixtureRequest) -> str:
    """A machine where neither a cgroup nor a namespace covers up what is missing."""
    return str(request.param)


def small(machine: str, **fields: object) -> Policy:
    """A policy of 64 MiB for a plugin on this machine."""
    return Policy(**{"memory": "64M", "preload": (machine,), **fields})


def test_a_plugin_reads_its_own_clocks(confined, machine):
    """Those of its process and of each of its threads, by name and by number."""
    run = confined(OWN_CLOCKS, policy=small(machine))

    assert (run.verdict, run.value) == (Verdict("completed"), True)


@pytest.mark.parametrize("way", ["gettime", "getres", "timer", "sleep"])
def test_no_call_takes_the_clock_of_another_process(confined, machine, way):
    """Not to read it, nor to wait for it, nor to have a timer on it."""
    assert confined(OTHER_CLOCKS, way, policy=small(machine)).verdict == Verdict("failed", "PermissionError")


@pytest.mark.parametrize("way", ["dropped", "unmapped", "covered", "child"])
@pytest.mark.parametrize("size", [1, 30])
def test_shared_memory_that_lives_on_in_no_page_table_counts(unconfined, confined, way, size):
    """However it is taken out of the footprint, in small pieces or large ones, or by a child that ends."""
    assert unconfined(PARK, [way, 2, size]).value == 2 * size

    policy = small(PLAIN, processes=int(way == "child"))
    within = confined(PARK, [way, 30 // size, size], policy=policy)
    beyond = confined(PARK, [way, 120 // size, size], policy=policy)

    assert within.verdict == Verdict("completed")
    added_bytes = within.usage.peak_memory_bytes - within.usage.baseline_memory_bytes
    assert 28 * MIB < added_bytes < (36 * MIB if way != "child" else 64 * MIB)  # a child counts as a whole
    assert beyond.verdict == Verdict("limited", "memory")


def test_shared_memory_counts_together_with_other_memory(confined):
    """A half of each is more than the limit, for all that the footprint shows one half alone."""
    code = PARK.replace("return", "held.append(b'x' * (40 << 20))\n    return")

    assert confined(code, ["dropped", 1, 40], policy=small(PLAIN)).verdict == Verdict("limited", "memory")


@pytest.mark.parametrize("given", [[1, 200, 40], [4, 50, 8], [1, 3000, 1]])
def test_shared_memory_that_was_given_back_counts_no_more(confined, given):
    """By one thread or by four, large or small, and then as much again on the heap."""
    run = confined(PASSING, given, policy=small(PLAIN))

    assert (run.verdict, run.value) == (Verdict("completed"), 40)


def test_shared_memory_is_refused_where_nobody_can_count_it(confined):
    """Without a listener and without a cgroup; the table says so."""
    run = confined("import mmap\n\ndef attack(given):\n    mmap.mmap(-1, 4096)\n", policy=small(SILENT))

    assert run.verdict == Verdict("failed", "PermissionError")


def test_the_reserve_of_huge_pages_is_out_of_reach(confined, machine):
    """No footprint has them: they are refused, and no limit was near."""
    assert confined(HUGE_PAGES, policy=small(machine)).verdict == Verdict("failed", "OSError")


def test_unread_data_in_sockets_counts_where_many_may_be_open(unconfined, confined):
    """As much as they can hold: 60 pairs are within the limit, 300 pairs aren't."""
    assert unconfined(SOCKETS, 100).value > 10 * MIB

    policy = small(PLAIN, open_files=1000)
    within, beyond = (confined(SOCKETS, pairs, policy=policy) for pairs in (60, 300))

    assert within.verdict == Verdict("completed")
    assert within.usage.peak_memory_bytes - within.usage.baseline_memory_bytes > within.value
    assert beyond.verdict == Verdict("limited", "memory")


@pytest.mark.parametrize("orphaned", [False, True], ids=["open", "closed"])
def test_unread_data_in_tcp_connections_counts(unconfined, confined, orphaned):
    """By what the kernel says of each, a closed one's too that still sends."""
    assert unconfined(TCP, [20, orphaned]).value > 30 * MIB

    policy = small(PLAIN, network=True)
    within, beyond = (confined(TCP, [number, orphaned], policy=policy) for number in (5, 50 if orphaned else 28))

    assert within.verdict == Verdict("completed")
    assert within.usage.peak_memory_bytes - within.usage.baseline_memory_bytes > within.value * 0.9
    assert beyond.verdict == Verdict("limited", "memory")


@pytest.mark.parametrize("processes", [0, 1], ids=["own", "a child's"])
def test_locks_on_files_count(unconfined, confined, processes):
    """Nothing else bounds them. A few are a trifle."""
    assert unconfined(LOCKS, [100, 0]).value == 100

    policy = small(PLAIN, disk="1M", processes=processes, memory="32M")
    few, many = (confined(LOCKS, [number, processes], policy=policy).usage for number in (100, 30_000))

    assert 5 * MIB < many.peak_memory_bytes - few.peak_memory_bytes < 8 * MIB


def test_many_small_pieces_of_shared_memory_count_with_their_tables(confined):
    """A page of its own costs the kernel a third as much again."""
    run = confined(PIECES, 2000, policy=small(PLAIN))

    assert run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes > 11 * MIB


def test_descriptors_in_transit_count_as_all_that_may_be_there(unconfined, confined):
    """Nothing shows what they are, so the worst is assumed."""
    assert unconfined(IN_TRANSIT, 10).value == 10

    verdict = confined(IN_TRANSIT, 1, policy=small(PLAIN, network=True)).verdict
    assert str(verdict) in ("limited:memory", "limited:disk")  # whichever is looked at first


def test_page_tables_count(unconfined, confined):
    """A byte read in each 2 MiB costs a page of them, and no page of its own."""
    assert unconfined(TABLES, 4, memory=8 << 30).value == 0

    run = confined(TABLES, 4, policy=small(PLAIN))

    assert run.verdict == Verdict("completed")
    assert 7 * MIB < run.usage.peak_memory_bytes - run.usage.baseline_memory_bytes < 12 * MIB
