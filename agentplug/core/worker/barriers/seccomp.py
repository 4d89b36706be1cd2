"""System calls by seccomp (worker side): seccomp(2), with two filters that nothing later in the process takes off.

Both are compiled in the zygote, `filters.guard_filter` with a pid that isn't one, in whose place the worker writes
its own. Where the kernel allows, the guard comes with a listener, which goes to the host over the channel before the
plugin is there: the host then answers what the plugin tries, and so knows of it.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import sys
import time

from seccompy import Filter

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.bounds import CHANNEL_FD
from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import landlock, libc
from agentplug.core.worker.barriers.filters import Rights, base_filter, guard_filter

NAME = "seccomp"
PROTECTS = "other processes and the kernel: fork, exec, sockets, ptrace, prlimit, mounts, namespaces, memfd, …"

_NO_SECCOMP = "use a kernel with CONFIG_SECCOMP_FILTER, in a container that allows the seccomp system call"
_CROWDED = (
    "this user's processes are passing each other more descriptors than a worker may have open (open_files): "
    "start it again, start fewer at once, or close other plugins"
)
_REHEARSAL_PATIENCE_S = 1.0
_PATIENCE_S = 10.0  # what was just possible is so again soon: as soon as a busy host has taken what is on its way
_NO_PID = 0x7E57ABCD  # above the most that pid_max allows (2**22), and no other number in the filter


def apply(plan: Plan) -> BarrierReport:
    """Install both filters, and hand the listener over."""
    rights = _rights(plan)
    try:
        listening = _install_guard(rights)
        _base(rights).load()
    except OSError as error:
        remedy = _CROWDED if error.errno == errno.ETOOMANYREFS else _NO_SECCOMP
        reason = error.strerror or str(error)
        return BarrierReport(NAME, PROTECTS, "unavailable", reason, ["host", "network", "processes"], remedy)
    told = "the kernel tells what is tried" if listening else "what is tried is the worker's own report"
    return BarrierReport(NAME, PROTECTS, "enforced", f"a list of allowed system calls, arguments checked; {told}")


def _install_guard(rights: Rights) -> bool:
    """Load the guard; with a listener, unless this kernel or container has none, or none gets through."""
    silent = rights._replace(listening=False)
    if not _rehearsed():
        libc.install_filter(guard_program(os.getpid(), silent))
        return False
    try:
        listener = libc.install_filter(guard_program(os.getpid(), rights), listen=True)
    except OSError:
        libc.install_filter(guard_program(os.getpid(), silent))
        return False
    with socket.socket(fileno=os.dup(CHANNEL_FD)) as channel:
        if not _handed_over(channel, wire.HEADER.pack(wire.MAGIC, wire.LISTENER, 0, 0, 0, 0), listener, _PATIENCE_S):
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
    os.close(listener)
    return True


def _rehearsed() -> bool:
    """Try to hand a descriptor over: a listener that reaches nobody can't be taken back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return _handed_over(ours, b"0", CHANNEL_FD, _REHEARSAL_PATIENCE_S)


def _handed_over(sock: socket.socket, message: bytes, fd: int, patience_s: float) -> bool:
    """Send `fd`. Where more of the user's descriptors are on their way than this process may have itself, the kernel
    takes none until some have come: soon in a crowd of starting workers, never if another plugin keeps its own there.
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
    """Compile this plan's filters now (in the zygote, so that every worker forked later finds them ready).

    True if they were ready already.
    """
    before = _base.cache_info().misses + _guard_template.cache_info().misses
    _compile(_rights(plan))
    return before == _base.cache_info().misses + _guard_template.cache_info().misses


def compile_usual() -> None:
    """Compile the filters of a policy that grants neither network nor processes."""
    _compile(_usual())


def rehearse() -> None:
    """Go through the making of a program, and leave nothing behind."""
    guard_program(os.getpid(), _usual())


def _usual() -> Rights:
    return Rights(truncation=landlock.abi() >= 3, signals=landlock.abi() >= 6)


def _rights(plan: Plan) -> Rights:
    network = plan.network if isinstance(plan.network, bool) else None
    rights = _usual()._replace(network=network, processes=plan.processes > 0, files=plan.observe == "files")
    return rights._replace(writing=bool(plan.write or plan.disk_bytes))


def _compile(rights: Rights) -> None:
    _base(rights).program  # noqa: B018  (a property that compiles and keeps the program)
    _guard_template(rights)


@functools.lru_cache(maxsize=32)
def _base(rights: Rights) -> Filter:
    return base_filter(rights)


def guard_program(pid: int, rights: Rights) -> bytes:
    """The compiled guard for `pid`: the template with the pid in place of the one that isn't."""
    template = _guard_template(rights)
    words = [template[at : at + 4] for at in range(0, len(template), 4)]
    nobody, own = (number.to_bytes(4, sys.byteorder) for number in (_NO_PID, pid))
    return b"".join(own if word == nobody else word for word in words)


@functools.lru_cache(maxsize=32)
def _guard_template(rights: Rights) -> bytes:
    return guard_filter(_NO_PID, rights).program
