"""A text statistics tool, such as an agent calls before it decides how to summarize a document (worker side)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?:\s|$)")
_WORDS_PER_MINUTE = 230


class WordCountPlugin:
    """Counts the words and sentences of a text, and measures how varied it is.

    The input is the text, or a dict with the text under `text`. Configuration: `top`, how many of the most frequent
    words to report (5), and `ignore`, words that don't count as frequent.
    """

    name = "word_count"
    version = "1.0"

    async def initialize(self, config: Mapping[str, Any]) -> None:
        """Take `top` and `ignore`."""
        self._top = int(config.get("top", 5))
        self._ignore = {word.casefold() for word in config.get("ignore", ())}

    async def process(self, input_data: Any) -> dict[str, Any]:
        """Count characters, words, sentences, distinct and frequent words; estimate the minutes to read."""
        text = input_data.get("text") if isinstance(input_data, Mapping) else input_data
        if not isinstance(text, str):
            raise TypeError(f"text is a {type(text).__name__}; pass a str, or a dict with a str under 'text'")
        words = [match.group().casefold() for match in _WORD.finditer(text)]
        counts = Counter(word for word in words if word not in self._ignore)
        return {
            "characters": len(text),
            "words": len(words),
            "sentences": max(len(_SENTENCE_END.findall(text)), 1 if words else 0),
            "distinct": len(set(words)),
            "frequent": dict(counts.most_common(self._top)),
            "minutes_to_read": round(len(words) / _WORDS_PER_MINUTE, 2),
        }
