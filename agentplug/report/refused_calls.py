"""Refused calls of a run, as lines to read (host): system calls that its policy doesn't grant.

The arguments come from a plugin, so every line goes through `printable`; HTML escaping is the card's business. No
line holds a process's number, a time or an address of memory: the same refused calls read the same each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agentplug.contract.events import Event
from agentplug.contract.text import printable

MOST_LINES = 6
_MOST_TEXT = 160
_OWN_REPORT = "its worker's own report"

_TELLING = (
    "connect sendto getaddrinfo bind",
    "execve execveat",
    "socket",
    "kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal",
    "ptrace process_vm_readv process_vm_writev pidfd_getfd pidfd_open kcmp process_madvise",
    "mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount mount_setattr unshare setns",
    "prlimit64",
    "clone fork vfork",
)
_RANK = {name: rank for rank, names in enumerate(_TELLING) for name in names.split()}


class RefusedCall(NamedTuple):
    """A system call without a right to it: its argument, how often, and who says so, the kernel or the worker."""

    syscall: str
    argument: str
    times: int
    source: str

    def __str__(self) -> str:
        """Like `connect 10.0.0.1:443 ×3`."""
        call = printable(f"{self.syscall} {self.argument}".strip(), _MOST_TEXT)
        times = f" ×{self.times}" if self.times > 1 else ""
        return f"{call}{times}" if self.source == "kernel" else f"{call}{times} ({_OWN_REPORT})"


def refused_calls(events: Iterable[Event]) -> list[RefusedCall]:
    """Count the refused calls in these events, each once, the most telling first."""
    counts: dict[tuple[str, str, str], int] = {}
    for event in events:
        if event.kind == "tried":
            detail = event.detail
            key = (str(detail["syscall"]), str(detail.get("argument", "")), str(detail.get("source", "kernel")))
            counts[key] = counts.get(key, 0) + int(detail.get("count", 1))
    calls = [RefusedCall(syscall, argument, count, source) for (syscall, argument, source), count in counts.items()]
    return sorted(calls, key=lambda it: (_RANK.get(it.syscall, len(_TELLING)), -it.times, it.syscall, it.argument))


def refused_lines(events: Iterable[Event], most: int = MOST_LINES) -> list[str]:
    """Return lines like `tried: connect 10.0.0.1:443 ×3`, at most `most` and one that counts the others."""
    events = tuple(events)
    calls = refused_calls(events)
    lines = [f"tried: {call}" for call in calls[:most]]
    if len(calls) > most:
        lines.append(f"tried: and {len(calls) - most} more")
    beyond = [e.detail for e in events if e.kind == "dropped" and e.detail.get("what") == "attempts"]
    if beyond:
        lines.append(f"tried or used: {sum(int(detail['count']) for detail in beyond)} times more than is kept")
    return lines
