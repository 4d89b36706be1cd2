"""The refused calls of a run as lines of text (host): system calls that its policy doesn't grant.

Arguments come from a plugin, so every line goes through `printable`; cards escape HTML. No line holds a process's
number, a time or an address of memory, so equal refused calls give equal lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agentplug.contract.events import Event
from agentplug.contract.text import printable

MOST_LINES = 6
_MOST_TEXT = 160
_OWN_REPORT = "its worker's own report"

_BY_IMPORTANCE = (
    "connect sendto getaddrinfo bind",
    "execve execveat",
    "socket",
    "kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal",
    "ptrace process_vm_readv process_vm_writev pidfd_getfd pidfd_open kcmp process_madvise",
    "mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount mount_setattr unshare setns",
    "prlimit64",
    "clone fork vfork",
)
_RANK = {name: rank for rank, names in enumerate(_BY_IMPORTANCE) for name in names.split()}


class RefusedCall(NamedTuple):
    """A refused system call: its argument, its number, and its source, the kernel or the worker."""

    syscall: str
    argument: str
    times: int
    source: str

    def __str__(self) -> str:
        """Return text like `connect 10.0.0.1:443 ×3`."""
        call = printable(f"{self.syscall} {self.argument}".strip(), _MOST_TEXT)
        times = f" ×{self.times}" if self.times > 1 else ""
        return f"{call}{times}" if self.source == "kernel" else f"{call}{times} ({_OWN_REPORT})"


def refused_calls(events: Iterable[Event]) -> list[RefusedCall]:
    """Count the equal refused calls in these events, and return them, the most important first."""
    counts: dict[tuple[str, str, str], int] = {}
    for event in events:
        if event.kind == "tried":
            detail = event.detail
            key = (str(detail["syscall"]), str(detail.get("argument", "")), str(detail.get("source", "kernel")))
            counts[key] = counts.get(key, 0) + int(detail.get("count", 1))
    calls = [RefusedCall(syscall, argument, count, source) for (syscall, argument, source), count in counts.items()]
    return sorted(calls, key=lambda c: (_RANK.get(c.syscall, len(_BY_IMPORTANCE)), -c.times, c.syscall, c.argument))


def refused_lines(events: Iterable[Event], most: int = MOST_LINES) -> list[str]:
    """Return at most `most` lines like `tried: connect 10.0.0.1:443 ×3`, and one that counts the others."""
    events = tuple(events)
    calls = refused_calls(events)
    lines = [f"tried: {call}" for call in calls[:most]]
    if len(calls) > most:
        lines.append(f"tried: and {len(calls) - most} more")
    beyond = [e.detail for e in events if e.kind == "dropped" and e.detail.get("what") == "attempts"]
    if beyond:
        lines.append(f"tried or used: {sum(int(detail['count']) for detail in beyond)} times more than is kept")
    return lines
