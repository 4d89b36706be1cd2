"""What a line of an audit log can hold: any fields, made harmless, within its length."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug.contract.record import Verdict
from agentplug.manager.audit import AuditLog, read_audit, verify
from agentplug.manager.audit.lines import MAX_LINE_BYTES, fit, to_json


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is to be."""
    return tmp_path / "audit.jsonl"


class TestFields:
    def test_what_json_cannot_hold_has_a_form_of_its_own(self, path: Path) -> None:
        circle: list[Any] = []
        circle.append(circle)
        fields = {
            "nan": math.nan,
            "inf": -math.inf,
            "int": 1 << 20_000,
            "bytes": b"\0\xff",
            "surrogate": "\ud800",
            "tuple": (1, (2,)),
            "time": datetime(2026, 1, 2, tzinfo=UTC),
            "verdict": Verdict("limited", "cpu"),
            "path": PurePosixPath("/a"),
            "mapping": MappingProxyType({"a": MappingProxyType({"b": math.inf})}),
            "other": object(),
            "keys": {1: "int", None: "none", (1, 2): "tuple"},
            "set": {1},
        }
        with AuditLog(path) as log:
            log.record("note", fields)
            log.record("note", {"circle": circle})
        read = read_audit(path)
        assert read[1].fields == {
            "nan": {"$float": "nan"},
            "inf": {"$float": "-inf"},
            "int": {"$int": hex(1 << 20_000)},
            "bytes": {"$bytes": "AP8="},
            "surrogate": "\ud800",
            "tuple": [1, [2]],
            "time": "2026-01-02T00:00:00+00:00",
            "verdict": "limited:cpu",
            "path": "/a",
            "mapping": {"a": {"b": {"$float": "inf"}}},
            "other": {"$type": "object"},
            "keys": {"1": "int", "None": "none", "(1, 2)": "tuple"},
            "set": {"$type": "set"},
        }
        assert verify(path).ok

    def test_an_object_that_fails_when_it_is_looked_at_is_only_named(self) -> None:
        class Sly(dict[str, int]):
            def items(self) -> Any:
                raise RuntimeError("no")

        assert json.loads(to_json({"sly": Sly(a=1), "nan": math.nan}))["sly"] == {"$type": "Sly"}

    @given(
        st.dictionaries(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.binary() | st.datetimes(),
                lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(), inner, max_size=9),
                max_leaves=20,
            ),
            max_size=9,
        )
    )
    @settings(max_examples=60, deadline=None, database=None)
    def test_any_fields_become_one_line_of_harmless_text(self, fields: dict[str, Any]) -> None:
        """Nothing in it can steer a terminal, or end the line."""
        text = to_json(fields)
        assert text.isascii()
        assert "\n" not in text
        assert not any(ord(c) < 32 for c in text)
        assert isinstance(json.loads(text), dict)

    def test_a_line_that_is_too_long_loses_its_largest_members(self, path: Path) -> None:
        with AuditLog(path) as log:
            log.record("note", {"large": "x" * (2 * MAX_LINE_BYTES), "small": "kept"})
            log.record("note", {f"k{number}": "y" * 20 for number in range(60_000)})
        large, many = read_audit(path)[1:3]
        assert large.fields["small"] == "kept"
        assert large.fields["truncated"] == ["large"]
        assert large.fields["large"]["bytes"] == 2 * MAX_LINE_BYTES + 2
        assert many.fields["truncated"] is True
        assert max(map(len, path.read_bytes().splitlines())) < MAX_LINE_BYTES

    def test_what_is_cut_keeps_a_digest_that_it_had(self) -> None:
        cut = json.loads(fit(to_json({"value": {"sha256": "sha256:1", "json": "x" * 1000}, "a": 1}), 200))
        assert cut == {"value": {"bytes": 1031, "sha256": "sha256:1"}, "a": 1, "truncated": ["value"]}
