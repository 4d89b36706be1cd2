"""The doctor in a terminal, and the battery's matrix as a file (host)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agentplug.contract.regular_file import replacing
from agentplug.contract.text import printable
from agentplug.core.progress import bars_are_visible
from agentplug.doctor.battery.catalogue import CATALOGUE
from agentplug.doctor.battery.matrix import Matrix, Row
from agentplug.doctor.diagnosis import NOT_ATTACKED, Diagnosis
from agentplug.errors import PolicyError
from agentplug.report.spreadsheet import safe_rows

if TYPE_CHECKING:
    from rich.console import Console

SUFFIXES = (".html", ".csv", ".json")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>agentplug: attacks on this machine</title></head>
<body>
{body}
</body></html>
"""


def show(console: Console, progress: Console, attack: bool) -> Diagnosis:
    """Examine this machine and print the diagnosis; `progress` gets the progress bar of the attacks."""
    import agentplug.doctor as examined
    from agentplug.report.barriers import diagnosis_rich

    diagnosis = examined.doctor()
    console.print(f"\n{diagnosis.machine}", markup=False)
    if diagnosis.rows:
        console.print(diagnosis_rich(diagnosis.rows))
    for row in diagnosis.rows:
        if row["lost"]:
            text = f"{row['barrier']} can't protect {', '.join(row['lost'])}: {row['remedy'] or 'no remedy known'}"
            console.print(printable(text, 1_000), markup=False, style="red", soft_wrap=True)
    style = "green" if diagnosis.fit else "red"
    console.print(printable(diagnosis.summary(), 1_000), markup=False, style=style, soft_wrap=True)
    if attack:
        diagnosis = _attack(diagnosis, progress)
        text = str(diagnosis.matrix) if diagnosis.matrix is not None else NOT_ATTACKED
        console.print(f"\n{text}", markup=False, style="" if diagnosis.fit else "red", soft_wrap=True)
    return diagnosis


def _attack(diagnosis: Diagnosis, console: Console) -> Diagnosis:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from agentplug.doctor import entry

    columns = (
        TextColumn("attacks"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not bars_are_visible()) as bar:
        task = bar.add_task("", total=len(CATALOGUE))

        def advance(row: Row) -> None:
            bar.update(task, advance=1, description=f"{row.family}:{row.attack}")

        return entry.attacked(diagnosis, advance)


def check_place(path: Path, attack: bool) -> None:
    """Raise `PolicyError` unless there are attacks to save and `path` can take them."""
    if not attack:
        raise PolicyError("--save writes what the attacks came to: use it with --attack")
    if path.suffix not in SUFFIXES:
        raise PolicyError(f"--save {path}: name a file that ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise PolicyError(f"--save {path}: there is no directory {path.parent}; make it, or name another")


def save_matrix(matrix: Matrix, path: Path) -> None:
    """Write the matrix as a page, or as a row an attack. Raises `PolicyError` if the file can't be written."""
    try:
        with replacing(path) as new:
            if path.suffix == ".html":
                new.write_text(_PAGE.format(body=matrix._repr_html_()), encoding="utf-8")
            elif path.suffix == ".csv":
                safe_rows(matrix.to_frame()).to_csv(new, index=False)
            else:
                matrix.to_frame().to_json(new, orient="records", indent=2)
    except OSError as error:
        raise PolicyError(f"--save {path}: {error.strerror}") from None
