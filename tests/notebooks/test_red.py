"""What is misspelt, missing or fails in a notebook is an error output, so that every runner of notebooks sees red."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

MISTAKES = {
    "an option that isn't there": "%%sandbox --memroy 64M\n1",
    "an option without a value": "%%sandbox --memory\n1",
    "a value that can't be": "%%sandbox --memory lots\n1",
    "a variable that isn't there": "%%sandbox -i nothere\n1",
    "a name that no variable has": "%%sandbox -o 3x\n1",
    "a wanted variable that isn't left": "%%sandbox -o total\n1",
    "a verdict that can't be": "%%sandbox --expect limited:memry\n1",
    "another verdict than the expected one": "%%sandbox --expect limited:memory\n1",
    "no code": "%%sandbox\n",
    "a plugin that isn't loaded": "%%sandbox --plugin nosuch\n1",
    "nothing to load": "%load_plugin",
    "a plugin that isn't there": "%load_plugin no_such_module_anywhere",
    "a name for a plugin that can't be": "%load_plugin agentplug.plugins.word_count --as 3x",
    "a configuration that is no dict": "%load_plugin agentplug.plugins.word_count --config 3",
    "a plugin's cell without a name": "%%load_plugin\nclass APlugin: ...",
    "a plugin's cell without a plugin": "%%load_plugin a\nx = 1",
    "a plugin's cell that isn't Python": "%%load_plugin a\nclass APlugin(:",
    "nothing of that name to unload": "%unload_plugin nosuch",
    "nothing of that name to reload": "%reload_plugin nosuch",
    "a word too many": "%plugins all",
    "a bug": "%%sandbox\n1 / 0",
    "a limit": "%%sandbox --cpu 0.05\nwhile True: pass",
    "a name that only the notebook has": "%%sandbox\nlength",
}
FIRST = ["%load_ext agentplug", "length = 5"]


def notebook(folder: Path, cells: list[str]) -> Path:
    """A notebook of these cells, as if each had run without output."""
    node = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        cells=[nbformat.v4.new_code_cell(cell, execution_count=n) for n, cell in enumerate(cells, 1)],
    )
    file = folder / "mistakes.ipynb"
    nbformat.write(node, file)
    return file


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=folder, timeout=110, check=False
    )


@pytest.mark.parametrize("strictness", ["--nbval", "--nbval-lax"])
def test_nbval_fails_each_cell_that_has_a_mistake(tmp_path: Path, strictness: str) -> None:
    """Strict or lax, and no cell without a mistake."""
    file = notebook(tmp_path, [*FIRST, *MISTAKES.values()])
    options = [strictness, "--nbval-current-env", "--nbval-cell-timeout=60", "-p", "no:cacheprovider", "-rA", "-q"]
    done = run(tmp_path, "-m", "pytest", *options, str(file))
    failed = {int(number) for number in re.findall(r"^FAILED mistakes\.ipynb::Cell (\d+)", done.stdout, re.M)}
    unseen = {name for number, name in enumerate(MISTAKES, len(FIRST)) if number not in failed}
    assert not unseen, done.stdout
    assert failed == set(range(len(FIRST), len(FIRST) + len(MISTAKES)))


@pytest.mark.parametrize("runner", ["nbmake", "papermill", "nbclient"])
def test_other_runners_fail_a_notebook_with_a_typo(tmp_path: Path, runner: str) -> None:
    """Each stops at an error output."""
    pytest.importorskip(runner)
    file = str(notebook(tmp_path, [*FIRST, MISTAKES["an option that isn't there"]]))
    command = {
        "nbmake": ["-m", "pytest", "--nbmake", "-p", "no:cacheprovider", file],
        "papermill": ["-m", "papermill", file, str(tmp_path / "out.ipynb")],
        "nbclient": ["-c", "from nbclient.cli import main; main()", file],
    }[runner]
    done = run(tmp_path, *command)
    assert done.returncode != 0
    assert "there is no option '--memroy'; did you mean '--memory'?" in done.stdout + done.stderr
