"""An audit log as OpenTelemetry spans: in memory, and over HTTP to a collector on the loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import ErrorText, SourceInfo, Usage
from agentplug.core.run import Run
from agentplug.errors import AuditError
from agentplug.manager.audit import Audit, AuditLog, read_audit

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otlp")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from agentplug.integrations.otlp import export_audit, spans_of

SECRET = "hunter2"
START = datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)
HOOK = {"point": "pre_tool_call", "kind": "veto", "by": "plugin", "duration_s": 0.25, "changed": False, "reason": ""}


@pytest.fixture(autouse=True)
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of other integrations may have switched OpenTelemetry off."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    with AuditLog(tmp_path / "audit.jsonl", content=True) as log:
        for events in ((Event(0.5, "reply"),), (Event(0.5, "limit", {"by": "cpu", "measured": 2.0}),)):
            source = SourceInfo("hog.py", "file", "sha256:00", "hog", "1.0")
            usage = Usage(wall_s=0.5, cpu_s=0.25, peak_memory_bytes=7)
            error = ErrorText("E", SECRET, SECRET)
            log.record_run(Run(SECRET, usage, events, Policy(), source, 3, START, stdout=SECRET, error=error))
        log.record("load", {"plugin": "hog", "version": "1.0", "digest": "sha256:00"})
        log.record("refuse", {"plugin": "bad", "version": "", "error": "ContractError"})
        hooks = [
            HOOK | {"hook": "guard", "outcome": "denied", "reason": "no"},
            HOOK | {"hook": "slow", "outcome": "timeout", "duration_s": 5.0},
            HOOK | {"hook": "watcher", "outcome": "queued", "kind": "observe", "duration_s": 0.0},
        ]
        dispatch = {"message": "m1", "session_id": "s1", "point": "pre_tool_call", "digest": "sha256:1"}
        log.record("dispatch", dispatch | {"allowed": False, "denied_by": "guard", "reason": "no", "hooks": hooks})
        log.record("hook", HOOK | {"message": "m1", "hook": "watcher", "kind": "observe", "outcome": "observed"})
        log.record("note", {"anything": "else"})
    return read_audit(tmp_path / "audit.jsonl")


def test_a_run_is_an_invoke_agent_span_with_its_times(audit: Audit) -> None:
    fine, limited = spans_of(audit)[:2]
    attributes = dict(fine.attributes or {})
    assert (fine.name, fine.kind.name) == ("invoke_agent hog", "INTERNAL")
    assert fine.start_time == int(START.timestamp()) * 10**9 + 891_234_000
    assert fine.end_time == fine.start_time + 500_000_000
    assert attributes["gen_ai.operation.name"] == "invoke_agent"
    assert attributes["gen_ai.agent.name"] == "hog"
    assert attributes["gen_ai.agent.version"] == "1.0"
    assert attributes["gen_ai.agent.id"] == "sha256:00"
    assert attributes["agentplug.verdict"] == "completed"
    assert attributes["agentplug.usage.peak_memory_bytes"] == 7
    assert attributes["agentplug.limit.cpu_s"] == 10.0
    assert (fine.status.status_code, limited.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert "error.type" not in attributes
    assert dict(limited.attributes or {})["error.type"] == "limited:cpu"
    (event,) = limited.events
    assert (event.name, event.timestamp, dict(event.attributes or {})) == (
        "limit",
        fine.end_time,
        {"agentplug.by": "cpu", "agentplug.measured": 2.0},
    )


def test_a_dispatch_has_its_hooks_below_it(audit: Audit) -> None:
    """An observer's own line comes later, and joins the same trace."""
    spans = {span.name: span for span in spans_of(audit)}
    assert list(spans) == [
        "invoke_agent hog",
        "create_agent hog",
        "create_agent bad",
        "dispatch pre_tool_call",
        "hook guard",
        "hook slow",
        "hook watcher",
    ]
    above = spans["dispatch pre_tool_call"]
    for name in ("hook guard", "hook slow", "hook watcher"):
        assert spans[name].parent is not None
        assert spans[name].parent.span_id == above.context.span_id
        assert spans[name].context.trace_id == above.context.trace_id
    told = dict(above.attributes or {})
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert told["gen_ai.conversation.id"] == "s1"
    assert told["agentplug.verdict"] == "denied:guard"
    assert dict(spans["hook slow"].attributes or {})["error.type"] == "timeout"
    assert spans["hook guard"].status.status_code is StatusCode.UNSET
    assert spans["hook slow"].end_time - spans["hook slow"].start_time == 5_000_000_000


def test_the_same_log_gives_the_same_spans(audit: Audit) -> None:
    """So a log that is sent twice isn't counted twice."""
    first, again = ([span.context for span in spans_of(audit)] for _ in range(2))
    assert first == again
    assert len({context.span_id for context in first}) == len(first) == 8


def test_content_is_never_sent(audit: Audit) -> None:
    """Not even where the log keeps it."""
    assert any(SECRET in str(entry.fields) for entry in audit)
    assert not any(SECRET in span.to_json() for span in spans_of(audit))


def test_spans_go_to_an_exporter_that_is_given(audit: Audit) -> None:
    exporter = InMemorySpanExporter()
    assert export_audit(audit, exporter=exporter) == len(exporter.get_finished_spans()) == 8


def test_opentelemetry_that_is_switched_off_is_told(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pytest.raises(AuditError, match="OTEL_SDK_DISABLED is set"):
        spans_of(audit)


def test_a_line_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "log") as log:
        log.record("run", {"plugin": "hog"})
    with pytest.raises(AuditError, match="Line 2 can't be told as a span: KeyError"):
        spans_of(read_audit(tmp_path / "log"))


class Collector(BaseHTTPRequestHandler):
    """Takes spans, or answers with `status`."""

    status = 200
    taken: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[tuple[str, type[Collector]]]:
    handler = type("Handler", (Collector,), {"taken": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", handler
        server.shutdown()
        thread.join()


def test_spans_reach_a_collector_over_http(audit: Audit, collector: tuple[str, type[Collector]]) -> None:
    endpoint, handler = collector
    assert export_audit(audit, endpoint=endpoint) == 8
    ((path, request),) = handler.taken
    (resource,) = request.resource_spans
    assert path == "/v1/traces"
    told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert told["service.name"] == "agentplug"
    assert told["agentplug.audit.chain"] == audit.verification.chain
    assert [span.name for span in resource.scope_spans[0].spans][:2] == ["invoke_agent hog"] * 2


def test_a_collector_that_refuses_is_an_error(audit: Audit, collector: tuple[str, type[Collector]]) -> None:
    endpoint, handler = collector
    handler.status = 400
    with pytest.raises(AuditError, match="didn't take the spans"):
        export_audit(audit, endpoint=endpoint)
