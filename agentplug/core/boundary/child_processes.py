"""Who lives below a process (host and zygote)."""

from __future__ import annotations

import os


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, nearest first, as far as they are alive now."""
    found: list[int] = []
    queue = [pid]
    while queue and len(found) < 10_000:
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
            found += children
            queue += children
    return found
