"""Report refused calls from inside the plugin's process (worker side): sys.addaudithook, where the kernel doesn't.

The host trusts none of it: calls that bypass Python are missing, and the plugin may change the report. A report
precedes the reply to a call, so it is lost if the worker dies first. It is bounded as the host bounds it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.frames import Claim, Claims, Plan

_INSIDE = frozenset(("socketpair", "accept", "dup"))  # they wrap an existing socket
_EMPTY = Claims([])


class AuditHook:
    """A hook on this process, from its creation on. Every plugin may read `places`."""

    def __init__(self, plan: Plan, places: list[str]) -> None:
        self._plan = plan
        self._home = plan.scratch
        self._places = tuple(f"{place.rstrip('/')}/" for place in places)
        self._seen: dict[tuple[str, str, str], int] = {}
        self._dropped = 0
        self._thread = threading.local()
        self._handlers: dict[str, Callable[..., None]] = {
            "socket.__new__": self._socket,
            "socket.connect": self._connect,
            "socket.getaddrinfo": self._look_up,
            "socket.sendto": self._send,
            "socket.bind": self._bind,
            "os.fork": self._fork,
            "os.forkpty": self._fork,
            "subprocess.Popen": self._spawn,
            "os.posix_spawn": self._spawn,
            "os.system": self._system,
            "os.exec": self._execute,
            "os.kill": self._kill,
            "os.killpg": self._kill_group,
            "resource.prlimit": self._limit,
            "resource.setrlimit": lambda *_: self._add("tried", "prlimit64", "itself"),
        }
        if plan.observe == "files":
            self._handlers |= {"open": self._open, "os.listdir": self._list, "os.scandir": self._list}
        sys.addaudithook(self._handle)

    def take(self) -> Claims:
        """Return the report since the last `take`."""
        if not self._seen and not self._dropped:
            return _EMPTY
        seen, self._seen = self._seen, {}
        dropped, self._dropped = self._dropped, 0
        return Claims([Claim(*key, count) for key, count in list(seen.items())[: wire.MAX_CLAIMS]], dropped)

    def _handle(self, event: str, args: tuple[Any, ...]) -> None:
        handler = self._handlers.get(event)
        if handler is None or getattr(self._thread, "in_handler", False):
            return
        self._thread.in_handler = True
        try:
            with contextlib.suppress(Exception):  # odd arguments: the call itself must handle them
                handler(*args)
        finally:
            self._thread.in_handler = False

    def _add(self, kind: str, how: str = "", what: str = "") -> None:
        what = what[: wire.MAX_CLAIM].encode("utf-8", "backslashreplace").decode()[: wire.MAX_CLAIM]
        key = (kind, how, what)
        if key in self._seen or len(self._seen) < wire.MAX_CLAIMS:
            self._seen[key] = self._seen.get(key, 0) + 1
        else:
            self._dropped += 1

    # ------------------------------------------------------------------ sockets

    def _socket(self, made: Any, family: int, kind: int, protocol: int) -> None:
        stream = kind & 0xF in (0, int(socket.SOCK_STREAM)) or kind == -1
        internet = family in (-1, int(socket.AF_INET), int(socket.AF_INET6))
        network = self._plan.network
        if internet and (network is True or (network and stream)):
            return
        caller = sys._getframe(3)
        if caller.f_code.co_name == "__init__" and caller.f_back is not None:
            caller = caller.f_back
        if caller.f_code.co_name not in _INSIDE:
            family, kind = (family if family != -1 else int(socket.AF_INET)), kind if kind != -1 else 1
            name = f"{socket.AddressFamily(family).name} {socket.SocketKind(kind & 0xF).name}"
            self._add("tried", "socket", name)

    def _connect(self, client: Any, address: Any) -> None:
        network, stream = self._plan.network, client.type == socket.SOCK_STREAM
        if network is True or (isinstance(network, list) and stream and address[1] in network):
            self._used("connected", address, stream)
        else:
            self._add("tried", "connect", _text(address))

    def _send(self, client: Any, address: Any) -> None:
        if self._plan.network is True:
            self._used("connected", address, False)
        else:
            self._add("tried", "sendto", _text(address))

    def _bind(self, server: Any, address: Any) -> None:
        if self._plan.network is True:
            self._used("bound", address, server.type == socket.SOCK_STREAM)
        else:
            self._add("tried", "bind", _text(address))

    def _look_up(self, host: Any, port: Any, *_: Any) -> None:
        if self._plan.network is False:
            self._add("tried", "getaddrinfo", f"{os.fsdecode(host)}:{port}")

    def _used(self, kind: str, address: Any, stream: bool) -> None:
        if self._plan.observe:
            self._add(kind, "tcp" if stream else "udp", _text(address))

    # ------------------------------------------------------------------ processes

    def _fork(self) -> None:
        if self._plan.processes == 0:
            self._add("tried", "fork")
        elif self._plan.observe:
            self._add("forked")

    def _spawn(self, program: Any, *_: Any) -> None:
        if self._plan.processes == 0:
            self._add("tried", "execve", os.fsdecode(program))
        elif self._plan.observe:
            self._add("forked")
            self._add("ran", "", os.fsdecode(program))

    def _system(self, command: Any) -> None:
        self._spawn(f"/bin/sh -c {os.fsdecode(command)}" if self._plan.processes == 0 else "/bin/sh")

    def _execute(self, program: Any, *_: Any) -> None:
        if self._plan.processes == 0:
            self._add("tried", "execve", os.fsdecode(program))
        elif self._plan.observe:
            self._add("ran", "", os.fsdecode(program))

    def _kill(self, pid: int, number: int) -> None:
        if pid != os.getpid() and self._plan.processes == 0:
            whom = "another process" if pid > 0 else "all processes" if pid == -1 else "a group of processes"
            self._add("tried", "kill", f"{whom} {signal.Signals(number).name if number else 0}")

    def _kill_group(self, group: int, number: int) -> None:
        self._kill(-2, number)

    def _limit(self, pid: int, which: int, limits: Any = None) -> None:
        if limits is not None:
            self._add("tried", "prlimit64", "itself" if pid in (0, os.getpid()) else "another process")

    # ------------------------------------------------------------------ files

    def _open(self, path: Any, mode: Any, flags: int) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            writes = flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC)
            self._opened(os.path.abspath(os.fsdecode(path)), bool(writes))

    def _list(self, path: Any = None) -> None:
        if path is None or isinstance(path, (str, bytes, os.PathLike)):
            self._opened(os.path.abspath(os.fsdecode(path or ".")), False)

    def _opened(self, path: str, writes: bool) -> None:
        real = os.path.realpath(path)
        if not writes and (f"{real}/".startswith(self._places) or not os.path.lexists(real)):
            return
        if path == self._home or path.startswith(f"{self._home}/"):
            path = "$HOME" + path[len(self._home) :]
        self._add("opened", "write" if writes else "read", path)


def _text(address: Any) -> str:
    """Format a socket address as the host's `address_at` does."""
    if isinstance(address, (str, bytes)):
        path = os.fsdecode(address)
        return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
