"""`explain`: every verdict in a sentence with the fact, the limit and the remedy, safe to print."""

from __future__ import annotations

from typing import Any

import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import DECIDING, ErrorText, SourceInfo, Usage, added_memory_bytes, judge
from agentplug.core.run import Run
from agentplug.errors import LimitExceeded, PluginError, ProtocolViolation, WorkerDied
from agentplug.report.sentences import explain, format_seconds

MIB = 1 << 20
POLICY = Policy(memory="64M", cpu_s=1.0, wall_s=2.0, processes=2, threads=8, open_files=32, disk="1M", reply="16M")


def a_run(
    kind: str, detail: dict[str, Any] | None = None, *, name: str = "p", error: ErrorText | None = None, **usage: Any
) -> Run:
    events = (Event(0.0, "start"), Event(0.5, kind, detail or {}), Event(0.6, "exit", {"status": "SIGKILL"}))
    return Run(None, Usage(**usage), events, POLICY, SourceInfo("./p.py", "file", "sha256:00", name), error=error)


def a_limit(by: str, measured: float, bound: float, unit: str) -> dict[str, Any]:
    return {"by": by, "measured": measured, "bound": bound, "unit": unit}


@pytest.mark.parametrize(
    ("detail", "sentence"),
    [
        (
            a_limit("memory", 300 * MIB, 64 * MIB, "bytes"),
            (
                "Plugin p exceeded memory limit: 300.0 MB > 64.0 MB; "
                "raise Policy(memory=…) or --memory if it should have more."
            ),
        ),
        (
            a_limit("memory", 64 * MIB + 4096, 64 * MIB, "bytes"),
            (
                "Plugin p exceeded memory limit: 64.004 MB > 64.0 MB; "
                "raise Policy(memory=…) or --memory if it should have more."
            ),
        ),
        (
            a_limit("cpu", 1.03, 1.0, "s"),
            "Plugin p exceeded CPU limit: 1.03 s > 1.00 s; raise Policy(cpu_s=…) or --cpu if it should have more.",
        ),
        (
            a_limit("cpu", 0.0531, 0.005, "s"),
            "Plugin p exceeded CPU limit: 0.053 s > 0.005 s; raise Policy(cpu_s=…) or --cpu if it should have more.",
        ),
        (
            a_limit("cpu", 1.03, 1.0, "s between calls"),
            (
                "Plugin p exceeded CPU limit: 1.03 s between calls > 1.00 s between calls; "
                "raise Policy(cpu_s=…) or --cpu if it should have more."
            ),
        ),
        (
            a_limit("wall", 2.04, 2, "s"),
            "Plugin p exceeded time limit: 2.04 s > 2.00 s; raise Policy(wall_s=…) or --wall if it may take longer.",
        ),
        (
            a_limit("processes", 3, 2, "processes"),
            (
                "Plugin p exceeded process limit: 3 > 2; "
                "raise Policy(processes=…) or --processes if it should have more."
            ),
        ),
        (
            a_limit("threads", 9, 8, ""),
            "Plugin p exceeded thread limit: 9 > 8; raise Policy(threads=…) or --threads if it should have more.",
        ),
        (
            a_limit("files", 33, 32, ""),
            (
                "Plugin p exceeded open file limit: 33 > 32; "
                "raise Policy(open_files=…) or --open-files if it should have more."
            ),
        ),
        (
            a_limit("disk", 2.5 * MIB, MIB, "bytes"),
            "Plugin p exceeded disk limit: 2.5 MiB > 1.0 MiB; raise Policy(disk=…) or --disk if it should have more.",
        ),
        (
            a_limit("disk", 70, 64, "inodes"),
            (
                "Plugin p exceeded disk limit: 70 inodes > 64 inodes; "
                "raise Policy(disk=…) or --disk if it should have more."
            ),
        ),
        (
            a_limit("disk", 4096, 0, "bytes"),
            "Plugin p exceeded disk limit: 4.0 KiB > 0.0 KiB; raise Policy(disk=…) or --disk if it should have more.",
        ),
        (
            a_limit("reply", 20 * MIB, 16 * MIB, "bytes"),
            "Plugin p exceeded reply limit: 20.0 MiB > 16.0 MiB; return less, or raise Policy(reply=…) or --reply.",
        ),
        (
            a_limit("reply", 80, 64, "bytes"),
            "Plugin p exceeded reply limit: 80 bytes > 64 bytes; return less, or raise Policy(reply=…) or --reply.",
        ),
        (
            a_limit("reply", 3 * MIB, MIB, "bytes"),
            "Plugin p exceeded reply limit: 3.0 MiB > 1.0 MiB; return arrays or bytes in place of plain structure.",
        ),
        ({"by": "gpu\x1b[1m"}, "Plugin p exceeded gpu\\x1b[1m limit."),
    ],
)
def test_a_limit_event_tells_measured_bound_and_remedy(detail: dict[str, Any], sentence: str) -> None:
    """A limit's sentence holds the measured figure, the bound in the same unit, and the policy field to raise."""
    assert explain(a_run("limit", detail)) == sentence


