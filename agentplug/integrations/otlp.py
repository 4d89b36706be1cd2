"""An audit log as OpenTelemetry spans (host; the extra `otlp`).

Attributes follow the GenAI semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/, status:
development); others are named `agentplug.*`. A plugin's call is an `invoke_agent` span, its loading a `create_agent`
span. The dispatch of a message is one span, with a child span for each hook. Content is never sent. Identifiers are
made from the log's chain: the same log sent twice gives the same spans.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.record import USAGE_FIELDS
from agentplug.contract.text import printable
from agentplug.errors import AuditError
from agentplug.manager.audit.lines import Entry, checked_time, verdict_of
from agentplug.manager.audit.reading import Audit

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

BATCH_SPANS = 500
_TIMEOUT_S = 10
_OPERATIONS = {
    "pre_model_call": "chat",
    "post_model_call": "chat",
    "pre_tool_call": "execute_tool",
    "post_tool_call": "execute_tool",
}
_NO_ERROR = frozenset(("", "completed", "allowed", "denied", "kept", "changed", "queued", "observed"))


def export_audit(audit: Audit, *, endpoint: str | None = None, exporter: SpanExporter | None = None) -> int:
    """Send the spans of `audit` to `exporter`, or over HTTP to the collector at `endpoint`. Return their number.

    `endpoint` is like `http://localhost:4318/v1/traces`. Raises `AuditError` if the spans aren't accepted, and
    `ImportError` without the extra `otlp`.
    """
    spans = spans_of(audit)
    from opentelemetry.sdk.trace.export import SpanExportResult

    own = exporter is None
    if exporter is None:
        exporter = _http(endpoint)
    try:
        for first in range(0, len(spans), BATCH_SPANS):
            if exporter.export(spans[first : first + BATCH_SPANS]) is not SpanExportResult.SUCCESS:
                where = printable(endpoint or type(exporter).__name__, 200)
                raise AuditError(
                    f"{where} didn't take the spans from the {first + 1}th of {len(spans)} on; is a collector there?"
                )
    finally:
        if own:
            exporter.shutdown()
    return len(spans)


def spans_of(audit: Audit) -> list[ReadableSpan]:
    """Return an ended span for each run, load, dispatch and hook of `audit`.

    Raises `ImportError` without the extra, and `AuditError` for invalid lines.
    """
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError:
        raise ImportError("spans need the OpenTelemetry SDK: pip install 'agentplug[otlp]'") from None
    from opentelemetry import trace

    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        raise AuditError("OTEL_SDK_DISABLED is set, so that OpenTelemetry makes no spans; unset it to export")
    chain = audit.verification.chain
    ids = _ids(chain)
    resource = Resource.create({"service.name": "agentplug", "agentplug.audit.chain": chain})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False, id_generator=ids)
    tracer = provider.get_tracer("agentplug")
    parents: dict[str, Any] = {}
    spans: list[ReadableSpan] = []
    for entry in audit:
        for span_data in _span_data(entry):
            ids.turn_to(span_data.trace or f"line {entry.n}", f"line {entry.n} {span_data.name} {span_data.place}")
            parent = parents.get(span_data.trace) if span_data.nested else None
            span: Any = tracer.start_span(
                printable(span_data.name, 200),
                context=trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent is not None else None,
                attributes=_attributes(span_data.attributes),
                start_time=_time(span_data.start_ns),
            )
            for at_ns, name, attributes in span_data.events:
                span.add_event(printable(str(name), 60), _attributes(attributes), _time(at_ns))
            if span_data.error:
                span.set_attribute("error.type", span_data.error)
                span.set_status(trace.StatusCode.ERROR, span_data.error)
            span.end(_time(span_data.end_ns))
            if span_data.trace and not span_data.nested:
                parents[span_data.trace] = span.get_span_context()
            spans.append(span)
    return spans


class _Span(NamedTuple):
    """The contents of a span. A message's spans share `trace`; its hooks' spans are `nested`, numbered by `place`."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    error: str = ""
    events: tuple[tuple[int, str, dict[str, Any]], ...] = ()
    trace: str = ""
    nested: bool = False
    place: int = 0


def _span_data(entry: Entry) -> Iterator[_Span]:
    build = _SPANS_BY_KIND.get(entry.kind)
    if build is not None and "truncated" not in entry.fields:
        try:
            yield from build(entry)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            why = printable(f"{type(error).__name__}: {error}", 200)
            raise AuditError(f"Line {entry.line} can't be told as a span: {why}") from None


def _run(entry: Entry) -> Iterator[_Span]:
    fields, usage = entry.fields, entry.fields["usage"]
    start_ns = _ns(checked_time(datetime.fromisoformat(fields["started_at"])))
    verdict, policy = verdict_of(entry), fields.get("policy", {})
    attributes = _agent(entry, "invoke_agent") | {
        "agentplug.run": fields["run"],
        "agentplug.verdict": verdict,
        **{f"agentplug.usage.{name}": usage[name] for name in USAGE_FIELDS if name in usage},
        **{f"agentplug.limit.{name}": policy.get(name) for name in ("memory", "cpu_s", "wall_s")},
    }
    events = tuple(
        (start_ns + _ns_of(t_s), kind, {f"agentplug.{name}": value for name, value in detail.items()})
        for t_s, kind, detail in fields["events"]
    )
    end_ns = start_ns + _ns_of(usage["wall_s"])
    yield _Span(f"invoke_agent {fields['plugin']}", start_ns, end_ns, attributes, _error(verdict), events)


