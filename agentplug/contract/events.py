"""What the host saw happen, in order (host). A run's verdict is a function of its events alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One thing the host saw.

    `t_s` counts seconds from the start of the run. Kinds, and what `detail` holds:

    - `start`: the request was sent (`floor_bytes`: the footprint that its memory limit counts from)
    - `reply`: a value came back and the worker confirmed that it is idle again
    - `error`: the plugin raised (`type`; `limit` when a kernel refusal under that limit was the reason)
    - `unserializable`: the reply has no place on the wire (`type`, `where`)
    - `protocol`: the worker broke the protocol (`reason`)
    - `limit`: a limit was reached (`by`, `measured`, `bound`, `unit`)
    - `stop`: the user stopped the call (`by`)
    - `kill`: the host sent SIGKILL (`reason`)
    - `exit`: the worker's process ended (`status`: like `exit 3` or `SIGSEGV`)
    - `dropped`: output, samples or attempts beyond what is kept (`what`, `count`)
    - `tried`: a system call that the policy doesn't grant (`syscall`, its telling `argument`, `source`, `count`).
      `source` is `kernel`; where the kernel can't tell it is `worker`, whose own report is a claim: it knows nothing
      of what goes past Python, and a plugin may forge it. The barriers' table says which
    - `opened`, `connected`, `bound`, `forked`, `ran`: under `Policy(observe="files")`, a file beyond those that every
      plugin may read (`path`, `mode` read or write), an address (`address`, `protocol` tcp, udp, …, or empty if it
      can't be told), a process and a program (`program`); each with its `count`, and with `source` if it is a claim
    - `loaded`: under `observe`, what loading and initializing the plugin took (`cpu_s`, `wall_s`,
      `added_memory_bytes`, `threads`, `write_bytes`)

    What happened before the first call has `during`: load or initialize.
    """

    t_s: float
    kind: str
    detail: Mapping[str, Any] = {}


TOLD = frozenset(("tried", "opened", "connected", "bound", "forked", "ran", "loaded", "dropped"))
"""Kinds that only tell: they decide no verdict, and a worker lives on after them."""
