"""A run's verdict as one or two sentences: the fact, the limit, the remedy (host).

Errors carry these sentences, and cards begin with them. A plugin's names, messages and types go through `printable`,
so a sentence is safe in a terminal or a log; cards escape HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentplug.contract.events import Event
from agentplug.contract.limits import LIMITS, MAX_STRUCTURE_BYTES, Field
from agentplug.contract.policy import Policy, format_size
from agentplug.contract.record import DECIDING, RunRecord, added_memory_bytes, plugin_name
from agentplug.contract.text import printable
from agentplug.report.hints import hint

_MIB = 1 << 20
_MOST_DECIMALS = 6
_UNITS = {"bytes": "bytes", "byte": "bytes", "B": "bytes", "s": "s", "seconds": "s"}
_SIGNALS_OF_NATIVE_CODE = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT")


def format_seconds(seconds: float) -> str:
    """Format seconds for people: `0.4 ms`, `12 ms`, `1.03 s`, `125.0 s`."""
    if seconds < 0.00095:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:.1f} s"


def explain(run: RunRecord) -> str:
    """Explain a run's verdict: the fact, the limit, the remedy and a hint, safe to print."""
    fact, advice = _fact(run), hint(run)
    return f"{fact.removesuffix('.')}; {advice}." if advice else fact


def _fact(run: RunRecord) -> str:
    name = plugin_name(run)
    event = next((e for e in run.events if e.kind in DECIDING), Event(0.0, "stop", {"by": "close"}))
    detail = event.detail
    match event.kind:
        case "limit":
            return _limited(run, name, str(detail["by"]), detail)
        case "error" if detail.get("limit"):
            return _limited(run, name, str(detail["limit"]), detail)
        case "error":
            return _raised(run, name, detail)
        case "exit":
            return _died(run, name, printable(str(detail["status"]), 60))
        case "protocol":
            reason = printable(str(detail.get("reason", "unreadable bytes")), 300)
            return f"Plugin {name} broke the protocol: {reason}; its worker was ended, call it again for a fresh one."
        case "unserializable":
            return _unserializable(name, detail)
        case "stop":
            return _stopped(name, str(detail["by"]))
    return _completed(run, name)


def began_empty(run: RunRecord) -> str:
    """Return the sentence for a session's run that began empty, because its worker was lost; else an empty text."""
    event = next((event for event in run.events if event.kind == "empty"), None)
    if event is None:
        return ""
    because = printable(str(event.detail.get("because") or "its process ended"), 100)
    return f"{plugin_name(run)} begins empty: its worker was lost ({because}), and all names with it."


def _limited(run: RunRecord, name: str, by: str, detail: Mapping[str, Any]) -> str:
    row = LIMITS.get(by)
    if row is None:
        return f"Plugin {name} exceeded {printable(by, 60)} limit."
    bound = detail.get("bound")
    if bound is None:
        bound = getattr(run.policy, row.name)
    unit = _unit(detail.get("unit"), row.kind.unit)
    amounts = _amounts(by, _most(run, by, detail.get("measured"), unit), bound, unit)
    return f"Plugin {name} exceeded {row.noun} limit: {amounts}; {_remedy(row, bound, run.policy)}"


def _most(run: RunRecord, by: str, measured: float | None, unit: str) -> float | None:
    """Return the figure of the whole call, which tables and cards show too: it went on until its worker was dead."""
    own = {"memory": added_memory_bytes(run), "cpu": run.usage.cpu_s, "wall": run.usage.wall_s}.get(by)
    if own is None or run.usage.calls > 1 or unit not in ("bytes", "s"):
        return measured
    return own if measured is None else max(own, measured)


def _unit(unit: object, usual: str) -> str:
    """Return an event's `unit`, which may be another than the limit's usual one, like `inodes`."""
    if not unit or not usual:
        return usual
    return _UNITS.get(str(unit), printable(str(unit), 20))


