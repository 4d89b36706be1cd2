"""Plugins that take more memory than they were given, where it shows and where it doesn't (worker side)."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import threading
import time
import typing
from typing import Any

from agentplug.zoo._beast import MIB, Beast, libc, number, syscall

_MAP_NORESERVE = 0x4000


class Hoarder(Beast):
    """Keeps every megabyte it can get on its heap: what a leak does, only faster.

    Stopped by the watchdog, which reads the worker's footprint in the kernel: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fill `input_data` MiB (4,096 unless a number is given) and never give one back."""
        held = []
        for _ in range(number(input_data, 4096)):
            held.append(bytearray(b"x") * MIB)
        return len(held)


class SharedHoarder(Beast):
    """Takes anonymous shared memory, which the usual limit on a process's data (RLIMIT_DATA) doesn't count.

    Stopped all the same, because the watchdog counts every resident page: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map and fill 4 GiB in blocks of 8 MiB."""
        held = []
        for _ in range(512):
            block = mmap.mmap(-1, 8 * MIB)
            for _ in range(8):
                block.write(b"x" * MIB)
            held.append(block)
        return len(held)


class HiddenHoarder(Beast):
    """Writes into a memory file that it never maps, so that no process's footprint shows it.

    Stopped by seccomp, which refuses `memfd_create` as the kernel refuses memory: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write 4 GiB into a memfd."""
        fd = os.memfd_create("hidden")
        return sum(os.write(fd, b"x" * MIB) for _ in range(number(input_data, 4096)))


class StubbornHoarder(Beast):
    """Catches every MemoryError and tries again, so that no exception ever ends it.

    Stopped by the watchdog, which neither raises nor asks: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fill memory in smaller and smaller pieces, whatever is raised."""
        held, size = [], 64 * MIB
        while True:
            try:
                held.append(bytearray(b"x") * size)
            except MemoryError:
                size = max(size // 2, 1)


class Burster(Beast):
    """Takes 200 MB for a moment and gives them back before anybody looks.

    Stopped by the kernel's high-water mark, which sees what falls between two looks: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Touch 200 MiB once, and return as if nothing had been."""
        with mmap.mmap(-1, 200 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE) as block:
            return len(block)


class PrivateMapper(Beast):
    """Maps the interpreter's own files privately and writes to the copies: file pages that have become its own.

    Stopped by the watchdog; a page counts wherever it came from: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map a module again and again (through the C library: Python would keep a descriptor for each)."""
        call = ctypes.CDLL(None).mmap
        call.restype = ctypes.c_void_p
        with open(typing.__file__, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            rights, length = mmap.PROT_READ | mmap.PROT_WRITE, ctypes.c_size_t(size)
            for _ in range(number(input_data, 40_000)):
                copy = call(None, length, rights, mmap.MAP_PRIVATE, file.fileno(), ctypes.c_long(0))
                if copy == ctypes.c_void_p(-1).value:
                    raise MemoryError
                ctypes.memset(copy, 1, size)
        return size


class PageTableHoarder(Beast):
    """Reads one byte in every 2 MiB of a vast empty map. Each costs the kernel a page of tables and shows nowhere.

    Stopped by the limit on address space, which is refused as memory is: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map 16 TiB in pieces of 64 GiB, and read here and there."""
        held = []
        for _ in range(256):
            block = mmap.mmap(-1, 64 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
            held.append(sum(block[at] for at in range(0, len(block), 2 * MIB)))
        return len(held)


class StackHoarder(Beast):
    """Starts threads with giant stacks: memory that no allocator hands out.

    Stopped by the limit on private address space, at which a thread can't start: `limited:threads`.
    """

    async def process(self, input_data: Any) -> Any:
        """Start 1,000 threads with a stack of 256 MiB each, all asleep."""
        threading.stack_size(256 * MIB)
        for _ in range(1000):
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        return threading.active_count()


class LockedHoarder(Beast):
    """Locks its memory, so that the machine can't swap it out and others starve first.

    Stopped by a limit of 0 on locked memory: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Lock 1 MiB; it would be more if it worked."""
        block = ctypes.create_string_buffer(MIB)
        return libc("mlock", ctypes.byref(block), ctypes.c_size_t(MIB))


class PipeHoarder(Beast):
    """Fills pipes that nobody reads: the kernel's memory, in no process's footprint.

    Stopped by the limit on open files, long before it matters: `limited:files`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open 500 pipes, widen each as far as it goes, and fill it."""
        filled = 0
        for _ in range(500):
            _, writer = os.pipe()
            with contextlib.suppress(OSError):  # what all pipes of a user may hold is used up: take the plain size
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, MIB)
            os.set_blocking(writer, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    filled += os.write(writer, b"x" * (1 << 16))
        return filled


class SocketHoarder(Beast):
    """Fills socket pairs that nobody reads: the kernel's memory again.

    Stopped by the limit on open files: `limited:files`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open 500 pairs and fill both directions of each."""
        held = []
        for _ in range(500):
            for end in socket.socketpair():
                end.setblocking(False)
                held.append(end)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        end.send(b"x" * (1 << 16))
        return len(held)


class Splicer(Beast):
    """Hands its pages over to a pipe and unmaps them: resident for ever, and in no footprint.

    Stopped by seccomp, which doesn't know `vmsplice`: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Splice one page; it would be all of them if it worked."""
        page = ctypes.create_string_buffer(mmap.PAGESIZE)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(page), len(page))
        _, writer = os.pipe()
        return syscall("vmsplice", writer, ctypes.addressof(vector), 1, 0)


class SegmentHoarder(Beast):
    """Makes a System V segment, which belongs to no process and outlives all of them.

    Stopped by seccomp, which refuses `shmget` as the kernel refuses memory: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make one of 1 MiB, and take it away again: it is only to be shown."""
        segment = libc("shmget", 0, ctypes.c_size_t(MIB), 0o1600)
        libc("shmctl", segment, 0, None)
        return segment


class DevShmHoarder(Beast):
    """Writes to /dev/shm, a file system made of memory that every process of the machine shares.

    Stopped by Landlock, for which it is a folder like any other: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write a file named after `input_data` there, 1 MiB large."""
        path = f"/dev/shm/{input_data or 'agentplug-zoo'}"
        with open(path, "wb") as file:
            return file.write(b"x" * MIB)


class PageCacheHoarder(Beast):
    """Keeps its data in deleted files, whose pages lie in the page cache and not in its footprint.

    Stopped by the bound on its scratch directory, which counts deleted files too: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write files of 1 MiB, delete each, and keep it open."""
        held = []
        for serial in range(number(input_data, 4096)):
            file = open(f"cached-{serial}", "w+b", buffering=0)  # noqa: SIM115
            os.unlink(file.name)
            file.write(b"x" * MIB)
            held.append(file)
        return len(held)
