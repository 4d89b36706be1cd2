"""Runs, plugins and barriers as HTML for a notebook (host).

Names, messages, output, types and tracebacks come from plugins, so every text goes through `html.esc`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from agentplug.contract.limits import FIELDS, Field, Kind
from agentplug.contract.policy import Policy, format_amount, format_size, parse_size
from agentplug.contract.record import RunRecord, SourceInfo, Verdict, added_memory_bytes, plugin_name
from agentplug.report.barriers import barriers_table
from agentplug.report.displays import displays_part
from agentplug.report.event_text import event_words
from agentplug.report.html import QUIET, bars, card, code, details, esc, figure, line, pill, table, tail
from agentplug.report.marks import (
    CPU_COLOR,
    LIMIT_COLOR,
    MEMORY_COLOR,
    WALL_COLOR,
    is_gap,
    state_mark,
    verdict_mark,
)
from agentplug.report.profiles import profile_part
from agentplug.report.refused_calls import refused_lines
from agentplug.report.sentences import explain, format_seconds
from agentplug.report.units import measured_size

_VALUE_REPR = reprlib.Repr()
_VALUE_REPR.maxstring = _VALUE_REPR.maxother = 200


def run_card(run: RunRecord) -> str:
    """Make a run's card: verdict, sentence, cost against limits; folded below: output, traceback, events."""
    mark = verdict_mark(run.verdict.kind)
    return card(
        mark.color,
        line(f"{pill(mark, str(run.verdict))} &nbsp;<b>{esc(plugin_name(run))}</b> {_identity(run.source)}"),
        line(esc(explain(run)), "margin-top:6px"),
        *(line(code(text)) for text in refused_lines(run.events)),
        _cost_bars(run),
        line(_small_costs(run), f"{QUIET};font-size:12px"),
        line(f"value {code(_brief(run.value))}") if run.verdict.kind == "completed" else "",
        displays_part(run.displays, _dropped_displays(run)) if run.displays else "",
        tail("traceback, as the plugin told it", run.error.traceback if run.error else ""),
        tail("stdout", run.stdout),
        tail("stderr", run.stderr),
        profile_part(run.profile) if run.profile is not None else "",
        details(f"events ({len(run.events)})", _events(run)) if run.events else "",
    )


def _dropped_displays(run: RunRecord) -> int:
    return sum(e.detail["count"] for e in run.events if e.kind == "dropped" and e.detail.get("what") == "displays")


def plugin_card(
    source: SourceInfo,
    *,
    state: str = "new",
    policy: Policy | None = None,
    barriers: Sequence[Mapping[str, Any]] = (),
    calls: int = 0,
    last_verdict: Verdict | None = None,
    trusted: bool = False,
) -> str:
    """Make a plugin's card: its identity, state, limits, rights and barriers.

    `barriers` has rows of `barrier`, `protects`, `status`, `detail`, and if known `lost` (the promises that aren't
    enforced; none for an extra layer) and `remedy`. A warning names the promises that `best_effort` goes on without,
    or says that a trusted plugin runs in the notebook's own process.
    """
    mark = state_mark(state)
    policy = policy or Policy()
    gaps = [row for row in barriers if is_gap(row)]
    last = f" · last verdict {pill(verdict_mark(last_verdict.kind), str(last_verdict))}" if last_verdict else ""
    parts = [
        line(f"{pill(mark, state)} &nbsp;<b>{esc(source.name, 100)}</b> {_identity(source)}"),
        line(_origin(source), f"{QUIET};margin-top:6px"),
    ]
    if trusted:
        parts.append(_warning("Trusted: runs in the notebook's own process, without limits and without barriers."))
    elif policy.best_effort and gaps:
        lost = "; ".join(_gap(row) for row in gaps)
        parts.append(_warning(f"Not enforced on this machine: {lost}. Policy(best_effort=True) goes on without."))
    if not trusted:
        parts += [line(f"limits: {_limits(policy)}", "margin-top:6px"), line(f"rights: {_rights(policy)}")]
    parts.append(line(f"{calls:,} call{'' if calls == 1 else 's'}{last}", "margin-top:6px"))
    if barriers and not trusted:
        summary = f"barriers ({len(barriers)}{f', {len(gaps)} missing or partial' if gaps else ''})"
        parts.append(details(summary, barriers_table(barriers), opened=bool(gaps) and policy.best_effort))
    return card(mark.color, *parts)


def policy_table(policy: Policy) -> str:
    """Make a policy's table, one row a field: its value, bold where it isn't the default, and its meaning."""
    rows = []
    for row in FIELDS.values():
        value = getattr(policy, row.name)
        words = esc(_value(row, value)) or "–"
        is_default = value == (parse_size(row.default) if row.kind is Kind.SIZE else row.default)
        rows.append([code(row.name), words if is_default else f"<b>{words}</b>", esc(row.meaning.replace("`", ""))])
    return table(["field", "value", "meaning"], rows)


