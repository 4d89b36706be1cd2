"""The command line (host): `agentplug demo | run | doctor | audit | lock | list | lab`.

Exit status 0 for the good answer (every verdict as expected, a completed run, a fit machine), 1 for the other one, 2
if the command could not begin: a wrong option, no such plugin, a barrier that this machine lacks. Commands import
inside their functions, so that `--help` and a typo are answered at once.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from agentplug.cli.audit import app as audit_app
from agentplug.cli.terminal import console, exit_with_message, say
from agentplug.contract.limits import FIELDS, Field
from agentplug.contract.options import policy_from_options

F = TypeVar("F", bound=Callable[..., None])

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run untrusted agent plugins in confined worker processes.",
)
app.add_typer(audit_app, name="audit")
_RIGHTS = "Rights and limits"


def main() -> None:
    """Run the command line; the entry point `agentplug`."""
    app(prog_name="agentplug")


def _show_version(version_asked: bool) -> None:
    if version_asked:
        from importlib.metadata import version

        typer.echo(f"agentplug {version('agentplug')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where to save the picture.")] = Path("agentplug-demo.png"),
) -> None:
    """Watch a good plugin and fifteen bad ones be run, judged and measured (about five seconds)."""
    from agentplug.cli.demo import show

    if not output.parent.is_dir():
        say(f"--output {output}: there is no directory {output.parent}; make it, or name another")
        raise typer.Exit(2)
    with exit_with_message():
        notebook = min(_notebooks().glob("*quickstart*.ipynb"), default=Path("notebooks/01-quickstart.ipynb"))
        good = show(console(), output, _relative(notebook), f"{_command()} lab")
    raise typer.Exit(0 if good else 1)


def _with_options(*rows: Field) -> Callable[[F], F]:
    """Give a command the options of these fields: they come to it as its keyword arguments."""

    def decorated(command: F) -> F:
        *parameters, _ = inspect.signature(command, eval_str=True).parameters.values()
        for row in rows:
            metavar = None if row.is_switch else row.kind.metavar
            option = typer.Option(f"--{row.option}", metavar=metavar, help=row.help, rich_help_panel=_RIGHTS)
            takes: Any = bool if row.is_switch else list[str] | None if row.kind.many else str | None
            usual = False if row.is_switch else None
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(inspect.Parameter(row.key, kind, default=usual, annotation=Annotated[takes, option]))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorated


@app.command()
@_with_options(*FIELDS.values())
def run(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="pkg.mod, pkg.mod:Class, ./file.py:Class or an entry point's name.")
    ],
    argument: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="Its input; - reads standard input.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="INPUT is JSON, and not just text.")] = False,
    config: Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object for its initialize().")] = None,
    locked: Annotated[bool, typer.Option("--locked", help="Only what agentplug.lock pins, as it is pinned.")] = False,
    **limits: Any,
) -> None:
    """Call one plugin once. The value goes to standard output as JSON, all else to standard error."""
    with exit_with_message():
        from agentplug.cli.run import run_plugin

        status = run_plugin(spec, policy_from_options(limits), argument, config, as_json=as_json, locked=locked)
    raise typer.Exit(status)


@app.command()
def doctor(
    attack: Annotated[
        bool, typer.Option("--attack", help="Also let every plugin of the zoo loose: a minute or so.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the attacks came to, as .html, .csv or .json.")
    ] = None,
) -> None:
    """Try each barrier of this machine in throwaway workers. Status 1 if one is missing or an attack got through."""
    from agentplug.doctor.console import check_place, save_matrix, show

    with exit_with_message():
        if save is not None:
            check_place(save, attack)
        diagnosis = show(console(), console(stderr=True), attack)
        if save is not None and diagnosis.matrix is not None:
            save_matrix(diagnosis.matrix, save)
    raise typer.Exit(0 if diagnosis.fit else 1)


@app.command()
@_with_options(*(row for row in FIELDS.values() if row.is_right))
def lock(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPEC…", help="Plugins to pin, also NOTEBOOK.ipynb#NAME; a version may follow: 'greeter>=1,<2'."
        ),
    ] = None,
    upgrade: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Pin this one anew, as it is now; may be repeated.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; status 1 and a diff if anything changed.")
    ] = False,
    path: Annotated[str, typer.Option("--lock", metavar="FILE", help="The lock.")] = "agentplug.lock",
    pylock: Annotated[
        str, typer.Option(metavar="FILE", help="A PEP 751 lock, to take over its hashes and attestations.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Agree to what would be asked.")] = False,
    **limits: Any,
) -> None:
    """Pin plugins by their bytes in agentplug.lock, or compare them with it; rights are what each may be granted."""
    with exit_with_message():
        if (check and (specs or upgrade)) or not (check or specs or upgrade):
            say("write agentplug lock SPEC…, or --upgrade NAME, or --check alone")
            raise typer.Exit(2)
        from agentplug.cli.lock import check_lock, lock_plugins
        from agentplug.manager.pins.lockfile import lock_path
        from agentplug.manager.pins.pin import rights_from_options

        rights = rights_from_options(limits, os.path.dirname(lock_path(path)))
        status = (
            check_lock(console(), path)
            if check
            else lock_plugins(console(), path, specs or (), upgrade or (), rights, yes=yes, pylock=pylock)
        )
    raise typer.Exit(status)


@app.command("list")
def list_plugins(
    path: Annotated[str, typer.Option("--lock", metavar="FILE", help="The lock.")] = "agentplug.lock",
) -> None:
    """List the plugins that installed packages announce: what they ask for, whether pinned. None is imported."""
    with exit_with_message():
        from agentplug.cli.lock import list_available

        status = list_available(console(), path)
    raise typer.Exit(status)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open JupyterLab on the notebooks; more arguments are JupyterLab's own."""
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        say("JupyterLab isn't installed here; pip install 'agentplug[lab]', or in a checkout pip install -e '.[lab]'")
        raise typer.Exit(2)
    command = [sys.executable, "-m", "jupyterlab", str(_notebooks()), *context.args]
    sys.stdout.flush()
    os.execv(sys.executable, command)


def _notebooks() -> Path:
    """Return the folder of notebooks: this checkout's, or the current directory's, or that directory itself."""
    places = [Path(__file__).resolve().parents[2] / "notebooks", Path.cwd() / "notebooks"]
    return next((place for place in places if any(place.glob("*.ipynb"))), Path.cwd())


def _command() -> str:
    """Return the command for calling this program again: its name if that is on PATH, else its path."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_relative(Path(sys.executable))} -m agentplug"
    path = shutil.which(called.name)
    return called.name if path and Path(path).resolve() == called.resolve() else str(_relative(called))


def _relative(path: Path) -> Path:
    """Return `path` relative to the current directory, if it is below that."""
    with contextlib.suppress(ValueError):
        return path.relative_to(Path.cwd())
    return path
