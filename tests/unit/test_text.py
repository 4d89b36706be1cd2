"""Text from a plugin, made safe."""

from __future__ import annotations

import sys
import unicodedata

from agentplug.contract.text import printable

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def test_every_hidden_character_is_escaped_and_no_visible_one() -> None:
    """As this Python's own tables have them; a newer Unicode may have some that are unassigned here."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        is_escaped = printable(character) != character
        assert is_escaped == (category in HIDDEN) or category == "Cn", hex(code)


def test_lines_keep_line_breaks_and_tabs() -> None:
    assert printable("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"
    assert printable("a\n\tb\r") == "a\\n\\tb\\r"
