"""Tables of texts: nothing is cut, words stay whole, and hostile text is text."""

from __future__ import annotations

import pickle

import pandas as pd

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core import run as _  # noqa: F401  (gives policies and verdicts their HTML)
from agentplug.report.aligned import aligned
from agentplug.report.frames import barriers_frame

LONG = "other processes and the kernel: fork, exec, sockets, ptrace, prlimit, mounts, namespaces, memfd"
ROWS = [{"barrier": "seccomp", "protects": LONG, "status": "enforced", "detail": "<b>x</b>\x1b[31m"}]


def test_a_long_text_is_shown_whole() -> None:
    """As text it has several lines, broken between words; as HTML the browser breaks it."""
    table = barriers_frame(ROWS)
    lines = repr(table).splitlines()
    assert lines[0].split() == ["barrier", "protects", "status", "detail"]
    assert " ".join(" ".join(line[9:53].split()) for line in lines[1:]) == LONG
    html = str(table._repr_html_())
    assert LONG in html
    assert "&lt;b&gt;x&lt;/b&gt;\\x1b[31m" in html


def test_what_is_made_of_it_is_a_plain_frame() -> None:
    """Filtered, copied and pickled it is what pandas makes of any frame."""
    table = barriers_frame(ROWS)
    assert isinstance(table, pd.DataFrame)
    assert type(table[table["status"] == "enforced"]) is pd.DataFrame
    assert pickle.loads(pickle.dumps(table)).equals(table)
    assert "Empty DataFrame" in repr(barriers_frame([]))


def test_columns_are_as_wide_as_their_longest_line() -> None:
    """An empty cell takes its place; a word that is too long is broken."""
    rows = [{"name": "a", "says": ""}, {"name": "bb", "says": "x" * 50}]
    assert aligned(rows) == f"name  says\na\nbb    {'x' * 44}\n      {'x' * 6}"


def test_a_policy_is_a_table_with_units_and_no_secrets() -> None:
    """A row a field; what isn't the default is bold; of a variable the name alone."""
    html = Policy(memory="64M", env={"TOKEN": "s3cret"}, hooks={"input": "veto"})._repr_html_()
    assert html is not None
    assert "<b>64 MiB</b>" in html
    assert "<b>veto at input</b>" in html
    assert "<b>TOKEN</b>" in html
    assert "s3cret" not in html
    assert ">10 s<" in html


def test_a_verdict_says_its_meaning() -> None:
    """Beside the word in its colour."""
    html = Verdict("limited", "memory")._repr_html_()
    assert html is not None
    assert "limited:memory" in html
    assert "a limit stopped it" in html
