"""`agentplug audit verify | show | export` (host).

Exit status 0 for a log that can be trusted, 1 for one that can't (the first bad line is named), 2 for no log.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agentplug.cli.terminal import console, exit_with_message, say

app = typer.Typer(no_args_is_help=True, help="Verify, show or export an audit log.")
_File = Annotated[Path, typer.Argument(metavar="FILE", help="The log; its full parts FILE.1, FILE.2 belong to it.")]


@app.command()
def verify(
    file: _File,
    head: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="A hash noted earlier: the log must still hold the line that has it."),
    ] = None,
) -> None:
    """Check every line and the links between them. Status 1 and the first bad line if something was changed."""
    from agentplug.manager.audit.chain import verify as check

    with exit_with_message():
        verification = check(file, head)
    if not verification.ok:
        say(str(verification))
        raise typer.Exit(1)
    typer.echo(f"{verification}\nhead {verification.head}")


@app.command()
def show(
    file: _File,
    plugin: Annotated[str | None, typer.Option(metavar="NAME", help="Only what concerns this plugin.")] = None,
    point: Annotated[str | None, typer.Option(metavar="POINT", help="Only this hook point.")] = None,
    verdict: Annotated[
        str | None, typer.Option(metavar="KIND[:BY]", help="Only this verdict, like limited, limited:cpu or denied.")
    ] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only lines like run, load, dispatch.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From this time on (ISO, else UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this time.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="The last N lines of those.")] = 50,
) -> None:
    """Show the log as a table, up to the first bad line; if there is one, the status is 1."""
    with exit_with_message():
        from agentplug.manager.audit.reading import read_audit

        audit = read_audit(file, partial=True)
        chosen = audit.select(kind=kind, plugin=plugin, point=point, verdict=verdict, since=since, until=until)
    console().print(chosen.table(limit))
    if len(chosen) > limit:
        typer.echo(f"the last {limit} of {len(chosen)} lines; --limit shows more")
    if not audit.verification.ok:
        sys.stdout.flush()
        say(str(audit.verification))
        raise typer.Exit(1)


@app.command()
def export(
    file: _File,
    otlp: Annotated[str, typer.Option("--otlp", metavar="URL", help="Like http://localhost:4318/v1/traces.")],
) -> None:
    """Send the log's runs and hooks to an OpenTelemetry collector, as spans (needs the extra `otlp`)."""
    with exit_with_message():
        from agentplug.integrations.otlp import export_audit
        from agentplug.manager.audit.reading import read_audit

        try:
            count = export_audit(read_audit(file), endpoint=otlp)
        except (ImportError, OSError) as error:
            say(str(error))
            raise typer.Exit(2) from None
    typer.echo(f"{count} spans sent")
