"""Whatever is typed behind a magic or a command: an answer, or an error that says what to type instead.

The parsers are the real ones, in a bare IPython shell and in the command line's runner; no worker is started.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.completer import CompletionContext
from IPython.core.interactiveshell import InteractiveShell
from typer.testing import CliRunner

import agentplug
from agentplug.cli import app as cli
from agentplug.contract.events import Event
from agentplug.contract.limits import FIELDS
from agentplug.contract.record import SourceInfo, Usage
from agentplug.core import sandboxed
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.doctor import Diagnosis
from agentplug.errors import AgentplugError, SpecError
from agentplug.jupyter import magics, session
from tests.shells import bare_shell

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_VALUES = """
    64M 1G 0 -1 1 2.5 443 443,8080 yes no nan inf 1e9 99999999999999999999 A=B A= =B PATH NOPE . / ~ ~nobody ./good.py
    json pkg.mod:Class name _run class 1name completed limited:memory limited: failed:ValueError :x memroy:x stopped:x
    {} {'a':1} {1:2} [] "quoted" 'single' "open 'open \\ \\\\ -- --- -1 -x $HOME {name} % %s ; # | é \udcff \u202e
""".split()
_VALUES += ["", " ", "\t", "{'a': 1}", "{'a b': [1, 2]}", "1/0", "name.nope", "{", "a" * 300, "\0", "\n", "\ud800"]
_VALUES += ["$name", "{name!r}", "{name + 1}", "{x", "{{x}}", "$$", "#x", "# x", "1m", "64Mi", "\ue0005\ue001"]
_NAMES = [f"--{row.option}" for row in FIELDS.values()]
_NAMES += ["--as", "--config", "-i", "-o", "--run", "--expect", "--plugin", "--live", "--locked", "-h", "--help"]
_NAMES += [
    "--memroy",
    "--mem",
    "--m",
    "--memory=",
    "--config=",
    "-iname",
    "-i=",
    "--json",
    "--version",
    "--best_effort",
]
words = st.one_of(
    st.sampled_from(_NAMES),
    st.sampled_from(_VALUES),
    st.builds("{}={}".format, st.sampled_from(_NAMES), st.sampled_from(_VALUES)),
    st.text(st.characters(exclude_categories=()), max_size=6),
)
lines = st.lists(words, max_size=7).map(" ".join)


class Bare(Exception):
    """Nothing went wrong: here a worker would have been started."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    """A bare shell with the extension, whose workers aren't started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setattr(session.Session, "load", _no_worker)
        patch.setattr(session.Session, "reload", _no_worker)
        patch.setattr(magics, "run_cell", _no_worker)
        patch.setattr(magics, "doctor", _no_worker)
        with bare_shell() as ip:
            agentplug.load_ipython_extension(ip)
            ip.user_ns["name"] = 1
            yield ip


def _no_worker(*_: object, **__: object) -> Any:
    raise Bare


def refusal(call: Any, *given: str) -> str | None:
    """What a magic says is wrong; None if it did its work, or got to where a worker would start."""
    try:
        call(*given)
    except Bare:
        return None
    except AgentplugError as error:
        return str(error)
    return None


@settings(patient, max_examples=300)
@given(name=st.sampled_from(magics.NAMES["line"]), line=lines)
def test_any_line_behind_a_line_magic(shell: InteractiveShell, name: str, line: str) -> None:
    """An error of ours, never another: quotes left open, options that don't exist, odd values."""
    assert refusal(shell.run_line_magic, name, line) != ""


@settings(patient, max_examples=300)
@given(
    name=st.sampled_from(magics.NAMES["cell"]),
    line=lines,
    cell=st.one_of(st.just("1"), st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)),
)
def test_any_line_and_cell_behind_a_cell_magic(shell: InteractiveShell, name: str, line: str, cell: str) -> None:
    """The cell's text never matters to the parser, nor can it end in another exception."""
    assert refusal(shell.run_cell_magic, name, line, cell) != ""


@settings(patient, max_examples=150)
@given(line=lines)
def test_completion_of_any_line_never_raises(shell: InteractiveShell, line: str) -> None:
    """Pressing Tab in the middle of anything is answered by our matcher, with or without suggestions."""
    (ours,) = [m for m in shell.Completer.custom_matchers if m.matcher_identifier.startswith("agentplug.")]
    for text in (f"%load_plugin {line}", f"%%sandbox {line}", f"x = %unload_plugin {line}"):
        row = text.count("\n")
        column = len(text.rpartition("\n")[2])
        token = text.split(" ")[-1]
        for completion in ours(CompletionContext(token, text, column, row, None))["completions"]:
            assert completion.text.startswith(token)


class _Plugin:
    """Stands in for `SandboxedPlugin` on the command line: resolves its spec and goes no further."""

    def __init__(self, spec: Any, policy: Any, **options: Any) -> None:
        self._real = SandboxedPlugin(spec, policy, **options)
        self.runs: list[Run] = []

    def run_sync(self, value: Any) -> Run:
        """The run of a plugin that returns its input."""
        return Run(value, Usage(), (Event(0.0, "reply"),), self._real.policy, SourceInfo("s", "file", "d"))

    def close_sync(self) -> None:
        """There is no worker."""


@settings(patient, max_examples=300)
@given(
    command=st.sampled_from(["run", "run", "run", "demo", "doctor", "rnu", "", "-h", "--version"]),
    arguments=st.lists(st.one_of(words, st.sampled_from(["[1]", "{", "-", "good", "json.tool"])), max_size=6),
    stdin=st.one_of(st.just(b""), st.binary(max_size=20)),
)
def test_any_command_line(command: str, arguments: list[str], stdin: bytes) -> None:
    """Status 0, 1 or 2, and no traceback: a typo is told in a line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandboxed, "SandboxedPlugin", _Plugin)
        # Not by a dotted name: the package's attribute of that name may be the function by now.
        patch.setattr(importlib.import_module("agentplug.doctor"), "doctor", _unfit)
        patch.setattr(importlib.import_module("agentplug.cli.demo"), "show", _refused)
        result = CliRunner().invoke(cli.app, [*([command] if command else []), *arguments], input=stdin)

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (0, 1, 2)
    assert "Traceback" not in result.output


def _unfit() -> Diagnosis:
    return Diagnosis("machine", (), "not here")


def _refused(*_: object) -> Any:
    raise SpecError("not here")
