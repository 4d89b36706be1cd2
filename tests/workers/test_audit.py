"""The audit log beside other processes: one writer, and a chain that outlives crashes and full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentplug.errors import AuditError
from agentplug.manager.audit import AuditLog, read_audit, verify
from tests.unit.test_audit import written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def in_another_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class TestOneWriter:
    def test_a_second_writer_is_refused_in_this_process_and_in_others(self, path: Path) -> None:
        code = "import sys; from agentplug.manager.audit import AuditLog; AuditLog(sys.argv[1])"
        with AuditLog(path):
            with pytest.raises(AuditError, match="being written by another audit log"):
                AuditLog(path)
            done = in_another_process(code, path)
            assert "AuditError" in done.stderr
            assert "being written by another" in done.stderr
        assert in_another_process(code, path).returncode == 0

    def test_a_link_leads_to_the_same_lock(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(path)
        with AuditLog(path), pytest.raises(AuditError, match="being written"):
            AuditLog(tmp_path / "link")

    def test_a_killed_writer_leaves_a_log_that_goes_on(self, path: Path) -> None:
        code = """
import os, signal, sys
from agentplug.manager.audit import AuditLog
log = AuditLog(sys.argv[1])
for number in range(50):
    log.record("note", {"number": number})
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert in_another_process(code, path).returncode == -9
        read = read_audit(path)
        assert [entry.fields["number"] for entry in read[1:]] == list(range(50))
        written(path, 1)
        assert verify(path).ok

    def test_a_fork_may_not_write_and_does_not_hold_the_lock(self, path: Path) -> None:
        code = """
import os, sys, time
from agentplug.manager.audit import AuditLog
log = AuditLog(sys.argv[1])
there, here = os.pipe()
if not os.fork():
    try:
        log.record("note", {})
    except Exception as error:
        print(error, flush=True)
    os.close(here)
    os.read(there, 1)  # lives on until its parent is done
    os._exit(0)
log.close()
AuditLog(sys.argv[1]).close()
os.close(here)
os.wait()
"""
        done = in_another_process(code, path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "forked from; open another file here" in done.stdout
        assert verify(path).ok

    def test_somebody_elses_line_is_noticed_at_the_next_one(self, path: Path) -> None:
        with AuditLog(path) as log:
            log.record("note", {})
            with path.open("ab") as file:
                file.write(b"forged\n")
            for _ in range(2):
                with pytest.raises(AuditError, match="changed by somebody else while in use"):
                    log.record("note", {})
            os.truncate(path, path.stat().st_size - len(b"forged\n"))
        assert verify(path).ok

    def test_a_file_that_is_removed_is_missed(self, path: Path) -> None:
        log = AuditLog(path)
        path.unlink()
        with pytest.raises(AuditError, match="was removed while in use"):
            log.record("note", {})
        with pytest.raises(AuditError, match="was removed"):
            log.close()
        written(path)
        assert verify(path).ok

    def test_an_interrupt_between_write_and_bookkeeping_loses_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A KeyboardInterrupt may come between any two steps."""
        pwrite = os.pwrite

        def interrupted(*arguments: Any) -> int:
            pwrite(*arguments)
            raise KeyboardInterrupt

        with AuditLog(path) as log:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    log.record("note", {"number": 1})
            log.record("note", {"number": 2})
        assert verify(path).ok
        assert [entry.fields.get("number") for entry in read_audit(path)] == [None, 1, 2, None]

    def test_a_full_disk_is_an_error_and_the_chain_says_what_was_lost(self, path: Path) -> None:
        code = """
import resource, sys
from agentplug.errors import AuditError
from agentplug.manager.audit import AuditLog
with AuditLog(sys.argv[1]) as log:
    log.record("note", {"number": 0})
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    for number in range(2):
        try:
            log.record("note", {"text": "x" * 3000})
        except AuditError as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    log.record("note", {"number": 3})
"""
        done = in_another_process(code, path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("can't be used as an audit log") == 2
        read = read_audit(path)
        assert [entry.kind for entry in read if entry.kind != "lost"] == ["header", "note", "note", "close"]
        assert sum(entry.fields["lines"] for entry in read if entry.kind == "lost") == 2
