"""The sentence that a person reads below the error of a cell, for mistakes that people make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.shells import bare_shell

TABLE = Path(__file__).with_name("data").joinpath("hints.cells").read_text()
CELLS = re.findall(r"^# --- ([^\n]*)\n(.*?)\n(?=# --- |\Z)", TABLE, re.M | re.S)
NO_PROCESS = "It may start no processes: grant some with --processes 4, in code Policy(processes=4)."
AWAIT = "A coroutine runs when it is awaited: write await before the call."
LOST = "Give it more room with --disk, in code Policy(disk=…)."
NO_ROOM = "It has no room in its folder: give it some with --disk 16M, in code Policy(disk='16M')."
PRELOAD = "import it before the limit counts, with --preload pandas, in code Policy(preload=['pandas'])."


def raise_limit(field: str, option: str) -> str:
    return f"raise Policy({field}=…) or --{option} if it should have more."


@pytest.fixture(scope="module")
def ip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    """A shell with a session whose worker runs one cell after another."""
    with pytest.MonkeyPatch.context() as patch, bare_shell() as shell:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        shell.run_cell("%load_ext agentplug\nimport pathlib\nlength = 5").raise_error()
        yield shell


def shown(ip: InteractiveShell, line: str, cell: str) -> str:
    """Run a cell that fails; return the text that a notebook shows."""
    error = ip.run_cell(f"%%sandbox {line}\n{cell}").error_in_exec
    assert error is not None
    return "\n".join(error._render_traceback_())


@pytest.mark.parametrize(("sentence", "cell"), CELLS, ids=[cell for _, cell in CELLS])
def test_the_error_of_a_cell_ends_in_a_hint(ip: InteractiveShell, cell: str, sentence: str) -> None:
    """The run's own explanation says the same. Without a hint, the error is Python's own."""
    text = shown(ip, "--keep one --memory 256M --cpu 5 --wall 10", cell)
    run = ip.user_ns["_run"]
    if sentence == "-":
        assert text.split("\n")[-1].startswith(run.error.type)
        assert re.fullmatch(rf"Plugin one raised {run.error.type}: [^;]*", run.explain())
    else:
        assert sentence in text
        assert run.explain().lower().endswith(sentence.lower())


def test_the_corpus_is_large_enough() -> None:
    assert len(CELLS) > 60


@pytest.mark.parametrize(
    ("line", "cell", "sentence"),
    [
        ("--memory 24M", "import pandas", PRELOAD),
        ("--memory 24M", "x = bytearray(1 << 26)", raise_limit("memory", "memory")),
        ("--cpu 0.2", "while True: pass", raise_limit("cpu_s", "cpu")),
        ("--wall 0.3", "import time\ntime.sleep(60)", "raise Policy(wall_s=…) or --wall if it may take longer."),
        ("--reply 300K", "'x' * 1_000_000", "return less, or raise Policy(reply=…) or --reply."),
        ("--disk 4K", "open('x', 'w').write('x' * 100_000)", raise_limit("disk", "disk")),
        ("--disk 0", "import tempfile\ntempfile.NamedTemporaryFile()", NO_ROOM),
    ],
)  # fmt: skip
def test_a_limit_names_its_option(ip: InteractiveShell, line: str, cell: str, sentence: str) -> None:
    assert sentence in shown(ip, line, cell)
    assert ip.user_ns["_run"].explain().lower().endswith(sentence.lower())


@pytest.mark.parametrize(
    ("line", "cell", "sentence"),
    [
        ("--disk 0", "len(open('notes.txt', 'w').name)", ""),
        ("--disk 0", "open('notes.txt', 'w').write('two words')", LOST),
        ("", "import os\nos.system('ls')", NO_PROCESS),
        (
            "",
            "async def get():\n    return 5\nget()",
            "A coroutine runs when it is awaited: write await before the call.",
        ),
        ("", "async def get():\n    return 5\nget()\n1", "A coroutine runs when it is awaited: write await get(…)."),
    ],
)
def test_a_cell_that_completes_says_it_too(
    ip: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, cell: str, sentence: str
) -> None:
    """On standard error, where nothing was raised: a lost write, a refused process, a forgotten await."""
    ip.run_cell(f"%%sandbox {line}\n{cell}").raise_error()
    told = capsys.readouterr().err
    assert told.lower().rstrip("\n").endswith(sentence.lower())
    assert bool(sentence) == bool(told)


def test_a_path_that_may_be_read_is_granted_for_writing(ip: InteractiveShell, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    text = shown(ip, f"--read {tmp_path}", f"open({str(tmp_path / 'a.txt')!r}, 'w')")
    assert f"It may read that alone: grant more with --write {tmp_path}/a.txt, in code Policy(write=[" in text


def test_what_a_cell_has_that_needs_no_hint(ip: InteractiveShell) -> None:
    """`help` and `%matplotlib inline` work, wherever that line stands; in a text it is text."""
    lines = ["if True:", "    %matplotlib inline", "%matplotlib notebook  # for figures", "help(len)"]
    text = "'''\n%matplotlib inline\n'''"
    assert ip.run_cell("\n".join(("%%sandbox", *lines, text))).raise_error() is None
    run = ip.user_ns["_run"]
    assert run.value == "\n%matplotlib inline\n"
    assert run.stdout.startswith("Help on built-in function len")


def test_a_breakpoint_prints_nothing(ip: InteractiveShell) -> None:
    text = shown(ip, "", "x = 1\nbreakpoint()")
    assert "bdb" not in text
    assert ip.user_ns["_run"].stdout == ""
