"""Verified files in sealed memory (host), memfd_create(2), which nobody can write to.

One archive holds all files one after another; each shared object has memory of its own, since dlopen(3) needs a whole
file. Workers get descriptors, and share the pages.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterable, Mapping

from agentplug.core.boundary.frames import PinnedFiles
from agentplug.core.sources.source import Closure
from agentplug.errors import SpecError

MAX_OBJECTS = 2_000
_OBJECT = re.compile(r"\.so(\.\d+)*$")
_EXECUTABLE = 0x10  # MFD_EXEC, which Python 3.11 doesn't name


def sealed_closure(
    places: Iterable[tuple[str, Mapping[str, bytes]]], tops: Iterable[str], beside: Iterable[str]
) -> Closure:
    """Copy files, by site directory and path below it, into sealed memory. For `tops` and `beside` see `PinnedFiles`.

    Raises `SpecError` if there are more shared objects than a worker can be sent.
    """
    import fcntl  # missing on other systems, or without seals

    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    descriptors: list[int] = []
    try:
        archive = _memory("agentplug-pinned", executable=False)
        descriptors.append(archive)
        files: list[tuple[str, int, int]] = []
        objects: list[tuple[str, int]] = []
        offset = 0
        for site, contents in places:
            for path, content in contents.items():
                whole = f"{site}/{path}"
                if _OBJECT.search(path):
                    if len(objects) == MAX_OBJECTS:
                        raise SpecError(
                            f"this closure has more than {MAX_OBJECTS:,} shared objects; it can't be pinned"
                        )
                    objects.append((whole, len(descriptors)))
                    descriptors.append(_memory(os.path.basename(path)[:200], executable=True))
                    _write(descriptors[-1], content)
                else:
                    _write(archive, content)
                    files.append((whole, offset, len(content)))
                    offset += len(content)
        for descriptor in descriptors:
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        sites = sorted({site for site, _ in places})
    except BaseException:
        _close(descriptors)
        raise
    closure = Closure(tuple(descriptors), PinnedFiles(sites, files, objects, sorted(set(tops)), sorted(set(beside))))
    weakref.finalize(closure, _close, descriptors)
    return closure


def _memory(name: str, *, executable: bool) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | (_EXECUTABLE if executable else 0))
    except OSError:  # a kernel before 6.3 doesn't know the flag, and doesn't need it
        return os.memfd_create(name, flags)


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
