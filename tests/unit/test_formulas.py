r"""TeX from a plugin: MathJax typesets `$\color{green}{completed}$` in a table of pandas, so none is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import SourceInfo, Usage
from agentplug.contract.text import no_formula
from agentplug.core.run import Run
from agentplug.doctor.battery.matrix import Matrix, Row
from agentplug.report.accessor import attached, read_trace
from agentplug.report.files import save_trace
from agentplug.report.frames import barriers_frame, calls_frame, without_formulas
from agentplug.report.learning.proposal import Learned, Right

TEX = [
    r"$\color{green}{\text{trusted}}\phantom{x}$",
    r"$$\href{https://evil}{completed}$$",
    r"\(\color{green}{completed}\)",
    r"\[completed\]",
    r"\begin{align}completed\end{align}",
    r"\ref{x} and \eqref{x}",
    "$x$",
    r"a\$b$c$",
]
MATH = re.compile(r"\$[^$]*\$|\\[(\[]|\\(begin|end|ref|eqref)\b")


def run_of(name: str) -> Run:
    error = Event(0.1, "error", {"type": name})
    source = SourceInfo("./p.py", "file", "sha256:0", name, name)
    return Run(
        None, Usage(0.1, 0.1), (Event(0, "start"), error), Policy(), source, 0, datetime(2026, 1, 1, tzinfo=UTC)
    )


def trace(name: str) -> pd.DataFrame:
    return attached(calls_frame([run_of(name)]))


TABLES: dict[str, Callable[[str], pd.DataFrame]] = {
    "trace": trace,
    "a part of it": lambda name: trace(name)[["plugin", "verdict", "by"]],
    "verdicts": lambda name: trace(name).agentplug.verdicts(),
    "summary": lambda name: trace(name).agentplug.summary(),
    "compare": lambda name: trace(name).agentplug.compare(trace(name)),
    "over_limit": lambda name: trace(name).agentplug.over_limit(1e-9),
    "barriers": lambda name: barriers_frame([dict.fromkeys(("barrier", "protects", "status", "detail"), name)]),
    "learned": lambda name: Learned(Policy(), (Right("read", name, name),), (Right("read", name, name),)).to_frame(),
    "matrix": lambda name: Matrix((Row(name, name, name, name, name, True, name, 1.0, 1.0),)).to_frame(),
}


@pytest.mark.parametrize("name", TEX)
@pytest.mark.parametrize("table", TABLES)
def test_no_table_holds_tex(table: str, name: str) -> None:
    """In no cell, index or column, whatever pandas makes of the table."""
    frame = TABLES[table](name)
    texts = re.findall(r">([^<]*)<", frame._repr_html_())  # type: ignore[operator]
    assert len(frame)
    assert not [text for text in texts if MATH.search(text)]
    assert not MATH.search(
        frame.to_latex(escape=False).replace(r"\begin{tabular}", "").replace(r"\end{tabular}", "")
    ) or (table == "compare")


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
@pytest.mark.parametrize("name", TEX)
def test_a_trace_of_somebody_else_holds_none_either(name: str, suffix: str, tmp_path: Path) -> None:
    """It may have been written by hand."""
    frame = trace("p").assign(version=pd.Series([name], dtype="str"))
    frame["plugin"] = pd.Categorical([name])
    back = read_trace(save_trace(frame, tmp_path / f"trace{suffix}"))
    assert not [text for text in back[["plugin", "version"]].iloc[0] if MATH.search(text)]


@pytest.mark.parametrize("text", ["", "costs 5$", "a\\b", r"\x1b[31m", "C:\\new", "\\beginning", "(x) [y]", "{$}"])
def test_other_text_is_as_it_was(text: str) -> None:
    """One dollar sign begins no formula, and few backslashes do."""
    assert no_formula(text) == text
    frame = pd.DataFrame({"a": [text, None, 3], "b": pd.Categorical([text, "x", "x"]), "c": [1, 2, 3]})
    pd.testing.assert_frame_equal(without_formulas(frame.copy()), frame)


@pytest.mark.parametrize("name", TEX)
def test_no_card_is_typeset(name: str) -> None:
    """A card says so to MathJax, and holds no dollar sign of a plugin's."""
    for card in (run_of(name)._repr_html_(), Learned(Policy(), (Right("read", name, name),))._repr_html_()):
        assert card.startswith('<div class="tex2jax_ignore mathjax_ignore"')
        assert "$" not in card


def test_every_html_of_ours_tells_mathjax_to_keep_out() -> None:
    """Whatever has a `_repr_html_` makes it of cards and tables, which bear the class."""
    import agentplug

    root = Path(str(agentplug.__file__)).parent
    makers = [p for p in root.rglob("*.py") if "def _repr_html_" in p.read_text() and "zoo" not in p.parts]
    known: Any = re.compile(
        r"\b(card|table|_table|\w+_card|\w+_table|\w+_html|drawing\.still|_still)\(|_repr_html_\(\)"
    )
    assert len(makers) > 8
    assert [p.name for p in makers if not known.search(p.read_text().partition("def _repr_html_")[2])] == []
