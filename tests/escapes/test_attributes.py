"""Attacks on what a file system notes about a file beside its content: the flags of chattr(1), by ioctl(2)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from agentplug.contract.policy import Policy

GET_FLAGS = 0x80086601
NO_DUMP = 0x40

CHATTR = """
import fcntl, os

def attack(given):
    fd = os.open(given[0], given[1])
    flags = int.from_bytes(fcntl.ioctl(fd, 0x80086601, bytes(8))[:4], "little")
    fcntl.ioctl(fd, 0x40086602, (flags | 0x40).to_bytes(8, "little"))  # FS_IOC_SETFLAGS: no dump
    return "set"
"""


def flags(path: Path) -> int:
    """What chattr(1) sets."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return int.from_bytes(fcntl.ioctl(fd, GET_FLAGS, bytes(8))[:4], "little")
    except OSError as error:
        pytest.skip(f"no flags on this file system: {error}")
    finally:
        os.close(fd)


@pytest.mark.parametrize("granted", [False, True], ids=["nothing", "read"])
def test_flags_of_a_file_cannot_be_changed(unconfined: Any, confined: Any, tmp_path: Path, granted: bool) -> None:
    """Neither of one that may be read, nor of any through a descriptor that can do nothing but ioctl (open(2), 3)."""
    path = tmp_path / "file"
    path.write_text("text")
    before = flags(path)
    policy = Policy(read=str(path)) if granted else Policy()

    run = confined(CHATTR, [str(path), os.O_RDONLY if granted else 3], policy=policy)

    assert (run.verdict.kind, flags(path)) == ("failed", before)
    assert unconfined(CHATTR, [str(path), 3]).value == "set"
    assert flags(path) == before | NO_DUMP
