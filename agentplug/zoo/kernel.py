"""Plugins that attack rarely used interfaces of the kernel (worker side)."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import socket
import struct
from typing import Any

from agentplug.zoo._base import ZooPlugin, first_success, libc, syscall

_CLONE_NEWUSER, _CLONE_NEWNS, _CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000
_X32 = 0x40000000
_KCMP_FILE = 0
_SO_ATTACH_FILTER = 26


def _run(code: bytes) -> int:
    """Run machine code for x86-64; return its result register. Raises `NotImplementedError` on other machines."""
    if platform.machine() != "x86_64":
        raise NotImplementedError(f"no machine code for {platform.machine()} here")
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return int(ctypes.CFUNCTYPE(ctypes.c_long)(address)())


class OldDoor(ZooPlugin):
    """Calls the kernel through its 32-bit interface, where system calls have other numbers.

    Stopped by seccomp, which ends a process that uses another architecture's calls: `died:SIGSYS`.
    """

    async def process(self, input_data: Any) -> Any:
        """Run `mov eax, 20; int 0x80; ret`: getpid, by its 32-bit number."""
        return _run(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")


class WideDoor(ZooPlugin):
    """Calls the kernel by x32 numbers: the same architecture, another list of calls.

    Stopped by seccomp, which refuses unknown calls: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Ask for the process id by its x32 number."""
        return libc("syscall", ctypes.c_long(_X32 | 39))


class MachineCode(ZooPlugin):
    """Runs machine code of its own, past Python, its audit hooks and the C library.

    Stopped because barriers are in the kernel, which machine code can't bypass. Here it signals the parent:
    `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Call kill(parent, 0) in machine code."""
        pid = os.getppid().to_bytes(4, "little")
        result = _run(b"\xbf" + pid + b"\xbe\x00\x00\x00\x00\xb8\x3e\x00\x00\x00\x0f\x05\xc3")
        if result < 0:
            raise OSError(-result, "kill")
        return result


class Cloner(ZooPlugin):
    """Forks with clone3, whose arguments lie in memory, which a filter can't read.

    Stopped by seccomp, which answers ENOSYS: `failed:OSError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Clone itself; the child ends at once."""
        arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17)
        pid = syscall("clone3", ctypes.addressof(arguments), ctypes.sizeof(arguments))
        if pid == 0:
            os._exit(0)
        return os.waitpid(pid, 0)[1]  # noqa: ASYNC222


class RingMaster(ZooPlugin):
    """Sets up io_uring, to read, write and connect through shared memory, without system calls that a filter sees.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Set up a ring of two entries."""
        parameters = ctypes.create_string_buffer(120)
        return syscall("io_uring_setup", 2, ctypes.addressof(parameters))


class FaultHandler(ZooPlugin):
    """Asks to handle page faults itself, and could then halt the kernel in the middle of a copy.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open a userfaultfd, as far as unprivileged users may."""
        return syscall("userfaultfd", os.O_CLOEXEC | 1)


class KeyKeeper(ZooPlugin):
    """Leaves data in a kernel keyring, where the next plugin of the same user finds it.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Add a key to the ring of this process."""
        words = [ctypes.create_string_buffer(word) for word in (b"user", b"agentplug-zoo", b"data")]
        return syscall("add_key", *map(ctypes.addressof, words), 4, -2)


class Namespacer(ZooPlugin):
    """Makes a user namespace, in which it is root and may use more of the kernel.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Unshare users, and mounts and the network with them."""
        return libc("unshare", _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET)


class Mounter(ZooPlugin):
    """Mounts a file system over files that others read.

    Stopped by seccomp, and because a worker has no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Mount a tmpfs on its current directory."""
        return libc("mount", b"none", b".", b"tmpfs", ctypes.c_ulong(0), None)


class Programmer(ZooPlugin):
    """Loads programs into the kernel, or opens performance counters.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make a BPF map, and open a counter of this process's own time."""
        blank = ctypes.create_string_buffer(128)
        attributes = (ctypes.c_uint32 * 32)(1, 128)
        calls = {
            "bpf": (0, ctypes.addressof(blank), 128),
            "perf_event_open": (ctypes.addressof(attributes), 0, -1, -1, 0),
        }
        return first_success(calls, lambda name: syscall(name, *calls[name]))


class Filterer(ZooPlugin):
    """Loads a program into the kernel as the filter of its own socket.

    Stopped by seccomp, which allows `setsockopt` only for listed options: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Attach a filter that passes everything to one end of a socket pair."""
        ours, _theirs = socket.socketpair()
        program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF))  # return -1
        ours.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
        return "attached"


class Comparer(ZooPlugin):
    """Asks whether two processes share a file, which gives away the order of the kernel's addresses.

    Stopped by seccomp: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Compare its descriptor 0 with that of its parent, or of the first process of `input_data`."""
        other = input_data[0] if isinstance(input_data, list) else os.getppid()
        return syscall("kcmp", os.getpid(), other, _KCMP_FILE, 0, 0)
