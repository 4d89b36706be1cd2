"""Completion behind the magics: what is offered where, and that it goes away."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import agentplug
from agentplug.contract.limits import FIELDS, LIMITS

OPTIONS = {f"--{row.option}" for row in FIELDS.values()}
KINDS = {"completed", "failed", "limited", "died", "broken", "stopped"}


def offered(ip: InteractiveShell, text: str, at: int | None = None) -> set[str]:
    """What a notebook's Tab offers with the cursor at the end of `text`, or at `at`."""
    at = len(text) if at is None else at
    with provisionalcompleter():
        return {c.text for c in ip.Completer.completions(text, at)}


def options(ip: InteractiveShell, text: str) -> set[str]:
    return {word for word in offered(ip, text) if word.startswith("-")}


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("%load_plugin --", {"--as", "--config", "--live", "--locked"}),
        ("%load_plugin ./x.py --memory 3M --", {"--as", "--config", "--live", "--locked"}),
        ("x = %load_plugin --", {"--as", "--config", "--live", "--locked"}),
        ("y = 1\n%load_plugin --", {"--as", "--config", "--live", "--locked"}),
        ("%%load_plugin shy --", {"--config", "--live", "--locked"}),
        ("%%sandbox --", {"--keep", "--run", "--expect", "--plugin", "--live"}),
        ("%%sandbox -i x --", {"--keep", "--run", "--expect", "--plugin", "--live"}),
        ("\n%%sandbox --", {"--keep", "--run", "--expect", "--plugin", "--live"}),
    ],
)
def test_options_are_offered_and_nothing_else(ip: InteractiveShell, text: str, more: set[str]) -> None:
    """After `--` come exactly the options of that magic."""
    assert offered(ip, text) == OPTIONS | more


def test_a_begun_option_is_completed(ip: InteractiveShell) -> None:
    """What is typed narrows the offer; a single dash offers the short ones too."""
    assert offered(ip, "%%sandbox --me") == {"--memory"}
    assert offered(ip, "%%sandbox --profile ") == {"memory", "cpu"}
    assert offered(ip, "%%sandbox -") == OPTIONS | {"--keep", "--run", "--expect", "--plugin", "--live", "-i", "-o"}


def test_the_first_line_of_a_cell_is_completed_above_its_body(ip: InteractiveShell) -> None:
    """The cursor may stand in the middle: the line counts up to it, and the body below doesn't matter."""
    assert offered(ip, "%%sandbox --wa\nprint(1)", at=len("%%sandbox --wa")) == {"--wall"}


def test_a_cells_body_is_none_of_our_business(ip: InteractiveShell) -> None:
    """Inside the cell `--` is Python's."""
    assert options(ip, "%%sandbox --memory 3M\nx = 1 --") == set()
    assert options(ip, "x --") == set()
    assert options(ip, "%timeit --") == set()


def test_verdicts_are_offered(ip: InteractiveShell) -> None:
    """--expect offers the kinds, and behind the colon what can follow that kind."""
    assert offered(ip, "%%sandbox --expect ") == KINDS
    assert offered(ip, "%%sandbox --expect lim") == {"limited"}
    assert offered(ip, "%%sandbox --expect limited:") == set(LIMITS)
    assert offered(ip, "%%sandbox --expect limited:me") == {"memory"}
    assert offered(ip, "%%sandbox --expect broken:") == {"protocol", "unserializable"}


def test_completion_ends_with_unload(ip: InteractiveShell) -> None:
    """After unload nothing of ours is offered."""
    assert offered(ip, "%%sandbox --me") == {"--memory"}
    agentplug.unload_ipython_extension(ip)
    assert options(ip, "%%sandbox --me") == set()


def test_variables_are_offered_behind_i(ip: InteractiveShell) -> None:
    """The user's own, wherever one may stand: no modules, nothing of IPython's."""
    ip.run_cell("import json\nnumbers, names, _hidden = [1], ['a'], 2", store_history=False)
    assert offered(ip, "%%sandbox -i ") == {"numbers", "names"}
    assert offered(ip, "%%sandbox -i numbers na") == {"names"}
    assert offered(ip, "%%sandbox -i numbers,na") >= {"names"}
    assert offered(ip, "%%sandbox -o n") == {"numbers", "names"}
    assert offered(ip, "%%sandbox -i numbers --me") == {"--memory"}


def test_what_can_be_loaded_is_offered(ip: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points, modules here and, from the first letter on, those that are installed; none is imported."""
    monkeypatch.syspath_prepend("")  # as in a kernel
    Path("my_plugin.py").write_text("raise SystemExit")
    Path("my_package").mkdir()
    Path("my_package", "inner.py").write_text("raise SystemExit")
    found = offered(ip, "%load_plugin ")
    assert {"my_plugin", "word_count", "secret_guard"} <= found
    assert "pandas" not in found
    assert offered(ip, "%load_plugin my_pl") == {"my_plugin"}
    assert offered(ip, "%load_plugin my_package.") == {"my_package.inner"}
    assert "pandas" in offered(ip, "%load_plugin pan")
    assert offered(ip, "%%sandbox --preload pand") >= {"pandas"}
    assert "json" not in offered(ip, "%load_plugin js")
