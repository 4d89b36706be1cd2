"""The worker's own user in the password database, which it may not read (worker side).

Programs ask for the name and the home of who runs them; in many containers no entry has them either.
"""

from __future__ import annotations

import os
import pwd

from agentplug.core.worker.barriers.environment import USER

_by_uid, _by_name = pwd.getpwuid, pwd.getpwnam


def answer() -> None:
    """Let `pwd` answer for this process's user, in the zygote and all its workers."""
    pwd.getpwuid, pwd.getpwnam = _getpwuid, _getpwnam


def _own() -> pwd.struct_passwd:
    return pwd.struct_passwd((USER, "x", os.getuid(), os.getgid(), "", os.environ.get("HOME", "/"), "/bin/sh"))


def _getpwuid(uid: int) -> pwd.struct_passwd:
    return _own() if uid == os.getuid() else _by_uid(uid)


def _getpwnam(name: str) -> pwd.struct_passwd:
    return _own() if name == USER else _by_name(name)
