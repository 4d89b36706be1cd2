"""The doctor: a status is what was seen in a worker, on this machine and on poorer ones; and what it shows."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import agentplug.doctor
from agentplug.cli.app import app
from agentplug.contract.policy import Policy
from agentplug.doctor import Diagnosis, entry, examination
from agentplug.doctor.battery.matrix import Matrix, Row
from agentplug.doctor.looks import Finding, of_environment
from agentplug.report.barriers import diagnosis_rich

COLUMNS = ["barrier", "protects against", "status", "evidence", "remedy"]
ROW = {
    "barrier": "landlock",
    "protects": "files",
    "status": "enforced",
    "evidence": "read a key: EACCES",
    "remedy": "",
    "lost": [],
}
GAP = ROW | {"status": "unavailable", "evidence": "read a key: it got through", "remedy": "on!", "lost": ["files"]}
HELD = Row("Hoarder", "memory", "memory", "limited:memory", "limited:memory", True, "unharmed", 0.1, 1.0)
THROUGH = Row("Caller", "network", "services", "failed:PermissionError", "completed", False, "called", 0.1, 1.0)
REFUSED = Row("Caller", "network", "services", "failed:PermissionError", "refused", True, "nothing ran", 0.1, 1.0)


def test_a_workers_word_makes_a_status_worse_and_never_better() -> None:
    """What was seen decides."""
    report = {"barrier": "landlock", "protects": "files", "status": "enforced", "lost": [], "remedy": ""}
    held, through = Finding("landlock", True, "a"), Finding("landlock", False, "b")

    def status(report: dict[str, Any], *findings: Finding) -> tuple[str, bool]:
        row = examination._row(report, list(findings))
        return row["status"], bool(row["lost"])

    assert status(report, held) == ("enforced", False)
    assert status(report, held, through) == ("partial", True)
    assert status(report, through) == ("unavailable", True)
    assert status(report) == ("unavailable", True)
    assert status(report | {"status": "partial"}, held) == ("partial", False)
    assert status(report | {"status": "unavailable", "lost": ["files"]}, held) == ("unavailable", True)


def test_a_variable_of_the_hosts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH and LANG are everybody's; a name alone is no secret."""
    monkeypatch.setenv("DOCTORS_KEY", "secret")
    path = f"PATH={os.environ.get('PATH', '')}"

    assert of_environment([path, "HOME=/elsewhere", "DOCTORS_KEY=another"]).holds
    assert not of_environment([path, "DOCTORS_KEY=secret"]).holds


# ---------------------------------------------------------------------- what is shown


def test_a_diagnosis_is_a_frame_of_five_columns() -> None:
    """Also an empty one."""
    frame = Diagnosis("machine", (ROW, GAP)).to_frame()

    assert list(frame.columns) == list(Diagnosis("machine", (), "no Linux").to_frame().columns) == COLUMNS
    assert frame["status"].tolist() == ["enforced", "unavailable"]
    assert isinstance(frame, pd.DataFrame)


def test_fit_asks_for_promises_and_for_attacks_if_they_were_made() -> None:
    """A matrix that couldn't be made proves nothing, nor does one in which nothing was begun."""
    assert Diagnosis("m", (ROW,)).fit
    assert not Diagnosis("m", (ROW, GAP)).fit
    assert not Diagnosis("m", (), "no Linux").fit
    assert Diagnosis("m", (ROW,), attack=True, matrix=Matrix((HELD,))).fit
    for matrix in (None, Matrix(()), Matrix((HELD, THROUGH)), Matrix((REFUSED,))):
        assert not Diagnosis("m", (ROW,), attack=True, matrix=matrix).fit


def test_a_matrix_says_how_many_attacks_were_never_begun() -> None:
    """A start that is refused harms nobody, and proves nothing of the barriers."""
    assert "(1 of them refused a start" in Matrix((HELD, REFUSED)).summary()
    assert "refused" not in Matrix((HELD,)).summary()


