"""The magics in a shell of this process: what they do, what they say about bad input, how they come and go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

import agentplug
from agentplug.contract.record import Verdict
from agentplug.core.host.conversation import wait_for
from agentplug.core.host.output import current_sink
from agentplug.core.run import Run
from agentplug.errors import (
    AgentplugError,
    ContractError,
    LimitExceeded,
    PluginError,
    PluginNotFound,
    ProtocolViolation,
    SpecError,
    WorkerDied,
)
from agentplug.jupyter.failures import LineError, UnexpectedVerdict
from agentplug.jupyter.session import session_of

pytestmark = pytest.mark.need("landlock", "seccomp")

GREETER = """
class GreeterPlugin:
    name = "greeter"
    version = "1.2"

    async def initialize(self, config):
        self.word = config.get("word", "hello")

    async def process(self, who):
        return f"{self.word} {who}"
"""

Plain = str | bytes | int | float | None


def sandbox(ip: InteractiveShell, line: str, cell: str) -> Any:
    return ip.run_cell_magic("sandbox", line, cell)


def verdict(ip: InteractiveShell, name: str = "_run") -> str:
    return str(ip.user_ns[name].verdict)


# ---------------------------------------------------------------------- coming and going


def test_load_ext_adds_every_magic_and_unload_takes_every_one_away(shell: InteractiveShell) -> None:
    """After `%unload_ext` no magic, matcher or stream of ours is left; the user's are."""
    before = {kind: set(found) for kind, found in shell.magics_manager.magics.items()}
    matchers = list(shell.Completer.custom_matchers)

    shell.run_line_magic("load_ext", "agentplug")

    added = {kind: set(found) - before[kind] for kind, found in shell.magics_manager.magics.items()}
    assert added == {
        "line": {"load_plugin", "plugins", "unload_plugin", "reload_plugin", "sandbox_doctor", "sandbox"},
        "cell": {"load_plugin", "sandbox"},
    }
    assert current_sink() is not None
    shell.run_line_magic("unload_ext", "agentplug")
    assert {kind: set(found) for kind, found in shell.magics_manager.magics.items()} == before
    assert shell.Completer.custom_matchers == matchers
    assert current_sink() is None
    assert session_of(shell) is None


def test_load_ext_twice_keeps_the_session(ip: InteractiveShell) -> None:
    """Loading again changes nothing: the plugins stay, and completion isn't offered twice."""
    session, matchers = session_of(ip), list(ip.Completer.custom_matchers)
    agentplug.load_ipython_extension(ip)
    assert session_of(ip) is session
    assert ip.Completer.custom_matchers == matchers


def test_unload_closes_the_plugins(ip: InteractiveShell) -> None:
    """`%unload_ext` closes what the session loaded and drops its variables, and nobody else's."""
    Path("greeter.py").write_text(GREETER)
    plugin = ip.run_line_magic("load_plugin", "./greeter.py")
    ip.run_line_magic("load_plugin", "./greeter.py --as other")
    ip.user_ns["other"] = "mine now"
    agentplug.unload_ipython_extension(ip)
    assert (plugin.state, plugin.pid) == ("closed", None)
    assert "greeter" not in ip.user_ns
    assert ip.user_ns["other"] == "mine now"


def test_reload_ext_works_again(ip: InteractiveShell) -> None:
    """`%reload_ext` gives a working set of magics."""
    ip.run_line_magic("reload_ext", "agentplug")
    assert sandbox(ip, "", "1 + 1") == 2


def test_every_magic_has_help_with_an_example(ip: InteractiveShell) -> None:
    """`%name?` shows what it does, an example and its options."""
    for kind, names in (
        ("line", ("load_plugin", "unload_plugin", "reload_plugin")),
        ("cell", ("load_plugin", "sandbox")),
    ):
        for name in names:
            told = ip.magics_manager.magics[kind][name].__doc__
            assert f"%{name} " in told, name
            assert "::" in told, name
    assert "--memory SIZE" in ip.magics_manager.magics["cell"]["sandbox"].__doc__


def test_another_magic_of_the_same_name_survives_unload(ip: InteractiveShell) -> None:
    """A magic that the user registered over ours isn't taken away with ours."""
    ip.register_magic_function(lambda line: "theirs", "line", "plugins")
    agentplug.unload_ipython_extension(ip)
    assert ip.run_line_magic("plugins", "") == "theirs"


# ---------------------------------------------------------------------- %load_plugin and its like


def test_load_plugin_binds_the_name_of_the_file(ip: InteractiveShell) -> None:
    """The variable is named by what the user wrote, and the plugin is ready."""
    Path("greeter.py").write_text(GREETER)
    plugin = ip.run_line_magic("load_plugin", "./greeter.py")
    assert ip.user_ns["greeter"] is plugin
    assert repr(plugin) == "<SandboxedPlugin greeter 1.2: ready>"
    assert wait_for(plugin.process("you")) == "hello you"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("./greeter.py", "greeter"),
        ("./greeter.py:GreeterPlugin", "greeter_plugin"),
        ("/some/where/my-plugin.py", "my_plugin"),
        ("pkg.mod", "mod"),
        ("pkg.mod:HTTPClientPlugin", "httpclient_plugin"),
        ("entry-point", "entry_point"),
    ],
)
def test_the_variable_is_made_from_the_spec(spec: str, name: str) -> None:
    """Class, file or module in snake case; the plugin's own name has no say."""
    from agentplug.jupyter.options import name_for

    assert name_for(spec) == name


