"""Denies tool calls, their results and outputs that carry credentials (worker side).

It recognises credentials by their shape, so it guards against accidents: a credential that is encoded, split or in
no known shape passes. Its messages name the kind of a credential, and never a character of it.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_DEPTH = 64

# A token has no character of its own kind before it, and its repeats are possessive (++), so every search takes
# linear time.
_SHAPES = {
    "an AWS access key": r"(?<![A-Za-z0-9/+])A(?:KIA|SIA)[A-Z2-7]{16}(?![A-Za-z0-9/+])",
    "a GitHub token": r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,}+|github_pat_\w{60,}+)",
    "a GitLab token": r"(?<![\w-])glpat-[\w-]{20,}+",
    "a Slack token": r"(?<![\w-])xox[a-z]-\d{6,}+-[A-Za-z0-9-]{16,}+",
    "a Stripe key": r"(?<!\w)[rs]k_live_[A-Za-z0-9]{16,}+",
    "a Google API key": r"(?<![\w-])AIza[\w-]{35}(?![\w-])",
    "a key of a model's vendor": r"(?<![\w-])sk-(?P<random>[\w-]{32,}+)",
    "a Hugging Face token": r"(?<!\w)hf_[A-Za-z0-9]{30,}+",
    "an npm token": r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)",
    "a PyPI token": r"(?<![\w-])pypi-AgE[\w-]{50,}+",
    "a JSON web token": r"(?<![\w-])(?P<header>eyJ[\w-]{8,}+)\.eyJ[\w-]{8,}+\.[\w-]{16,}+",
    "a private key": r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?=(?P<body>(?s:.){0,400}+))",
    "a password in a URL": r"(?<![\w+.-])[A-Za-z][\w+.-]{1,20}+://[^\s:/@]{0,100}+:(?P<word>[^\s:/@]{6,200}+)@",
    "a secret beside its name": (
        r"(?i:api[_ -]?key|secret(?:[_ -]?(?:access[_ -]?)?key)?|(?:access|auth|bearer|refresh)[_ -]?token"
        r"|passw(?:or)?d|authorization|(?<![a-z_-])token)"
        r"""\\?["']?\s{0,4}+(?:[:=]>?|is)\s{0,4}+\\?["']?(?i:bearer\s|basic\s)?+(?P<random>[\w+/=.~-]{20,}+)"""
    ),
}
_BASE64 = re.compile(r"[A-Za-z0-9+/]{32}")
_PLACEHOLDER = re.compile(
    r"(?i)example|placeholder|changeme|redacted|your|dummy|xxxx|\*\*\*|\.\.\.|^[<{$%]|^passw|^secret"
)


class SecretGuardPlugin:
    """Vetoes at `pre_tool_call`, `post_tool_call` and `output`.

    Configuration: `patterns`, more kinds: `{"a badge number": "B-[0-9]{6}"}`; `allow`, regular expressions of texts
    that are no secrets; each must match the whole text; `allow_cut` (False): let truncated messages pass, if the
    part that is there may.
    """

    name, version = "secret_guard", "1.0"
    hooks = dict.fromkeys(("pre_tool_call", "post_tool_call", "output"), "veto")

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take the configuration. Raises `re.error` for an invalid regular expression."""
        shapes = {**_SHAPES, **config.get("patterns", {})}
        self._shapes = {kind: re.compile(shape) for kind, shape in shapes.items()}
        self._allow_cut = bool(config.get("allow_cut", False))
        self._allow = [re.compile(one) for one in config.get("allow", ())]

    async def on_message(self, point: str, message: Mapping[str, Any]) -> dict[str, str] | None:
        """Deny the message if it carries a credential, or if it is truncated."""
        if kinds := self._kinds(message["parts"]):
            return {"deny": f"it carries {kinds}"}
        if message.get("truncated") and not self._allow_cut:
            return {"deny": "it is too large to be seen whole; the configuration allow_cut lets such pass"}
        return None

    async def process(self, input_data: Any) -> Any:
        """Return the data, for use in a chain of plugins. Raises `ValueError` if they carry a credential."""
        if kinds := self._kinds(input_data):
            raise ValueError(f"the data carry {kinds}")
        return input_data

    def _kinds(self, value: Any) -> str:
        """Name the kinds of credentials in `value`; "" for none."""
        texts = list(_texts(value, 0))
        kinds = [kind for kind, shape in self._shapes.items() if any(self._carries(text, shape) for text in texts)]
        return " and ".join(kinds)

    def _carries(self, text: str, shape: re.Pattern[str]) -> bool:
        return any(
            _is_likely(match) and not any(one.fullmatch(match.group()) for one in self._allow)
            for match in shape.finditer(text)
        )


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Yield all texts in `value`, each with its key. Raises `TypeError` or `ValueError` for a value that can't be
    searched: only a message that was searched whole may pass.
    """
    if depth > _MOST_DEPTH:
        raise ValueError(f"nested deeper than {_MOST_DEPTH} levels")
    if isinstance(value, str):
        yield value
    elif isinstance(value, (bytes, bytearray)):
        yield value.decode("latin-1")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str):
                yield f"{key}={item}"
            else:
                yield from (str(key), *_texts(item, depth + 1))
        if value.get("type") == "blob" and isinstance(value.get("content"), str):
            yield _decode(value["content"])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item, depth + 1)
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise TypeError(f"a {type(value).__name__} can't be looked into")


def _is_likely(match: re.Match[str]) -> bool:
    """True unless the match is an example, a header without a body, or a name."""
    parts = match.groupdict()
    if "body" in parts:
        return _BASE64.search(parts["body"]) is not None
    if "header" in parts:
        return _is_header(parts["header"])
    if _PLACEHOLDER.search(parts.get("random") or parts.get("word") or match.group()):
        return False
    return "random" not in parts or _is_random(parts["random"])


def _is_random(word: str) -> bool:
    """True for a row of 16 or more letters and digits, of at least 3 bits each; names and paths have shorter rows."""
    row = max(re.split(r"[-_./=~+]", word[:1000]), key=len)
    if len(row) < 16 or not re.search(r"\d", row) or not re.search(r"[A-Za-z]", row):
        return False
    return -sum(n / len(row) * math.log2(n / len(row)) for n in Counter(row).values()) >= 3


def _is_header(text: str) -> bool:
    """True if `text` is a web token's first part: JSON that names an algorithm."""
    if len(text) > 4000:
        return True
    try:
        header = json.loads(_decode(text))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


def _decode(text: str) -> str:
    """Decode base64 (of either alphabet, padded or not); return `text` itself if it isn't base64."""
    try:
        data = text.encode("ascii").translate(bytes.maketrans(b"-_", b"+/"))
        return binascii.a2b_base64(data + b"==").decode("latin-1")
    except ValueError:
        return text
