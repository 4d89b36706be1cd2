"""A manager's lock (host). What reads and compares pins is imported once there is something to hold to one."""

from __future__ import annotations

from agentplug.contract.policy import Policy
from agentplug.core.sources.names import quoted, quoted_path
from agentplug.core.sources.source import Source
from agentplug.errors import PinMismatch


class HeldToLock:
    """What a manager loads, held to a lock: `path`, by default the `agentplug.lock` of the current directory.

    With `locked`, what isn't pinned is refused; else it passes unverified, and so does all where no path was given.
    """

    def __init__(self, path: object = None, *, locked: bool = False) -> None:
        self._locked = locked
        self._path = path if path is not None else "agentplug.lock"
        self._given = path is not None or locked
        if path is not None:
            from agentplug.manager.pins.lockfile import lock_path

            self._path = lock_path(path)  # of now, whatever the current directory is later

    async def source(self, spec: object, policy: Policy, *, locked: bool = False) -> object:
        """The verified source of `spec`; `spec` as it is where nothing holds it. Raises as `verified` does."""
        if not (self._given or locked):
            return spec
        from agentplug.manager.pins.verify import verified

        found = await verified(self._path, spec, policy, required=locked or self._locked)
        return spec if found is None else found

    def refuse_unpinned(self, source: Source) -> None:
        """Raise `PinMismatch` for a plugin that was made without the lock, if only pinned ones are to be had."""
        if self._locked and source.pinned is None:
            raise PinMismatch(
                f"{quoted(source.spec)} wasn't loaded through {quoted_path(str(self._path))}, and nothing else is to "
                "run here (locked=True); load it by its spec: await manager.load(SPEC)"
            )