def _amounts(by: str, measured: float | None, bound: float, unit: str) -> str:
    """Return `300.0 MB > 64.0 MB`, or words with the bound alone, if the kernel refused the step over it."""
    if unit == "bytes":
        scale, word, decimals = _byte_scale(by, measured, bound)
    elif unit == "s" or unit.startswith("s "):  # also "s between calls"
        scale, word, decimals = 1, unit, 2 if round(bound, 2) == bound else 3
    else:
        scale, word, decimals = 1, unit, 0
    space = f" {word}" if word else ""
    if measured is None or measured <= bound:
        allowed = format_size(bound) if unit == "bytes" else f"{bound:g}{space}"
        return f"it asked for more than {allowed}, and the kernel refused"
    # 64.04 MB is over 64 MB: show the first digit that differs.
    allowed, more = f"{bound / scale:.{decimals}f}", decimals
    while float(f"{measured / scale:.{more}f}") == float(allowed) and more < _MOST_DECIMALS:
        more += 1
    return f"{measured / scale:.{more}f}{space} > {allowed}{space}"


def _byte_scale(by: str, measured: float | None, bound: float) -> tuple[int, str, int]:
    if by == "memory":
        return _MIB, "MB", 1  # the wording of the course chapter, and its 1 MB is 2**20 bytes
    size = bound or measured or 0
    if size >= _MIB:
        return _MIB, "MiB", 1
    return (1024, "KiB", 1) if size >= 1024 else (1, "bytes", 0)


def _remedy(row: Field, bound: float, policy: Policy) -> str:
    if row.name == "reply" and bound == MAX_STRUCTURE_BYTES < int(policy.reply):
        return "return arrays or bytes in place of plain structure."
    return row.remedy


def _raised(run: RunRecord, name: str, detail: Mapping[str, Any]) -> str:
    kind = printable(run.error.type if run.error else str(detail["type"]), 100)
    message = printable(run.error.message, 500) if run.error else ""
    return f"Plugin {name} raised {kind}: {message}" if message else f"Plugin {name} raised {kind}"


def _died(run: RunRecord, name: str, status: str) -> str:
    fact = f"Plugin {name}'s worker died: {status}"
    if status in _SIGNALS_OF_NATIVE_CODE:
        return f"{fact}; native code in it crashed and the next call gets a fresh worker."
    if status == "SIGSYS":
        return f"{fact}; it made a system call that no policy grants."
    if status == "SIGKILL":
        killed = "something else killed it, perhaps because the machine ran out of memory."
        if any(event.kind == "kill" and str(event.detail.get("reason")).startswith("gone") for event in run.events):
            return f"{fact}; it could be measured no more: its main thread had ended, or {killed}"
        return f"{fact}; {killed}"
    if status.startswith("exit"):
        return f"{fact}; it ended its own process, where it should return or raise."
    return f"{fact}; the next call gets a fresh worker."


def _unserializable(name: str, detail: Mapping[str, Any]) -> str:
    kind, where = printable(str(detail.get("type", "")), 100), printable(str(detail.get("where", "")), 200)
    what = " at ".join(part for part in (kind, where) if part) or "an unknown type"
    fact = f"Plugin {name} returned a value that can't leave its worker: {what}"
    return f"{fact}; return plain data, arrays or DataFrames."


def _stopped(name: str, by: str) -> str:
    if by == "interrupt":
        return f"Plugin {name} was stopped by an interrupt; call it again for a fresh worker."
    if by == "kill":
        return f"Plugin {name} was stopped by a kill from the notebook; call it again for a fresh worker."
    if by == "close":
        return f"Plugin {name} was stopped because it was closed during the call; load it again to go on."
    return f"Plugin {name} was stopped by {printable(by, 60)}."


def _completed(run: RunRecord, name: str) -> str:
    usage = run.usage
    cost = f"{format_seconds(usage.cpu_s)} of CPU and {added_memory_bytes(run) / _MIB:.1f} MiB of added memory"
    shared = f" (shared by {usage.calls} calls)" if usage.calls > 1 else ""
    return f"Plugin {name} completed in {format_seconds(usage.wall_s)}, with {cost}{shared}."