def test_load_plugin_takes_name_limits_and_config(ip: InteractiveShell) -> None:
    """--as, limits and --config arrive; the expression sees the user's variables and may hold spaces."""
    Path("greeter.py").write_text(GREETER)
    ip.user_ns["word"] = "good day"
    line = './greeter.py --config {"word": word.upper()} --as polite --memory 64M --cpu 2 --wall 5 --env A=b'
    plugin = ip.run_line_magic("load_plugin", line)
    assert ip.user_ns["polite"] is plugin
    assert plugin.policy == agentplug.Policy(memory="64M", cpu_s=2, wall_s=5, env={"A": "b"})
    assert wait_for(plugin.process("you")) == "GOOD DAY you"


@pytest.mark.parametrize("config", ["'{\"word\": 1}'", "\"{'word': 1}\"", "dict(word = 1)", "{'word': 1}", "given"])
def test_config_may_be_quoted_or_not(ip: InteractiveShell, config: str) -> None:
    """A shell's habit of quoting works as well as plain Python."""
    Path("greeter.py").write_text(GREETER)
    ip.user_ns["given"] = {"word": 1}
    plugin = ip.run_line_magic("load_plugin", f"--config {config} ./greeter.py")
    assert wait_for(plugin.process("x")) == "1 x"


def test_load_plugin_again_replaces_and_closes_the_old_one(ip: InteractiveShell) -> None:
    """A re-run cell doesn't fail and leaves no worker behind."""
    Path("greeter.py").write_text(GREETER)
    old = ip.run_line_magic("load_plugin", "./greeter.py")
    new = ip.run_line_magic("load_plugin", "./greeter.py")
    assert (old.state, new.state, ip.user_ns["greeter"]) == ("closed", "ready", new)


def test_load_plugin_that_fails_changes_nothing(ip: InteractiveShell) -> None:
    """A plugin that can't be loaded is an error that tools notice; the one before stays."""
    Path("greeter.py").write_text(GREETER)
    old = ip.run_line_magic("load_plugin", "./greeter.py")
    Path("greeter.py").write_text("class GreeterPlugin:\n    def __init__(self):\n        raise ValueError('no')\n")
    with pytest.raises(PluginError, match="ValueError: no") as caught:
        ip.run_line_magic("load_plugin", "./greeter.py")
    assert "ValueError: no" in caught.value._render_traceback_()[-1]
    assert ip.user_ns["greeter"] is old
    assert old.state == "ready"


@pytest.mark.parametrize(
    ("line", "error"),
    [("./missing.py", SpecError), ("no_such_module_here", PluginNotFound), ("./empty.py", PluginNotFound)],
)
def test_load_plugin_of_nothing_raises_a_real_error(ip: InteractiveShell, line: str, error: type[Exception]) -> None:
    """nbval passes a cell that only wrote a UsageError, so what isn't there is a real exception, in one line."""
    Path("empty.py").write_text("x = 1\n")
    with pytest.raises(error) as caught:
        ip.run_line_magic("load_plugin", line)
    assert len(caught.value._render_traceback_()) == 1
    assert ip.run_line_magic("plugins", "").manager.plugins == {}


def test_cell_plugin_is_loaded_from_the_cell(ip: InteractiveShell) -> None:
    """`%%load_plugin NAME` runs the cell in the worker and nowhere else; a second run replaces it."""
    plugin = ip.run_cell_magic("load_plugin", "shy --memory 32M", GREETER)
    assert wait_for(plugin.process("you")) == "hello you"
    assert "GreeterPlugin" not in ip.user_ns
    assert plugin._inside.source.spec == "<cell shy>"
    again = ip.run_cell_magic("load_plugin", "shy", GREETER)
    assert (plugin.state, ip.user_ns["shy"]) == ("closed", again)


def test_cell_plugin_without_a_class_says_so(ip: InteractiveShell) -> None:
    """An empty cell and a cell without a plugin are real errors with a remedy."""
    with pytest.raises(SpecError, match="is empty"):
        ip.run_cell_magic("load_plugin", "nothing", "  \n")
    with pytest.raises(PluginNotFound, match="needs one concrete class whose name ends in 'Plugin'"):
        ip.run_cell_magic("load_plugin", "nothing", "x = 1")
    with pytest.raises(ContractError, match=r"process\(\) is missing"):
        ip.run_cell_magic("load_plugin", "nothing", "class APlugin:\n    name = 'a'\n    version = '1'\n")


def test_plugins_lists_what_is_loaded(ip: InteractiveShell) -> None:
    """The list is a table in text and HTML, without pid, time or address, and hands out the manager."""
    assert repr(ip.run_line_magic("plugins", "")) == "No plugin is loaded; load one with %load_plugin SPEC."
    plugin = ip.run_cell_magic("load_plugin", "shy", GREETER)
    wait_for(plugin.run("you"))
    listed = ip.run_line_magic("plugins", "")
    assert repr(listed).splitlines() == [
        "name  version  state  runs in            hooks  calls  last verdict",
        "shy   1.2      ready  a confined worker         1      completed",
    ]
    assert "<td" in listed._repr_html_()
    assert list(listed.manager.trace["verdict"]) == ["completed"]


