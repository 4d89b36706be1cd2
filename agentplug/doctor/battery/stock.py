"""Stock-taking: the resources of the host and its zygotes, to show what an attack leaves behind (host)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

from agentplug.core.boundary import cgroups
from agentplug.core.boundary.bounds import SPARE_NAME
from agentplug.core.host.launcher import zygote_for

_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Stock:
    """Processes below this one, its descriptors and threads, scratch directories and cgroups of workers."""

    processes: frozenset[str]
    descriptors: frozenset[str]
    threads: frozenset[str]
    directories: frozenset[str]
    cgroups: frozenset[str]

    @classmethod
    def take(cls) -> Stock:
        """Count the present resources."""
        zygote = zygote_for()
        pid = zygote.pid
        processes = below(os.getpid(), pid)
        spares = [worker for worker, parent, name in processes if parent == pid and name == SPARE_NAME]
        spares = spares[-1:]  # the zygote has one ready; another of that name is an impostor
        root = zygote.scratch_root
        return cls(
            frozenset(f"{name} ({number})" for number, _, name in processes if number not in spares),
            frozenset(_descriptors()),
            frozenset(f"{thread.name} ({thread.native_id})" for thread in threading.enumerate()),
            frozenset(f"{root}/{name}" for name in os.listdir(root)),
            frozenset(_groups(f"agentplug-{pid}-")),
        )

    def since(self, before: Stock) -> list[str]:
        """List the resources that aren't in `before`, a line for each kind."""
        lines = []
        for field in fields(self):
            more = getattr(self, field.name) - getattr(before, field.name)
            if more:
                lines.append(f"{field.name} left: {', '.join(sorted(more)[:5])}")
        return lines


async def left_since(before: Stock) -> list[str]:
    """List what is left after a short wait: the zygote reaps, wipes and names its spare a moment later."""
    until = time.monotonic() + _PATIENCE_S
    while left := Stock.take().since(before):
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.01)
    return left


def below(*roots: int) -> list[tuple[int, int, str]]:
    """List process id, parent and name of every process below `roots`, from the parents in /proc/PID/stat.

    /proc/PID/task/TID/children may leave some out while others come and go: proc(5).
    """
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    before, _, after = file.read().rpartition(b")")
            except OSError:
                continue
            name = before.partition(b"(")[2].decode(errors="replace")
            children.setdefault(int(after.split()[1]), []).append((int(entry), name))
    processes, queue, seen = [], list(roots), set(roots)
    while queue:
        parent = queue.pop()
        for pid, name in children.get(parent, ()):
            if pid not in seen:
                seen.add(pid)
                processes.append((pid, parent, name))
                queue.append(pid)
    return processes


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}"
        except FileNotFoundError:
            continue  # the descriptor of listdir itself


def _groups(prefix: str) -> Iterator[str]:
    for parent in cgroups.parents().values():
        for name in os.listdir(parent):
            if name.startswith(prefix):
                yield f"{parent}/{name}"
