"""Digests of sources (host): over their bytes and names, never over their paths."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from agentplug.core.sources.source import Module

_DOMAIN = b"agentplug source 1\n"


def digest_of(parts: Iterable[tuple[str, bytes]]) -> str:
    """Return `sha256:` and the hex digest over named parts, in their order.

    The length of each name and content (8 bytes, big-endian) goes before it, so no two different lists of parts are
    the same stream of bytes.
    """
    total = hashlib.sha256(_DOMAIN)
    for name, content in parts:
        for chunk in (name.encode("utf-8", "surrogatepass"), content):
            total.update(len(chunk).to_bytes(8, "big"))
            total.update(chunk)
    return f"sha256:{total.hexdigest()}"


def text_digest(code: bytes) -> str:
    """Return the digest of a lone file or cell: over its bytes alone, whatever its name."""
    return digest_of([("", code)])


def tree_digest(modules: Iterable[Module]) -> str:
    """Return the digest of modules with dotted names: over name, package or not, and bytes of each."""
    return digest_of((f"{'package' if m.is_package else 'module'} {m.name}", m.code) for m in modules)
