"""Plain JSON values, the content of messages, checked or coerced (host and worker).

| value | built or read by us (`strict`) | from a framework (`Coercion`) |
|---|---|---|
| NaN and infinities | refused: JSON has none | text: `NaN`, `Infinity`, `-Infinity` |
| lone surrogates | refused: they have no UTF-8 | U+FFFD |
| integers beyond ±2⁵³ | refused: other readers round them (RFC 8259, section 6) | their digits as text |
| more than 32 levels | refused | `…` |
| too large | refused | cut, with `…` |
| anything else: bytes, objects | refused | base64; its type's name |

Both return a copy, so a later change of the original has no effect.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Set
from typing import Any

from agentplug.contract.text import is_utf8, printable
from agentplug.errors import ContractError

MAX_DEPTH = 32
MAX_INTEGER = 1 << 53
_CUT = "…"


class _Misfit(Exception):
    """A value that isn't plain JSON. `path`, its place, grows as the exception leaves each container."""

    path = ""


def strict(value: object, name: str) -> Any:
    """Return a copy of a plain JSON value, tuples as lists. Raises `ContractError`, with the place of the error."""
    try:
        return _copy(value, 0)
    except _Misfit as misfit:
        raise ContractError(f"{name}{printable(misfit.path, 300)}: {misfit}") from None


def _copy(value: object, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return _checked_text(value)  # type: ignore[arg-type]
    if value is None or kind is bool:
        return value
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
            raise _Misfit("an integer beyond 2**53, which other readers of JSON round; write it as text")
        return value
    if kind is float:
        if not math.isfinite(value):  # type: ignore[arg-type]
            raise _Misfit(f"{value} has no place in JSON; write None, or text")
        return value
    if kind is not dict and kind is not list and kind is not tuple:
        raise _Misfit(
            f"a {printable(kind.__name__, 100)} isn't a plain JSON value; AgentMessage.coerced makes it one"
        )
    if depth >= MAX_DEPTH:
        raise _Misfit(f"nested deeper than {MAX_DEPTH} levels")
    where = ""
    items: list[Any] = []
    try:
        if kind is dict:
            copy = {}
            for key, item in value.items():  # type: ignore[attr-defined]
                where = ""
                if type(key) is not str:
                    raise _Misfit(f"a key is a {printable(type(key).__name__, 60)}; keys are text")
                where = f".{key}"
                copy[_checked_text(key)] = _copy(item, depth + 1)
            return copy
        for item in value:  # type: ignore[attr-defined]
            items.append(_copy(item, depth + 1))
        return items
    except _Misfit as misfit:
        misfit.path = (where if kind is dict else f"[{len(items)}]") + misfit.path
        raise


def _checked_text(text: str) -> str:
    if not is_utf8(text):
        raise _Misfit("a lone surrogate, which has no UTF-8")
    return text


class Coercion:
    """A function that makes any value plain, up to about `budget` bytes of JSON over all its calls.

    `notes` names the places where something was lost; `truncated` is true if something was cut.
    """

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.notes: list[str] = []
        self.truncated = False

    def __call__(self, value: object, where: str, depth: int = 0) -> Any:
        """Return `value` or its plain replacement. Runs no code of the value but the iteration of its containers."""
        self.left -= 4
        if self.left <= 0:
            return self._cut(where)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(str.__str__(value), where)
        self.left -= 20  # the most that a number takes
        if isinstance(value, int):
            number = int.__int__(value)
            return number if -MAX_INTEGER <= number <= MAX_INTEGER else self._large(number, where)
        if isinstance(value, float):
            number_ = float.__float__(value)
            return number_ if math.isfinite(number_) else self._special(number_, where)
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._note(where, "bytes, in base64")
            return self._text(base64.b64encode(bytes(value)[: self.left]).decode(), where)
        if not isinstance(value, (Mapping, list, tuple, Set)):
            self._note(where, f"a {type(value).__name__}")
            return self._text(f"<{type(value).__name__}>", where)
        if depth >= MAX_DEPTH:
            return self._cut(where)
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, where, depth)
            return self._items(value, where, depth)
        except Exception as error:  # from a container with code of its own, or one that changes meanwhile
            self._note(where, f"raised {type(error).__name__}")
            return None

    def _mapping(self, value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for key, item in value.items():
            if self.left <= 0:
                self._cut(where)
                break
            plain = key if isinstance(key, str) else self(key, f"{where}.(key)", MAX_DEPTH)
            name = self._text(str.__str__(plain) if isinstance(plain, str) else json.dumps(plain), where)
            if name in copy:  # 1 and "1": neither may hide the other
                self._note(f"{where}.{name}", "another key of the same text")
            while name in copy:
                name += _CUT
            copy[name] = self(item, f"{where}.{name}", depth + 1)
        return copy

    def _items(self, value: Any, where: str, depth: int) -> list[Any]:
        copy: list[Any] = []
        for at, item in enumerate(value):
            if self.left <= 0:
                self._cut(where)
                break
            copy.append(self(item, f"{where}[{at}]", depth + 1))
        return copy

    def _text(self, text: str, where: str) -> str:
        most = max(0, self.left)
        start = text[:most]
        if not is_utf8(start):
            self._note(where, "a lone surrogate")
            start = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in start)
        while (size := _size_bytes(start)) > most:
            start = start[: len(start) * most // size]
        self.left -= size
        return start if len(start) == len(text) else start + self._cut(where)

    def _large(self, number: int, where: str) -> str:
        self._note(where, "an integer beyond 2**53, as text")
        try:
            return self._text(str(number), where)
        except ValueError:  # more digits than Python turns into text
            return self._text(hex(number), where)

    def _special(self, number: float, where: str) -> str:
        self._note(where, "no JSON number, as text")
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"

    def _cut(self, where: str) -> str:
        self.truncated = True
        self._note(where, "cut")
        return _CUT

    def _note(self, where: str, what: str) -> None:
        if len(self.notes) < 50:
            self.notes.append(printable(f"{where}: {what}", 200))


def _size_bytes(text: str) -> int:
    """Return the length of `text` as JSON, without its quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2
