"""What a plugin tries is told by the kernel: which call, on what, how often. And telling it can't be turned on us."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.run import Run

pytestmark = [pytest.mark.need("landlock", "seccomp")]

CONNECT = """
import socket

def attack(given):
    family, kind, address, times = given
    for _ in range(times):
        with socket.socket(family, kind) as client:
            try:
                client.connect(tuple(address) if isinstance(address, list) else address.replace("@", chr(0)))
            except PermissionError:
                pass
    return "tried"
"""

CALLS = """
import ctypes, os, socket

def attack(given):
    libc = ctypes.CDLL(None)
    for call in (
        lambda: os.kill(given, 9),
        lambda: os.execv("/bin/sh", ["sh"]),
        os.fork,
        lambda: os.memfd_create("hidden"),
        lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("10.0.0.2", 53)),
        lambda: libc.prctl(4, 0, 0, 0, 0),
        lambda: libc.ptrace(16, given, 0, 0),
    ):
        try:
            call()
        except OSError:
            pass
    return "tried"
"""

NEW_PLACES = """
import ctypes

def attack(given):
    libc = ctypes.CDLL(None)
    libc.unshare(0x10000000)
    libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)
    return "tried"
"""

FLOOD = """
import os

def attack(given):
    while True:
        for number in range(2, 10_000):
            try:
                os.kill(number, 0)
            except OSError:
                pass
            try:
                os.execv(f"/bin/{number}", ["x"])
            except OSError:
                pass
"""

ODD_ADDRESSES = """
import ctypes, os, socket

def attack(given):
    libc = ctypes.CDLL(None)
    client = socket.socket()
    for at in (0, 1, 4095, 0x7FFFFFFFFFFF, -1, 0xFFFFFFFFFF600000):
        for length in (0, 1, 2, 3, 128, 0xFFFFFFFF):
            libc.connect(client.fileno(), ctypes.c_void_p(at), ctypes.c_uint(length))
        libc.execve(ctypes.c_void_p(at), None, None)
        libc.mount(None, ctypes.c_void_p(at), None, 0, None)
    libc.execve(b"\\xff\\xfe\\x1b[31m<script>", None, None)
    return "alive"
"""

DUMMY = """
import socket

def attack(given):
    held = []
    client = socket.socket()
    for call in (lambda: client.bind(("", 0)), lambda: client.listen(), client.accept, lambda: client.send(b"x")):
        try:
            call()
            return "worked"
        except OSError as error:
            held.append(error.errno)
    sockets = []
    try:
        while True:
            sockets.append(socket.socket())
    except OSError as error:
        return held, error.errno, len(sockets) < 64
"""

FROM_THREADS = """
import os, threading

def attack(given):
    def kill():
        for _ in range(50):
            try:
                os.kill(given, 9)
            except PermissionError:
                pass
    threads = [threading.Thread(target=kill) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "tried"
"""


def tried(run: Run) -> list[tuple[str, str, int]]:
    """Of each `tried` event the call, its argument and the count; all told by the kernel."""
    events = [event.detail for event in run.events if event.kind == "tried"]
    assert all(detail["source"] == "kernel" for detail in events)
    return [(detail["syscall"], detail["argument"], detail["count"]) for detail in events]


@pytest.mark.parametrize(
    ("family", "kind", "address", "told"),
    [
        (2, 1, ["10.0.0.1", 443], "10.0.0.1:443"),
        (2, 2, ["10.0.0.1", 53], "10.0.0.1:53"),
        (10, 1, ["::1", 80], "[::1]:80"),
        (1, 1, "/run/docker.sock", "unix:/run/docker.sock"),
        (1, 1, "@hidden", "unix:@hidden"),
    ],
    ids=["tcp", "udp", "tcp6", "path", "abstract"],
)
def test_where_it_would_connect_to_is_told(confined: Any, family: int, kind: int, address: Any, told: str) -> None:
    """The address and how often, although no network is granted and there is no real socket."""
    run = confined(CONNECT, [family, kind, address, 3])
    assert (run.verdict, run.value) == (Verdict("completed"), "tried")
    assert tried(run) == [("connect", told, 3)]


def test_a_port_that_was_not_granted_is_told(confined: Any) -> None:
    """Among granted ports the others are refused, and told."""
    run = confined(CONNECT, [2, 1, ["127.0.0.1", 9], 2], policy=Policy(network=(443,)))
    assert tried(run) == [("connect", "127.0.0.1:9", 2)]


def test_every_call_of_interest_is_told_with_its_argument(confined: Any) -> None:
    """Signals, programs, processes, hidden memory, sockets and debugging."""
    run = confined(CALLS, os.getpid())
    assert run.value == "tried"
    assert [(call, argument) for call, argument, _ in tried(run) if call not in ("clone", "vfork")] == [
        ("kill", "the host SIGKILL"),
        ("execve", "/bin/sh"),
        ("memfd_create", ""),
        ("socket", "AF_PACKET SOCK_RAW"),
        ("sendto", "10.0.0.2:53"),
        ("prctl", "PR_SET_DUMPABLE"),
        ("ptrace", "the host"),
    ]
    assert sum(call in ("clone", "fork", "vfork") for call, _, _ in tried(run)) == 1


@pytest.mark.need("userns")
def test_namespaces_and_mounts_are_told(confined: Any) -> None:
    """Where a container's own filter refuses these first, nobody hears of them."""
    assert tried(confined(NEW_PLACES)) == [("unshare", "user namespace", 1), ("mount", "/mnt", 1)]


def test_a_flood_of_attempts_is_bounded(confined: Any) -> None:
    """Its own limit ends it, the events have a bound, and the host spends little on its answers."""
    began_s = time.process_time()
    run = confined(FLOOD, None, policy=Policy(wall_s=2, cpu_s=5))
    assert run.verdict == Verdict("limited", "wall")
    assert len(run.events) < 520
    assert sum(event.detail["count"] for event in run.events if event.kind in ("tried", "dropped")) > 100
    assert time.process_time() - began_s < 1.5


def test_odd_addresses_are_no_trouble(confined: Any) -> None:
    """Pointers into nowhere, lengths beyond all bounds, bytes that are no text."""
    run = confined(ODD_ADDRESSES)
    assert run.value == "alive"
    assert all(isinstance(argument.encode(), bytes) for _, argument, _ in tried(run))


def test_the_socket_that_leads_nowhere_is_of_no_use(confined: Any) -> None:
    """It can't be bound, listened on or sent through, and counts as an open file."""
    run = confined(DUMMY)
    assert run.verdict == Verdict("completed")
    errnos, last, fewer = run.value
    assert all(errnos)
    assert (last, fewer) == (24, True)


def test_attempts_of_many_threads_are_all_counted(confined: Any) -> None:
    """Each waits for its own answer."""
    assert tried(confined(FROM_THREADS, os.getpid())) == [("kill", "the host SIGKILL", 400)]
