"""Measured figures for people (host), rounded so that one figure reads the same wherever it stands."""

from __future__ import annotations

from agentplug.contract.policy import format_size

_TENTH = (1 << 20) / 10


def measured_size(size_bytes: float) -> str:
    """Format a measured size, to a tenth of a MiB from one MiB on: `64.8 MiB`, `412 KiB`."""
    if size_bytes < 1 << 20:
        return format_size(round(size_bytes / 1024) * 1024 if size_bytes >= 10_240 else size_bytes)
    return format_size(round(size_bytes / _TENTH) * _TENTH)
