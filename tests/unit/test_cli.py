"""The command line as a shell sees it: what goes to which stream, the exit status, no traceback for a mistake."""

from __future__ import annotations

import sys
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from agentplug.cli.app import app
from agentplug.contract.limits import FIELDS
from agentplug.contract.options import policy_from_options
from agentplug.contract.policy import Policy
from agentplug.errors import PolicyError

WORD_COUNT = "agentplug.plugins.word_count"

# ---------------------------------------------------------------------- options


def test_the_options_are_those_of_the_command() -> None:
    """Each field of a policy has an option of `agentplug run`, as the table of fields says."""
    command = next(command for command in app.registered_commands if command.callback.__name__ == "run")
    names = set(command.callback.__annotations__) - {"spec", "argument", "as_json", "config", "locked", "return"}

    assert names == {row.key for row in FIELDS.values()}
    assert list(FIELDS) == [field.name for field in fields(Policy)]


def test_options_become_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option sets its field from the text that people type; what isn't given stays as it was."""
    monkeypatch.setenv("FROM_HERE", "yes")
    given = {
        "memory": "64M",
        "cpu": "0.5",
        "wall": "2",
        "disk": "8M",
        "processes": "1",
        "threads": "8",
        "output": "4K",
        "reply": "1M",
        "network": "443, 80",
        "read": ["/usr/share", "/etc"],
        "write": [],
        "env": ["NAME=a=b", "FROM_HERE"],
        "hook": ["input=veto", "output=observe native"],
        "preload": ["json,csv", "array"],
        "observe": True,
        "best_effort": True,
        "spec": "ignored",
    }

    policy = policy_from_options(given, Policy(open_files=32))

    assert policy == Policy(
        memory="64M",
        cpu_s=0.5,
        wall_s=2.0,
        disk="8M",
        processes=1,
        threads=8,
        output="4K",
        reply="1M",
        network=(80, 443),
        read=("/usr/share", "/etc"),
        env={"NAME": "a=b", "FROM_HERE": "yes"},
        hooks={"input": "veto", "output": "observe native"},
        preload=("array", "csv", "json"),
        observe="files",
        best_effort=True,
        open_files=32,
    )


@pytest.mark.parametrize(
    ("text", "granted"), [("yes", True), ("all", True), ("no", False), ("none", False), ("443", (443,))]
)
def test_network_takes_a_word_or_ports(text: str, granted: object) -> None:
    """`--network` says all, nothing, or which ports."""
    assert policy_from_options({"network": text}).network == granted


def test_no_option_is_the_policy_as_it_was() -> None:
    """Options that weren't given change nothing."""
    nothing = dict.fromkeys([row.key for row in FIELDS.values()])

    assert policy_from_options(nothing | {"best_effort": False, "read": []}) == Policy()


@pytest.mark.parametrize("name", [row.option for row in FIELDS.values() if not row.is_switch and not row.kind.many])
def test_an_error_names_its_option(name: str) -> None:
    """What is wrong is told under the name that was typed."""
    with pytest.raises(PolicyError, match=f"^--{name}[=:]"):
        policy_from_options({name: "§"})


def test_doctor_exits_with_1_where_workers_cannot_be_confined(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A script may rely on the status: 1 where promises can't be kept, with the promise and the remedy."""
    from typer.testing import CliRunner

    from agentplug.doctor import Diagnosis

    row = {
        "barrier": "landlock",
        "protects": "files",
        "status": "unavailable",
        "evidence": "read a key: it got through",
        "lost": ["files"],
        "remedy": "switch it on",
    }
    # The module by its full name: once somebody called it, the package's attribute is the function.
    monkeypatch.setattr(sys.modules["agentplug.doctor"], "doctor", lambda: Diagnosis("a machine", (row,)))

    done = CliRunner().invoke(app, ["doctor"])

    assert done.exit_code == 1
    assert "landlock can't protect files: switch it on" in done.output
    assert "This machine can't protect files" in done.output


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such_module"], "there is no module 'no_such_module' on sys.path"),
        (["./no_such_file.py"], "no_such_file.py"),
        ([""], "the spec is empty"),
        ([WORD_COUNT, "--memory", "lots"], "--memory='lots' isn't a size"),
        ([WORD_COUNT, "--cpu", "fast"], "--cpu: 'fast' isn't a time"),
        ([WORD_COUNT, "--threads", "1.5"], "--threads: '1.5' isn't a whole number"),
        ([WORD_COUNT, "--network", "443,http"], "--network: '443,http': write TCP ports like 443,8080"),
        ([WORD_COUNT, "--network", "99999"], "--network: 99999 isn't a TCP port"),
        ([WORD_COUNT, "--env", "NO_SUCH_VARIABLE"], "--env: NO_SUCH_VARIABLE isn't set here"),
        ([WORD_COUNT, "{", "--json"], "INPUT isn't JSON"),
        ([WORD_COUNT, "--config", "{"], "--config isn't JSON"),
        ([WORD_COUNT, "--config", "[]"], "config is a list; write a dict"),
        ([WORD_COUNT, "--memroy", "1G"], "No such option: --memroy"),
        ([], "Missing argument 'SPEC'"),
    ],
)
def test_what_cannot_be_begun_exits_with_2_and_says_why(arguments: list[str], words: str) -> None:
    """A mistake gives the fact and the remedy on standard error, status 2, and never a traceback."""
    done = CliRunner(env={"NO_COLOR": "1", "COLUMNS": "200"}).invoke(app, ["run", *arguments])

    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--read", "/no/such/place"], "--read: '/no/such/place' isn't there; check the path, or make it first\n"),
        (["--write", "/"], "--write: '/' holds '"),
    ],
)
def test_an_impossible_grant_is_one_line(option: list[str], message: str) -> None:
    """Before anything is started."""
    result = CliRunner().invoke(app, ["run", WORD_COUNT, "x", *option])

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
