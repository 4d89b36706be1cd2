"""Attacks of the zoo that are known to get through: a list to be worked off, and empty when all is well.

A test of one of these is expected to fail. As soon as it passes, it says so by failing; then strike it from here.
"""

from __future__ import annotations

BREACHES: dict[str, str] = {}
"""On every machine."""

BREACHES_WITHOUT: dict[str, tuple[str, str]] = {}
"""Where the machine lacks a feature of `tests/conftest.py`, whose layer stops them elsewhere."""