@pytest.mark.parametrize(
    ("detail", "added", "amounts"),
    [
        ({"measured": 300 * MIB, "bound": 64 * MIB}, 0, "300.0 MB > 64.0 MB"),
        ({"measured": 63 * MIB, "bound": 64 * MIB}, 0, "it asked for more than 64 MiB, and the kernel refused"),
        ({}, 70 * MIB, "70.0 MB > 64.0 MB"),
        ({}, 12 * MIB, "it asked for more than 64 MiB, and the kernel refused"),
    ],
)
def test_a_memory_error_under_the_limit_reads_like_the_limit(
    detail: dict[str, Any], added: int, amounts: str
) -> None:
    """A MemoryError that the kernel's limit caused has the chapter's words, and never `less > more`."""
    told = {"type": "MemoryError", "limit": "memory"} | detail
    error = ErrorText("MemoryError", "")
    run = a_run("error", told, error=error, peak_memory_bytes=added + 50 * MIB, baseline_memory_bytes=50 * MIB)
    assert explain(run) == (
        f"Plugin p exceeded memory limit: {amounts}; raise Policy(memory=…) or --memory if it should have more."
    )


def test_another_refusal_of_the_kernel_tells_the_bound() -> None:
    """A refusal that came without figures, like EMFILE, tells the policy's own bound."""
    assert explain(a_run("error", {"type": "OSError", "limit": "files"})) == (
        "Plugin p exceeded open file limit: it asked for more than 32, and the kernel refused; "
        "raise Policy(open_files=…) or --open-files if it should have more."
    )


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ErrorText("ValueError", "no such column"), "Plugin p raised ValueError: no such column"),
        (ErrorText("ValueError", ""), "Plugin p raised ValueError"),
        (None, "Plugin p raised ValueError"),
        (ErrorText("ValueError", "two\nlines"), "Plugin p raised ValueError: two\\nlines"),
    ],
)
def test_a_failure_tells_type_and_message(error: ErrorText | None, sentence: str) -> None:
    """What the plugin raised is told with its type and its message, on one line."""
    assert explain(a_run("error", {"type": "ValueError"}, error=error)) == sentence


def test_a_permission_error_tells_how_to_grant_the_right() -> None:
    """A PermissionError is mostly a barrier at work, so its sentence names the fields that grant rights."""
    error = ErrorText("PermissionError", "[Errno 13] Permission denied: '/data/x'")
    assert explain(a_run("error", {"type": "PermissionError"}, error=error)) == (
        "Plugin p raised PermissionError: [Errno 13] Permission denied: '/data/x'; "
        "grant it with --read /data/x (--write, if it is to change it), in code Policy(read=['/data/x'])."
    )


@pytest.mark.parametrize(
    ("status", "rest"),
    [
        ("SIGSEGV", "native code in it crashed and the next call gets a fresh worker."),
        ("SIGSYS", "it made a system call that no policy grants."),
        ("SIGKILL", "something else killed it, perhaps because the machine ran out of memory."),
        ("exit 3", "it ended its own process, where it should return or raise."),
        ("SIGTERM", "the next call gets a fresh worker."),
    ],
)
def test_a_death_tells_its_status_and_a_likely_cause(status: str, rest: str) -> None:
    """A worker's death is told by signal or exit status, with what most often causes it."""
    assert explain(a_run("exit", {"status": status})) == f"Plugin p's worker died: {status}; {rest}"


def test_a_process_without_its_main_thread_is_not_blamed_on_others() -> None:
    """The host ends what it can't measure any more, and says so."""
    run = a_run("exit", {"status": "SIGKILL"})
    run = run.__replace__(events=(*run.events[:-1], Event(0.2, "kill", {"reason": "gone: statm"}), run.events[-1]))
    assert explain(run) == (
        "Plugin p's worker died: SIGKILL; it could be measured no more: its main thread had ended, or something else "
        "killed it, perhaps because the machine ran out of memory."
    )


@pytest.mark.parametrize(
    ("kind", "detail", "sentence"),
    [
        (
            "protocol",
            {"reason": "bad tag"},
            "Plugin p broke the protocol: bad tag; its worker was ended, call it again for a fresh one.",
        ),
        (
            "unserializable",
            {"type": "socket", "where": "value['x']"},
            (
                "Plugin p returned a value that can't leave its worker: socket at value['x']; "
                "return plain data, arrays or DataFrames."
            ),
        ),
        (
            "unserializable",
            {"type": "socket"},
            "Plugin p returned a value that can't leave its worker: socket; return plain data, arrays or DataFrames.",
        ),
        ("stop", {"by": "interrupt"}, "Plugin p was stopped by an interrupt; call it again for a fresh worker."),
        (
            "stop",
            {"by": "kill"},
            "Plugin p was stopped by a kill from the notebook; call it again for a fresh worker.",
        ),
        (
            "stop",
            {"by": "close"},
            "Plugin p was stopped because it was closed during the call; load it again to go on.",
        ),
    ],
)
def test_broken_and_stopped_runs_tell_why(kind: str, detail: dict[str, Any], sentence: str) -> None:
    """A broken protocol tells its reason, an unserializable value its type and place, a stop who asked for it."""
    assert explain(a_run(kind, detail)) == sentence


