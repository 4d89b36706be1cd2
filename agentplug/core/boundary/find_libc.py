"""Find the C library for a binding (both sides), without the compilers that `find_library` would start."""

from __future__ import annotations

import ctypes.util
from collections.abc import Callable


def resolve(*probes: Callable[[], object]) -> None:
    """Call each probe while `find_library` finds nothing: the binding then uses CDLL(None), and stores that."""
    find_library = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        for probe in probes:
            probe()
    finally:
        ctypes.util.find_library = find_library
