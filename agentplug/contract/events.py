"""Events: what the host saw of a run, in order (host). A run's verdict is a function of its events alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One observation of the host.

    `t_s` counts seconds from the start of the run. The kinds, with the fields of `detail`:

    - `start`: the request was sent (`floor_bytes`: the footprint that its memory limit counts from)
    - `reply`: a value came back and the worker confirmed that it is idle again
    - `error`: the plugin raised (`type`; `limit`, `bound`, `unit` where the host saw that a limit was the reason, and
      the use `measured` where it was near the bound; `claims`: the limit from which such an error may come, where the
      host saw nothing near)
    - `unserializable`: the reply has no place on the wire (`type`, `where`)
    - `protocol`: the worker broke the protocol (`reason`)
    - `limit`: a limit was reached (`by`, `measured`, `bound`, `unit`; nothing is measured where the kernel itself
      ended the process at the bound)
    - `stop`: the user stopped the call (`by`)
    - `kill`: the host sent SIGKILL (`reason`)
    - `exit`: the worker's process ended (`status`: like `exit 3` or `SIGSEGV`)
    - `dropped`: output, samples or attempts (refused calls and uses) over the bound, only counted (`what`, `count`)
    - `tried`: a refused call, a system call that the policy doesn't grant (`syscall`, `argument`, `source`, `count`).
      `source` is `kernel`, or `worker` where the kernel reports nothing. A worker's report is a claim: calls that
      bypass Python aren't in it, and a plugin may forge it. The barriers' table says which
    - `opened`, `connected`, `bound`, `forked`, `ran`: under `Policy(observe="files")`, a file beyond those that every
      plugin may read (`path`, `mode` read or write), an address (`address`, `protocol` tcp, udp, …, or empty if
      unknown), a process and a program (`program`); each with its `count`, and with `source` if it is a claim
    - `empty`: a session's run began with a fresh worker in place of a lost one (`because`: how that ended), so that
      no earlier name was there
    - `unsent`: the code lacked a variable that its notebook has (`name`; `module` if that is an imported module)
    - `imports`: the memory limit ended code that imports large modules (`modules`)
    - `loaded`: under `observe`, what loading and initializing the plugin took (`cpu_s`, `wall_s`,
      `added_memory_bytes`, `threads`, `write_bytes`)

    Events from before the first call have `during`: load or initialize.
    """

    t_s: float
    kind: str
    detail: Mapping[str, Any] = {}


OBSERVATIONS = frozenset("tried opened connected bound forked ran loaded empty dropped unsent imports".split())
"""Kinds that decide no verdict and end no worker."""
