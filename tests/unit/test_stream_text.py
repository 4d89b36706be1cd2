"""Output as it is shown: bars and colours pass, and nothing else steers the display or outlives the call."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug.core.display import Display
from agentplug.jupyter.streaming import Allowance, CellSink
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


def test_a_flood_is_cut_by_what_the_page_gets() -> None:
    """Not by what was printed: escaping makes it longer. Colours are reset, and a code isn't cut in half."""
    page: list[str] = []
    sink = CellSink(Allowance(20, 0), Allowance(), Allowance())
    sink._streams["stdout"] = SimpleNamespace(write=page.append)  # type: ignore[assignment]

    sink("stdout", f"{RED}pear\x07\x07{RED}and more")
    sink("stdout", "nothing")
    sink("stdout", "")

    cut, note = page[0].split("\n")[:2]
    assert cut == rf"{RED}pear\x07\x07{RESET}"
    assert note.startswith("[agentplug: more was printed than a notebook should carry")
    assert len(page) == 1


def test_displays_beyond_the_allowance_of_a_session_are_told_once() -> None:
    """By number and by size; the run has them."""
    page: list[str] = []
    sink = CellSink(Allowance(), Allowance(0, 0), Allowance())
    sink._streams["stderr"] = SimpleNamespace(write=page.append)  # type: ignore[assignment]

    for key in "abc":
        sink.show(Display("text/plain", "pear"), key, update=False)

    assert page == ["[agentplug: more was displayed than a notebook should carry; run.displays has it]\n"]
