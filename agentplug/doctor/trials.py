"""The trials of each barrier, and its remedy (host).

A trial is an attack of the battery's, under a policy that goes on without missing barriers. As far as there is such
an attack, only the barrier in question stops it. An attack that gets through harms only the stage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from agentplug.doctor.battery.catalogue import CATALOGUE, Attack

_EXTRA = "an extra layer: what it protects is held without it"


class Trial(NamedTuple):
    """An attack on one barrier. `words` describe it, as in `read a key: EACCES`."""

    barrier: str
    words: str
    attack: Attack


def _trial(barrier: str, words: str, name: str) -> Trial:
    return Trial(barrier, words, _NAMED[name])


_NAMED = {f"{attack.family}:{attack.name}": attack for attack in CATALOGUE}
_LOCKSMITH = Attack(
    "agentplug.doctor.probe:Locksmith",
    "root's powers",
    ("failed:PermissionError",),
    argument="$locked",
    granted=(("read", ("$library",)),),
)
# If seccomp lets it fork, Landlock still refuses the shell.
_SHELL = replace(_NAMED["processes:ShellRunner"], contained=("limited:processes", "failed:PermissionError"))
INVENTORY = Attack("agentplug.doctor.probe:Inventory", "secrets in environments", ("completed",))

TRIALS: tuple[Trial, ...] = (
    _trial("lifetime", "call off its end", "signals:Undying"),
    _trial("descriptors", "read a file that the host has open", "files:Heir"),
    _trial("limits", "open more files", "files:Opener"),
    _trial("limits", "raise a limit", "signals:LimitRaiser"),
    Trial("privileges", "read a file of mode 000", _LOCKSMITH),
    Trial("privileges", "become another user", replace(_NAMED["host:NameTaker"], argument=65534)),
    _trial("landlock", "read a key", "files:Snoop"),
    _trial("landlock", "list a folder", "files:Lister"),
    _trial("landlock", "write a file", "files:Planter"),
    _trial("landlock", "connect to a port that isn't granted", "network:PortHopper"),
    Trial("seccomp", "start a program", _SHELL),
    _trial("seccomp", "become a program", "processes:Changeling"),
    _trial("seccomp", "call a TCP service", "network:Caller"),
    _trial("seccomp", "send to a UDP service", "network:Whisperer"),
    _trial("seccomp", "call a Unix socket", "network:PathCaller"),
    _trial("seccomp", "call an abstract one", "network:AbstractCaller"),
    _trial("seccomp", "kill a process", "host:HostKiller"),
    _trial("seccomp", "trace it", "host:Tracer"),
    _trial("seccomp", "read its memory", "spying:MemoryReader"),
    _trial("seccomp", "limit it", "host:Starver"),
    _trial("seccomp", "make a namespace", "kernel:Namespacer"),
    _trial("watchdog", "take too much memory", "memory:Hoarder"),
    _trial("watchdog", "compute for ever", "cpu:Spinner"),
    _trial("watchdog", "wait for ever", "cpu:Sleeper"),
    _trial("watchdog", "fill its directory", "scratch:OneFileFiller"),
    _trial("channel", "reply with garbage", "protocol:GarbageForger"),
    _trial("channel", "reply and die", "protocol:Forger"),
    _trial("channel", "reply without end", "protocol:GiantReply"),
)
"""All trials, in the order of the table."""

PROTECTS = {
    "watchdog": "endless calls, the machine's memory and disk",
    "channel": "false replies, attacks on the host's decoder",
}
"""The purpose of the host's own barriers; a worker reports the purpose of its own."""

REMEDIES = {
    "cgroup": f"{_EXTRA}, but for memory that the kernel can take back; a cgroup that this user may write adds it",
    "namespaces": f"{_EXTRA}; allow unprivileged user namespaces to add it",
    "landlock": "use Linux 5.13 or later with Landlock on, 6.7 or later for lists of ports",
    "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER, in a container that allows the seccomp system call",
}
"""The remedies of barriers for which a worker reports none."""
