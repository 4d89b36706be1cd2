"""Plugins that misuse the one directory they may write to (worker side)."""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
from pathlib import Path
from typing import Any

from agentplug.zoo._beast import Beast, libc, number

_KEEP_SIZE = 1


class Linker(Beast):
    """Points a link of its own at a file of the user's, and reads through it.

    Stopped by Landlock, which judges the file and not the name: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Read the file `input_data` through a symbolic link."""
        Path("innocent").symlink_to(str(input_data))
        return Path("innocent").read_text()


class HardLinker(Beast):
    """Gives a file of the user's a second name in its own directory, where it may read and write.

    Stopped by Landlock: no file gets to where there are more rights, as if that were another disk: `failed:OSError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Link the file `input_data`, and read it."""
        os.link(str(input_data), "mine")
        return Path("mine").read_text()


class FifoMaker(Beast):
    """Leaves a FIFO under a name that the host might open, and would then hang on.

    Stopped by seccomp, which doesn't know `mknod`: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make one called result.csv."""
        os.mkfifo("result.csv")
        return "made"


class DeviceMaker(Beast):
    """Makes a device of its own: the machine's memory, as a file that it may read.

    Stopped by seccomp, and by having no capability: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make a node for /dev/mem."""
        os.mknod("memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))
        return "made"


class ModeSetter(Beast):
    """Makes a program of its own that runs with its owner's rights, and waits for another user to call it.

    Stopped by seccomp, which doesn't know `chmod`: `failed:PermissionError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write a file and set its set-user-id bit."""
        Path("helper").write_text("#!/bin/sh\n")
        os.chmod("helper", 0o4755)
        return oct(os.stat("helper").st_mode)


class OneFileFiller(Beast):
    """Writes one file that never ends.

    Stopped by the file size limit: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write 4 GiB."""
        with open("endless", "wb") as file:
            return sum(file.write(b"x" * (1 << 20)) for _ in range(number(input_data, 4096)))


class SparseFiller(Beast):
    """Makes a file of a terabyte that takes no room, to be filled through a map: no write call ever sees it.

    Stopped by the file size limit, which holds for its length too: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Stretch a file, and map it."""
        with open("sparse", "w+b") as file:
            file.truncate(1 << 40)
            with mmap.mmap(file.fileno(), 1 << 40) as block:
                return len(block)


class Preallocator(Beast):
    """Reserves blocks beyond the end of a file, whose length stays 0: no file size limit ever sees it.

    Stopped by the size of its own file system; where it has none, seccomp should know `fallocate` by its modes:
    `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Reserve `input_data` MiB, 4,096 unless a number is given, and give them back before anybody counts."""
        size = ctypes.c_long(number(input_data, 4096) << 20)
        with open("reserved", "wb") as file:
            libc("fallocate", file.fileno(), _KEEP_SIZE, ctypes.c_long(0), size)
            os.unlink("reserved")
            return os.fstat(file.fileno()).st_blocks * 512


class InodeFiller(Beast):
    """Makes empty files without end: they take no bytes, and the disk is full all the same.

    Stopped by a bound on names in the scratch directory: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make 200,000 empty files."""
        for serial in range(number(input_data, 200_000)):
            os.close(os.open(f"empty-{serial}", os.O_CREAT | os.O_WRONLY))
        return "made"


class NameFiller(Beast):
    """Gives one file names without end.

    Stopped by the bound on what its directory may take: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Make links of the longest name there is, each in a folder of its own."""
        Path("one").touch()
        for serial in range(number(input_data, 200_000)):
            os.mkdir(f"{serial}-".ljust(255, "x"))
            os.link("one", f"{serial}-".ljust(255, "x") + "/link")
        return "made"


class DeepDigger(Beast):
    """Digs folders so deep that no path reaches the bottom, to break whoever has to clean up.

    Stopped by the same bound, and wiped without ever walking a path: `limited:disk`.
    """

    async def process(self, input_data: Any) -> Any:
        """Dig 100,000 levels."""
        for _ in range(number(input_data, 100_000)):
            os.mkdir("deep")
            os.chdir("deep")
        return "dug"


class LockedRoom(Beast):
    """Leaves folders that nobody may enter or list, so that they can neither be counted nor wiped.

    Stopped where the scratch directory is counted: what can't be counted is too much. Elsewhere its answer counts:
    `completed`. Wiped in any case.
    """

    async def process(self, input_data: Any) -> Any:
        """Lock a file into three folders of mode 000."""
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


class Newliner(Beast):
    """Names its files after options, commands and terminal escapes, for the scripts that clean up after it.

    Nothing needs to stop it, for nobody passes names to a shell: `completed`. Wiped with the rest.
    """

    async def process(self, input_data: Any) -> Any:
        """Make them, and say how many."""
        for name in ("-rf", "; rm -rf $HOME", "$(reboot)", "\x1b[2J", "two\nlines", "\u202egnp.exe", "\udcff", "~"):
            Path(name).touch()
        return len(os.listdir("."))