def _load(entry: Entry) -> Iterator[_Span]:
    at_ns = _ns(entry.at)
    error = str(entry.fields.get("verdict") or entry.fields.get("error") or "") if entry.kind == "refuse" else ""
    yield _Span(f"create_agent {entry.fields['plugin']}", at_ns, at_ns, _agent(entry, "create_agent"), error)


def _dispatch(entry: Entry) -> Iterator[_Span]:
    fields, end_ns = entry.fields, _ns(entry.at)
    hooks = fields.get("hooks", [])
    longest_s = max((hook["duration_s"] for hook in hooks), default=0.0)
    point, message = str(fields["point"]), str(fields["message"])
    shared = {
        "gen_ai.operation.name": _OPERATIONS.get(point, "invoke_agent"),
        "gen_ai.conversation.id": fields.get("session_id"),
        "agentplug.point": point,
        "agentplug.message": message,
    }
    about = {
        "agentplug.verdict": verdict_of(entry),
        "agentplug.reason": fields.get("reason"),
        "agentplug.changed": fields.get("changed"),
        "agentplug.message.digest": fields.get("digest"),
    }
    yield _Span(f"dispatch {point}", end_ns - _ns_of(longest_s), end_ns, shared | about, trace=f"message {message}")
    for place, hook in enumerate(hooks, 1):
        if hook["outcome"] != "queued":  # an observer has a line of its own, after its call
            yield _hook_span(hook, message, end_ns, shared, place)


def _hook(entry: Entry) -> Iterator[_Span]:
    message, point = str(entry.fields.get("message", "")), str(entry.fields["point"])
    shared = {"gen_ai.operation.name": _OPERATIONS.get(point, "invoke_agent"), "agentplug.point": point}
    yield _hook_span(entry.fields, message, _ns(entry.at), shared | {"agentplug.message": message}, 0)


def _hook_span(hook: Mapping[str, Any], message: str, end_ns: int, shared: Mapping[str, Any], place: int) -> _Span:
    """Return the span of a hook. Only a hook's duration is recorded, so the span ends when its line was written."""
    outcome = str(hook["outcome"])
    attributes = {
        **shared,
        "gen_ai.agent.name": hook["hook"] if hook.get("by") == "plugin" else None,
        "agentplug.hook": hook["hook"],
        "agentplug.hook.kind": hook["kind"],
        "agentplug.verdict": outcome,
        "agentplug.reason": hook.get("reason"),
    }
    start_ns = end_ns - _ns_of(hook["duration_s"])
    name = f"hook {hook['hook']}"
    return _Span(name, start_ns, end_ns, attributes, _error(outcome), (), f"message {message}", True, place)


_SPANS_BY_KIND: dict[str, Callable[[Entry], Iterator[_Span]]] = {
    "run": _run,
    "load": _load,
    "refuse": _load,
    "dispatch": _dispatch,
    "hook": _hook,
}


def _agent(entry: Entry, operation: str) -> dict[str, Any]:
    fields = entry.fields
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": str(fields["plugin"]),
        "gen_ai.agent.version": str(fields.get("version") or ""),
        "gen_ai.agent.id": fields.get("digest"),
    }


def _error(verdict: str) -> str:
    return "" if verdict.partition(":")[0] in _NO_ERROR else printable(verdict, 200)


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that OTLP can carry: escaped texts, bools, floats, and ints of 64 bits."""
    attributes: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str) and value:
            attributes[printable(name, 100)] = printable(value)
        elif isinstance(value, float) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
            attributes[printable(name, 100)] = value
    return attributes


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1e6) * 1000


def _time(at_ns: int) -> int:
    """Return the nearest time that fits into OTLP's 64 bits."""
    return min(max(at_ns, 0), (1 << 63) - 1)


def _ns_of(seconds: float) -> int:
    return round(seconds * 1e9)


def _ids(chain: str) -> Any:
    """Return a generator of identifiers that depend only on the log's chain and on the span's position in it."""
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Ids(IdGenerator):
        trace, span = 0, 0

        def turn_to(self, trace: str, span: str) -> None:
            self.trace, self.span = _number(f"{chain} {trace}", 16), _number(f"{chain} {span}", 8)

        def generate_trace_id(self) -> int:
            return self.trace

        def generate_span_id(self) -> int:
            return self.span

    return Ids()


def _number(text: str, size: int) -> int:
    return int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:size], "big") or 1


def _http(endpoint: str | None) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ImportError("OTLP over HTTP needs its exporter: pip install 'agentplug[otlp]'") from None
    return OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
