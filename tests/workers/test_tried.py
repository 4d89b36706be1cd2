"""What a run tried, in its card and texts: the most telling first, bounded, harmless, the same each time."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

import pytest
from IPython.lib.pretty import pretty

from agentplug import Policy, SandboxedPlugin
from agentplug.cli.run import show_run
from agentplug.contract.events import Event
from agentplug.contract.record import SourceInfo, Usage, judge
from agentplug.core.run import Run
from agentplug.report.cards import run_card
from agentplug.report.refused_calls import refused_calls, refused_lines
from tests.leftovers import _warmed, nothing_left  # noqa: F401


def tried(syscall: str, argument: str = "", count: int = 1, source: str = "kernel", **more: Any) -> Event:
    return Event(0.1, "tried", {"syscall": syscall, "argument": argument, "source": source, "count": count, **more})


def run_of(*events: Event) -> Run:
    events = (Event(0.0, "start"), *events, Event(0.2, "reply"))
    return Run(None, Usage(), events, Policy(), SourceInfo("p.py", "file", "sha256:0", "p", "1"))


def test_a_line_says_what_was_tried_on_what_and_how_often() -> None:
    """One line each; a count where it was more than once."""
    run = run_of(tried("connect", "10.0.0.1:443", 3), tried("clone"))
    assert refused_lines(run.events) == ["tried: connect 10.0.0.1:443 ×3", "tried: clone"]
    assert str(run) == "<Run of p: completed>\ntried: connect 10.0.0.1:443 ×3\ntried: clone"
    assert "tried: connect 10.0.0.1:443 ×3" in run_card(run)


def test_nothing_tried_is_no_line() -> None:
    """The text of such a run is its repr."""
    run = run_of()
    assert (str(run), refused_lines(run.events)) == (repr(run), [])
    assert "tried" not in run_card(run)


def test_a_notebook_shows_the_lines_of_a_run_by_itself() -> None:
    """Within a list its repr is enough."""
    run = run_of(tried("clone"))
    assert pretty(run) == "<Run of p: completed>\ntried: clone"
    assert pretty([run]) == "[<Run of p: completed>]"


def test_the_most_telling_comes_first() -> None:
    """Addresses, programs, signals, others' memory, mounts, limits, forks, and then the rest; often before rarely."""
    calls = ["keyctl", "vfork", "prlimit64", "mount", "ptrace", "kill", "execve"]
    events = [tried(call) for call in calls] + [tried("connect", "a:1"), tried("connect", "b:1", 2)]
    assert [attempt.syscall + attempt.argument for attempt in refused_calls(events)] == [
        "connectb:1",
        "connecta:1",
        "execve",
        "kill",
        "ptrace",
        "mount",
        "prlimit64",
        "vfork",
        "keyctl",
    ]


def test_the_same_thing_while_loading_and_later_is_one() -> None:
    """What was tried before the first call counts with the rest."""
    events = [tried("connect", "a:1", 2, during="load"), tried("connect", "a:1", 3)]
    assert refused_lines(events) == ["tried: connect a:1 ×5"]


def test_lines_are_bounded() -> None:
    """So many and no more, the rest is counted; and so are those beyond what the host keeps."""
    events = [tried("execve", f"/bin/{number:03}") for number in range(100)]
    events.append(Event(0.1, "dropped", {"what": "attempts", "count": 7}))
    assert refused_lines(events, most=2) == [
        "tried: execve /bin/000",
        "tried: execve /bin/001",
        "tried: and 98 more",
        "tried or used: 7 times more than is kept",
    ]
    assert len(refused_lines([tried("execve", "x" * 100_000)])[0]) < 250


def test_output_beyond_its_limit_was_not_tried() -> None:
    """Another kind of drop."""
    assert refused_lines([Event(0.1, "dropped", {"what": "output", "count": 7})]) == []


