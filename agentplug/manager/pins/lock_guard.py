"""Check a manager's plugins against its lock file (host). The pin code is imported only if a lock is used."""

from __future__ import annotations

from agentplug.contract.policy import Policy
from agentplug.core.sources.names import quoted, quoted_path
from agentplug.core.sources.source import Source
from agentplug.errors import PinMismatch


class LockGuard:
    """A check of plugins against the lock at `path`, by default `agentplug.lock` in the current directory.

    With `locked`, plugins that aren't pinned are refused; otherwise they pass unverified. Without a path and without
    `locked` every plugin passes.
    """

    def __init__(self, path: object = None, *, locked: bool = False) -> None:
        self._locked = locked
        self._path = path if path is not None else "agentplug.lock"
        self._is_active = path is not None or locked
        if path is not None:
            from agentplug.manager.pins.lockfile import lock_path

            self._path = lock_path(path)  # absolute, since the current directory may change

    async def source(self, spec: object, policy: Policy, *, locked: bool = False) -> object:
        """Return the verified source of `spec`, or `spec` if it passes unverified. Raises as `verified` does."""
        if not (self._is_active or locked):
            return spec
        from agentplug.manager.pins.verify import verified

        source = await verified(self._path, spec, policy, required=locked or self._locked)
        return spec if source is None else source

    def refuse_unpinned(self, source: Source) -> None:
        """Raise `PinMismatch` for a plugin that was made without the lock, if only pinned ones may run."""
        if self._locked and source.pinned is None:
            raise PinMismatch(
                f"{quoted(source.spec)} wasn't loaded through {quoted_path(str(self._path))}, and nothing else is to "
                "run here (locked=True); load it by its spec: await manager.load(SPEC)"
            )
