"""System calls by seccomp (worker side): seccomp(2), with two filters that the process can't remove.

Both are compiled in the zygote, `filters.guard_filter` with placeholders that the worker replaces by its own numbers.
If the kernel allows, the guard has a listener, which is sent to the host before the plugin is loaded: the host
answers the watched calls, and so knows the refused ones.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import sys
import time

import landlockpy
from seccompy import Filter

from agentplug.core.boundary import cgroups
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.bounds import CHANNEL_FD
from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import libc
from agentplug.core.worker.barriers.filters import Own, Rights, base_filter, guard_filter

NAME = "seccomp"
PROTECTS = "other processes and the kernel: fork, exec, sockets, ptrace, prlimit, mounts, namespaces, memfd, …"

_NO_SECCOMP = "use a kernel with CONFIG_SECCOMP_FILTER, in a container that allows the seccomp system call"
_CROWDED = (
    "this user's processes are passing each other more descriptors than a worker may have open (open_files): "
    "start it again, start fewer at once, or close other plugins"
)
_REHEARSAL_PATIENCE_S = 1.0
_PATIENCE_S = 10.0  # sending was just possible, and will be again once a busy host has received
_PLACEHOLDER = Own(0x7E57AB01, 0x7E57AB02_7E57AB03, 0x7E57AB04_7E57AB05)
"""Numbers beyond any pid (2**22) and any size; their words are no other numbers in the filter."""


def apply(plan: Plan) -> BarrierReport:
    """Install both filters, and send the listener to the host."""
    rights = _rights(plan)
    try:
        listening = _install_guard(plan, rights)
        _base(rights).load()
    except OSError as error:
        remedy = _CROWDED if error.errno == errno.ETOOMANYREFS else _NO_SECCOMP
        reason = error.strerror or str(error)
        return BarrierReport(
            NAME, PROTECTS, "unavailable", reason, ["host", "memory", "network", "processes"], remedy
        )
    reporter = "the kernel tells what is tried" if listening else "what is tried is the worker's own report"
    if not (listening or cgroups.caps_memory(plan.cgroup)):
        reporter += "; shared anonymous memory is refused, since nobody can count it here"
    return BarrierReport(NAME, PROTECTS, "enforced", f"a list of allowed system calls, arguments checked; {reporter}")


def _install_guard(plan: Plan, rights: Rights) -> bool:
    """Load the guard. Return true if it has a listener: this kernel or container may have none, or not send it."""
    own, silent = (
        Own(os.getpid(), plan.memory_bytes, plan.disk_bytes),
        rights._replace(listening=False, capped=cgroups.caps_memory(plan.cgroup)),
    )
    if not _can_send_fd():
        libc.install_filter(guard_program(own, silent))
        return False
    try:
        listener = libc.install_filter(guard_program(own, rights), listen=True)
    except OSError:
        libc.install_filter(guard_program(own, silent))
        return False
    with socket.socket(fileno=os.dup(CHANNEL_FD)) as channel:
        header = wire.HEADER.pack(wire.MAGIC, wire.LISTENER, 0, 0, 0, 0)
        if not _send_fd(channel, header, listener, _PATIENCE_S):
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
    os.close(listener)
    return True


def _can_send_fd() -> bool:
    """Return true if a descriptor can be sent: a listener that can't be sent couldn't be removed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return _send_fd(ours, b"0", CHANNEL_FD, _REHEARSAL_PATIENCE_S)


def _send_fd(sock: socket.socket, message: bytes, fd: int, patience_s: float) -> bool:
    """Send `fd`; return false after `patience_s`. The kernel sends none while more of the user's descriptors are in
    transit than this process may have: for a moment if many workers start, for ever if a plugin keeps its own there.
    """
    until_s = time.monotonic() + patience_s
    while True:
        try:
            socket.send_fds(sock, [message], [fd])
            return True
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
        if time.monotonic() > until_s:
            return False
        time.sleep(0.005)


def compile_ahead(plan: Plan) -> bool:
    """Compile this plan's filters in the zygote, for all workers forked later. Return true if they were ready."""
    before = _base.cache_info().misses + _guard_template.cache_info().misses
    _compile(_rights(plan))
    return before == _base.cache_info().misses + _guard_template.cache_info().misses


def compile_usual() -> None:
    """Compile the filters of a policy that grants neither network nor processes."""
    _compile(_usual())


def rehearse() -> None:
    """Build a program and drop it."""
    guard_program(_PLACEHOLDER, _usual())


def _usual() -> Rights:
    version = landlockpy.abi_version()
    return Rights(truncation=version >= 3, signals=version >= 6)


def _rights(plan: Plan) -> Rights:
    network = plan.network if isinstance(plan.network, bool) else None
    rights = _usual()._replace(network=network, processes=plan.processes > 0, files=plan.observe == "files")
    return rights._replace(writing=bool(plan.write or plan.disk_bytes))


def _compile(rights: Rights) -> None:
    _base(rights).program  # noqa: B018  (a property that compiles and stores the program)
    _guard_template(rights)


@functools.lru_cache(maxsize=32)
def _base(rights: Rights) -> Filter:
    return base_filter(rights)


def guard_program(own: Own, rights: Rights) -> bytes:
    """Return the compiled guard for one worker: the template with its placeholders replaced."""
    template, places = _guard_template(rights)
    program, words = bytearray(template), [word.to_bytes(4, sys.byteorder) for word in own.words]
    for at, index in places:
        program[at : at + 4] = words[index]
    return bytes(program)


@functools.lru_cache(maxsize=32)
def _guard_template(rights: Rights) -> tuple[bytes, list[tuple[int, int]]]:
    """Compile the guard with placeholders; return it with their places, each with its number among `Own.words`."""
    template = guard_filter(_PLACEHOLDER, rights).program
    index_of = {word.to_bytes(4, sys.byteorder): index for index, word in enumerate(_PLACEHOLDER.words)}
    words = ((at, index_of.get(template[at : at + 4])) for at in range(0, len(template), 4))
    return template, [(at, index) for at, index in words if index is not None]
