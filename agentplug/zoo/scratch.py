"""Plugins that misuse their scratch directory (worker side)."""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
from pathlib import Path
from typing import Any

from agentplug.zoo._base import ZooPlugin, as_int, libc

_KEEP_SIZE = 1


class Linker(ZooPlugin):
    """Makes a symbolic link to a file of the user's, and reads through it.

    Stopped by Landlock, which checks the file, not the name: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Read the file `input_data` through a symbolic link."""
        Path("innocent").symlink_to(str(input_data))
        return Path("innocent").read_text()


class HardLinker(ZooPlugin):
    """Makes a hard link to a file of the user's in its own directory, where it may read and write.

    Stopped by Landlock, which refuses links to places with more rights (EXDEV): `failed:OSError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Link the file `input_data`, and read it."""
        os.link(str(input_data), "mine")
        return Path("mine").read_text()


class FifoMaker(ZooPlugin):
    """Leaves a FIFO with a name that the host might open, and would block on.

    Stopped by seccomp, which refuses `mknod`: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make a FIFO named result.csv."""
        os.mkfifo("result.csv")
        return "made"


class DeviceMaker(ZooPlugin):
    """Makes a device node for the machine's memory, to read it.

    Stopped by seccomp, and because a worker has no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make a node for /dev/mem."""
        os.mknod("memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))
        return "made"


class ModeSetter(ZooPlugin):
    """Makes a set-user-id program, which another user could be made to call.

    Stopped by seccomp, which refuses `chmod`: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write a file and set its set-user-id bit."""
        Path("helper").write_text("#!/bin/sh\n")
        os.chmod("helper", 0o4755)
        return oct(os.stat("helper").st_mode)


class OneFileFiller(ZooPlugin):
    """Writes one file that never ends.

    Stopped by the file size limit: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write 4 GiB."""
        with open("endless", "wb") as file:
            return sum(file.write(b"x" * (1 << 20)) for _ in range(as_int(input_data, 4096)))


class SparseFiller(ZooPlugin):
    """Makes a sparse file of a terabyte, to fill it through a map, without write calls.

    Stopped by the file size limit, which holds for its length: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Extend a file, and map it."""
        with open("sparse", "w+b") as file:
            file.truncate(1 << 40)
            with mmap.mmap(file.fileno(), 1 << 40) as block:
                return len(block)


class Preallocator(ZooPlugin):
    """Reserves blocks beyond the end of a file, whose length stays 0 and under its limit.

    Stopped by the size of its own file system, or by seccomp, which refuses this mode of `fallocate`: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Reserve `input_data` MiB, 4,096 unless a number is given, and free them before the next reading."""
        size = ctypes.c_long(as_int(input_data, 4096) << 20)
        with open("reserved", "wb") as file:
            libc("fallocate", file.fileno(), _KEEP_SIZE, ctypes.c_long(0), size)
            os.unlink("reserved")
            return os.fstat(file.fileno()).st_blocks * 512


class InodeFiller(ZooPlugin):
    """Makes empty files without end, to use up the inodes of the disk.

    Stopped by a bound on names in the scratch directory: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make 200,000 empty files."""
        for serial in range(as_int(input_data, 200_000)):
            os.close(os.open(f"empty-{serial}", os.O_CREAT | os.O_WRONLY))
        return "made"


class NameFiller(ZooPlugin):
    """Gives one file more and more names.

    Stopped by the bound on the scratch directory: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make links with the longest possible names, each in a folder of its own."""
        Path("one").touch()
        for serial in range(as_int(input_data, 200_000)):
            os.mkdir(f"{serial}-".ljust(255, "x"))
            os.link("one", f"{serial}-".ljust(255, "x") + "/link")
        return "made"


class DeepDigger(ZooPlugin):
    """Nests folders so deep that no path reaches the bottom, to break the clean-up.

    Stopped by the same bound, and wiped without long paths: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Nest 100,000 folders."""
        for _ in range(as_int(input_data, 100_000)):
            os.mkdir("deep")
            os.chdir("deep")
        return "dug"


class LockedRoom(ZooPlugin):
    """Leaves folders that can't be entered or listed, so that they can neither be counted nor wiped.

    Stopped where the scratch directory is counted: folders that can't be counted are over the limit. Elsewhere:
    `completed`. The folders are wiped in both cases.
    """

    async def process(self, input_data: Any) -> Any:
        """Make three nested folders with a file, and folders of mode 000."""
        here = os.open(".", os.O_RDONLY)
        for name in ("a", "b", "c"):
            os.mkdir(name)
            os.chdir(name)
        Path("inside").write_text("locked in")
        os.fchdir(here)
        os.umask(0o777)
        os.mkdir("locked")
        os.rename("a", "locked-in") if input_data else None
        os.mkdir("locked-too")
        return sorted(os.listdir("."))


class Newliner(ZooPlugin):
    """Names its files like options, commands and terminal escapes, to attack clean-up scripts.

    Nothing needs to stop it, because names never go to a shell: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make the files, and return their number."""
        for name in ("-rf", "; rm -rf $HOME", "$(reboot)", "\x1b[2J", "two\nlines", "\u202egnp.exe", "\udcff", "~"):
            Path(name).touch()
        return len(os.listdir("."))