def test_hostile_names_are_shown_as_text(ip: InteractiveShell) -> None:
    """A plugin's name can neither put HTML into a notebook nor steer a terminal."""
    hostile = GREETER.replace('"greeter"', r'"<img src=x onerror=alert(1)>\x1b[31m"')
    plugin = ip.run_cell_magic("load_plugin", "shy", hostile)
    assert "<img" not in plugin._repr_html_()
    assert "\x1b" not in repr(plugin)
    assert "\x1b" not in repr(ip.run_line_magic("plugins", ""))


def test_unload_plugin_closes_and_unbinds(ip: InteractiveShell) -> None:
    """The worker ends and the variable goes."""
    plugin = ip.run_cell_magic("load_plugin", "shy", GREETER)
    assert ip.run_line_magic("unload_plugin", "shy") is None
    assert (plugin.state, plugin.pid, "shy" in ip.user_ns) == ("closed", None, False)


def test_reload_plugin_reads_the_file_again(ip: InteractiveShell) -> None:
    """The new bytes run under the same limits and configuration, and the variable follows."""
    Path("greeter.py").write_text(GREETER)
    old = ip.run_line_magic("load_plugin", "./greeter.py --memory 64M --config {'word': 'hi'}")
    Path("greeter.py").write_text(GREETER.replace("1.2", "1.3"))
    new = ip.run_line_magic("reload_plugin", "greeter")
    assert (old.state, new.version, new.policy) == ("closed", "1.3", old.policy)
    assert ip.user_ns["greeter"] is new
    assert wait_for(new.process("you")) == "hi you"


def test_sandbox_doctor_reports_the_barriers(ip: InteractiveShell) -> None:
    """It hands back the doctor's findings, with a table to show."""
    found = ip.run_line_magic("sandbox_doctor", "")
    assert {"landlock", "seccomp"} <= {row["barrier"] for row in found.rows}


# ---------------------------------------------------------------------- %%sandbox


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1 + 1", 2),
        ("x = 3", None),
        ("x = 3\nx", 3),
        ("x = 3; x", 3),
        ("x = 3\nx;", None),
        ("x = 3\n(x\n);", None),
        ("'a;b'  # a comment; with a semicolon", "a;b"),
        ("'€'*2", "€€"),
        ("# nothing but a comment", None),
        ("def f():\n    return 7\nf()", 7),
        ("for i in range(3):\n    pass\ni", 2),
        ("import asyncio\nawait asyncio.sleep(0, 'slept')", "slept"),
        ("import asyncio\nx = await asyncio.sleep(0, 'slept')\nx * 2", "sleptslept"),
        ("import asyncio\nasync def f():\n    return 5\nasyncio.run(f())", 5),
        ("import asyncio\nasync with asyncio.timeout(5):\n    y = 4\ny", 4),
        ("__name__", "__main__"),
        ("from __future__ import annotations\nx: nonsense = 1\nx", 1),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: 'int'\nP(2)", {"x": 2}),
        ("import pickle\nclass P: pass\ntype(pickle.loads(pickle.dumps(P()))).__name__", "P"),
        ('"""text\nover lines"""', "text\nover lines"),
    ],
)
def test_sandbox_shows_the_last_value(ip: InteractiveShell, cell: str, value: Plain) -> None:
    """The cell runs as it stands, like a cell of a notebook; a final semicolon hides the value."""
    assert sandbox(ip, "", cell) == value
    assert verdict(ip) == "completed"
    assert ip.user_ns["_run"].value == value


def test_sandbox_knows_nothing_of_the_notebook(ip: InteractiveShell) -> None:
    """No variable of the notebook is there unless it was sent, and nothing of one cell is left for the next."""
    ip.user_ns["secret"] = 1
    sandbox(ip, "", "mine = 2")
    with pytest.raises(PluginError, match="NameError: name 'secret' is not defined"):
        sandbox(ip, "", "secret")
    with pytest.raises(PluginError, match="NameError: name 'mine' is not defined"):
        sandbox(ip, "", "mine")


def test_sandbox_sends_and_brings_back_variables(ip: InteractiveShell) -> None:
    """-i sends values, functions of the notebook among them; -o binds plain values and tables."""
    ip.run_cell("numbers = [3, 4]\ndef double(x):\n    return 2 * x\n", store_history=False)
    ip.user_ns["table"] = pd.DataFrame({"a": [1, 2]})
    cell = "table['b'] = [double(n) for n in numbers]\ntotal = sum(numbers)\nlen(numbers)"
    assert sandbox(ip, "-i numbers -i double -i table -o table -o total --run r", cell) == 2
    assert ip.user_ns["total"] == 7
    assert ip.user_ns["table"].to_dict("list") == {"a": [1, 2], "b": [6, 8]}
    assert (verdict(ip, "r"), ip.user_ns["r"].value) == ("completed", 2)


