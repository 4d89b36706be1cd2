"""Let a binding find the C library now (both sides), without the compilers that `find_library` would spawn."""

from __future__ import annotations

import ctypes.util
from collections.abc import Callable


def resolve(*probes: Callable[[], object]) -> None:
    """Call each probe, which finds the library and keeps it: CDLL(None) has all that is needed."""
    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        for probe in probes:
            probe()
    finally:
        ctypes.util.find_library = find_library
