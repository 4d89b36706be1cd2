"""Plugins that use more memory than their limit, in visible and in hidden ways (worker side)."""

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

from agentplug.zoo._base import MIB, ZooPlugin, as_int, libc, prctl, syscall

_MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x4000, 0x100000
_PR_SET_NAME = 15


class Hoarder(ZooPlugin):
    """Fills its heap, like a fast leak.

    Stopped by the watchdog, which reads the worker's footprint in the kernel: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fill `input_data` MiB (4,096 unless a number is given) and free nothing."""
        return len([bytearray(b"x") * MIB for _ in range(as_int(input_data, 4096))])


class SharedHoarder(ZooPlugin):
    """Takes anonymous shared memory, which the usual limit on a process's data (RLIMIT_DATA) doesn't count.

    Stopped by the watchdog, which counts every resident page: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map and fill 4 GiB in blocks of 8 MiB."""
        blocks = []
        for _ in range(512):
            block = mmap.mmap(-1, 8 * MIB)
            for _ in range(8):
                block.write(b"x" * MIB)
            blocks.append(block)
        return len(blocks)


class Parker(ZooPlugin):
    """Fills shared memory and takes it out of its page tables: it stays, in no footprint.

    Stopped by the host, which counts shared memory when it is made and refuses more: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fill `input_data` maps of 1 MiB, and drop the pages of each."""
        blocks = []
        for _ in range(as_int(input_data, 4096)):
            block = mmap.mmap(-1, MIB)
            block.write(b"x" * MIB)
            block.madvise(mmap.MADV_DONTNEED)
            blocks.append(block)
        return len(blocks)


class HiddenHoarder(ZooPlugin):
    """Writes into a memory file that it never maps, which no process's footprint contains.

    Stopped by seccomp, which answers `memfd_create` with ENOMEM: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write 4 GiB into a memfd."""
        fd = os.memfd_create("hidden")
        return sum(os.write(fd, b"x" * MIB) for _ in range(as_int(input_data, 4096)))


