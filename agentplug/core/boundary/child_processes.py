"""List the child processes of a process (host and zygote)."""

from __future__ import annotations

import os


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid` that are alive now, nearest first."""
    pids: list[int] = []
    queue = [pid]
    while queue and len(pids) < 10_000:
        parent = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                with open(f"/proc/{parent}/task/{task}/children", "rb") as file:
                    children = [int(child) for child in file.read().split()]
            except OSError:
                continue
            pids += children
            queue += children
    return pids
