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
    - `dropped`: output or samples beyond what is kept (`what`, `count`)
    """

    t_s: float
    kind: str
    detail: Mapping[str, Any] = {}