def test_sandbox_names_a_wanted_variable_that_is_missing(ip: InteractiveShell) -> None:
    """-o of a name that the cell never bound is an error; the others are bound all the same."""
    with pytest.raises(PluginError, match=r"NameError: the code left no variable 'nope' to bring back$"):
        sandbox(ip, "-o nope -o x", "x = 1\n2")
    assert ("nope" in ip.user_ns, ip.user_ns["x"], ip.user_ns["_run"].value) == (False, 1, 2)


def test_sandbox_describes_a_value_that_cannot_come_back(ip: InteractiveShell) -> None:
    """In the sandbox's words; of a wanted variable the error says type and name."""
    assert repr(sandbox(ip, "", "[1, range(2)]")) == "[1, range(0, 2)]  [range, as the sandbox describes it]"
    with pytest.raises(ProtocolViolation, match="generator in the variable 'g'"):
        sandbox(ip, "-o g", "g = (x for x in [])")
    assert verdict(ip) == "broken:unserializable"


@pytest.mark.parametrize(
    "forged",
    [
        *("None", "[]", "{}", "{'last value': 1}", "{**answer, '-o': []}", "{**answer, '-o': {}}"),
        "{name: answer[name] for name in ('last value', '-o')}",
        "{**answer, '-o': {'x': 1, 'open': 2}}",
        "{**answer, '-o': {'open': 2}}",
        "{**answer, 'missing': {'open': ''}}",
        "{**answer, 'missing': {'x': ''}}",
        "{**answer, 'unsendable': {'x': ''}}",
        "{**answer, '-o': {1: 2, 'x': 1}}",
        "{**answer, 'more': 1}",
    ],
)
def test_sandbox_cell_that_forges_its_answer_binds_nothing(ip: InteractiveShell, forged: str) -> None:
    """The cell can replace its runner, and gains nothing: only the names asked for are ever bound."""
    answer = "{'last value': None, 'described': None, '-o': {'x': 1}, 'missing': {}, 'unsendable': {}}"
    runner = "sys.modules['agentplug.core.worker.cells']"
    cell = f"import sys\nanswer = {answer}\n{runner}._answer = lambda *_: {forged}\nx = 1"
    before = set(ip.user_ns)
    with pytest.raises(ProtocolViolation, match="answered what it was not asked"):
        sandbox(ip, "-o x", cell)
    assert set(ip.user_ns) - before == {"_run"}


def test_sandbox_traceback_shows_the_cells_own_lines(ip: InteractiveShell) -> None:
    """The error holds the cell's frames with their lines, and none of the machinery's; the same when it awaits."""
    cell = "import asyncio\ndef f():\n    raise ValueError('no')\n{}f()"
    for middle in ("", "await asyncio.sleep(0)\n"):
        with pytest.raises(PluginError, match="ValueError: no") as caught:
            sandbox(ip, "", cell.format(middle))
        lines = caught.value._render_traceback_()
        assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ValueError: no")
        frames = [line.strip() for line in lines if line.lstrip().startswith("File ")]
        number = cell.format(middle).count("\n") + 2
        assert frames == [
            f'File "<sandbox cell>", line {number}, in <module>',
            'File "<sandbox cell>", line 4, in f',
        ]
        assert "    raise ValueError('no')" in lines


def test_sandbox_syntax_error_points_into_the_cell(ip: InteractiveShell) -> None:
    """What isn't Python is the cell's own error; IPython's syntax isn't translated."""
    with pytest.raises(PluginError, match="SyntaxError") as caught:
        sandbox(ip, "", "x = 1\n!ls")
    assert [line for line in caught.value._render_traceback_() if "File" in line] == [
        '  File "<sandbox cell>", line 3'
    ]


def test_sandbox_error_text_cannot_steer_the_display(ip: InteractiveShell) -> None:
    """Terminal escapes in messages, types and tracebacks arrive as text."""
    cell = "E = type('\\x1b[31mE', (Exception,), {})\nraise E('\\x1b]0;title\\x07\\u202e')"
    with pytest.raises(PluginError) as caught:
        sandbox(ip, "", cell)
    shown = "\n".join(caught.value._render_traceback_()) + str(caught.value)
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert r"\x1b]0;title" in shown


@pytest.mark.parametrize(
    ("line", "cell", "error", "ended"),
    [
        ("--memory 32M", "x = bytearray(1 << 28)", LimitExceeded, "limited:memory"),
        ("--cpu 0.2", "while True: pass", LimitExceeded, "limited:cpu"),
        ("--wall 0.3", "import time; time.sleep(30)", LimitExceeded, "limited:wall"),
        ("", "import os; os._exit(3)", WorkerDied, "died:exit 3"),
        ("", "import sys; sys.exit(3)", PluginError, "failed:SystemExit"),
        ("", "import os; os.kill(os.getpid(), 11)", WorkerDied, "died:SIGSEGV"),
        ("", "class E(Exception): pass\nraise E", PluginError, "failed:E"),
    ],
)
def test_sandbox_raises_for_a_verdict_and_accepts_the_expected_one(
    ip: InteractiveShell, line: str, cell: str, error: type[AgentplugError], ended: str
) -> None:
    """A verdict is a real exception with its run; --expect of that verdict gives the run in place of it."""
    with pytest.raises(error) as caught:
        sandbox(ip, line, cell)
    assert caught.value.run is ip.user_ns["_run"]
    assert verdict(ip) == ended
    run = sandbox(ip, f"{line} --expect '{ended}'", cell)
    assert isinstance(run, Run)
    assert run is ip.user_ns["_run"]
    assert run.verdict == Verdict.parse(ended)
    kind = ended.partition(":")[0]
    assert sandbox(ip, f"{line} --expect {kind}", cell).verdict.kind == kind


def test_sandbox_raises_when_the_expectation_fails(ip: InteractiveShell) -> None:
    """A cell that completes, or ends otherwise than expected, says what was expected and what came."""
    with pytest.raises(UnexpectedVerdict, match="expected the verdict limited:memory, got completed: "):
        sandbox(ip, "--expect limited:memory", "1")
    with pytest.raises(AssertionError, match="expected the verdict limited:cpu, got failed:ValueError: "):
        sandbox(ip, "--expect limited:cpu", "raise ValueError")
    with pytest.raises(UnexpectedVerdict, match="expected the verdict completed, got failed:ValueError"):
        sandbox(ip, "--expect completed", "raise ValueError")
    assert sandbox(ip, "--expect completed", "'fine'") == "fine"


def test_sandbox_streams_what_the_cell_prints(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout and stderr come through while it runs: colours up to its end, other escapes made visible.

    The run keeps them as they were.
    """
    sandbox(ip, "", "import sys\nprint('one\\ttwo\\x1b[2J')\nprint('\\x1b[31mred', file=sys.stderr)")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("one\ttwo\\x1b[2J\n", "\x1b[31mred\n\x1b[0m")
    assert ip.user_ns["_run"].stderr == "\x1b[31mred\n"


def test_live_prints_nothing_in_a_terminal(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a kernel there is no display to update; the cell runs all the same."""
    assert sandbox(ip, "--live", "print('out')\nimport time\ntime.sleep(0.6)\n1") == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("out\n", "")


def test_sandbox_flood_is_cut_in_the_cell(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """A flood ends with a note; the run keeps as much as the policy allows."""
    sandbox(ip, "--output 4M", "for _ in range(40):\n    print('x' * 100_000)")
    shown = capsys.readouterr().out
    assert len(shown) < 1_500_000
    assert shown.count("more was printed than a notebook should carry") == 1
    assert len(ip.user_ns["_run"].stdout) == 40 * 100_001


def test_sandbox_calls_a_loaded_plugin_with_the_last_value(ip: InteractiveShell) -> None:
    """--plugin: the cell makes the input, the plugin's reply is shown and its Run bound; -o still is the cell's."""
    ip.run_cell_magic("load_plugin", "shy", GREETER)
    assert sandbox(ip, "--plugin shy -o who", "who = 'b' * 2\nwho") == "hello bb"
    assert (ip.user_ns["_run"].source.plugin, ip.user_ns["who"]) == ("greeter", "bb")
    with pytest.raises(PluginError, match="Plugin sandbox cell raised ZeroDivisionError"):
        sandbox(ip, "--plugin shy", "1 / 0")
    ip.run_cell_magic("load_plugin", "bad", GREETER.replace("return f", "raise KeyError\n        return f"))
    assert str(sandbox(ip, "--plugin bad --expect failed:KeyError", "1").verdict) == "failed:KeyError"


def test_sandbox_rights_are_granted_by_options(ip: InteractiveShell, tmp_path: Path) -> None:
    """--read, --write, --env and --disk open exactly what they name."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("text")
    (tmp_path / "out").mkdir()
    cell = (
        "import os, pathlib\n"
        f"text = pathlib.Path({str(tmp_path / 'in' / 'a.txt')!r}).read_text()\n"
        f"pathlib.Path({str(tmp_path / 'out' / 'b.txt')!r}).write_text(text * 2)\n"
        "pathlib.Path('scratch').write_text('x')\n"
        "os.environ['TOKEN'], os.environ['AGENTPLUG_TEST_WORD']"
    )
    os.environ["AGENTPLUG_TEST_WORD"] = "a word"
    try:
        line = (
            f"--read {tmp_path / 'in'} --write {tmp_path / 'out'} --env TOKEN=x --env AGENTPLUG_TEST_WORD --disk 1M"
        )
        assert sandbox(ip, line, cell) == ("x", "a word")
    finally:
        del os.environ["AGENTPLUG_TEST_WORD"]
    assert (tmp_path / "out" / "b.txt").read_text() == "texttext"
    with pytest.raises(PluginError, match=r"PermissionError.*Policy\(read=\[") as caught:
        sandbox(ip, "", cell)
    assert f"rant it with --read {tmp_path / 'in' / 'a.txt'}" in caught.value._render_traceback_()[-1]


@pytest.mark.parametrize(("magic", "line"), [("sandbox", ""), ("load_plugin", "p")])
def test_an_impossible_grant_is_an_error_of_the_line(ip: InteractiveShell, magic: str, line: str) -> None:
    """With the option, the path and the remedy."""
    with pytest.raises(LineError, match="--read: '/no/such/place' isn't there; check the path, or make it first"):
        ip.run_cell_magic(
            magic, "p --read /no/such/place" if magic == "load_plugin" else "--read /no/such/place", "1"
        )


def test_sandbox_remedies_name_options(ip: InteractiveShell) -> None:
    """A magic's user reads of the option to raise."""
    with pytest.raises(LimitExceeded) as caught:
        sandbox(ip, "--cpu 0.1", "while True: pass")
    assert "; raise Policy(cpu_s=…) or --cpu if it should have more." in caught.value._render_traceback_()[0]


def test_a_bad_line_forgets_no_run_but_a_new_cell_does(ip: InteractiveShell) -> None:
    """A typo leaves the last Run bound; a cell that starts unbinds it, so an old one never stands for a new."""
    sandbox(ip, "", "1")
    with pytest.raises(LineError):
        sandbox(ip, "--nope", "1")
    assert "_run" in ip.user_ns
    with pytest.raises(SpecError, match="the cell is empty"):
        sandbox(ip, "", " \n")
    assert "_run" not in ip.user_ns


# ---------------------------------------------------------------------- %%sandbox --keep


def test_a_session_lives_on_from_cell_to_cell(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """Its variables and worker stay; `%plugins` lists it; another cell, and the notebook, see nothing of it."""
    sandbox(ip, "--keep work --memory 64M", "x = 41\ndef twice(n): return 2 * n")
    pid = ip.run_line_magic("plugins", "").sandboxes["work"].pid
    ip.user_ns["more"] = [1, 2]
    assert sandbox(ip, "--keep work -i more -o x", "x += 1\nx, twice(len(more))") == (42, 4)
    assert (ip.user_ns["x"], str(ip.user_ns["_run"])) == (42, "<Run of work: completed>")
    listed = ip.run_line_magic("plugins", "")
    assert listed.sandboxes["work"].pid == pid
    assert repr(listed).splitlines() == [
        "name  version  state  runs in                             hooks  calls  last verdict",
        "work           ready  a confined worker, cell after cell         2      completed",
    ]
    with pytest.raises(PluginError, match="NameError: name 'twice'"):
        sandbox(ip, "", "twice")
    with pytest.raises(PluginError, match="NameError: name 'twice'"):
        sandbox(ip, "--keep other", "twice")
    assert ip.run_line_magic("unload_plugin", "work") is None
    with pytest.raises(PluginError, match="Plugin work raised NameError: name 'x'"):
        sandbox(ip, "--keep work", "x")
    assert capsys.readouterr().err == ""


def test_a_lost_session_says_so_once(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """Above the next cell's own end, be that an error; the one after says nothing."""
    sandbox(ip, "--keep work", "x = 1")
    sandbox(ip, "--keep work --expect died", "import os; os._exit(3)")
    with pytest.raises(PluginError, match="NameError"):
        sandbox(ip, "--keep work", "x")
    assert capsys.readouterr().err == "work begins empty: its worker was lost (died:exit 3), and all names with it.\n"
    assert sandbox(ip, "--keep work", "5") == 5
    assert capsys.readouterr().err == ""


def test_a_session_keeps_its_limits(ip: InteractiveShell) -> None:
    """Later cells may leave them out or repeat them; others are refused, and the session stays."""
    sandbox(ip, "--keep work --memory 64M --cpu 2", "x = 1")
    assert sandbox(ip, "--keep work --memory 64M", "x") == 1
    with pytest.raises(LineError) as caught:
        sandbox(ip, "--keep work --memory 65M --wall 3", "x")
    assert str(caught.value) == (
        "--keep: the session 'work' began with another --memory, --wall; leave that out, or end the session with "
        "%unload_plugin work"
    )
    assert sandbox(ip, "--keep work", "x") == 1


def test_a_name_is_a_plugins_or_a_sessions(ip: InteractiveShell) -> None:
    """Neither takes the other's, and each error says whose it is; nothing is lost."""
    sandbox(ip, "--keep work", "x = 1")
    ip.run_cell_magic("load_plugin", "shy", GREETER)
    for refused in (
        lambda: sandbox(ip, "--keep shy", "1"),
        lambda: ip.run_cell_magic("load_plugin", "work", GREETER),
        lambda: ip.run_line_magic("reload_plugin", "work"),
        lambda: sandbox(ip, "--plugin work", "1"),
        lambda: sandbox(ip, "--keep 1x", "1"),
    ):
        with pytest.raises(LineError, match=r"'shy' is a loaded plugin|'work' is|'1x' can't be"):
            refused()
    assert sandbox(ip, "--keep work", "x") == 1
    assert list(ip.run_line_magic("plugins", "").manager.plugins) == ["shy"]


def test_unload_closes_the_sessions(ip: InteractiveShell) -> None:
    """As it closes the plugins."""
    sandbox(ip, "--keep work", "x = 1")
    box = ip.run_line_magic("plugins", "").sandboxes["work"]
    agentplug.unload_ipython_extension(ip)
    assert (box.state, box.pid) == ("closed", None)


# ---------------------------------------------------------------------- typos


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--memroy 64M", "there is no option '--memroy'; did you mean '--memory'?"),
        ("--mem 64M", "there is no option '--mem'; did you mean '--memory'?"),
        ("--zzz", "there is no option '--zzz'; the options are --memory, --cpu,"),
        ("-memory 64M", "there is no option '-memory'; did you mean '--memory'?"),
        ("stray", "'stray' is too much here"),
        ("memory 64M", "'memory 64M' is too much here; did you mean '--memory'?"),
        ("--memory", "--memory needs a value: --memory SIZE, memory that it may add, like 256M"),
        ("-i", "-i needs a value: -i NAME, variables to send in: a b, or a,b"),
        ("--memory $limt", "$limt: there is no variable 'limt'; did you mean '$limit'?"),
        ("--read $HOME", "$HOME: there is no variable 'HOME'; write $$HOME for the text itself"),
        ("--memory {limt}", "{limt}: NameError: name 'limt' is not defined; write {{…}} for the braces themselves"),
        ("--memory lots", "--memory='lots' isn't a size; write bytes, or text like '256M' or '1G'"),
        ("--memory -5", "--memory='-5' isn't a size; write bytes, or text like '256M' or '1G'"),
        ("--cpu fast", "--cpu: 'fast' isn't a time; write seconds, or text like 500ms, 90s or 2m"),
        ("--cpu 0", "--cpu=0.0: between 0.001 and 10,000,000 seconds, please"),
        ("--wall nan", "--wall=nan: between"),
        ("--processes 1.5", "--processes: '1.5' isn't a whole number"),
        ("--network maybe", "--network: 'maybe': write TCP ports like 443,8080, or yes, or no"),
        ("--network 99999", "--network: 99999 isn't a TCP port (1 to 65535)"),
        ("--env NO_SUCH_VARIABLE_X", "--env: NO_SUCH_VARIABLE_X isn't set here; write NO_SUCH_VARIABLE_X=VALUE"),
        ("--env =x", "--env: '' isn't the name of a variable"),
        ("-i nmbers", "-i: there is no variable 'nmbers'; did you mean 'numbers'?"),
        ("-o 1x", "-o: '1x' can't be a variable's name"),
        ("--run for", "--run: 'for' can't be a variable's name"),
        ("--run my-run", "--run: 'my-run' can't be a variable's name, my_run would do"),
        ("--expect limted", "--expect: there is no verdict 'limted'; did you mean 'limited'?"),
        ("--expect limited:memroy", "--expect: nothing is 'limited:memroy'; did you mean 'limited:memory'?"),
        ("--expect limited:", "--expect 'limited:': write limited, or limited:BY"),
        ("--expect completed:x", "--expect 'completed:x': write completed"),
        ("--plugin shyy", "no plugin 'shyy' is loaded; did you mean 'shy'?"),
        ("--expect 'open", "a quotation mark isn't closed"),
        ("--live=1", "--live takes no value"),
    ],
)
def test_sandbox_typos_are_errors_of_one_line(ip: InteractiveShell, line: str, told: str) -> None:
    """A typo names itself and the nearest right word; nothing is started for it."""
    ip.user_ns |= {"numbers": [1], "limit": "64M"}
    ip.run_cell_magic("load_plugin", "shy", GREETER)
    with pytest.raises(LineError) as caught:
        sandbox(ip, line, "1")
    assert told in str(caught.value)
    assert len(caught.value._render_traceback_()) == 1


@pytest.mark.parametrize(
    ("magic", "line", "told"),
    [
        ("load_plugin", "", "SPEC is missing: pkg.mod, pkg.mod:Class, ./file.py, or the name of an entry point"),
        ("load_plugin", "./greeter.py --as 2x", "--as NAME: '2x' can't be a variable's name"),
        ("load_plugin", "./2.py", "--as NAME: '2' can't be a variable's name"),
        ("load_plugin", "./greeter.py --config", "--config: '' is no Python expression"),
        ("load_plugin", "./greeter.py --config {", "--config: '{' is no Python expression"),
        ("load_plugin", "./greeter.py --config [1]", "--config '[1]' is a list; write a dict"),
        ("load_plugin", "./greeter.py --config nope", "--config 'nope': NameError: name 'nope' is not defined"),
        ("load_plugin", "./greeter.py --conifg {}", "did you mean '--config'?"),
        ("unload_plugin", "", "NAME is missing: a loaded plugin, or a kept session"),
        ("unload_plugin", "shyy", "no plugin 'shyy' is loaded; did you mean 'shy'?"),
        ("reload_plugin", "zzz", "no plugin 'zzz' is loaded; there are: shy"),
        ("reload_plugin", "shy again", "'again' is too much here"),
        ("plugins", "shy", "'shy' is too much here"),
        ("sandbox", "--memory 64M", "%sandbox is for a whole cell: write %%sandbox as its first line"),
        ("sandbox_doctor", "now", "'now' is too much here"),
    ],
)
def test_line_magic_typos_are_errors_of_one_line(ip: InteractiveShell, magic: str, line: str, told: str) -> None:
    """Every magic says what was wrong with its line, and changes nothing."""
    Path("greeter.py").write_text(GREETER)
    ip.run_cell_magic("load_plugin", "shy", GREETER)
    with pytest.raises(LineError) as caught:
        ip.run_line_magic(magic, line)
    assert told in str(caught.value)
    assert list(ip.run_line_magic("plugins", "").manager.plugins) == ["shy"]


def test_a_typo_is_an_error_output(ip: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and an exception that runners of notebooks notice; IPython's UsageError is none."""
    done = ip.run_cell("%load_plugin --nope", store_history=False)
    assert isinstance(done.error_in_exec, LineError)
    shown = capsys.readouterr()
    assert (shown.out.count("\n"), shown.err) == (1, "")
    assert shown.out.startswith("LineError: there is no option '--nope'")


@pytest.mark.parametrize(
    ("line", "cell", "value"),
    [
        ("-i n m", "n, m", (1, 2)),
        ("-i n,m", "n, m", (1, 2)),
        ("-i n, m --cpu 1", "n, m", (1, 2)),
        ("-i n -i m", "n, m", (1, 2)),
        ("-i n  # and no more: it's enough", "n", 1),
        ("# nothing but a comment, with --options", "1", 1),
        ("--env 'A=a # b' --env B=c#d", "import os\nos.environ['A'], os.environ['B']", ("a # b", "c#d")),
        ("--env A=$word", "import os\nos.environ['A']", "two words"),
        ("--env A={word.upper()}-{n + m}-{d['a b']}", "import os\nos.environ['A']", "TWO WORDS-3-4"),
        ("--env A=$$n{{m}}", "import os\nos.environ['A']", "$n{m}"),
        ("""--env 'A={"n": {"m": 1}}'""", "import os\nos.environ['A']", '{"n": {"m": 1}}'),
        ("-i n \\", "   -i m\nn + m", 3),
        ("-i n \\", "   -i m \\\n  # both\n\nn + m", 3),
        ("--wall 1m --cpu 1500ms --memory 64Mi --disk 1MiB", "1", 1),
    ],
)
def test_a_line_is_read_as_ipython_users_expect(ip: InteractiveShell, line: str, cell: str, value: Any) -> None:
    """Comments, continued lines, several names, units, and values of the notebook."""
    ip.user_ns |= {"n": 1, "m": 2, "word": "two words", "d": {"a b": 4}}
    assert sandbox(ip, line, cell) == value


def test_units_are_read(ip: InteractiveShell) -> None:
    """Seconds and sizes as people write them."""
    sandbox(ip, "--wall 1.5m --cpu 1500ms --memory 64Mi", "1")
    policy = ip.user_ns["_run"].policy
    assert (policy.wall_s, policy.cpu_s, policy.memory) == (90.0, 1.5, 64 << 20)


def test_lines_count_from_the_magics_line(ip: InteractiveShell) -> None:
    """Also below a line that a backslash continues."""
    with pytest.raises(PluginError) as caught:
        sandbox(ip, "--cpu 1 \\", "  --wall 2\n\n1 / 0")
    before = caught.value.run.error.traceback
    with pytest.raises(PluginError) as caught:
        sandbox(ip, "--cpu 1", "\n\n1 / 0")
    assert caught.value.run.error.traceback == before


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_printed(ip: InteractiveShell, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """For `-h`, as for `?`: the example and the options; nothing is run, loaded or unbound."""
    ip.run_cell(f"%%sandbox {option}", store_history=False)
    assert "%%sandbox --memory 64M" in (shown := capsys.readouterr().out)
    assert "--keep KEEP" in shown or "--keep NAME" in shown
    ip.run_cell(f"%load_plugin ./no.py {option}", store_history=False)
    assert "%load_plugin ./greeter.py" in capsys.readouterr().out


def test_a_cell_magic_alone_is_an_error(ip: InteractiveShell) -> None:
    """A first line without a cell below it isn't IPython's UsageError."""
    for cell, error in (("%%sandbox", SpecError), ("%%load_plugin x", SpecError), ("%%load_plugin", LineError)):
        assert isinstance(ip.run_cell(cell, store_history=False).error_in_exec, error)


def test_nothing_depends_on_history(ip: InteractiveShell) -> None:
    """Cells run without history; braces and dollars in an expression stay as they were typed."""
    Path("greeter.py").write_text(GREETER)
    done = ip.run_cell('%load_plugin ./greeter.py --config {"word": "$HOME {x}"}\n', store_history=False)
    assert done.success
    assert wait_for(ip.user_ns["greeter"].process("")) == "$HOME {x} "


def test_the_trusted_plugin_of_a_session_cannot_be_the_target(ip: InteractiveShell) -> None:
    """A plugin that runs in the kernel has no verdict, and --plugin says so."""

    class Mine:
        name, version = "mine", "1"

        async def initialize(self, config: Any) -> None: ...

        async def process(self, x: Any) -> Any:
            return x

    manager = ip.run_line_magic("plugins", "").manager

    async def register() -> None:
        await manager.register(Mine(), trusted=True)

    wait_for(register())
    with pytest.raises(LineError, match="'mine' is trusted and runs in the kernel"):
        sandbox(ip, "--plugin mine", "1")
    assert "the host, trusted and unconfined" in repr(ip.run_line_magic("plugins", ""))
