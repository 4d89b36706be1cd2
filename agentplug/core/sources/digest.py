"""The digest of a source: which bytes it is made of, and nothing about where they lay (host)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from agentplug.core.sources.source import Module

_DOMAIN = b"agentplug source 1\n"


def digest_of(parts: Iterable[tuple[str, bytes]]) -> str:
    """`sha256:` and the hex digest over named parts, in the order given.

    Every name and every content goes in behind its length (8 bytes, big-endian), so that no two different lists of
    parts are the same stream of bytes.
    """
    total = hashlib.sha256(_DOMAIN)
    for name, content in parts:
        for chunk in (name.encode("utf-8", "surrogatepass"), content):
            total.update(len(chunk).to_bytes(8, "big"))
            total.update(chunk)
    return f"sha256:{total.hexdigest()}"


def text_digest(code: bytes) -> str:
    """The digest of a lone file or cell: its bytes alone, so the same text has the same digest under any name."""
    return digest_of([("", code)])


def tree_digest(modules: Iterable[Module]) -> str:
    """The digest of modules with dotted names: name, package or not, and bytes of each. Paths don't count."""
    return digest_of((f"{'package' if m.is_package else 'module'} {m.name}", m.code) for m in modules)
