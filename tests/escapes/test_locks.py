"""Locks on files that a plugin may read: none by which it could make the host wait for ever.

Such locks are advisory: they hold up only those who ask for one themselves. An exclusive one needs a file that is
open for writing, by fcntl(2); by flock(2) it doesn't, so a plugin that may write nothing gets none of those. Shared
ones are left: who may read a database reads under them, and somebody who wants to write there waits meanwhile. Locks
that belong to an open file are out of reach: they live on in a map of it, where nobody could count them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

pytestmark = pytest.mark.need("landlock", "seccomp")

LOCK = """
import fcntl, os, struct

held = []

def attack(given):
    path, way = given
    file = os.open(path, os.O_RDONLY)
    held.append(file)
    kind = fcntl.F_WRLCK if "exclusive" in way else fcntl.F_RDLCK
    if way.startswith("flock"):
        fcntl.flock(file, (fcntl.LOCK_EX if "exclusive" in way else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    elif way.startswith("open file"):
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
    elif way.startswith("process"):
        fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
    else:
        fcntl.fcntl(file, fcntl.F_SETLEASE, kind)
    return "locked"
"""
EXCLUSIVE = ["flock exclusive", "open file exclusive", "process exclusive", "lease exclusive", "lease"]
SHARED = ["flock", "process"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the user's, in a folder that may be granted."""
    path = tmp_path / "data" / "table.db"
    path.parent.mkdir()
    path.write_text("rows")
    return path


def hold(arena: Any, policy: Policy, path: Path, way: str, look: Callable[[], None]) -> Verdict:
    """How a plugin's lock ends, and `look` while the plugin lives."""

    async def held() -> Verdict:
        async with arena.plugin(LOCK, policy) as plugin:
            verdict = (await plugin.run([str(path), way])).verdict
            look()
            return verdict

    return arena.watched(held)


def free(path: Path) -> None:
    """The host can have every lock at once."""
    with open(path, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # EWOULDBLOCK where there is a lease


def held(path: Path) -> None:
    """Somebody holds a lock that an exclusive one has to wait for."""
    with open(path, "r+") as file, pytest.raises(BlockingIOError):  # noqa: PT012
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("way", ["flock exclusive", "lease"])
def test_an_exclusive_lock_on_a_file_to_read_works_where_nothing_stops_it(
    unconfined: Any, file: Path, way: str
) -> None:
    """The attacks below are real ones."""
    assert unconfined(LOCK, [str(file), way]).value == "locked"


@pytest.mark.parametrize("way", EXCLUSIVE)
def test_a_plugin_that_only_reads_gets_no_exclusive_lock(arena: Any, file: Path, way: str) -> None:
    """The kernel or seccomp refuses it, and the host has its own at once."""
    verdict = hold(arena, Policy(read=str(file.parent)), file, way, lambda: free(file))

    assert verdict in (
        Verdict("failed", "PermissionError"),
        Verdict("failed", "OSError"),
    )  # EBADF: open to read alone


@pytest.mark.parametrize("way", SHARED)
def test_a_shared_lock_is_part_of_reading(arena: Any, file: Path, way: str) -> None:
    """Databases are read under one. It holds up who asks for an exclusive one, until the plugin's worker ends."""
    verdict = hold(arena, Policy(read=str(file.parent)), file, way, lambda: held(file))

    assert verdict == Verdict("completed")
    free(file)


@pytest.mark.parametrize("fields", [{"disk": "1M"}, {"write": True}], ids=str)
def test_a_plugin_that_writes_locks_its_files(confined: Any, file: Path, fields: dict[str, Any]) -> None:
    """Not an attack: files of its own, or granted ones, for itself alone."""
    code = LOCK.replace("os.O_RDONLY", "os.O_RDWR | os.O_CREAT")
    policy = Policy(write=str(file.parent)) if fields.get("write") else Policy(**fields)
    path = str(file) if fields.get("write") else "own.db"

    for way in ("flock exclusive", "process exclusive"):
        assert confined(code, [path, way], policy=policy).value == "locked"


@pytest.mark.parametrize("way", ["open file", "open file exclusive"])
def test_a_lock_of_an_open_file_is_refused(unconfined: Any, confined: Any, file: Path, way: str) -> None:
    """As on a system without them: programs then take the other kind."""
    code = LOCK.replace("os.O_RDONLY", "os.O_RDWR | os.O_CREAT")
    assert unconfined(code, [str(file), way]).value == "locked"

    run = confined(code, ["own.db", way], policy=Policy(disk="1M"))

    assert run.verdict == Verdict("failed", "OSError")
    assert "Invalid argument" in run.error.message
