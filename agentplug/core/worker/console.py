"""The names that a person types at a console, in a process without one (worker side, set in the zygote).

Workers run without `site`, which adds these names elsewhere. A debugger would wait for a person who isn't there.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import sys
from typing import Any


def add_names() -> None:
    """Add `help`, `exit` and `quit`, and let `breakpoint()` raise."""
    names: dict[str, Any] = vars(builtins)
    names["help"] = _sitebuiltins._Helper()
    names["exit"] = _sitebuiltins.Quitter("exit", "")
    names["quit"] = _sitebuiltins.Quitter("quit", "")
    sys.breakpointhook = _no_debugger


def _no_debugger(*_: Any, **__: Any) -> None:
    raise RuntimeError("breakpoint() has nobody to ask")
