"""Looks at a worker from the host, without asking it (host): proc(5), namespaces(7), cgroups(7)."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from agentplug.core.boundary import cgroups

_NAMESPACES = ("user", "mnt", "ipc", "net")
_COMMON = ("PATH", "LANG")
_TURN_PATIENCE_S = 2.0  # the kernel lowers one session in 100 ms
_HARMLESS = ("/dev/null", "socket:", "pipe:", "anon_inode:")


class Finding(NamedTuple):
    """The result of a look or a trial: `holds` is True if the barrier holds, `words` say what was seen."""

    barrier: str
    holds: bool
    words: str


def look_at(pid: int, zygote: int) -> list[Finding]:
    """Look at a worker of that zygote. A barrier that can't be checked counts as missing."""
    group = functools.partial(_group, zygote=zygote)
    findings = []
    for look in (group, _session, _priority, _open_files, _namespaces, _directory, _capabilities):
        with contextlib.suppress(OSError):
            findings.append(look(pid))
    return findings


def of_environment(variables: Iterable[str]) -> Finding:
    """Check that none of the host's variables is in a plugin's environment, given as `NAME=value` texts."""
    seen = set(variables)
    ours = {f"{name}={value}" for name, value in os.environ.items() if name not in _COMMON}
    names = ", ".join(sorted({variable.partition("=")[0] for variable in seen}))
    shared = sorted(variable.partition("=")[0] for variable in seen & ours)
    if shared:
        return Finding("environment", False, f"look for variables: found this process's {', '.join(shared)}")
    return Finding("environment", True, f"look for variables: {names}, none of this process's")


def _group(pid: int, zygote: int) -> Finding:
    own = [folder for folder in cgroups.of(zygote) if str(pid) in Path(folder, "cgroup.procs").read_text().split()]
    words = f"the host finds it in {len(own)} groups of its own" if own else "it is in no group of its own"
    return Finding("cgroup", bool(own), words)


def _session(pid: int) -> Finding:
    own = os.getsid(pid) not in (os.getsid(0), 0)
    return Finding("lifetime", own, "a session of its own" if own else "it is in the host's session")


def _priority(pid: int) -> Finding:
    nice, sessions = os.getpriority(os.PRIO_PROCESS, pid), Path(f"/proc/{pid}/autogroup")
    until_s = time.monotonic() + _TURN_PATIENCE_S
    while (low := _low_session(sessions)) is False and time.monotonic() < until_s:
        time.sleep(0.02)
    words = {None: "no autogroups here", True: "its session too", False: "but not its session"}[low]
    return Finding("priority", nice > 0 and low is not False, f"nice {nice}, {words}")


def _low_session(autogroup: Path) -> bool | None:
    """Return true if a worker's session has a lower priority than others; None if this kernel has no autogroups."""
    try:
        return int(autogroup.read_text().split()[-1]) > 0
    except FileNotFoundError:
        return None


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
    words = f"{'no' if none else 'some'} capabilities, no_new_privs {status['NoNewPrivs']}"
    return Finding("privileges", none and status["NoNewPrivs"] == "1", words)
