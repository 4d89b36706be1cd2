"""The source lines of a user's own functions, which go to a worker with their pickle (both sides).

A function of a notebook's cell, or of a file that a worker can't read, has no text there: its tracebacks would show
line numbers alone. Only the lines of functions that are sent anyway go along.
"""

from __future__ import annotations

import linecache
from types import CodeType
from typing import Any

_MOST_LINES = 100_000
_MOST_CHARACTERS = 1 << 18


class WithLines:
    """A value to pickle, and the lines of its functions, which are added while it is pickled (host)."""

    def __init__(self, value: object) -> None:
        self._value = value
        self._lines: dict[str, dict[int, str]] = {}
        self._left = _MOST_CHARACTERS

    def add(self, code: CodeType, file: str) -> None:
        """Add the lines of a function's code, as lines of `file`, while there is room."""
        text = linecache.getlines(code.co_filename)
        lines = self._lines.setdefault(file, {})
        last = max((line or 0 for _, _, line in code.co_lines()), default=0)
        for number in range(code.co_firstlineno, min(last, len(text), _MOST_LINES) + 1):
            self._left -= len(text[number - 1])
            if self._left < 0:
                return
            lines[number] = text[number - 1]

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._value, self._lines)  # pickled in this order: the lines when they are known


def _received(value: object, lines_by_file: dict[str, dict[int, str]]) -> object:
    """Return `value`, now that tracebacks can show the lines that came with it (worker)."""
    for file, lines in lines_by_file.items():
        before = linecache.cache.get(file)
        text = list(before[2]) if before is not None and len(before) == 4 else []
        text += ["\n"] * (max(lines, default=0) - len(text))
        for number, line in lines.items():
            text[number - 1] = line
        linecache.cache[file] = (sum(map(len, text)), None, text, file)
    return value
