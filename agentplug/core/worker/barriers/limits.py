"""Resource limits of the kernel, soft = hard (worker side): setrlimit(2).

They are the backstop of the watchdog, which enforces the policy's limits. A hard limit that this process was started
with can't be raised: where it is lower, it stands. RLIMIT_DATA counts reserved address space,
not memory in use, so it allows for thread stacks above the policy's memory. RLIMIT_NPROC counts all processes of a
user in a user namespace, and none of root's: a bomb ends there that the watchdog comes too late for.
"""

from __future__ import annotations

import resource

from agentplug.core.boundary.bounds import (
    ROOMY_BYTES,
    STACK_BYTES,
    data_allowance_bytes,
    least_cpu_limit,
    least_limit,
)
from agentplug.core.boundary.cgroups import most_tasks
from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker.barriers import namespaces

NAME = "limits"
PROTECTS = "the machine's memory, descriptors, processes and disk"

_SPARE_TASKS = 1_000  # that this user's other programs may start later


def apply(plan: Plan) -> BarrierReport:
    """Set the limits to what this process has now plus what the plugin may add."""
    size, data = address_space()
    reserve = data_allowance_bytes(plan.memory_bytes, plan.threads)
    infinity = resource.RLIM_INFINITY
    lower: list[str] = []
    file_size = infinity if plan.write else plan.disk_bytes  # without it disk=0 is a page: a tmpfs has no less
    wanted = {
        "CORE": 0,
        "FSIZE": file_size,
        "NOFILE": plan.open_files,
        "DATA": data + reserve,
        "AS": size + reserve + ROOMY_BYTES,
        "STACK": STACK_BYTES,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
        "NICE": 0,
        "RTPRIO": 0,
        "SIGPENDING": 1024,
    }
    if plan.processes:
        wanted["NPROC"] = most_tasks(plan) + (0 if namespaces.owns_user else _tasks() + _SPARE_TASKS)
    for name, value in wanted.items():
        number = getattr(resource, f"RLIMIT_{name}")
        least = least_limit(value, resource.getrlimit(number)[1])
        resource.setrlimit(number, (least, least))
        if least < value:
            lower.append(f"{name} {least}")
    # The host raises this soft limit for later calls (a hard one could never be raised again).
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (least_cpu_limit(int(plan.cpu_s) + 10, hard), hard))
    if hard != infinity:
        lower.append(f"CPU {hard}")
    hosts = f"; lower, as this process's own: {', '.join(lower)}" if lower else ""
    return BarrierReport(NAME, PROTECTS, "enforced", ", ".join(sorted([*wanted, "CPU"])) + hosts)


def _tasks() -> int:
    """Return the number of threads on this machine: those of this user are no more. See proc(5), loadavg."""
    with open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[3].partition(b"/")[2])


def address_space() -> tuple[int, int]:
    """Return the bytes that this process has reserved, and those of them that RLIMIT_DATA counts."""
    with open("/proc/self/status", "rb") as file:
        status = dict(line.split(b":", 1) for line in file.read().splitlines())
    size, data = (int(status[field].split()[0]) << 10 for field in (b"VmSize", b"VmData"))
    return size, data
