"""Text from a plugin, made harmless (host and worker): for terminals, logs and messages.

HTML escaping is the report's business; here control characters, terminal escapes, bidirectional overrides,
zero-width characters and lone surrogates become visible `\\x..` and `\\u....` escapes.
"""

from __future__ import annotations

import unicodedata

_KEPT = {"\n", "\t"}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def printable(text: str, most: int = 2_000, *, lines: bool = False) -> str:
    """`text` with every character that could steer a display escaped, and cut to `most` characters.

    `lines` keeps newlines and tabs; without it they are escaped too, so that a name stays on its line.
    """
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most} characters more)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c
        if (lines and c in _KEPT) or unicodedata.category(c) not in _HIDDEN
        else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )
