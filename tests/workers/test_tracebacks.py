"""Where a plugin failed: its own file or cell, line and text, in every way to call it."""

from __future__ import annotations

import pickle
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from agentplug import PluginError, Run, SandboxedPlugin
from agentplug.errors import LimitExceeded, SpecError
from tests.shells import ip, shell  # noqa: F401

HEAD = 'class FailsPlugin:\n    name = "fails"\n    version = "1"\n    async def initialize(self, config): ...\n'
PROCESS = "    async def process(self, case):\n        return getattr(self, case)()\n"
CASES = {
    "divide": ("1 / 0", ["1 / 0", "~~^~~", "ZeroDivisionError: division by zero"]),
    "library": ("import json; json.loads('{')", ["json.loads('{')", "  … 3 frames of json: ", "JSONDecodeError: "]),
    "recursion": ("self.recursion()", ["self.recursion()", "  … 9", "RecursionError: "]),
    "cause": (
        "try: int('x')\nexcept ValueError as e: raise KeyError('k') from e",
        ["try: int('x')", "ValueError: ", "was the direct cause of", "raise KeyError('k') from e", "KeyError: 'k'"],
    ),
    "context": ("try: int('x')\nfinally: None.y", ["ValueError: ", "During handling of", "AttributeError: "]),
    "suppressed": ("try: int('x')\nexcept ValueError: raise KeyError('k') from None", ["KeyError: 'k'"]),
    "group": (
        "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
        ["ExceptionGroup: two (2 sub-exceptions)", "  1 of 2:", "    ValueError: 1", "  2 of 2:", "    TypeError: 2"],
    ),
    "notes": ("e = ValueError('v'); e.add_note('a note'); raise e", ["ValueError: v", "a note"]),
    "huge": ("raise ValueError('x' * 1_000_000)", ["ValueError: xxx", " characters more)"]),
    "many lines": ("raise ValueError('x\\n' * 1_000_000)", ["ValueError: x", " lines more"]),
    "no text": (
        "class E(Exception):\n    def __str__(self): 1 / 0\nraise E",
        ["raise E", "E: <exception str() failed>"],
    ),
    "unicode": ("größe = '日本'; größe + 1", ["größe = '日本'; größe + 1", "TypeError: "]),
    "compiled": (
        "exec(compile('1 / 0', '<mine>', 'exec'))",
        ["exec(", 'File "<mine>", line 1', "ZeroDivision"],
    ),
    "syntax": ("compile('(', '<mine>', 'exec')", ['File "<mine>", line 1', "SyntaxError: '(' was never closed"]),
    "escapes": ("raise ValueError('\\x1b[31m\\u202e<b>')", ["ValueError: \\x1b[31m\\u202e<b>"]),
    "loops": ("e = ValueError('v'); e.__context__ = o = KeyError(); o.__context__ = e; raise e", ["ValueError: v"]),
    "long chain": (
        "e = None\nfor n in range(30):\n    o = e; e = ValueError(n); e.__cause__ = o\nraise e",
        ["… 20 exceptions before these", "ValueError: 20", "ValueError: 29"],
    ),
}


def plugin_code(cases: dict[str, tuple[str, list[str]]] = CASES) -> str:
    methods = "".join(
        f"    def {name.replace(' ', '_')}(self):\n{textwrap.indent(code, ' ' * 8)}\n"
        for name, (code, _) in cases.items()
    )
    return HEAD + PROCESS + methods


@pytest.fixture(scope="module")
def plugin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plugin") / "fails.py"
    file.write_text(plugin_code())
    return file


async def test_each_traceback_shows_the_plugins_lines_and_none_of_ours(plugin_file: Path) -> None:
    """In order, bounded, with the libraries folded: as text of the run and as the note of its error."""
    async with SandboxedPlugin(plugin_file) as plugin:
        for name, (_, expected) in CASES.items():
            run = await plugin.run(name.replace(" ", "_"))
            with pytest.raises(PluginError) as caught:
                run.check()
            [note] = caught.value.__notes__
            assert note.startswith("In plugin fails, as its worker says:\n"), name
            place = -1
            assert f'File "{plugin_file}", line 6, in process' in note, name
            for part in expected:
                place = note.find(part, place + 1)
                assert place >= 0, (name, part, note)
            assert "agentplug" not in note.replace(str(plugin_file), ""), name
            assert len(note) < 10_000
            assert "\x1b" not in note


async def _processed(plugin: SandboxedPlugin) -> None:
    await plugin.process("divide")


async def _checked(plugin: SandboxedPlugin) -> None:
    (await plugin.run("divide")).check()


async def _mapped(plugin: SandboxedPlugin) -> None:
    runs: list[Run] = [run async for run in plugin.map(["divide", "divide"], window=2)]
    runs[1].check()


async def _synchronous(plugin: SandboxedPlugin) -> None:
    plugin.run_sync("divide").check()


@pytest.mark.parametrize("way", [_processed, _checked, _mapped, _synchronous])
async def test_every_way_to_call_has_the_note(plugin_file: Path, way: Callable[[SandboxedPlugin], object]) -> None:
    async with SandboxedPlugin(plugin_file) as plugin:
        with pytest.raises(PluginError, match="Plugin fails raised ZeroDivisionError: division by zero") as caught:
            await way(plugin)  # type: ignore[misc]
    assert caught.type.__name__ == "ZeroDivisionError"
    assert not isinstance(caught.value, ZeroDivisionError)
    assert "\n    1 / 0\n    ~~^~~\n" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("import nowhere_to_be_found\n" + HEAD, "ModuleNotFoundError", "line 1, in <module>\n    import nowhere_to_"),
        (HEAD.replace("...", "config['k']") + PROCESS, "KeyError", "line 4, in initialize\n"),
        (HEAD + "    def __init__(self): self.x\n" + PROCESS, "AttributeError", "line 5, in __init__\n"),
    ],
    ids=["on import", "in initialize", "in the constructor"],
)
async def test_what_fails_before_a_call_says_where(tmp_path: Path, code: str, kind: str, expected: str) -> None:
    file = tmp_path / "early.py"
    file.write_text(code)
    with pytest.raises(PluginError) as caught:
        async with SandboxedPlugin(file) as plugin:
            await plugin.process(1)
    assert caught.type.__name__ == kind
    note = caught.value.__notes__[0]
    assert f'File "{file}", {expected}' in note
    assert "importlib" not in note


