"""Output as it is shown: bars and colours pass, and nothing else steers the display or outlives the call."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug.report.stream_text import StreamText

RED, RESET = "\x1b[31m", "\x1b[0m"


def shown(*pieces: str) -> str:
    text = StreamText()
    return "".join([*map(text.add, pieces), text.end()])


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["one\ttwo\n"], "one\ttwo\n"),
        (["  0%|", "\r 50%|", "\r100%|\n"], "  0%|\r 50%|\r100%|\n"),
        ([f"{RED}red{RESET} plain\n"], f"{RED}red{RESET} plain\n"),
        ([f"{RED}red\n"], f"{RED}red\n{RESET}"),
        (["\x1b[38;5;196mred\x1b[m"], "\x1b[38;5;196mred\x1b[m"),
        (["\x1b", "[3", "1mred"], f"{RED}red{RESET}"),
        (["\x1b[31"], r"\x1b[31"),
        (["\x1b[2J\x1b]0;title\x07\x1b[1A\x08\u202e"], r"\x1b[2J\x1b]0;title\x07\x1b[1A\x08\u202e"),
        ([f"\x1b[{';' * 100}m"], rf"\x1b[{';' * 100}m"),
        (["\rforged"], "forged"),
        ([f"{RED}\r\rforged"], f"{RED}forged{RESET}"),
        (["a\n\rb"], "a\nb"),
        (["a\r\nb\r\n"], "a\nb\n"),
        (["a\r", "\nb"], "a\r\nb"),
        (["all good, trusted\r"], "all good, trusted\r\n"),
        ([f"trusted{RED}\r"], f"trusted{RED}\r{RESET}\n"),
        (["", ""], ""),
    ],
)
def test_carriage_returns_and_colours_pass_and_end_with_the_call(pieces: list[str], expected: str) -> None:
    """The rest becomes visible; a carriage return moves over nobody else's text, before the call or after it."""
    assert shown(*pieces) == expected


@settings(deadline=None, database=None)
@given(st.lists(st.text(st.sampled_from("ab\r\n\t\x1b[0;31mJ\x07\x9b\u202e\u2028"), max_size=12), max_size=5))
def test_whatever_comes_in_whatever_pieces(pieces: list[str]) -> None:
    """Nothing else passes, no colour and no carriage return is left, and pieces make no difference to colours."""
    text = shown(*pieces)
    rest = re.sub(r"\x1b\[[0-9;:]*m", "", text)
    assert all(c.isprintable() or c in "\r\n\t" for c in rest)
    assert not rest.endswith("\r")
    codes = re.findall(r"\x1b\[[0-9;:]*m", text)
    assert not codes or codes[-1] in ("\x1b[m", RESET)
    assert re.findall(r"\x1b\[[0-9;:]*m", shown("".join(pieces))) == codes
