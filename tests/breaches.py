"""Attacks of the zoo that are known to get through: a list to be worked off, and empty when all is well.

A test of one of these is expected to fail. As soon as it passes, it says so by failing; then strike it from here.
"""

from __future__ import annotations

BREACHES = {
    "files:Flagger": "ioctl is open but for four requests: FS_IOC_SETFLAGS changes files that were granted to read",
    "files:AttributeReader": "getxattr, lgetxattr, listxattr and llistxattr are open, and Landlock doesn't know them",
    "kernel:Filterer": "setsockopt is open, SO_ATTACH_FILTER too",
    "spying:Scavenger": "the zygote's heap keeps what spawn requests held, other plugins' env among it",
}
"""On every machine."""

BREACHES_WITHOUT = {
    "scratch:Preallocator": ("userns", "fallocate keeps to no RLIMIT_FSIZE with FALLOC_FL_KEEP_SIZE"),
    "network:Eavesdropper": ("userns", "/proc/PID is granted whole, /proc/PID/net too, and shows the host's sockets"),
    "processes:ThreadingChild": ("cgroup", "the watchdog counts the threads of the worker, and not of its children"),
}
"""Where the machine lacks a feature of `tests/conftest.py`, whose layer stops them elsewhere."""
