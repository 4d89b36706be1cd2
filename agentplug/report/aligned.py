"""A table as lines of text, its long cells broken between words (host)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest

_WIDEST = 44


def aligned(rows: Sequence[Mapping[str, str]]) -> str:
    """Return `rows` as lines of text in columns, with the keys of the first row as the first line. Nothing is cut."""
    lines: list[tuple[str, ...]] = []
    for cells in (list(rows[0]), *(list(row.values()) for row in rows)):
        parts = [textwrap.wrap(cell, _WIDEST, break_on_hyphens=False) for cell in cells]
        lines += zip_longest(*parts, fillvalue="") if any(parts) else [("",) * len(parts)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
