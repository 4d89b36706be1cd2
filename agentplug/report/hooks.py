"""The table of a manager's hooks: rights and counts (host)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COUNTS = ("calls", "changed", "denied", "failed", "dropped", "waiting")
COLUMNS = ("hook", "by", "point", "kind", "granted", "on_failure", "native", *COUNTS, "breaker", "spent_s", "detail")


def hooks_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a frame with one row a hook, in the order of registration. Hooks that weren't granted are in it too."""
    import pandas as pd

    filled = [{"native": False, "spent_s": 0.0, **dict.fromkeys(COUNTS, 0), **row} for row in rows]
    frame = pd.DataFrame(filled, columns=list(COLUMNS))
    types = {**dict.fromkeys(COUNTS, "int64"), "spent_s": "float64", "granted": "bool", "native": "bool"}
    texts = dict.fromkeys(("on_failure", "breaker", "detail"), "")
    return frame.fillna(texts).astype(types)
