"""What the host sees of a worker for itself, without asking it (host): proc(5), namespaces(7), cgroups(7)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from agentplug.core.boundary import cgroups

_NAMESPACES = ("user", "mnt", "ipc", "net")
_COMMON = ("PATH", "LANG")
_HARMLESS = ("/dev/null", "socket:", "pipe:", "anon_inode:")


class Finding(NamedTuple):
    """What a look or a trial showed: whether the barrier held, and the words for it."""

    barrier: str
    held: bool
    words: str


def look_at(pid: int, zygote: int) -> list[Finding]:
    """All of them, at a worker of that zygote. What can't be seen isn't held."""
    looks: tuple[Callable[[], Finding], ...] = (
        lambda: _group(pid, zygote),
        lambda: _session(pid),
        lambda: _open_files(pid),
        lambda: _namespaces(pid),
        lambda: _directory(pid),
        lambda: _capabilities(pid),
    )
    found = []
    for look in looks:
        try:
            found.append(look())
        except OSError as error:
            found.append(Finding("", False, f"the host can't look: {error.strerror}"))
    return [finding for finding in found if finding.barrier]


def of_environment(variables: Iterable[str]) -> Finding:
    """Whether any of the host's variables is among those that a plugin found, as `NAME=value`."""
    found = set(variables)
    ours = {f"{name}={value}" for name, value in os.environ.items() if name not in _COMMON}
    names = ", ".join(sorted({variable.partition("=")[0] for variable in found}))
    shared = sorted(variable.partition("=")[0] for variable in found & ours)
    if shared:
        return Finding("environment", False, f"look for variables: found this process's {', '.join(shared)}")
    return Finding("environment", True, f"look for variables: {names}, none of this process's")


def _group(pid: int, zygote: int) -> Finding:
    own = [folder for folder in cgroups.of(zygote) if str(pid) in Path(folder, "cgroup.procs").read_text().split()]
    told = f"the host finds it in {len(own)} groups of its own" if own else "it is in no group of its own"
    return Finding("cgroup", bool(own), told)


def _session(pid: int) -> Finding:
    own = os.getsid(pid) not in (os.getsid(0), 0)
    return Finding("lifetime", own, "a session of its own" if own else "it is in the host's session")


def _open_files(pid: int) -> Finding:
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    foreign = [link for link in links if not link.startswith(_HARMLESS)]
    return Finding("descriptors", not foreign, f"the host finds {len(foreign) or 'no'} file open in it")


def _namespaces(pid: int) -> Finding:
    own = [
        name
        for name in _NAMESPACES
        if os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino
    ]
    return Finding("namespaces", own == list(_NAMESPACES), f"its own: {', '.join(own) or 'none'}")


def _directory(pid: int) -> Finding:
    own = os.readlink(f"/proc/{pid}/cwd") != os.getcwd()
    return Finding("environment", own, f"its directory is {'its own' if own else 'the host’s'}")


def _capabilities(pid: int) -> Finding:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    none = all(int(status[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Amb"))
    held = none and status["NoNewPrivs"] == "1"
    told = f"{'no' if none else 'some'} capabilities, no_new_privs {status['NoNewPrivs']}"
    return Finding("privileges", held, told)
