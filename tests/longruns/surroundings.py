"""What a host may leave behind on the machine once it has ended (the parent's side of a long run).

The parent adopts orphans, gives hosts a temporary directory of their own, and compares shared memory and cgroups with
what there was: other work of this machine goes on meanwhile, and mustn't be taken for the hosts'.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentplug.core.boundary import cgroups
from tests.leftovers import PATIENCE_S

PR_SET_CHILD_SUBREAPER = 36


class Surroundings:
    """The machine around hosts, from `around` on. `zygotes` are the pids that cgroups are named after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zygotes: set[int] = set()
        self._children = set(_children())
        self._shared = set(_shared_memory())

    def left(self) -> dict[str, Any]:
        """What hosts that have ended left behind; waits a while for what is on its way out."""
        until = time.monotonic() + PATIENCE_S
        while (left := self._now()) and time.monotonic() < until:
            time.sleep(0.002)
        return left

    def _now(self) -> dict[str, list[str]]:
        new = set(_children()) - self._children
        for pid in new:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        names = tuple(f"agentplug-{pid}-" for pid in self.zygotes)
        found = {
            "processes": [f"{pid} {_command(pid)}" for pid in sorted(new & set(_children()))],
            "files": sorted(str(path) for path in self.folder.iterdir() if path.name.startswith("agentplug")),
            "shared memory": sorted(set(_shared_memory()) - self._shared),
            "cgroups": [
                entry.path
                for parent in cgroups.parents().values()
                for entry in os.scandir(parent)
                if names and entry.name.startswith(names)
            ],
        }
        return {kind: things for kind, things in found.items() if things}


@contextlib.contextmanager
def around() -> Iterator[Surroundings]:
    """Adopt orphans, and let hosts started meanwhile have a temporary directory of their own."""
    libc = ctypes.CDLL(None)
    folder = Path(tempfile.mkdtemp(prefix="longrun-"))
    before = os.environ.get("TMPDIR")
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ["TMPDIR"] = str(folder)
    try:
        yield Surroundings(folder)
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        shutil.rmtree(folder)


def _children() -> list[int]:
    """This process's children, by what each says of its parent (/proc/…/children may leave some out: proc(5))."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                text = Path(entry.path, "stat").read_text(errors="replace")
                if int(text.rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(entry.name))
    return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return "(ended)"


def _shared_memory() -> Iterator[str]:
    """POSIX segments of this user's, and System V ones."""
    with contextlib.suppress(OSError):
        for entry in os.scandir("/dev/shm"):
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    yield entry.path
    with contextlib.suppress(OSError):
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            yield f"System V segment {line.split()[1]}"
