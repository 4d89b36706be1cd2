"""A throwaway host: it lets a peer run one attack, keeps its loop going meanwhile, and tells what it saw.

`python -m tests.peers.host FD WAY JOB`: the report goes to FD as JSON. If there is none, the host has died.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import sys
import threading
import time

from agentplug.doctor.battery.pulse import beating
from agentplug.doctor.battery.stock import below
from agentplug.doctor.battery.victim import forget_peak, own_memory_kb
from tests.peers.ways import WAYS, Job

_PR_SET_CHILD_SUBREAPER = 36
_CAPS = {"AS": 4 << 30, "CPU": 20, "CORE": 0, "FSIZE": 512 << 20}
_PATIENCE_S = 1.0
_MOST_TEXT = 4 << 20


async def _watched(way: str, job: Job) -> dict[str, object]:
    forget_peak()
    resident_kb = own_memory_kb("VmRSS")
    begin_s = time.monotonic()
    async with beating() as pulse:
        pulse.begin()
        outcome, text = await _in_thread(way, job)
        gap_s, wall_s = pulse.longest_s, time.monotonic() - begin_s
    return {
        "outcome": outcome,
        "text": text[:_MOST_TEXT],
        "gap_ms": gap_s * 1000,
        "wall_s": wall_s,
        "grown_kb": own_memory_kb("VmHWM") - resident_kb,
        "children_kb": max(0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - resident_kb),
        "left": _left(),
    }


async def _in_thread(way: str, job: Job) -> tuple[str, str]:
    """Not in an executor's thread, for which an interpreter's end would wait."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[tuple[str, str]] = loop.create_future()

    def run() -> None:
        found = WAYS[way].run(job)
        loop.call_soon_threadsafe(done.set_result, found)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _left() -> list[str]:
    """What still runs below this process, once it has had its time to end."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break
        left = [name for _, _, name in below(os.getpid())]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


def main() -> None:
    """Run it under outer caps, which bound what nothing else bounds."""
    report, way, job = int(sys.argv[1]), sys.argv[2], Job(**json.loads(sys.argv[3]))
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    for name, most in _CAPS.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    os.set_inheritable(report, False)
    told = json.dumps(asyncio.run(_watched(way, job))).encode()
    with open(report, "wb") as file:
        file.write(told)
    os._exit(0)  # some peers wait for their workers here, for ever


if __name__ == "__main__":
    main()
