"""Preloaded into a zygote by tests: lets it, or the workers that it forks, fail where the file `fault` says so.

The file lies beside the zygote's scratch directories. `fork` in it: no process can be forked; `confine`: a worker is
killed before it has said a word.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys

from agentplug.core.boundary.frames import BarrierReport, Plan
from agentplug.core.worker import barriers

FILE = "fault"
_path = f"{json.loads(sys.orig_argv[-1])[2]}/{FILE}"
_fork = os.fork


def _asked() -> str:
    try:
        with open(_path) as file:
            return file.read()
    except OSError:
        return ""


def fork() -> int:
    """As os.fork, unless it is to fail."""
    if "fork" in _asked():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return _fork()


class _Fault:
    NAME = "fault"
    PROTECTS = "nothing"

    def apply(self, plan: Plan) -> BarrierReport:
        if "confine" in _asked():
            os.kill(os.getpid(), signal.SIGKILL)
        return BarrierReport(self.NAME, self.PROTECTS, "enforced", "none asked for")


os.fork = fork
barriers.ORDER = (_Fault(), *barriers.ORDER)
