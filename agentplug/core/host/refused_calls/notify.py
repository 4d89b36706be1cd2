"""Answer the system calls that a worker's filter suspends, and emit them as events (host): seccomp_unotify(2).

Each watched system call waits until it is answered here, on the watchdog's thread. Nothing that a policy doesn't
grant is ever let through: a refused call gets its error from us, and an observed one goes on to the kernel's other
barriers. A plugin may change text behind a pointer while we read it, so that is for events and decides nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable

import seccompy
from seccompy import SeccompError, syscall_name
from seccompy.notify import AddFdFlag, Listener, Notification, RespFlag

from agentplug.contract.policy import Policy
from agentplug.core.boundary import syscalls as watched
from agentplug.core.boundary.child_processes import descendants
from agentplug.core.boundary.find_libc import resolve
from agentplug.core.host.plans import readable_by_all
from agentplug.core.host.process import Process
from agentplug.core.host.refused_calls.syscall_text import (
    address_at,
    describe,
    file_at,
    makes_namespace,
    port_of,
    protocol_of,
)
from agentplug.core.host.shared_memory import SharedMemory

_AT_ONCE = 16
_QUICK = 256  # answers a second; beyond that, a few every 10 ms
_USUAL_NS, _LONG_NS = 100_000, 1_000_000  # for one answer, and for all at once
_SECOND_NS = 1_000_000_000
_NSCD = "unix:/var/run/nscd/socket"  # the C library looks up users there


class Notifications:
    """The notifications of one worker's filter. The worker's lock guards them. `emit` gets each event."""

    def __init__(
        self, fd: int, policy: Policy, process: Process, shared: SharedMemory, emit: Callable[..., None]
    ) -> None:
        resolve(seccompy.supported)
        self._listener = Listener(fd)
        self._policy = policy
        self._scratch = process.scratch
        self._pid = process.pid
        self._shared = shared
        self.asked_beyond: set[str] = set()
        self._emit = emit
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)
        self._second_ns = 0
        self._answered = 0
        self.spent_ns = 0  # CPU time, on the latest answers

    def answer(self) -> bool:
        """Answer waiting calls, within bounds. Return false when there will never be more."""
        began_ns = time.thread_time_ns()
        for _ in range(_AT_ONCE):
            events = self._ready.poll(0)
            if not events:
                break
            if not events[0][1] & select.POLLIN:
                return False
            self._answered += 1
            with contextlib.suppress(SeccompError):  # the caller was interrupted, or died
                self._answer(self._listener.recv())
            self.spent_ns = time.thread_time_ns() - began_ns
            if self.spent_ns > _LONG_NS:
                self._answered += self.spent_ns // _USUAL_NS
                break
        return True

    @property
    def too_many(self) -> bool:
        """True if there are so many that answers must wait."""
        now_ns = time.perf_counter_ns()
        if now_ns - self._second_ns > _SECOND_NS:
            self._second_ns, self._answered = now_ns, 0
        return self._answered > _QUICK

    def close(self) -> None:
        """Close the descriptor; calls that wait for an answer get ENOSYS."""
        self._listener.close()

    # ------------------------------------------------------------------ one call

    def _answer(self, call: Notification) -> None:
        name = syscall_name(call.nr)
        if name in watched.OPENS:
            self._opened(call, name)
        elif name in watched.EXECS and self._policy.processes:
            self._emit("ran", program=file_at(call.pid, name, call.args)[:200])
        elif name in watched.FORKS and self._policy.processes and not makes_namespace(name, call.args):
            self._emit("forked")
        elif name == "connect" and self._policy.network is not False:
            self._connects(call)
        elif name in ("sendto", "bind") and self._policy.network is True:
            self._uses(call, *(("connected", 4) if name == "sendto" else ("bound", 1)))
        elif name == "socket" and self._policy.network is False and self._gave_dummy(call):
            return
        elif name in watched.SIZED:
            if not self._has_room(call, name):
                self._listener.respond(call.id, error=errno.ENOMEM)
                return
        else:
            self._refuse(call, name)
            return
        self._listener.respond(call.id, flags=RespFlag.CONTINUE)

    def _has_room(self, call: Notification, name: str) -> bool:
        """Note a request beyond a limit, for the kernel to answer. Return false for too much shared memory."""
        if name == "mmap" and call.args[3] & watched.SHARED_MASK == watched.SHARED_MEMORY:
            pids = [self._pid, *(descendants(self._pid) if self._policy.processes else ())]
            if self._shared.admit(call.pid, call.args[1], pids, time.perf_counter_ns()):
                return True
            self.asked_beyond.add("memory")
            return False
        self.asked_beyond.add(watched.SIZED[name])
        return True

    def _refuse(self, call: Notification, name: str) -> None:
        argument = describe(call.pid, name, call.args)
        if self._listener.valid(call.id) and argument != _NSCD:  # else the text was read from another process
            self._emit("tried", syscall=name, argument=argument, source="kernel")
        error = watched.error_of(name)
        if name in watched.FORKS and self._policy.processes:
            error = errno.EPERM  # the fork asks for namespaces
        self._listener.respond(call.id, error=error)

    def _opened(self, call: Notification, name: str) -> None:
        path = file_at(call.pid, name, call.args)
        writes = _writes(name, call.args)
        if path and self._listener.valid(call.id) and (writes or not readable_by_all(path)):
            if path == self._scratch or path.startswith(f"{self._scratch}/"):
                path = "$HOME" + path[len(self._scratch) :]
            self._emit("opened", path=path, mode="write" if writes else "read")

    def _connects(self, call: Notification) -> None:
        address = address_at(call.pid, call.args[1], call.args[2])
        ports = self._policy.network
        if isinstance(ports, tuple) and port_of(address) not in ports:
            self._emit("tried", syscall="connect", argument=address, source="kernel")
        elif self._policy.observe:
            self._uses(call, "connected", 1)

    def _uses(self, call: Notification, kind: str, at: int) -> None:
        address = address_at(call.pid, call.args[at], call.args[at + 1])
        protocol = protocol_of(call.pid, call.args[0])
        if self._listener.valid(call.id):
            self._emit(kind, address=address, protocol=protocol)

    def _gave_dummy(self, call: Notification) -> bool:
        """Answer with a socket that leads nowhere, so that its connect shows the address. False if that fails."""
        family, kind = call.args[0], call.args[1]
        if family not in _FAMILIES or kind & 0xF not in _KINDS:
            return False
        try:
            dummy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError:
            return False  # the host has no descriptor left: refuse the socket itself
        with dummy:
            dummy.setblocking(not kind & socket.SOCK_NONBLOCK)
            flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
            try:
                self._listener.addfd(call.id, dummy.fileno(), flags=AddFdFlag.SEND, newfd_flags=flags)
            except SeccompError as error:
                if error.errno == errno.EMFILE:
                    self._listener.respond(call.id, error=errno.EMFILE)
                    return True
                return False  # a kernel before 5.14, or the caller is gone
        return True


_FAMILIES = frozenset(map(int, (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)))
_KINDS = frozenset(map(int, (socket.SOCK_STREAM, socket.SOCK_DGRAM)))


def _writes(name: str, args: tuple[int, ...]) -> bool:
    if name == "creat":
        return True
    flags = args[1] if name == "open" else args[2]
    return bool(flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC))