def _value(row: Field, value: Any) -> str:
    """Return a field's value for people; of variables the names alone, because the values may be secrets."""
    if row.kind in (Kind.SIZE, Kind.SECONDS, Kind.COUNT):
        return format_amount(row, value)
    if row.kind is Kind.GRANTS:
        return ", ".join(f"{kind} at {point}" for point, kind in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else ", ".join(map(str, value))


_MEANINGS = {
    "completed": "a value came back",
    "failed": "the plugin raised",
    "limited": "a limit stopped it",
    "died": "its process ended by itself",
    "broken": "it broke the protocol, or its reply has no place on the wire",
    "stopped": "the user stopped it",
}


def verdict_line(verdict: Verdict) -> str:
    """Make a verdict's pill and its meaning."""
    meaning = esc(_MEANINGS.get(verdict.kind, ""))
    return f'<div>{pill(verdict_mark(verdict.kind), str(verdict))} <span style="{QUIET}">{meaning}</span></div>'


def plugins_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Make the table of plugins, one row each; the keys of the first row are the headings."""
    if not rows:
        return "<p>No plugin is loaded; <code>%load_plugin SPEC</code> loads one.</p>"
    return table(list(rows[0]), [[_plugin_cell(key, text) for key, text in row.items()] for row in rows])


def _plugin_cell(heading: str, text: str) -> str:
    if heading == "name":
        return f"<b>{esc(text)}</b>"
    if heading == "state":
        return pill(state_mark(text), text)
    if heading == "last verdict" and text:
        return pill(verdict_mark(text.partition(":")[0]), text)
    return esc(text)


def _identity(source: SourceInfo) -> str:
    """Make the plugin's version, before it its own name if a manager gave it another."""
    own = f"({esc(source.plugin, 100)}) " if source.known_as and source.plugin else ""
    return own + (f'<span style="{QUIET}">{esc(source.version, 100)}</span>' if source.version else "")


def _origin(source: SourceInfo) -> str:
    start = source.digest if len(source.digest) <= 19 else f"{source.digest[:19]}…"
    return " · ".join(code(text) for text in (source.spec, start) if text)


def _warning(text: str) -> str:
    style = (
        f"margin:8px 0;padding:5px 10px;border:1px solid {LIMIT_COLOR};border-radius:4px;background:{LIMIT_COLOR}1f"
    )
    return f'<div role="note" style="{style}"><b>⚠</b> {esc(text)}</div>'


def _gap(row: Mapping[str, Any]) -> str:
    """Make text like `landlock for files is unavailable (remedy)`, with the lost promises if known."""
    protects = ", ".join(row.get("lost") or ()) or row.get("protects", "")
    remedy = f" ({row['remedy']})" if row.get("remedy") else ""
    return f"{row.get('barrier', '')} for {protects} is {row.get('status', 'missing')}{remedy}"


def _cost_bars(run: RunRecord) -> str:
    usage, policy = run.usage, run.policy
    added, memory = added_memory_bytes(run), float(policy.memory)
    return bars(
        [
            ("added memory", added, memory, f"{measured_size(added)} of {format_size(memory)}", MEMORY_COLOR),
            ("CPU", usage.cpu_s, policy.cpu_s, _of_seconds(usage.cpu_s, policy.cpu_s), CPU_COLOR),
            ("wall", usage.wall_s, policy.wall_s, _of_seconds(usage.wall_s, policy.wall_s), WALL_COLOR),
        ]
    )


def _of_seconds(used: float, limit: float) -> str:
    return f"{format_seconds(used)} of {limit:g} s"


def _small_costs(run: RunRecord) -> str:
    usage = run.usage
    figures = [
        f"footprint at its peak {measured_size(usage.peak_memory_bytes)}",
        f"request {format_size(usage.request_bytes)}",
        f"reply {format_size(usage.reply_bytes)}",
        f"output {format_size(usage.output_bytes)}",
        f"read {format_size(usage.read_bytes)}",
        f"written {format_size(usage.write_bytes)}",
        f"{usage.threads} thread{'' if usage.threads == 1 else 's'}",
    ]
    if usage.calls > 1:
        figures.append(f"figures shared by {usage.calls} calls")
    return esc(" · ".join(figures))


def _brief(value: object) -> str:
    """Return a short text for a decoded value: its shape, if it has one, else its bounded repr."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} of {' × '.join(str(size) for size in shape)}"
    if isinstance(value, (bytes, bytearray)) and len(value) > 60:
        return f"{type(value).__name__} of {format_size(len(value))}"
    try:
        return _VALUE_REPR.repr(value)
    except ValueError:  # an int of more digits than sys.get_int_max_str_digits()
        return type(value).__name__


def _events(run: RunRecord) -> str:
    rows = []
    for event in run.events:
        words = event_words(event.kind, event.detail)
        rows.append([figure(format_seconds(event.t_s)), esc(event.kind, 60), esc(words)])
    return table(["at", "event", "detail"], rows)


def _limits(policy: Policy) -> str:
    rows = (row for row in FIELDS.values() if row.label)
    return " · ".join(figure(f"{row.label} {format_amount(row, getattr(policy, row.name))}") for row in rows)


def _rights(policy: Policy) -> str:
    rights = []
    if isinstance(policy.network, tuple):
        rights.append(f"network to TCP {', '.join(map(str, policy.network))}")
    elif policy.network:
        rights.append("network")
    rights += [f"reads {path}" for path in policy.read] + [f"writes {path}" for path in policy.write]
    rights += [f"env {name}" for name in policy.env]  # the values may be secrets
    rights += [f"{kind} at {point}" for point, kind in policy.hooks.items()]
    return esc(" · ".join(rights) or "none beside its interpreter and the installed packages, read-only")
