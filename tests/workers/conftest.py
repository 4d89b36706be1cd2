"""Tests that start processes of ours: workers, their zygotes, Python for the command line."""

from __future__ import annotations

from tests.shells import ip, shell, state_home  # noqa: F401
