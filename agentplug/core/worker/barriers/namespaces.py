"""Namespaces, if this machine lets an unprivileged process make them: an extra layer (worker side).

In a user namespace of its own the worker gets a mount namespace with a sized tmpfs as scratch directory, an IPC
namespace, and an empty network namespace unless the policy grants network. Seccomp, Landlock and the watchdog protect
the same things without it.
"""

from __future__ import annotations

import os

from agentplug.core.boundary.bounds import scratch_inodes
from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import libc
from agentplug.core.worker.barriers.lifetime import die_with_parent

NAME = "namespaces"
PROTECTS = "the disk (a sized tmpfs), the network, IPC"

owns_user = False
"""True in a worker that has a user namespace of its own, in which the kernel counts no other processes."""


def apply(plan: Plan) -> BarrierReport:
    """Unshare, map this user onto itself, and mount the scratch directory."""
    flags = libc.CLONE_NEWUSER | libc.CLONE_NEWNS | libc.CLONE_NEWIPC
    if plan.network is False:
        flags |= libc.CLONE_NEWNET
    global owns_user
    uid, gid = os.geteuid(), os.getegid()
    try:
        libc.unshare(flags)
        owns_user = True
        die_with_parent()
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        libc.mount("none", "/", "none", libc.MS_REC | libc.MS_PRIVATE, "")
        size = max(plan.disk_bytes, 4096)  # 0 would mean unlimited; the file size limit keeps 0 bytes at 0
        libc.mount(
            "tmpfs",
            os.path.basename(plan.scratch),  # below the current directory
            "tmpfs",
            libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC,
            f"size={size},nr_inodes={scratch_inodes(plan.disk_bytes)},mode=0700",
        )
    except OSError as error:
        return BarrierReport(NAME, PROTECTS, "unavailable", f"{error.strerror or error} (an extra layer)")
    net = ", no network" if plan.network is False else ""
    return BarrierReport(NAME, PROTECTS, "enforced", f"user, mount, IPC{net}; scratch is a tmpfs of {size} bytes")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
