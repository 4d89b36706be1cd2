"""`agentplug run` (host): one call; its value as JSON, its verdict and its costs; an exit status."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from agentplug.cli.terminal import console, say, show_traceback
from agentplug.contract.policy import Policy
from agentplug.contract.text import printable
from agentplug.core.host.conversation import wait_for
from agentplug.core.host.output import stream_to
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.manager.pins.lock_guard import LockGuard

if TYPE_CHECKING:
    from agentplug.core.run import Run


def run_plugin(
    spec: str, policy: Policy, argument: str | None, config: str | None, *, as_json: bool, locked: bool
) -> int:
    """Call the plugin `spec` once with `argument` (`-`: standard input). 0 if the call completed, else 1."""
    value = _input(argument, as_json)
    configuration = _parse("--config", config) if config is not None else None
    source = wait_for(LockGuard(locked=locked).source(spec, policy))
    plugin = SandboxedPlugin(source, policy, config=configuration)
    stream_to(_output_sink)
    try:
        result = plugin.run_sync(value)
    except KeyboardInterrupt:
        if not plugin.runs:
            raise
        result = plugin.runs[-1]
    finally:
        plugin.close_sync()
        stream_to(None)
    show_run(result)
    return 0 if result.verdict.kind == "completed" else 1


def _input(argument: str | None, as_json: bool) -> Any:
    try:
        text = sys.stdin.read() if argument == "-" else argument
    except UnicodeDecodeError as error:
        say(f"standard input isn't text: {error}")
        raise typer.Exit(2) from None
    return text if text is None or not as_json else _parse("INPUT", text)


def _parse(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        say(f"{what} isn't JSON: {error}")
        raise typer.Exit(2) from None


def _output_sink() -> Callable[[str, str], None]:
    """Return a sink that writes the plugin's output to standard error as it comes; on the watchdog's thread.

    In a terminal colours and carriage returns pass; in a file or a pipe everything but lines is escaped.
    """
    from agentplug.report.stream_text import StreamText

    texts = {name: StreamText() for name in ("stdout", "stderr")}
    is_terminal = sys.stderr.isatty()

    def show(stream: str, text: str) -> None:
        visible = texts[stream]
        if is_terminal:
            sys.stderr.write(visible.add(text) if text else visible.end())
        else:
            sys.stderr.write(printable(text, len(text), lines=True))
        sys.stderr.flush()

    return show


def show_run(result: Run) -> None:
    """Print the value on standard output; the verdict, the costs and an explanation on standard error."""
    from rich.text import Text

    from agentplug.contract.policy import format_size
    from agentplug.contract.record import added_memory_bytes
    from agentplug.report.marks import verdict_mark
    from agentplug.report.refused_calls import refused_lines
    from agentplug.report.sentences import format_seconds
    from agentplug.report.tracebacks import traceback_note

    if result.verdict.kind == "completed":
        sys.stdout.write(_as_json(result.value) + "\n")
        sys.stdout.flush()
    stderr, usage, policy = console(stderr=True), result.usage, result.policy
    if note := traceback_note(result):
        show_traceback(note)
    mark = verdict_mark(result.verdict.kind)
    costs = (
        f"wall {format_seconds(usage.wall_s)} of {policy.wall_s:g} s",
        f"CPU {format_seconds(usage.cpu_s)} of {policy.cpu_s:g} s",
        f"memory {format_size(added_memory_bytes(result))} of {format_size(float(policy.memory))}",
        f"output {format_size(usage.output_bytes)}",
    )
    line = Text(f"{mark.icon} {printable(str(result.verdict), 100)}", style=f"bold {mark.color}")
    stderr.print(line.append(f"  {' · '.join(costs)}", style="not bold default"), soft_wrap=True)
    stderr.print(Text(result.explain()), soft_wrap=True)
    for text in refused_lines(result.events):
        stderr.print(Text(text), soft_wrap=True)
    if result.profile is not None:
        stderr.print(Text(str(result.profile)), soft_wrap=True)


def _as_json(value: Any) -> str:
    """Write `value` as JSON, with the repr of what isn't JSON; no character of it steers a terminal."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=2, default=repr)
    except (TypeError, ValueError, RecursionError):  # a key that isn't JSON
        text = json.dumps(repr(value), ensure_ascii=False)
    return "".join(
        c if c == "\n" or not unicodedata.category(c).startswith(("C", "Zl", "Zp")) else json.dumps(c)[1:-1]
        for c in text
    )
