"""Cgroups for workers, if this process may make them (zygote side): an extra layer behind the watchdog, and the only
one that counts all of the kernel's own memory.

They use the memory and pids controllers of v1, or of v2 if our own cgroup passes them on. A zygote makes them before
it forks a worker, and removes them after the worker is reaped. See cgroups(7).
"""

from __future__ import annotations

import contextlib
import functools
import os

from agentplug.core.boundary.frames import Plan

_SLACK_BYTES = 64 << 20  # kernel memory, and pages of the zygote that a worker writes to


@functools.cache
def parents() -> dict[str, str]:
    """Return the folders in which this process may make cgroups, by controller: `memory`, `pids`, or none."""
    folders: dict[str, str] = {}
    for controller in ("memory", "pids"):
        folder = _own_folder(controller)
        if folder is None or not os.access(folder, os.W_OK):
            continue
        trial = f"{folder}/agentplug-{os.getpid()}-trial"
        with contextlib.suppress(OSError):
            os.mkdir(trial)
            try:
                if any(os.path.exists(f"{trial}/{name}") for name in _FILES[controller]):
                    folders[controller] = folder
            finally:
                os.rmdir(trial)
    return folders


_FILES = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max",)}


def _own_folder(controller: str) -> str | None:
    try:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return None
    for _, controllers, path in lines:
        for mount in mounts:
            kind = mount[mount.index("-") + 1]
            version_1 = (
                kind == "cgroup" and controller in controllers.split(",") and controller in mount[-1].split(",")
            )
            if version_1 or (kind == "cgroup2" and controllers == ""):
                inside = os.path.relpath(path, mount[3]) if path.startswith(mount[3]) else "."
                folder = os.path.normpath(f"{mount[4]}/{inside}")
                if version_1 or _passes_on(folder, controller):
                    return folder
    return None


def _passes_on(folder: str, controller: str) -> bool:
    with contextlib.suppress(OSError), open(f"{folder}/cgroup.subtree_control") as file:
        return controller in file.read().split()
    return False


def create(token: int, plan: Plan) -> list[str]:
    """Make a new worker's cgroups, set their limits, and return their folders: none if that fails."""
    made: list[str] = []
    for controller, parent in parents().items():
        folder = f"{parent}/agentplug-{os.getpid()}-{token}"
        try:
            if folder not in made:  # version 2 has one for both
                os.mkdir(folder)
                made.append(folder)
            if controller == "memory":
                name = next(name for name in _FILES["memory"] if os.path.exists(f"{folder}/{name}"))
                _write(f"{folder}/{name}", plan.memory_bytes + plan.disk_bytes + _SLACK_BYTES)
            else:
                _write(f"{folder}/pids.max", most_tasks(plan))
        except OSError:
            remove(made)
            return []
    return made


def most_tasks(plan: Plan) -> int:
    """Return the most threads that a worker and its children may have, together."""
    return plan.threads * (plan.processes + 1)


def of(zygote: int) -> list[str]:
    """Return the folders of the cgroups of a zygote's workers."""
    folders = []
    for parent in parents().values():
        with contextlib.suppress(OSError):
            folders += [f"{parent}/{name}" for name in os.listdir(parent) if name.startswith(f"agentplug-{zygote}-")]
    return folders


def caps_memory(folders: list[str]) -> bool:
    """Return true if one of these cgroups has a limit on memory."""
    return any(os.path.exists(f"{folder}/{name}") for folder in folders for name in _FILES["memory"])


def out_of_memory(folders: list[str]) -> bool:
    """True if the kernel killed a process in one of these cgroups for its memory."""
    for folder in folders:
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError, ValueError), open(f"{folder}/{name}") as file:
                if any(line.startswith("oom_kill ") and int(line.split()[1]) for line in file):
                    return True
    return False


def remove(folders: list[str]) -> None:
    """Remove cgroups whose processes are gone."""
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _write(path: str, number: int) -> None:
    with open(path, "w") as file:
        file.write(str(number))