class StubbornHoarder(ZooPlugin):
    """Catches every MemoryError and tries again.

    Stopped by the watchdog, which kills the worker: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fill memory in smaller and smaller pieces, whatever is raised."""
        blocks, size = [], 64 * MIB
        while True:
            try:
                blocks.append(bytearray(b"x") * size)
            except MemoryError:
                size = max(size // 2, 1)


class Burster(ZooPlugin):
    """Takes 200 MB for a moment and frees them before the next reading.

    Stopped by the kernel's high-water mark, which includes peaks between two readings: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Touch 200 MiB once, free them, and return."""
        with mmap.mmap(-1, 200 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE) as block:
            return len(block)


class Misnomer(ZooPlugin):
    """Takes 200 MB for a moment, and names its thread so that the kernel's figures seem to begin with its own.

    Stopped because a figure is read from its line of /proc/PID/status, never from the name: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Take the name `VmHWM:0 kB`, then the memory."""
        prctl(_PR_SET_NAME, ctypes.addressof(ctypes.create_string_buffer(b"VmHWM:0 kB")))
        return len(bytearray(b"x") * (200 * MIB))


class FalseAlarm(ZooPlugin):
    """Raises what a full memory raises, and has used none, to be recorded as stopped by its limit.

    Stopped because a limit needs evidence from the kernel: `failed:MemoryError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise MemoryError."""
        raise MemoryError


class PrivateMapper(ZooPlugin):
    """Maps the interpreter's own files privately and writes to the copies.

    Stopped by the watchdog, which counts private pages of files too: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map a module again and again (through the C library, because Python would use a descriptor for each)."""
        call = ctypes.CDLL(None).mmap
        call.restype = ctypes.c_void_p
        with open(typing.__file__, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            rights, length = mmap.PROT_READ | mmap.PROT_WRITE, ctypes.c_size_t(size)
            for _ in range(as_int(input_data, 40_000)):
                copy = call(None, length, rights, mmap.MAP_PRIVATE, file.fileno(), ctypes.c_long(0))
                if copy == ctypes.c_void_p(-1).value:
                    raise MemoryError
                ctypes.memset(copy, 1, size)
        return size


class PageTableHoarder(ZooPlugin):
    """Reads one byte in every 2 MiB of a vast empty map. Each costs the kernel a page table, in no footprint.

    Stopped by the limit on address space, which answers ENOMEM: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map 16 TiB in pieces of 64 GiB, and read a byte in each 2 MiB."""
        blocks = []
        for _ in range(256):
            block = mmap.mmap(-1, 64 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
            blocks.append(sum(block[at] for at in range(0, len(block), 2 * MIB)))
        return len(blocks)


class TableHoarder(ZooPlugin):
    """Reads two pages at each boundary between gibibytes. Each pair costs the kernel 16 KiB of tables, and little
    address space.

    Stopped by the watchdog, which reads the size of all page tables: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Map `input_data` pairs of pages (60,000 unless a number is given), and read a byte of each page."""
        call = ctypes.CDLL(None).mmap
        call.restype = ctypes.c_void_p
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        pairs = 0
        for number in range(64, 64 + as_int(input_data, 60_000)):
            at = (number << 30) - mmap.PAGESIZE
            length = ctypes.c_size_t(2 * mmap.PAGESIZE)
            if call(ctypes.c_void_p(at), length, mmap.PROT_READ, flags, -1, ctypes.c_long(0)) == at:
                ctypes.string_at(at, 1), ctypes.string_at(at + mmap.PAGESIZE, 1)
                pairs += 1
        return pairs


class StackHoarder(ZooPlugin):
    """Starts threads with giant stacks, which no allocator counts.

    Stopped by the limit on private address space, so that a thread can't start: `failed:RuntimeError`. Few threads
    and little memory were in use, so it is no limit's verdict.
    """

    async def process(self, input_data: Any) -> Any:
        """Start 1,000 threads with a stack of 256 MiB each, all asleep."""
        threading.stack_size(256 * MIB)
        for _ in range(1000):
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        return threading.active_count()


class LockedHoarder(ZooPlugin):
    """Locks its memory, so that the machine can only swap out the memory of others.

    Stopped by a limit of 0 on locked memory: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Lock 1 MiB."""
        block = ctypes.create_string_buffer(MIB)
        return libc("mlock", ctypes.byref(block), ctypes.c_size_t(MIB))


class LockHoarder(ZooPlugin):
    """Locks single bytes of files. Each lock is memory of the kernel, in no footprint and under no limit of its own.

    Stopped by the limit on CPU, or by that on memory, which counts them: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make 2,000,000 locks on 50 files, or as many as asked for."""
        files = [os.open(f"file{number}", os.O_WRONLY | os.O_CREAT) for number in range(50)]
        last = as_int(input_data, 2_000_000) * 2 // len(files)
        for start in range(last, 0, -2):
            for file in files:
                fcntl.lockf(file, fcntl.LOCK_EX, 1, start)
        return last


class PipeHoarder(ZooPlugin):
    """Fills pipes that nobody reads: memory of the kernel, in no process's footprint.

    Stopped by the limit on open files: `limited:files`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open 500 pipes, widen each as far as it goes, and fill it."""
        filled = 0
        for _ in range(500):
            _, writer = os.pipe()
            with contextlib.suppress(OSError):  # past the limit on all pipes of a user: take the default size
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, MIB)
            os.set_blocking(writer, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    filled += os.write(writer, b"x" * (1 << 16))
        return filled


class SocketHoarder(ZooPlugin):
    """Fills socket pairs that nobody reads: memory of the kernel.

    Stopped by the limit on open files: `limited:files`.
    """

    async def process(self, input_data: Any) -> Any:
        """Open 500 pairs and fill both directions of each."""
        blocks = []
        for _ in range(500):
            for end in socket.socketpair():
                end.setblocking(False)
                blocks.append(end)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        end.send(b"x" * (1 << 16))
        return len(blocks)


class SocketWidener(ZooPlugin):
    """Makes the buffers of sockets as large as the kernel allows, and fills them.

    Stopped by seccomp, which leaves every buffer as it is: `failed:BlockingIOError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Fill a socket pair with 4 MiB."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * MIB)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * MIB)
            end.setblocking(False)
        return sum(ours.send(b"x" * (1 << 16)) for _ in range(64))


class PipeWidener(ZooPlugin):
    """Makes a pipe hold as much as the kernel allows.

    Stopped by seccomp, which refuses more than the usual size: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Widen a pipe to 1 MiB."""
        _, writer = os.pipe()
        return fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, MIB)


class Splicer(ZooPlugin):
    """Gives its pages to a pipe and unmaps them: they stay resident, in no footprint.

    Stopped by seccomp, which refuses `vmsplice`: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Splice one page."""
        page = ctypes.create_string_buffer(mmap.PAGESIZE)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(page), len(page))
        _, writer = os.pipe()
        return syscall("vmsplice", writer, ctypes.addressof(vector), 1, 0)


class PagePinner(ZooPlugin):
    """Puts a byte of a file into a pipe, and empties the file: its pages stay together, in no footprint.

    Stopped by seccomp, which answers that this file can't be spliced: `failed:OSError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Pin 1 MiB of a file sixteen times, all that a pipe has slots for."""
        _, writer = os.pipe()
        pinned = 0
        with open("pinned", "w+b", buffering=0) as file:
            for _ in range(16):
                os.pwrite(file.fileno(), b"x" * MIB, 0)
                pinned += os.splice(file.fileno(), writer, 1, offset_src=0)
                file.truncate()
        return pinned


class SegmentHoarder(ZooPlugin):
    """Makes a System V segment, which belongs to no process and outlives all of them.

    Stopped by seccomp, which answers `shmget` with ENOMEM: `limited:memory`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make a segment of 1 MiB, and remove it."""
        segment = libc("shmget", 0, ctypes.c_size_t(MIB), 0o1600)
        libc("shmctl", segment, 0, None)
        return segment


class DevShmHoarder(ZooPlugin):
    """Writes to /dev/shm, a file system in memory that all processes of the machine share.

    Stopped by Landlock, as in any other folder: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write a file named after `input_data` there, 1 MiB large."""
        path = f"/dev/shm/{input_data or 'agentplug-zoo'}"
        with open(path, "wb") as file:
            return file.write(b"x" * MIB)


class PageCacheHoarder(ZooPlugin):
    """Stores its data in deleted files, whose pages are in the page cache and not in its footprint.

    Stopped by the limit on its scratch directory, which counts deleted files too: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write files of 1 MiB, delete each, and leave it open."""
        blocks = []
        for serial in range(as_int(input_data, 4096)):
            file = open(f"cached-{serial}", "w+b", buffering=0)  # noqa: SIM115
            os.unlink(file.name)
            file.write(b"x" * MIB)
            blocks.append(file)
        return len(blocks)
