"""Describe the main argument of a system call (host): bounded text from the caller's registers and memory.

All of it comes from a plugin: it is only for people to read, and is escaped where it is displayed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import struct

from agentplug.core.boundary import syscalls as watched

_MOST_TEXT = 200
_MOST_PATH = 4096
_MOST_ADDRESS = 128
_AT_FDCWD = 0xFFFFFF9C
_PATHS = {"execve": 0, "execveat": 1, "mount": 1, "umount2": 0, "pivot_root": 0, "chroot": 0, "open": 0, "creat": 0}
_PATHS |= {"openat": 1}
_SIGNAL_AT = {"kill": 1, "tgkill": 2, "rt_sigqueueinfo": 1, "rt_tgsigqueueinfo": 2, "pidfd_send_signal": 1}
_SUBJECT_AT = {"kill": 0, "tgkill": 0, "rt_sigqueueinfo": 0, "rt_tgsigqueueinfo": 0, "ptrace": 1, "prlimit64": 0}
_SUBJECT_AT |= {"process_vm_readv": 0, "process_vm_writev": 0, "kcmp": 1, "pidfd_open": 0, "setpriority": 1}
_SUBJECT_AT |= {"ioprio_set": 1, "sched_setscheduler": 0, "sched_setparam": 0, "sched_setattr": 0}
_SUBJECT_AT |= {"sched_setaffinity": 0}
_NAMESPACES = {0x20000: "mount", 0x4000000: "uts", 0x8000000: "ipc", 0x10000000: "user", 0x20000000: "pid"}
_NAMESPACES |= {0x40000000: "network", 0x2000000: "cgroup", 0x80: "time"}


def describe(pid: int, name: str, args: tuple[int, ...]) -> str:
    """Describe the argument of the call `name` of process `pid`; empty if the name is enough."""
    if name in ("connect", "bind"):
        return address_at(pid, args[1], args[2])
    if name == "sendto":
        return address_at(pid, args[4], args[5])
    if name == "socket":
        return f"{_name(socket.AddressFamily, args[0])} {_name(socket.SocketKind, args[1] & 0xF)}"
    if name in _PATHS:
        return _clip(file_at(pid, name, args))
    if name == "prctl":
        return watched.PRCTL_REFUSED.get(args[0] & 0xFFFFFFFF, "")
    if name in ("unshare", "setns", "clone"):
        flags = args[1] if name == "setns" else args[0]
        return " ".join(f"{what} namespace" for flag, what in _NAMESPACES.items() if flags & flag)
    if name in watched.CLOCKS:
        return f"the CPU clock of {_process(pid, ~args[0] >> 3 & 0x1FFFFFFF)}"
    words = []
    if name in _SUBJECT_AT:
        words.append(_process(pid, args[_SUBJECT_AT[name]]))
    if name in _SIGNAL_AT:
        words.append(_name(signal.Signals, args[_SIGNAL_AT[name]] & 0xFFFFFFFF))
    return " ".join(words)


def file_at(pid: int, name: str, args: tuple[int, ...]) -> str:
    """Read the path argument of a call, absolute if possible; empty if it can't be read."""
    raw = _memory(pid, args[_PATHS[name]], _MOST_PATH).split(b"\0", 1)[0]
    path = os.fsdecode(raw)
    if not path or path.startswith("/") or name not in ("open", "creat", "openat"):
        return os.path.normpath(path) if path else ""
    folder = "cwd" if name != "openat" or args[0] & 0xFFFFFFFF == _AT_FDCWD else f"fd/{args[0] & 0xFFFFFFFF}"
    try:
        return os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/{folder}"), path))
    except OSError:
        return path


def address_at(pid: int, at: int, length: int) -> str:
    """Read a socket address as text: `10.0.0.1:443`, `[::1]:80`, `unix:/path`, `unix:@abstract`."""
    raw = _memory(pid, at, min(length & 0xFFFFFFFF, _MOST_ADDRESS))
    if len(raw) < 2:
        return "?"
    family = struct.unpack_from("=H", raw)[0]
    if family == socket.AF_INET and len(raw) >= 8:
        return f"{ipaddress.IPv4Address(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == socket.AF_INET6 and len(raw) >= 24:
        return f"[{ipaddress.IPv6Address(raw[8:24])}]:{int.from_bytes(raw[2:4], 'big')}"
    if family == socket.AF_UNIX:
        path = raw[2:]
        text = b"@" + path[1:].rstrip(b"\0") if path[:1] == b"\0" else path.split(b"\0", 1)[0]
        return _clip("unix:" + os.fsdecode(text))
    return _name(socket.AddressFamily, family)


def port_of(address: str) -> int:
    """Return the port of an address as `address_at` writes it, or 0."""
    _, _, port = address.rpartition(":")
    return int(port) if port.isdigit() and not address.startswith("unix:") else 0


def protocol_of(pid: int, fd: int) -> str:
    """Return the protocol of the socket at `fd`, as the kernel names it (`tcp`, `udp`, …); empty if unknown."""
    try:
        name = os.getxattr(f"/proc/{pid}/fd/{fd & 0xFFFFFFFF}", "system.sockprotoname")
    except OSError:
        return ""
    return name.rstrip(b"\0").decode("ascii", "replace").removesuffix("v6").lower()


def makes_namespace(name: str, args: tuple[int, ...]) -> bool:
    """Return true if a clone(2) asks for namespaces."""
    return name == "clone" and any(args[0] & flag for flag in _NAMESPACES)


def _process(caller: int, subject: int) -> str:
    """Name a process by its role: its number differs from run to run."""
    number = subject & 0xFFFFFFFF
    if number == os.getpid():
        return "the host"
    if number in (0, caller):
        return "itself"
    if number >= 0x80000000 or number > 1 << 22:
        return "all processes" if number == 0xFFFFFFFF else "a group of processes"
    return "another process"


def _memory(pid: int, at: int, length: int) -> bytes:
    """Read the memory of a process: fewer bytes where it ends, none if it can't be read."""
    data = b""
    with contextlib.suppress(OSError, OverflowError), open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while len(data) < length:
            here = at + len(data)
            step = min(length - len(data), 4096 - here % 4096)  # the next page may not be there
            more = os.pread(memory.fileno(), step, here)
            data += more
            if len(more) < step or (length > _MOST_ADDRESS and b"\0" in more):
                break
    return data


def _name(names: type, number: int) -> str:
    try:
        return str(names(number).name)
    except ValueError:
        return str(number)


def _clip(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
