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
    - `tried`: a system call that the policy doesn't grant (`syscall`, its telling `argument`, `count`; `source` is
      `kernel`). Where the kernel can't tell, there are none, and the barriers' table says so
    - `opened`, `connected`, `ran`: under `Policy(observe="files")`, a file beyond those that every plugin may read
      (`path`, `mode` read or write, `count`), an address (`address`, `count`) and a program (`program`, `count`)
    """

    t_s: float
    kind: str
    detail: Mapping[str, Any] = {}


TOLD = frozenset(("tried", "opened", "connected", "ran", "dropped"))
"""Kinds that only tell: they decide no verdict, and a worker lives on after them."""