def test_a_run_without_a_decision_was_closed() -> None:
    """Events that decide nothing judge as stopped:close, and the sentence says the same."""
    run = Run(None, Usage(), (Event(0.0, "start"),), POLICY, SourceInfo("./p.py", "file", "", ""))
    assert (str(run.verdict), explain(run)) == (
        "stopped:close",
        "Plugin ./p.py was stopped because it was closed during the call; load it again to go on.",
    )


@pytest.mark.parametrize(
    ("calls", "rest"), [(1, "4.2 MiB of added memory."), (8, "4.2 MiB of added memory (shared by 8 calls).")]
)
def test_a_completed_run_tells_its_cost(calls: int, rest: str) -> None:
    """A completed run tells time, CPU and memory, and whether other calls share the figures."""
    cost = {"wall_s": 0.012, "cpu_s": 0.003, "peak_memory_bytes": int(54.2 * MIB), "baseline_memory_bytes": 50 * MIB}
    assert explain(a_run("reply", calls=calls, **cost)) == f"Plugin p completed in 12 ms, with 3 ms of CPU and {rest}"


@pytest.mark.parametrize("kind", DECIDING)
def test_the_deciding_events_are_those_that_judge_knows(kind: str) -> None:
    """`explain` speaks of the same event that `judge` decides by."""
    detail = {"by": "kill", "type": "E", "status": "exit 1"}
    assert judge((Event(0.0, "start"), Event(0.1, kind, detail))).kind != "stopped" or kind == "stop"


@pytest.mark.parametrize(
    ("kind", "detail", "error"),
    [
        ("error", {"type": "E"}, ErrorText("E\x1b[2J", "m\u202e\x00\r\n")),
        ("error", {"type": "E\u200b"}, None),
        ("unserializable", {"type": "T\x9b", "where": "value['\x07']"}, None),
        ("protocol", {"reason": "frame \x1b]0;x\x07"}, None),
        ("limit", {"by": "memory", "measured": 2, "bound": 1, "unit": "bytes"}, None),
        ("exit", {"status": "exit \x1b"}, None),
        ("stop", {"by": "some\x08thing"}, None),
        ("reply", {}, None),
    ],
)
def test_hostile_text_is_made_visible(kind: str, detail: dict[str, Any], error: ErrorText | None) -> None:
    """No control character, terminal escape or bidirectional override of a plugin reaches a sentence."""
    sentence = explain(a_run(kind, detail, name="evil\x1b[31m\u202e\n", error=error))
    assert sentence.isprintable()
    assert sentence.startswith("Plugin evil\\x1b[31m\\u202e\\n")


def test_a_long_message_is_cut() -> None:
    """A plugin can't flood the notebook through its exception's message."""
    sentence = explain(a_run("error", {"type": "E"}, error=ErrorText("E", "m" * 10_000)))
    assert sentence == f"Plugin p raised E: {'m' * 500}… (9500 characters more)"


@pytest.mark.parametrize(
    ("kind", "detail", "exception"),
    [
        ("error", {"type": "E"}, PluginError),
        ("limit", {"by": "memory", "measured": 300 * MIB, "bound": 64 * MIB, "unit": "bytes"}, LimitExceeded),
        ("exit", {"status": "SIGSEGV"}, WorkerDied),
        ("protocol", {"reason": "r"}, ProtocolViolation),
    ],
)
def test_check_raises_the_sentence(kind: str, detail: dict[str, Any], exception: type[Exception]) -> None:
    """The error that `check` raises says what `explain` says."""
    run = a_run(kind, detail)
    with pytest.raises(exception) as caught:
        run.check()
    assert str(caught.value) == explain(run)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.0004, "0.4 ms"),
        (0.00096, "1 ms"),
        (0.012, "12 ms"),
        (0.9996, "1.00 s"),
        (1.03, "1.03 s"),
        (99.999, "100.0 s"),
        (125, "125.0 s"),
    ],
)
def test_seconds_read_naturally(seconds: float, text: str) -> None:
    """Times switch unit before they would read like `1000 ms`."""
    assert format_seconds(seconds) == text


def test_added_memory_is_never_negative() -> None:
    """A worker that shrank has added nothing."""
    assert added_memory_bytes(a_run("reply", peak_memory_bytes=10, baseline_memory_bytes=12)) == 0


def test_added_memory_counts_from_where_the_limit_does() -> None:
    """Memory held since earlier calls counts: the start event tells the footprint that the limit counts from."""
    events = (Event(0.0, "start", {"floor_bytes": 20 * MIB}), Event(0.1, "reply"))
    usage = Usage(peak_memory_bytes=90 * MIB, baseline_memory_bytes=80 * MIB)
    assert added_memory_bytes(Run(None, usage, events, POLICY, SourceInfo("p", "file", ""))) == 70 * MIB
