"""The package's prose: how docstrings begin, and what can't be a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "agentplug"
FIRST_WORDS = {"What", "Whether", "How", "Who", "It"}
PARTICIPLES = {"told", "found", "given", "shown", "kept", "held", "past"}
AGREED = {"core/session.py": {"given"}}
"""Public names that stay."""


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that the code defines: of functions, classes, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.alias(asname=str(name)):
                yield name


def riddles(source: str) -> list[str]:
    """The docstrings and names of `source` that are no plain English."""
    tree = ast.parse(source)
    lines = (text.partition("\n")[0] for text in docstrings(tree))
    begun = [line for line in lines if re.split(r"\W", line, maxsplit=1)[0] in FIRST_WORDS]
    return begun + [name for name in names(tree) if PARTICIPLES.intersection(re.findall(r"[a-z]+", name.lower()))]


@pytest.mark.parametrize("room", sorted(path for path in PACKAGE.iterdir() if path.suffix in ("", ".py")), ids=str)
def test_docstrings_begin_plainly_and_names_are_no_participles(room: Path) -> None:
    """Functions begin with a verb, values with a noun; variables are nouns and verbs."""
    modules = [room] if room.is_file() else sorted(room.rglob("*.py"))
    found = {str(module.relative_to(PACKAGE)): riddles(module.read_text(encoding="utf-8")) for module in modules}
    found = {module: set(words) - AGREED.get(module, set()) for module, words in found.items()}
    assert not {module: words for module, words in found.items() if words}


@pytest.mark.parametrize(
    "source",
    [
        '"""What lives here."""',
        'def limit():\n    """Whether a limit was reached."""',
        'class Run:\n    """It is a run."""',
        "told = 1",
        "def keep(kept_bytes): ...",
        "self._found = 1",
        "import json as given",
        "def is_shown(): ...",
    ],
)
def test_a_riddle_is_seen(source: str) -> None:
    assert len(riddles(source)) == 1


def test_plain_words_pass() -> None:
    assert riddles('def whatever(pastry):\n    """Whatever begins otherwise, as Items."""\n    holder = 1') == []
