"""A thread that calls fsync(2) on an audit file (host), at most once a second, so that no caller waits for it."""

from __future__ import annotations

import os
import threading


class Syncer:
    """A thread that calls fsync on a file within `every_s` after `touch`. `error` is the last failure, or None."""

    def __init__(self, every_s: float) -> None:
        self.error: OSError | None = None
        self._descriptor = -1
        self._every_s = every_s
        self._busy = threading.Lock()
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def touch(self, descriptor: int) -> None:
        """Sync this file soon, since lines were written to it."""
        if self._dirty.is_set():
            return
        self._descriptor = descriptor
        self._dirty.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="agentplug-audit", daemon=True)
            self._thread.start()

    def replace(self, old: int, new: int) -> None:
        """Close the `old` file, which is synced already, and continue with the `new` one."""
        with self._busy:
            self._descriptor = new
            os.close(old)

    def stop(self) -> None:
        """End the thread. The caller syncs what the thread hasn't."""
        self._stop.set()
        self._dirty.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._dirty.wait()
            if self._stop.wait(self._every_s):
                return
            self._dirty.clear()
            with self._busy:
                try:
                    if self._descriptor >= 0:
                        os.fsync(self._descriptor)
                except OSError as error:
                    self.error = error
