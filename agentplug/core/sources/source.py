"""`Source`: verified bytes and their digest (host). `resolve` makes it, `lifecycle` sends it to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agentplug.contract.record import SourceInfo
from agentplug.core.boundary.frames import Loaded, PinnedFiles


@dataclass(frozen=True, slots=True)
class Module:
    """One module's source, read once: dotted `name`, `path` to show in tracebacks, `code` bytes."""

    name: str
    path: str
    code: bytes
    is_package: bool = False


@dataclass(frozen=True, eq=False)
class Closure:
    """Verified files of installed distributions in sealed memory, whose descriptors are open while this exists."""

    descriptors: tuple[int, ...]
    files: PinnedFiles


class Pinned(Protocol):
    """A pin's record of a plugin's own claims, which its worker must repeat."""

    def refuse_other_claims(self, loaded: Loaded, *, has_metadata: bool) -> None:
        """Raise `PinMismatch` if a worker claims anything else."""


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a plugin, and the place in them to begin.

    `kind` is `file`, `module`, `cell` or `object`. The worker executes the module `entry` from `modules`, never from
    a path, and uses its class `attribute`, or if that is empty the only class whose name ends in `Plugin`. A source
    of kind `object` is a class or an instance instead, `pickled` by value by the host for the worker to unpickle.
    `digest` is `sha256:` and the hex digest over all bytes. `pinned` has the claims that the worker must repeat.
    `closure` has the files of an installed distribution and of all those it depends on.
    """

    spec: str
    kind: str
    digest: str
    entry: str = ""
    attribute: str = ""
    modules: tuple[Module, ...] = ()
    pickled: bytes = b""
    pinned: Pinned | None = None
    closure: Closure | None = None

    def info(self, plugin: str = "", version: str = "", known_as: str = "") -> SourceInfo:
        """Return the source's identity for runs and tables."""
        return SourceInfo(self.spec, self.kind, self.digest, plugin, version, known_as)
