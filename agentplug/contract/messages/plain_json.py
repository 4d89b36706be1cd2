"""What may stand in a message: plain JSON values, by one rule each (host and worker).

| what | as it is built or read (`strict`) | as it comes from a framework (`MadePlain`) |
|---|---|---|
| NaN and infinities | refused: JSON has none | text: `NaN`, `Infinity`, `-Infinity` |
| lone surrogates | refused: they have no UTF-8 | U+FFFD |
| integers beyond ±2⁵³ | refused: other readers round them (RFC 8259, section 6) | their digits as text |
| more than 32 levels | refused | `…` |
| too large | refused | cut, with `…` |
| anything else: bytes, objects | refused | base64; its type's name |

Both give a copy, so nobody who holds the original can change it afterwards.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Set
from typing import Any

from agentplug.contract.text import printable
from agentplug.errors import ContractError

MAX_DEPTH = 32
MAX_INTEGER = 1 << 53
_CUT = "…"


class _Misfit(Exception):
    """What doesn't fit, and where: the path is put together on the way out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.path = ""


def strict(value: object, name: str) -> Any:
    """A copy of a plain JSON value, tuples as lists. Raises `ContractError`, saying what is wrong and where."""
    try:
        return _copied(value, 0)
    except _Misfit as misfit:
        raise ContractError(f"{name}{printable(misfit.path, 300)}: {misfit}") from None


def _copied(value: object, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return _text(value)  # type: ignore[arg-type]
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
                copy[_text(key)] = _copied(item, depth + 1)
            return copy
        for item in value:  # type: ignore[attr-defined]
            items.append(_copied(item, depth + 1))
        return items
    except _Misfit as misfit:
        misfit.path = (where if kind is dict else f"[{len(items)}]") + misfit.path
        raise


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Misfit("a lone surrogate, which has no UTF-8") from None
    return value


class MadePlain:
    """Makes anything plain, up to `budget` bytes of JSON or little more.

    `notes` says where something was lost, as texts; `truncated`, that something was cut.
    """

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.notes: list[str] = []
        self.truncated = False

    def __call__(self, value: object, where: str, depth: int = 0) -> Any:
        """`value`, or what stands for it. Runs no code of the value's but iteration of its containers."""
        self.left -= 4
        if self.left <= 0:
            return self._cut(where)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(str.__str__(value), where)
        self.left -= 20  # what a number may take more
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
        except Exception as error:  # a container of somebody's own, or one that changes meanwhile
            self._note(where, f"raised {type(error).__name__}")
            return None

    def _mapping(self, value: Mapping[Any, Any], where: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            if self.left <= 0:
                self._cut(where)
                break
            told = key if isinstance(key, str) else self(key, f"{where}.(key)", MAX_DEPTH)
            name = self._text(str.__str__(told) if isinstance(told, str) else json.dumps(told), where)
            if name in found:  # 1 and "1": nothing may hide behind the other
                self._note(f"{where}.{name}", "another key of the same text")
            while name in found:
                name += _CUT
            found[name] = self(item, f"{where}.{name}", depth + 1)
        return found

    def _items(self, value: Any, where: str, depth: int) -> list[Any]:
        found: list[Any] = []
        for at, item in enumerate(value):
            if self.left <= 0:
                self._cut(where)
                break
            found.append(self(item, f"{where}[{at}]", depth + 1))
        return found

    def _text(self, text: str, where: str) -> str:
        most = max(0, self.left)
        kept = text[:most]
        if not kept.isascii() and not _encodes(kept):
            self._note(where, "a lone surrogate")
            kept = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in kept)
        while (size := _size_bytes(kept)) > most:
            kept = kept[: len(kept) * most // size]
        self.left -= size
        if len(kept) < len(text):
            kept += _CUT
            self.truncated = True
            self._note(where, "cut")
        return kept

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
    """How long it is as JSON, without its quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
