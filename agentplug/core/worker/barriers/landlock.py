"""Files, TCP ports, UDP and scopes by Landlock (worker side): landlock(7), every ABI from 1 up.

Seccomp covers what an old ABI lacks, and the report says so: truncation before ABI 3, signals and abstract sockets
before ABI 6. TCP ports need ABI 4; without it, a policy that grants ports can't be enforced.

A rule is for an open file or folder. What a policy grants is opened without following a link and compared with what
was granted; the scratch directory is the current one.
"""

from __future__ import annotations

import os
import stat

import landlockpy
from landlockpy import AccessFS, AccessNet, Ruleset, Scope

from agentplug.core.boundary.frames import GRANTS, BarrierReport, Granted, Plan

NAME = "landlock"
PROTECTS = "files outside, TCP ports, signals to other processes"

READ = AccessFS.READ_FILE | AccessFS.READ_DIR
_RUN = READ | AccessFS.EXECUTE
_WRITE = (
    READ
    | AccessFS.WRITE_FILE
    | AccessFS.TRUNCATE
    | AccessFS.REMOVE_FILE
    | AccessFS.REMOVE_DIR
    | AccessFS.MAKE_DIR
    | AccessFS.MAKE_REG
    | AccessFS.MAKE_SYM
    | AccessFS.REFER
)
_FOLDERS_ONLY = READ | AccessFS.MAKE_DIR | AccessFS.REMOVE_DIR
_FILE_RIGHTS = AccessFS.READ_FILE | AccessFS.WRITE_FILE | AccessFS.TRUNCATE | AccessFS.EXECUTE

_DEVICES = {
    "/dev/null": AccessFS.READ_FILE | AccessFS.WRITE_FILE,
    "/dev/zero": AccessFS.READ_FILE,
    "/dev/random": AccessFS.READ_FILE,
    "/dev/urandom": AccessFS.READ_FILE,
}
_OWN = (
    "auxv cgroup cmdline comm environ fd fdinfo io limits maps mem mountinfo mounts oom_score schedstat smaps "
    "smaps_rollup stat statm status"
).split()
"""Files of its own process in /proc that a plugin may read. Not `net`, nor `task`, which has one in each of its
folders: it lists all sockets of the network namespace. A kernel short of memory may drop one of these files and make
it anew; the rule holds only for the old one, so reading it is refused then."""
NETWORK = AccessNet.BIND_TCP | AccessNet.CONNECT_TCP | AccessNet.BIND_UDP | AccessNet.CONNECT_SEND_UDP
"""Refused where this kernel knows it; a policy can grant connections by TCP alone."""
_COMMANDS = ("/usr/bin", "/bin", "/usr/local/bin", "/lib", "/lib64", "/usr/lib", "/usr/local/lib")


def apply(plan: Plan) -> BarrierReport:
    """Grant what the plan grants, and nothing else."""
    version = landlockpy.abi_version()
    if version == 0:  # missing, or off
        return BarrierReport(
            NAME,
            PROTECTS,
            "unavailable",
            "this kernel has no Landlock, or it is off",
            ["files"] + (["network"] if isinstance(plan.network, list) else []),
            "use Linux 5.13 or later with Landlock among its security modules (lsm=landlock,...)",
        )
    network = AccessNet.NONE if plan.network is True else NETWORK
    with Ruleset(handled_net=network, scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL) as rules:
        for path in plan.installation:
            allow(rules, path, READ)
        for grants, access in ((plan.read, READ), (plan.write, _WRITE)):
            for granted in grants:
                if not _allow_granted(rules, granted, access):
                    return BarrierReport(NAME, PROTECTS, "unavailable", granted.path[:1_000], [GRANTS])
        for path, access in _DEVICES.items():
            allow(rules, path, access)
        if plan.processes:
            for path in _COMMANDS:
                allow(rules, path, _RUN)
        allow_own(rules)
        allow(rules, ".", _FOLDERS_ONLY if plan.write and not plan.disk_bytes else _WRITE)
        if isinstance(plan.network, list):
            for port in plan.network:
                rules.allow_port(port, AccessNet.CONNECT_TCP)
        rules.restrict()
    return _report(plan, version)


def allow(rules: Ruleset, path: str, access: AccessFS) -> None:
    """Grant `access` below `path`, as far as a file can have it."""
    try:
        rules.allow_path(path, access if os.path.isdir(path) else access & _FILE_RIGHTS)
    except (FileNotFoundError, PermissionError):
        return  # a path that is missing or out of reach needs no rule


def _allow_granted(rules: Ruleset, granted: Granted, access: AccessFS) -> bool:
    """Grant `access` to the file or folder that was granted. Return false if the path names another now."""
    try:
        descriptor = os.open(granted.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (granted.device, granted.inode):
            return False
        is_folder = stat.S_ISDIR(status.st_mode)
        rules.allow_path(f"/proc/self/fd/{descriptor}", access if is_folder else access & _FILE_RIGHTS)
        return True
    finally:
        os.close(descriptor)


def allow_own(rules: Ruleset) -> None:
    """Grant this process its own files in /proc."""
    for name in _OWN:
        allow(rules, f"/proc/{os.getpid()}/{name}", READ)


def _report(plan: Plan, version: int) -> BarrierReport:
    if isinstance(plan.network, list) and version < 4:
        return BarrierReport(
            NAME,
            PROTECTS,
            "partial",
            f"ABI {version} knows no TCP ports",
            ["network"],
            "use Linux 6.7 or later for a list of ports, or network=True or False",
        )
    if version < 6:
        return BarrierReport(NAME, PROTECTS, "partial", f"ABI {version}: seccomp covers what it lacks")
    return BarrierReport(NAME, PROTECTS, "enforced", f"ABI {version}")
