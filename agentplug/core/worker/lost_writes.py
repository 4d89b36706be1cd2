"""Writes that would be lost in silence (worker side): Python drops the error of a file that closes by itself, and a
worker ends without closing any.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from _io import _IOBase

from agentplug.core.boundary.frames import Plan
from agentplug.core.worker.barriers import namespaces


class LostWrites:
    """The writes of one call that the kernel refused, as far as it told."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.refused = False

    def on_large_file(self, signum: int, frame: object) -> None:
        """Handle SIGXFSZ: a write would have made a file larger than any may be. It fails with EFBIG."""
        self.refused = True

    def tell(self) -> None:
        """Print that a write was refused, or that the scratch directory is full, in a call that raised nothing."""
        disk_bytes = self._plan.disk_bytes
        is_full = disk_bytes and namespaces.owns_user and not os.statvfs(self._plan.scratch).f_bavail
        if self.refused or is_full:
            with contextlib.suppress(Exception):  # the plugin replaced it
                print(
                    f"A write failed, or the next one will: the scratch directory holds {disk_bytes} bytes "
                    "(Policy.disk). What wasn't written is lost.",
                    file=sys.stderr,
                )

    def write_out(self) -> None:
        """Write what open files still hold back, if there are files that outlive the plugin."""
        for file in gc.get_objects() if self._plan.write else ():
            if issubclass(type(file), _IOBase):  # not isinstance, which asks an object for its class
                with contextlib.suppress(BaseException):  # a plugin's own class
                    file.flush()
