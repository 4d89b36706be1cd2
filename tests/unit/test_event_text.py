"""Events as words: sizes and times with units, no bound as a figure that was measured, hostile text made visible."""

from __future__ import annotations

from typing import Any

import pytest

from agentplug.report.event_text import event_words
from agentplug.report.units import measured_size

MIB = 1 << 20


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        ("start", {"floor_bytes": 21_626_880}, "memory counts from 20.6 MiB"),
        ("start", {}, ""),
        ("limit", {"by": "memory", "measured": 67.6e6, "bound": 64 * MIB, "unit": "bytes"}, "memory: over 64 MiB"),
        (
            "limit",
            {"by": "cpu", "measured": 1.2, "bound": 1.0, "unit": "s between calls"},
            "CPU: over 1 s between calls",
        ),
        ("limit", {"by": "disk", "measured": 70, "bound": 64, "unit": "files"}, "disk: over 64 files"),
        ("limit", {"by": "threads", "measured": 9, "bound": 8, "unit": "threads"}, "threads: over 8"),
        ("limit", {"by": "memory", "measured": 1, "bound": "?"}, "memory"),
        ("limit", {"by": "gpu"}, "gpu"),
        (
            "error",
            {"type": "MemoryError", "limit": "memory", "bound": 64 * MIB, "unit": "bytes"},
            "MemoryError · memory: over 64 MiB",
        ),
        ("error", {"type": "OSError", "claims": "disk"}, "OSError · as if at its disk limit"),
        (
            "tried",
            {"syscall": "connect", "argument": "::1:443", "source": "kernel", "count": 3},
            "connect ::1:443 ×3",
        ),
        ("tried", {"syscall": "fork", "source": "worker", "count": 1}, "fork · by its worker's own report"),
        ("exit", {"status": "SIGKILL", "during": "load"}, "SIGKILL · during load"),
        (
            "loaded",
            {"wall_s": 0.012, "cpu_s": 0.003, "added_memory_bytes": 4.2 * MIB, "threads": 1, "write_bytes": 0},
            "in 12 ms 3 ms of CPU 4.2 MiB added 1 thread 0 B written",
        ),
        ("error", {"type": "E\x1b[2J\u202e"}, "E\\x1b[2J\\u202e"),
    ],
)
def test_an_event_reads_like_this(kind: str, detail: dict[str, Any], words: str) -> None:
    """The detail of each kind, for people."""
    assert event_words(kind, detail) == words


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (900, "900 B"), (2_000, "1.953 KiB"), (500_500, "489 KiB"), (64.8444 * MIB, "64.8 MiB")],
)
def test_a_measured_size_has_few_digits(size_bytes: float, text: str) -> None:
    """A tenth of a MiB is as much as anybody compares."""
    assert measured_size(size_bytes) == text