def test_a_claim_says_that_it_is_one() -> None:
    """A claim and the kernel's word on the same thing stay apart."""
    events = [tried("kill", "the host SIGKILL"), tried("kill", "the host SIGKILL", source="worker")]
    assert refused_lines(events) == [
        "tried: kill the host SIGKILL",
        "tried: kill the host SIGKILL (its worker's own report)",
    ]


@pytest.mark.parametrize("shown", [str, run_card, pretty, lambda run: "\n".join(refused_lines(run.events))])
def test_arguments_are_harmless(shown: Any) -> None:
    """They come from a plugin: no control character, no markup in HTML, no line of their own."""
    text = shown(run_of(tried("execve", "/x\x1b[31m\n\u202e<script>alert(1)</script>")))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\n\\u202e" not in text
    if shown is run_card:
        assert "<script>" not in text


def test_what_was_tried_decides_no_verdict() -> None:
    """It only tells."""
    assert str(judge(run_of(tried("kill")).events)) == "completed"


def test_a_shell_shows_them_after_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """`agentplug run`, on standard error."""
    show_run(run_of(tried("connect", "10.0.0.1:443", 3)))
    out, err = capsys.readouterr()
    assert out == "null\n"
    assert err.rstrip().endswith("tried: connect 10.0.0.1:443 ×3")


@pytest.mark.need("seccomp", "landlock")
class TestReal:
    """Real plugins, whoever tells: the kernel or the worker."""

    async def one(self, plugin: object, given: object = None, policy: Policy | None = None) -> Run:
        async with SandboxedPlugin(plugin, policy) as confined:
            return await confined.run(given)

    async def test_an_attempt_on_the_host_is_told(self) -> None:
        """The text is the same each time: no process's number stands in it."""

        class Killer:
            name, version = "killer", "1"

            async def initialize(self, config: object) -> None: ...

            async def process(self, pid: int) -> str:
                for _ in range(3):
                    with contextlib.suppress(PermissionError):
                        os.kill(pid, 9)
                return "tried"

        texts = [str(await self.one(Killer, os.getpid())) for _ in range(2)]
        assert texts[0] == texts[1]
        assert re.search(r"^tried: kill (the host|another process) SIGKILL ×3", texts[0], re.MULTILINE)

    async def test_what_is_tried_before_the_first_call_comes_with_it(self) -> None:
        """While its bytes are loaded and in `initialize`; and only with the first one."""

        class Early:
            name, version = "early", "1"

            def __init__(self) -> None:
                self.attempt(1)

            async def initialize(self, config: object) -> None:
                self.attempt(2)

            async def process(self, given: object) -> None: ...

            def attempt(self, times: int) -> None:
                for _ in range(times):
                    with contextlib.suppress(BlockingIOError):
                        os.fork()

        async with SandboxedPlugin(Early) as plugin:
            first, second = await plugin.run(None), await plugin.run(None)
        told = [(e.detail["during"], e.detail["count"]) for e in first.events if e.kind == "tried"]
        assert told == [("load", 1), ("initialize", 2)]
        assert [attempt.times for attempt in refused_calls(first.events)] == [3]
        assert refused_calls(second.events) == []
        assert [event.kind for event in second.events] == ["start", "reply"]

    def test_a_cell_that_fails_says_what_it_tried(self, ip: Any) -> None:
        """Below its sentence."""
        result = ip.run_cell("%%sandbox\nimport os\nos.kill(1, 9)")
        lines = result.error_in_exec._render_traceback_()
        assert lines[-3].startswith("PermissionError: [Errno 1]")
        assert lines[-1].startswith("tried: kill another process SIGKILL")

    def test_a_cell_that_completes_says_it_too(self, ip: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """On standard error, beside its value."""
        cell = "%%sandbox\nimport os\ntry:\n    os.kill(1, 9)\nexcept PermissionError:\n    pass\n42"
        assert ip.run_cell(cell).result == 42
        assert capsys.readouterr().err.startswith("tried: kill another process SIGKILL")
