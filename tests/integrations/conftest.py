"""Nothing here reaches a network: the frameworks' telemetry is off, and a test that tries a connection fails."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

os.environ |= {
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENAI_AGENTS_DONT_LOG_MODEL_DATA": "1",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "OTEL_SDK_DISABLED": "true",
}


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections and names beyond this machine are refused, and remembered."""
    tried: list[Any] = []
    connect = socket.socket.connect
    names = socket.getaddrinfo

    def checked_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(("127.", "::1")):
            tried.append(address)
            raise ConnectionRefusedError(f"a test tried to reach {address}")
        connect(self, address)

    def checked_names(host: Any, *args: Any, **options: Any) -> Any:
        if host not in (None, "localhost", "127.0.0.1", "::1"):
            tried.append(host)
            raise socket.gaierror(f"a test tried to reach {host}")
        return names(host, *args, **options)

    monkeypatch.setattr(socket.socket, "connect", checked_connect)
    monkeypatch.setattr(socket, "getaddrinfo", checked_names)
    yield
    assert tried == []
