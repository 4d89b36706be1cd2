"""This process's own resource limits, as far as they bear on starting workers (host): getrlimit(2)."""

from __future__ import annotations

import contextlib

_ULIMIT = {"NOFILE": "n", "NPROC": "u", "AS": "v", "DATA": "d", "FSIZE": "f", "STACK": "s", "CPU": "t"}
_AMPLE = {
    "NOFILE": 256,
    "NPROC": 1_000,
    "AS": 4 << 30,
    "DATA": 1 << 30,
    "FSIZE": 1 << 20,
    "STACK": 1 << 20,
    "CPU": 60,
}


def low_limits() -> str:
    """Describe the limits that are so low that a start may fail for them, with the remedy; else return ""."""
    with contextlib.suppress(ImportError):  # another system than Linux
        import resource

        low = []
        for name, ample in _AMPLE.items():
            soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            if 0 <= soft < ample:
                low.append(f"{name} {soft} (ulimit -{_ULIMIT[name]}{', a hard limit' if soft == hard else ''})")
        if low:
            return f". This process's own limits are low: {', '.join(low)}; raise them"
    return ""
