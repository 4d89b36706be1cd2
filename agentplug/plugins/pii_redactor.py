"""Removes e-mail addresses, phone and card numbers, IBANs and IPv4 addresses from an agent's messages (worker side).

Checksums are verified, so that a number which only looks like a card's stays.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_POINTS = "input pre_model_call post_model_call pre_tool_call post_tool_call output"
_MOST_DEPTH = 64
_WHERE = {
    "text": ("content",),
    "reasoning": ("content",),
    "tool_call": ("arguments",),
    "tool_call_response": ("response",),
    "server_tool_call": ("server_tool_call",),
    "server_tool_call_response": ("server_tool_call_response",),
}
_LEFT_ALONE = ("blob", "uri", "file")  # changing data and references would break them


class _Kind(NamedTuple):
    """`shape` matches candidates; `size` returns how many characters of one to remove from its start, or 0."""

    shape: re.Pattern[str]
    size: Callable[[str], int] = len


_CARD = re.compile(
    r"4\d{15}(?:\d{3})?|5[0-8]\d{14}|2(?:2[2-9]|[3-6]\d|7[0-2])\d{13}|35\d{14}|3[47]\d{13}|3[068]\d{12}|6\d{15,18}"
)
_DOUBLED = str.maketrans("0123456789", "0246813579")
_NUMBERS = {letter: str(number) for number, letter in enumerate(string.ascii_uppercase, 10)}
_IN_NUMBERS = str.maketrans({**_NUMBERS, **{letter.lower(): number for letter, number in _NUMBERS.items()}})


def _is_card(text: str) -> bool:
    """True if the issuer's digits, the length and Luhn's checksum are right (ISO/IEC 7812-1)."""
    number = text.replace(" ", "").replace("-", "")
    if not _CARD.fullmatch(number):
        return False
    return (sum(map(int, number[-1::-2])) + sum(map(int, number[-2::-2].translate(_DOUBLED)))) % 10 == 0


def _is_iban(text: str) -> bool:
    """True if the check digits are right (ISO 13616)."""
    compact = text.replace(" ", "")
    return 15 <= len(compact) <= 34 and int((compact[4:] + compact[:4]).translate(_IN_NUMBERS)) % 97 == 1


_GAP = re.compile("[ -]")


def _longest(check: Callable[[str], bool]) -> Callable[[str], int]:
    """Return a `size` for the longest beginning that ends at a gap and passes `check`.

    A match may reach into a following number, which must stay.
    """

    def size(text: str) -> int:
        ends = [len(text), *(gap.start() for gap in reversed([*_GAP.finditer(text)]))]
        return next((end for end in ends if check(text[:end])), 0)

    return size


def _email(text: str) -> int:
    top = text.rpartition(".")[2]
    return len(text) if len(top) > 1 and not top.isdecimal() else 0  # package@1.2.10 is no address


def _phone(text: str) -> int:
    """Require 10 digits after a national 0, since 02110-1301 is a postal code."""
    least = 10 if text.startswith(("0", "(0")) else 8
    return len(text) if least <= len(re.findall(r"\d", text)) <= 15 else 0


def _ipv4(text: str) -> int:
    octets = [int(octet) for octet in text.split(".")]
    return len(text) if max(octets) < 256 and octets[0] not in (0, 127) and min(octets) < 255 else 0


_KINDS = {
    "email": _Kind(re.compile(r"(?<![\w.%+'-])[\w.%+'-]++@[\w-]++(?:\.[\w-]++)++"), _email),
    "iban": _Kind(
        re.compile(r"(?ai)(?<![A-Z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Z0-9])"),
        _longest(_is_iban),
    ),
    "credit_card": _Kind(
        re.compile(
            r"(?a)(?<![\d.])[2-6]\d{3}[ -]?(?:\d{4}[ -]?\d{4}[ -]?\d{4}(?:[ -]?\d{1,3})?|\d{6}[ -]?\d{4,5})(?!\d)"
        ),
        _longest(_is_card),
    ),
    "ipv4": _Kind(re.compile(r"(?a)(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"), _ipv4),
    "phone": _Kind(
        re.compile(
            r"(?<![\w+.])(?:\+\d(?:[ ().\-/]{0,2}\d){7,14}"  # international
            r"|00[1-9]\d{0,2}[ ./-]\d(?:[ ().\-/]{0,2}\d){6,11}"  # the same, as it is dialled
            r"|0[1-9](?:[ .-]\d\d){4}|\(?0[1-9]\d{1,3}\)?[ /-]\d{3,8}(?:[ -]\d{2,8}){0,2}"  # national, with its 0
            r"|(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4})(?!\d|[.-]\d)"  # North American
        ),
        _phone,
    ),
}


class PiiRedactorPlugin:
    """Transforms texts, and the arguments and results of tools: an e-mail address becomes `[email]`, and so on.

    JSON in a text stays JSON; a card's number in JSON becomes a text. Blobs, files, addresses of resources and names
    of tools stay as they are. Configuration: `kinds`, some of email, iban, credit_card, ipv4 and phone (all);
    `patterns`, more kinds: `{"badge": "B-[0-9]{6}"}`. A line of JSON on standard output counts the removals from a
    message by kind.
    """

    name, version = "pii_redactor", "1.0"
    hooks = dict.fromkeys(_POINTS.split(), "transform")

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take `kinds` and `patterns`. Raises `ValueError` for an unknown kind, `re.error` for a bad pattern."""
        kinds = config.get("kinds", tuple(_KINDS))
        unknown = [kind for kind in kinds if kind not in _KINDS]
        if unknown or isinstance(kinds, str):
            raise ValueError(f"kinds={kinds!r:.200}: write a list of {', '.join(_KINDS)}")
        self._kinds = {kind: _KINDS[kind] for kind in kinds}
        self._kinds |= {name: _Kind(re.compile(shape)) for name, shape in config.get("patterns", {}).items()}
        self._counts: Counter[str] = Counter()

    async def on_message(self, point: str, message: Mapping[str, Any]) -> list[Any] | None:
        """Return the message's parts, redacted; None if there was nothing to redact.

        Raises `ValueError` for a truncated message: the missing text would pass unredacted.
        """
        if message.get("truncated"):
            raise ValueError(
                "the message is too large to be seen whole; granted 'transform open', it passes as it is"
            )
        self._counts.clear()
        parts = [self._part(part) for part in message["parts"]]
        if not self._counts:
            return None
        print(json.dumps({"message": message["id"], "point": point, "redacted": dict(self._counts)}), flush=True)
        return parts

    async def process(self, input_data: Any) -> Any:
        """Return the data, redacted. Raises `TypeError` or `ValueError` for data that can't be searched."""
        return self._value(input_data, 0)

    def _part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        if part["type"] in _LEFT_ALONE:
            return dict(part)
        names = _WHERE.get(part["type"], [name for name in part if name != "type"])
        return {name: self._value(value, 0) if name in names else value for name, value in part.items()}

    def _value(self, value: Any, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
        if isinstance(value, str):
            return self._json(value, depth) if value[:1] in ("{", "[") else self._text(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple)):
            return [self._value(item, depth + 1) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**19:
            text = self._text(str(value))
            return value if text == str(value) else text
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise TypeError(f"a {type(value).__name__} can't be looked into")

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        redacted: dict[Any, Any] = {}
        for key, item in value.items():
            name = self._text(key) if isinstance(key, str) else key
            while name in redacted:  # two keys were addresses
                name = f"{name} {len(redacted) + 1}"
            redacted[name] = self._value(item, depth + 1)
        return redacted

    def _json(self, text: str, depth: int) -> str:
        """Redact JSON in a text, as tools' arguments often are, to JSON."""
        try:
            before = json.loads(text)
            after = self._value(before, depth + 1)
        except (ValueError, RecursionError):  # not JSON, or too deep
            return self._text(text)
        return text if after == before else json.dumps(after, ensure_ascii=False)

    def _text(self, text: str) -> str:
        for name, kind in self._kinds.items():
            pieces, done, at = [], 0, 0
            while at <= len(text) and (match := kind.shape.search(text, at)):
                size = kind.size(match.group())
                at = match.start() + max(size, 1)
                if size:
                    pieces += [text[done : match.start()], f"[{name}]"]
                    done = at
                    self._counts[name] += 1
            text = "".join([*pieces, text[done:]])
        return text
