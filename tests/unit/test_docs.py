"""The documents tell the truth: commands, names, tables and code in them are those of the project as it is."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

import agentplug
from agentplug.contract.limits import FIELDS
from agentplug.contract.policy import Policy
from agentplug.contract.record import KINDS
from agentplug.core.sources.resolve import resolve

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
POLICY = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
DECISIONS = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a document in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def tables(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table in a document."""
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


# ---------------------------------------------------------------------- README.md


def test_two_commands_do_all_the_set_up() -> None:
    """A newcomer pastes two lines: one installs and runs the demo, one passes the tests. CI does the same."""
    ci = (ROOT / ".ci" / "run").read_text()

    assert blocks("bash") == [
        "python3 -m venv .venv && .venv/bin/pip install -e '.[lab,test]' && .venv/bin/agentplug demo\n",
        ".venv/bin/python -m tests\n",
    ]
    assert " -m venv " in ci
    assert "'.[test," in ci
    assert ci.rstrip().endswith("python -m tests")


def test_the_commands_name_what_the_project_declares() -> None:
    """The extras and the program in the first command are in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert {"lab", "test"} <= set(project["optional-dependencies"])
    assert project["scripts"] == {"agentplug": "agentplug.cli.app:main"}


def test_every_bundled_plugin_is_announced() -> None:
    """What lies in `plugins` can be loaded by its name, but for the reader of manifests, which is our own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    announced = project["entry-points"]["agentplug.plugins"]
    bundled = {path.stem for path in (ROOT / "agentplug" / "plugins").glob("[a-z]*.py")} - {"manifest_reader"}
    assert announced.keys() == bundled
    for name, value in announced.items():
        assert resolve(name).entry == resolve(value).entry == f"agentplug.plugins.{name}"


def test_the_policy_table_has_every_field_with_its_default() -> None:
    """What docs/policy.md promises of `Policy` is what `Policy` and the table of its fields have."""
    written = [line for line in POLICY.splitlines() if line.startswith("| `")]
    rows = [policy_row(field.name, field.default if field.default is not MISSING else {}) for field in fields(Policy)]

    assert written == rows, "docs/policy.md needs these rows:\n" + "\n".join(rows)


def policy_row(name: str, default: Any) -> str:
    """Write the row of a field: name, default, meaning, option, verdict when reached."""
    row = FIELDS[name]
    default = f'"{default}"' if isinstance(default, str) else repr(default)
    option = f"--{row.option}" if row.is_switch else f"--{row.option} {row.kind.metavar}"
    verdict = f"`limited:{row.by}`" if row.by else "–"
    return f"| `{name}` | `{default}` | {row.meaning} | `{option}` | {verdict} |"


def test_the_verdict_table_has_every_kind() -> None:
    """The reference explains each word that a verdict can begin with."""
    assert tuple(c[0].strip("`") for c in tables(REFERENCE) if len(c) >= 2 and c[0].strip("`") in KINDS) == KINDS


def test_links_lead_somewhere() -> None:
    """Pictures and files that the documents link to are in the project."""
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} links to {target}"


# ---------------------------------------------------------------------- docs/decisions.md


def test_every_dependency_has_its_reason() -> None:
    """What pyproject.toml requires is in the table of docs/decisions.md, and nothing else is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]}  # type: ignore[index]
    section = DECISIONS.partition("## Dependencies")[2]
    rows = [cells for cells in tables(section) if len(cells) == 2 and cells[0] != "package"]

    assert {name for cells in rows for name in cells[0].split(", ")} == required
    assert all(len(cells[1]) > 10 for cells in rows)


# ---------------------------------------------------------------------- docstrings


@pytest.mark.parametrize("name", agentplug.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """Each public name says what it is, in words of its own, and so do its public methods and properties."""
    value = getattr(agentplug, name)
    assert has_words_of_its_own(value, name)
    if isinstance(value, type):
        bare = [
            member
            for member, function in vars(value).items()
            if not member.startswith("_")
            and (inspect.isfunction(function) or isinstance(function, property | classmethod))
            and not inspect.getdoc(function)
        ]
        assert bare == []


def has_words_of_its_own(value: object, name: str) -> bool:
    """A docstring that isn't the one that dataclasses make of the signature."""
    text = value.__doc__ or ""
    return bool(text.strip()) and not text.startswith(f"{name}(")
