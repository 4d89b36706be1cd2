"""Denies tool calls, their results and outputs that carry credentials (worker side).

It knows credentials by their shape, so it is a guard against accidents: one that is encoded, split or in no known
shape passes. Whatever it says names the kind of what it found, and never a character of it.
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

# A token begins where no character of its own kind stands before it, and its repeats give nothing back (++): so no
# text makes a search longer than a few times its length.
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

    Configuration: `patterns`, more kinds: `{"a badge number": "B-[0-9]{6}"}`; `allow`, regular expressions: what one
    of them matches from beginning to end is no secret; `allow_cut` (False): let messages pass that were too large to
    be shown whole, if what is shown of them may.
    """

    name, version = "secret_guard", "1.0"
    hooks = dict.fromkeys(("pre_tool_call", "post_tool_call", "output"), "veto")

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take the configuration. Raises `re.error` for what is no regular expression."""
        shapes = {**_SHAPES, **config.get("patterns", {})}
        self._shapes = {kind: re.compile(shape) for kind, shape in shapes.items()}
        self._allow_cut = bool(config.get("allow_cut", False))
        self._allow = [re.compile(one) for one in config.get("allow", ())]

    async def on_message(self, point: str, message: Mapping[str, Any]) -> dict[str, str] | None:
        """Deny the message if it carries a credential, or if it isn't all here."""
        found = self._found(message["parts"])
        if found:
            return {"deny": f"it carries {found}"}
        if message.get("truncated") and not self._allow_cut:
            return {"deny": "it is too large to be seen whole; the configuration allow_cut lets such pass"}
        return None

    async def process(self, input_data: Any) -> Any:
        """In a chain of plugins: pass the data on. Raises `ValueError` if they carry a credential."""
        found = self._found(input_data)
        if found:
            raise ValueError(f"the data carry {found}")
        return input_data

    def _found(self, value: Any) -> str:
        """The kinds of what `value` carries, in words."""
        texts = list(_texts(value, 0))
        kinds = [kind for kind, shape in self._shapes.items() if any(self._carries(text, shape) for text in texts)]
        return " and ".join(kinds)

    def _carries(self, text: str, shape: re.Pattern[str]) -> bool:
        return any(
            _is_likely(found) and not any(one.fullmatch(found.group()) for one in self._allow)
            for found in shape.finditer(text)
        )


def _texts(value: Any, depth: int) -> Iterator[str]:
    """All texts in `value`, each with the name that it stands under. Raises for what can't be looked into: whoever
    says that something may pass has to have seen all of it.
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
            yield _decoded(value["content"])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item, depth + 1)
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise TypeError(f"a {type(value).__name__} can't be looked into")


def _is_likely(found: re.Match[str]) -> bool:
    """Whether what has the shape is more than that: not an example, nor a header alone, nor the name of something."""
    parts = found.groupdict()
    if "body" in parts:
        return _BASE64.search(parts["body"]) is not None
    if "header" in parts:
        return _is_header(parts["header"])
    if _PLACEHOLDER.search(parts.get("random") or parts.get("word") or found.group()):
        return False
    return "random" not in parts or _is_random(parts["random"])


def _is_random(word: str) -> bool:
    """Letters and digits in a row of 16 or more, of at least 3 bits each: names and paths have shorter ones."""
    row = max(re.split(r"[-_./=~+]", word[:1000]), key=len)
    if len(row) < 16 or not re.search(r"\d", row) or not re.search(r"[A-Za-z]", row):
        return False
    return -sum(n / len(row) * math.log2(n / len(row)) for n in Counter(row).values()) >= 3


def _is_header(text: str) -> bool:
    """Whether this is a web token's first part: JSON that names an algorithm."""
    if len(text) > 4000:
        return True
    try:
        header = json.loads(_decoded(text))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


def _decoded(text: str) -> str:
    """What is encoded in base64 (of either alphabet, padded or not); `text` itself, if it isn't."""
    try:
        data = text.encode("ascii").translate(bytes.maketrans(b"-_", b"+/"))
        return binascii.a2b_base64(data + b"==").decode("latin-1")
    except ValueError:
        return text
