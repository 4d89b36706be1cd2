"""`agentplug audit` as a shell sees it: streams, exit status, and no traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agentplug.manager.audit import AuditLog, verify
from tests.unit.test_audit_runs import a_run
from tests.workers.test_cli import agentplug


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with AuditLog(tmp_path / "audit.jsonl") as log:
        log.record_run(a_run(plugin="\x1b[31mhog"))
        log.record_run(a_run(plugin="other"))
        hook = {"hook": "guard", "point": "pre_tool_call", "kind": "veto", "outcome": "denied", "duration_s": 0.01}
        log.record("hook", hook | {"reason": "not today"})
    return tmp_path / "audit.jsonl"


def audit(*arguments: object) -> subprocess.CompletedProcess[str]:
    return agentplug("audit", *map(str, arguments), COLUMNS="160")


def test_a_good_log_is_told_with_its_head(path: Path) -> None:
    done = audit("verify", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"5 lines in 1 file, each tied to the one before; closed in order\nhead {verify(path).head}\n"
    )
    assert audit("verify", path, "--head", verify(path).head).returncode == 0


def test_a_changed_log_is_status_1_and_names_the_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"guard"', b'"gaurd"'))
    done = audit("verify", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "line 4 of" in done.stderr
    assert "they were changed or damaged" in done.stderr
    shown = audit("show", path)
    assert shown.returncode == 1
    assert "other" in shown.stdout
    assert "line 4 of" in shown.stderr


def test_a_head_that_is_not_there_is_status_1(path: Path) -> None:
    done = audit("verify", path, "--head", "\x1b[31m" + "0" * 64)
    assert done.returncode == 1
    assert "cut off before it, or written anew" in done.stderr
    assert "\x1b" not in done.stderr


def test_the_table_shows_what_was_asked_for(path: Path) -> None:
    whole = audit("show", path)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert all(word in whole.stdout for word in ("header", "\\x1b[31mhog", "other", "✓ completed", "guard", "denied"))
    assert "\x1b" not in whole.stdout
    for options, there, gone in (
        (("--plugin", "other"), "other", "guard"),
        (("--point", "pre_tool_call"), "not today", "other"),
        (("--verdict", "denied"), "guard", "other"),
        (("--kind", "run"), "completed", "guard"),
        (("--since", "2000-01-01", "--limit", "1"), "the last 1 of 5 lines", "guard"),
        (("--until", "2000-01-01"), "plugin", "header"),
    ):
        done = audit("show", path, *options)
        assert done.returncode == 0
        assert there in done.stdout
        assert gone not in done.stdout


def test_what_is_no_log_is_status_2(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("a,b\n")
    for arguments in (("verify", tmp_path / "no"), ("show", tmp_path / "other"), ("show", path, "--since", "now")):
        done = audit(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