async def test_a_file_that_is_not_python_shows_its_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(HEAD + "    async def process(self, x):\n        return (x\n")
    with pytest.raises(SpecError, match="line 6 isn't Python: '\\(' was never closed") as caught:
        await SandboxedPlugin(file).start()
    assert caught.value.__notes__ == [
        f"  File \"{file}\", line 6\n    return (x\n           ^\nSyntaxError: '(' was never closed"
    ]


async def test_a_limit_shows_where_it_was_met(tmp_path: Path) -> None:
    """The class of the error stays ours."""
    file = tmp_path / "hog.py"
    file.write_text(HEAD + "    async def process(self, x):\n        return len(bytearray(1 << 40))\n")
    async with SandboxedPlugin(file) as plugin:
        with pytest.raises(LimitExceeded, match="exceeded memory limit") as caught:
            await plugin.process(1)
    assert caught.type is LimitExceeded
    assert "    return len(bytearray(1 << 40))\n" in caught.value.__notes__[0]


async def test_an_error_can_be_pickled(plugin_file: Path) -> None:
    """For executors of other processes, with its name, its class, its run and its note."""
    async with SandboxedPlugin(plugin_file) as plugin:
        with pytest.raises(PluginError) as caught:
            await plugin.process("divide")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (type(error), str(error)) == (caught.type, str(caught.value))
    assert (error.__notes__, error.run.verdict) == (caught.value.__notes__, caught.value.run.verdict)


@pytest.mark.parametrize("name", ["1x", "", "x" * 101, "PluginError"])
def test_a_name_that_no_class_has_is_left_out(name: str) -> None:
    assert type(PluginError.named(name, "text")) is PluginError


# ---------------------------------------------------------------------- notebooks


def shown(ip: InteractiveShell, cell: str) -> str:  # noqa: F811
    """Run a cell that fails; return the text that a notebook shows."""
    error = ip.run_cell(cell).error_in_exec
    assert error is not None
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error._render_traceback_()))


def test_a_plugins_cell_counts_its_lines_as_the_front_end(ip: InteractiveShell) -> None:  # noqa: F811
    """The magic's line is line 1; the kernel's part holds the user's own cell and nothing of ours."""
    ip.run_cell(f"%%load_plugin fails\n{plugin_code()}").raise_error()
    text = shown(ip, "def go():\n    return fails.run_sync('divide').check()\ngo()")
    assert 'File "<cell fails>", line 7, in process' in text
    assert "return fails.run_sync('divide').check()" in text
    assert "ZeroDivisionError: Plugin fails raised ZeroDivisionError: division by zero" in text
    assert "agentplug/" not in text


def test_a_cell_shows_its_traceback_alone(ip: InteractiveShell) -> None:  # noqa: F811
    text = shown(
        ip,
        "%%sandbox\nimport copy\nnest = (n for n in ())\nfor _ in range(60):\n    nest = [nest]\ncopy.deepcopy(nest)",
    )
    assert "    copy.deepcopy(nest)\n  … 121 frames of copy: " in text
    assert len(text.split("\n")) == 5


def test_an_object_of_the_notebook_shows_its_cells_lines(ip: InteractiveShell) -> None:  # noqa: F811
    """Those of the functions that were sent, also of one that went in as a variable; the worker has no more of it."""
    define = (
        'SECRET = "of the cell"\ndef helper(x):\n    return 1 / x\n'
        + HEAD
        + PROCESS.replace("getattr(self, case)()", "helper(0)")
    )
    ip.run_cell(define).raise_error()
    text = shown(ip, "from agentplug import SandboxedPlugin\nSandboxedPlugin(FailsPlugin).run_sync(1).check()")
    number = re.search(r"Cell In\[(\d+)\], line 9, in process\n    return helper\(0\)\n", text)
    assert number is not None, text
    assert f"Cell In[{number[1]}], line 3, in helper\n    return 1 / x\n           ~~^~~\n" in text
    text = shown(ip, "%%sandbox -i helper\nhelper(0)")
    assert f"Cell In[{number[1]}], line 3, in helper\n    return 1 / x\n" in text
    ip.run_cell(
        "%%sandbox -i helper\nimport linecache\nfile = helper.__code__.co_filename\n''.join(linecache.getlines(file))"
    )
    assert ip.user_ns["_run"].value == "\ndef helper(x):\n    return 1 / x\n"


async def test_an_object_of_a_file_of_the_users_shows_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker can't read that file."""
    (tmp_path / "mine_to_import.py").write_text(plugin_code())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_to_import", raising=False)
    import mine_to_import  # type: ignore[import-not-found]

    with pytest.raises(PluginError) as caught:
        async with SandboxedPlugin(mine_to_import.FailsPlugin) as plugin:
            await plugin.process("divide")
    assert (
        f'File "{tmp_path}/mine_to_import.py", line 8, in divide\n    1 / 0\n    ~~^~~' in caught.value.__notes__[0]
    )
