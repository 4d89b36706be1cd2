"""What a spec resolves to: verified bytes and their digest (made by `sources`, sent to a worker by `sandbox`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agentplug.contract.record import SourceInfo
from agentplug.core.boundary.frames import Loaded, PinnedFiles


@dataclass(frozen=True, slots=True)
class Module:
    """One module's source as it was read, once: dotted `name`, `path` to show in tracebacks, `code` bytes."""

    name: str
    path: str
    code: bytes
    is_package: bool = False


@dataclass(frozen=True, eq=False)
class Closure:
    """Verified files of installed distributions in sealed memory, and its descriptors, open while this lives."""

    descriptors: tuple[int, ...]
    files: PinnedFiles


class Pinned(Protocol):
    """What a plugin must report of itself, because that was read in its code when it was pinned."""

    def refuse_other_claims(self, loaded: Loaded, *, has_metadata: bool) -> None:
        """Raise `PinMismatch` where a worker reports anything else."""


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of a plugin and where to begin.

    `kind` is `file`, `module`, `cell` or `object`. The worker executes module `entry`, out of `modules` and never
    from a path, and takes class `attribute` of it, or the only class whose name ends in `Plugin` when that is
    empty. A source of kind `object` is a class or an instance from a notebook instead: `pickled` by value on the
    host, for the worker to unpickle. `digest` is `sha256:` and the hex digest over all of it. `pinned`: what it must
    report of itself, by its pin. `closure`: where a distribution's modules come from, all of them, those that it
    depends on included.
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
        """Its identity, as runs and tables carry it."""
        return SourceInfo(self.spec, self.kind, self.digest, plugin, version, known_as)