def test_tables_show_all_at_80_columns_and_obey_no_markup() -> None:
    """Words are wrapped and never cut, in a terminal; and text stays text, here and in a page."""
    hostile = "<b>[red]x[/red]\x1b[2J"
    row = GAP | {"evidence": hostile}
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(diagnosis_rich([ROW, row]))
    text = capture.get()
    page = Diagnosis("m", (row,))._repr_html_()

    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(word in text for word in (*COLUMNS, "✓ enforced", "✗ unavailable", "[red]x[/red]", "EACCES"))
    assert not {"\x1b", "<b>["} & {part for part in ("\x1b", "<b>[") if part in page}
    assert "\x1b" not in text
    assert "remedy" in repr(Diagnosis("m", (GAP,)))


# ---------------------------------------------------------------------- the command


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str, matrix: Matrix | None = None) -> Any:
    """`agentplug doctor` on a fit machine where the battery finds this."""
    monkeypatch.setattr(agentplug.doctor, "doctor", lambda: Diagnosis("a machine", (ROW,)))

    def attacked(diagnosis: Diagnosis, progress: Any) -> Diagnosis:
        for row in matrix.rows if matrix is not None else ():
            progress(row)
        return Diagnosis(diagnosis.machine, diagnosis.rows, attack=True, matrix=matrix)

    monkeypatch.setattr(entry, "attacked", attacked)
    return CliRunner().invoke(app, ["doctor", *arguments])


@pytest.mark.parametrize(
    ("matrix", "status", "told"),
    [
        (Matrix((HELD,)), 0, "1 of 1 attacks were contained"),
        (Matrix((HELD, THROUGH)), 1, "network:Caller got through"),
        (None, 1, "No attack was run"),
    ],
)
def test_attacks_that_get_through_are_told_in_full_with_status_1(
    monkeypatch: pytest.MonkeyPatch, matrix: Matrix | None, status: int, told: str
) -> None:
    """A script may rely on the status; where nothing could be tried, nothing is fine."""
    done = invoke(monkeypatch, "--attack", matrix=matrix)

    assert done.exit_code == status
    assert told in done.output
    assert ("called" in done.output) == (status == 1 and matrix is not None)


@pytest.mark.parametrize("suffix", [".html", ".csv", ".json"])
def test_a_matrix_is_saved_by_the_files_suffix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str) -> None:
    """A page, or a row an attack."""
    place = tmp_path / f"matrix{suffix}"

    invoke(monkeypatch, "--attack", "--save", str(place), matrix=Matrix((HELD, THROUGH)))

    text = place.read_text()
    if suffix == ".html":
        assert text.startswith("<!doctype html>")
        assert "Caller" in text
    else:
        rows = json.loads(text) if suffix == ".json" else pd.read_csv(place).to_dict("records")
        assert [row["attack"] for row in rows] == ["Hoarder", "Caller"]


def test_no_evidence_in_a_saved_matrix_is_run_by_a_spreadsheet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A plugin's words stand in it: the type of its exception, what it said."""
    said = dataclasses.replace(THROUGH, verdict="=cmd|'/c calc'!A1", evidence="x;=1+1")

    invoke(monkeypatch, "--attack", "--save", str(tmp_path / "matrix.csv"), matrix=Matrix((said,)))

    (row,) = pd.read_csv(tmp_path / "matrix.csv").to_dict("records")
    assert (row["verdict"], row["evidence"]) == ("'=cmd|'/c calc'!A1", "x;'=1+1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--save", "m.csv"], "use it with --attack"),
        (["--attack", "--save", "m.doc"], "ends in .html, .csv, .json"),
        (["--attack", "--save", "nowhere/m.csv"], "there is no directory nowhere"),
    ],
)
def test_a_place_that_will_not_do_is_told_before_anything_is_tried(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    """Half a minute later would be too late."""
    done = invoke(monkeypatch, *arguments, matrix=Matrix((HELD,)))

    assert done.exit_code == 2
    assert told in done.output.replace("\n", " ")
    assert "machine" not in done.output


def test_policies_of_trials_go_on_without_a_barrier() -> None:
    """Or else a poor machine would only be told that it is poor."""
    from agentplug.doctor.trials import TRIALS

    for trial in TRIALS:
        assert isinstance(examination._with(trial.attack, ()).policy, Policy)
        assert examination._with(trial.attack, ()).policy.best_effort
