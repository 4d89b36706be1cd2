"""The audit log: one writer, a chain that shows every change, files that outlive crashes and full disks."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug.errors import AuditError
from agentplug.manager.audit import AuditLog, BadLine, lines, read_audit, reading, verify
from agentplug.manager.audit import log as log_module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def written(path: Path, count: int = 3, **options: Any) -> list[str]:
    """The hashes of the log's lines after `count` were recorded and it was closed."""
    with AuditLog(path, **options) as log:
        for number in range(count):
            log.record("note", {"number": number})
    return [entry.hash for entry in read_audit(path)]


def kinds(path: Path) -> list[str]:
    return [entry.kind for entry in read_audit(path)]


class TestLog:
    def test_each_line_holds_the_hash_of_the_one_before(self, path: Path) -> None:
        hashes = written(path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["kind"] for line in lines] == ["header", "note", "note", "note", "close"]
        assert [line["n"] for line in lines] == [1, 2, 3, 4, 5]
        assert [line["prev"] for line in lines] == ["0" * 64, *hashes[:-1]]
        assert [line["fields"] for line in lines[1:4]] == [{"number": 0}, {"number": 1}, {"number": 2}]
        assert path.stat().st_mode & 0o777 == 0o600

    def test_a_log_goes_on_where_it_was_left(self, path: Path) -> None:
        written(path)
        written(path, 1)
        found = verify(path)
        assert (found.ok, found.lines, found.closed) == (True, 8, True)
        assert kinds(path)[4:] == ["close", "open", "note", "close"]

    def test_a_log_that_takes_too_much_memory_is_not_read(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two bytes of a line may be a list; checking takes any size."""
        with AuditLog(path) as log:
            log.record("note", {"lists": [[]] * 1_000})
        monkeypatch.setattr(reading, "MAX_VALUES", 5_000)
        with pytest.raises(AuditError, match=r"holds more than 5,000 values in 2 lines, the most .*audit verify"):
            read_audit(path)
        assert verify(path).ok

    def test_its_head_is_the_hash_of_its_last_line(self, path: Path) -> None:
        with AuditLog(path) as log:
            log.record("note", {})
            assert (log.head, log.count) == (verify(path).head, 2)

    @pytest.mark.parametrize("fsync", ["always", "batch", "never"])
    def test_a_line_is_in_the_file_before_record_returns(self, path: Path, fsync: str) -> None:
        """So a host that is killed loses none, whatever the fsync policy."""
        with AuditLog(path, fsync=fsync) as log:
            log.record("note", {"seen": True})
            assert read_audit(path)[-1].fields == {"seen": True}

    def test_a_batch_is_synced_by_a_thread_that_ends_with_the_log(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(log_module, "BATCH_S", 0.0)
        synced, fsync = threading.Event(), os.fsync

        def told(descriptor: int) -> None:
            fsync(descriptor)
            if threading.current_thread().name == "agentplug-audit":
                synced.set()

        monkeypatch.setattr(os, "fsync", told)
        before = set(threading.enumerate())
        with AuditLog(path) as log:
            log.record("note", {})
            assert synced.wait(30)
        assert {thread for thread in threading.enumerate() if thread.name == "agentplug-audit"} <= before

    def test_threads_write_one_chain(self, path: Path) -> None:
        with AuditLog(path) as log:
            threads = [
                threading.Thread(target=lambda: [log.record("note", {"text": "x" * 500}) for _ in range(100)])
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert (verify(path).ok, verify(path).lines) == (True, 802)

    def test_a_closed_log_takes_nothing_more(self, path: Path) -> None:
        log = AuditLog(path)
        log.close()
        log.close()
        with pytest.raises(AuditError, match="is closed; open another"):
            log.record("note", {})
        assert repr(log).endswith("closed>")

    def test_a_dropped_log_lets_go_of_its_file(self, path: Path) -> None:
        """It isn't closed in order, and says so."""
        log = AuditLog(path)
        log.record("note", {})
        del log
        assert not verify(path).closed
        written(path, 0)
        assert kinds(path) == ["header", "note", "open", "close"]

    @pytest.mark.parametrize("kind", ["", "Note", "a b", "close", "header", "x" * 41, 3, "ü"])
    def test_a_kind_is_a_word_that_is_not_the_logs_own(self, path: Path, kind: Any) -> None:
        with AuditLog(path) as log, pytest.raises(AuditError, match="write a word in small letters"):
            log.record(kind, {})


class TestRotation:
    def filled(self, path: Path, lines: int = 13) -> None:
        with AuditLog(path, max_bytes="4M") as log:
            for number in range(lines):
                log.record("note", {"number": number, "ballast": "x" * 1_000_000})

    def test_full_parts_are_put_aside_and_the_chain_goes_on(self, path: Path) -> None:
        self.filled(path)
        names = sorted(child.name for child in path.parent.iterdir())
        assert names == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3", "audit.jsonl.lock"]
        assert all(child.stat().st_size <= 4 << 20 for child in path.parent.iterdir())
        found = verify(path)
        assert (found.ok, found.files, found.lines, found.closed) == (True, 4, 18, True)
        assert [e.fields["number"] for e in read_audit(path) if e.kind == "note"] == list(range(13))

    def test_a_full_part_can_be_checked_by_itself(self, path: Path) -> None:
        self.filled(path)
        assert verify(f"{path}.2").ok

    @pytest.mark.parametrize(("gone", "why"), [("1", "part 2 .*not part 1"), ("2", "part 3 .*not part 2")])
    def test_a_part_that_is_gone_is_missed(self, path: Path, gone: str, why: str) -> None:
        self.filled(path)
        os.unlink(f"{path}.{gone}")
        found = verify(path)
        assert not found.ok
        assert re.search(why, str(found.first_bad))

    def test_the_newest_file_is_missed_too(self, path: Path) -> None:
        self.filled(path)
        path.unlink()
        assert verify(path).first_bad == BadLine(
            str(path), 0, "it is missing: it was removed, or a rotation was interrupted"
        )

    def test_a_rotation_that_was_interrupted_is_finished(self, path: Path) -> None:
        """Stopped after the full file was put aside, or before the new one had its header."""
        self.filled(path, 3)
        for left in (None, b"", b'{"n":6,"pre'):
            part = len(list(path.parent.glob("audit.jsonl.[0-9]"))) + 1
            path.rename(f"{path}.{part}")
            if left is not None:
                path.write_bytes(left)
            written(path, 1)
            assert verify(path).ok
        assert kinds(path)[-4:] == ["header", "recovered", "note", "close"]

    def test_a_file_in_the_way_is_never_replaced(self, path: Path) -> None:
        with AuditLog(path, max_bytes="4M") as log:
            Path(f"{path}.1").write_text("mine")
            for _ in range(4):
                log.record("note", {"ballast": "x" * 1_000_000})
            with pytest.raises(AuditError, match="in the way"):
                log.record("note", {"ballast": "x" * 1_000_000})
        assert Path(f"{path}.1").read_text() == "mine"


class TestVerify:
    def test_a_changed_line_is_named(self, path: Path) -> None:
        written(path)
        path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
        found = verify(path)
        assert found.first_bad == BadLine(
            str(path), 3, "its hash isn't that of its bytes: they were changed or damaged"
        )
        assert (found.ok, found.lines) == (False, 2)
        assert "not to be trusted after 2 lines in 1 file; line 3 of" in str(found)

    @pytest.mark.parametrize("order", ["01324", "0134", "012234", "01243"])
    def test_lines_moved_removed_or_repeated_are_noticed(self, path: Path, order: str) -> None:
        written(path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[int(number)] for number in order))
        found = verify(path)
        assert found.first_bad is not None
        assert "doesn't follow the line before" in found.first_bad.why

    def test_a_line_made_anew_breaks_the_next(self, path: Path) -> None:
        """Its own hash can be made right, but the line behind it holds the old one."""
        from agentplug.manager.audit.lines import seal, unseal

        written(path)
        lines = path.read_bytes().splitlines(keepends=True)
        old = unseal(lines[2])
        lines[2], _ = seal(old.n, old.prev, old.at.isoformat(), old.kind, '{"number":7}')
        path.write_bytes(b"".join(lines))
        found = verify(path)
        assert found.first_bad is not None
        assert found.first_bad.line == 4

    def test_lines_cut_off_at_the_end_are_missed_by_a_head_that_was_noted(self, path: Path) -> None:
        """By the chain alone nobody can tell: it only isn't closed."""
        hashes = written(path)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:3]))
        assert (verify(path).ok, verify(path).closed) == (True, False)
        assert verify(path, head=hashes[2]).ok
        found = verify(path, head=hashes[4])
        assert not found.ok
        assert "cut off before it, or written anew" in str(found)

    def test_lines_of_another_log_are_noticed(self, path: Path, tmp_path: Path) -> None:
        written(path)
        written(tmp_path / "other")
        path.write_bytes(path.read_bytes() + (tmp_path / "other").read_bytes())
        assert not verify(path).ok

    @given(st.data())
    @settings(max_examples=300, deadline=None, database=None)
    def test_any_other_byte_anywhere_is_noticed(self, data: st.DataObject) -> None:
        whole = _sample()
        at = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
        assert not _trusted(whole[:at] + bytes([byte]) + whole[at + 1 :])

    @given(st.data())
    @settings(max_examples=200, deadline=None, database=None)
    def test_any_bytes_put_in_or_taken_out_are_noticed(self, data: st.DataObject) -> None:
        """But whole lines taken off the end, which is what a noted head is for."""
        whole = _sample()
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 400)))
        put = data.draw(st.binary(max_size=20))
        changed = whole[:start] + put + whole[end:]
        if changed != whole and not (whole.startswith(changed) and changed.endswith(b"\n")):
            assert not _trusted(changed)

    @given(st.binary(max_size=300))
    @settings(max_examples=200, deadline=None, database=None)
    def test_any_bytes_are_answered_by_an_answer_or_an_audit_error(self, data: bytes) -> None:
        assert not _trusted(data)
        assert not _trusted(b'{"n":' + data)

    def test_a_line_that_never_ends_is_not_read_into_memory(self, path: Path) -> None:
        written(path)
        with path.open("ab") as file:
            file.truncate(path.stat().st_size + (1 << 30))  # a hole: a gigabyte of zeros
        found = verify(path)
        assert found.first_bad is not None
        assert "longer than" in found.first_bad.why


class TestReading:
    def test_a_bad_line_is_an_error_that_names_it(self, path: Path) -> None:
        written(path)
        path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
        with pytest.raises(AuditError, match=r"line 3 of .*audit\.jsonl: its hash"):
            read_audit(path)
        assert [entry.kind for entry in read_audit(path, partial=True)] == ["header", "note"]

    def test_a_torn_end_is_told_and_is_no_error(self, path: Path) -> None:
        written(path)
        with path.open("ab") as file:
            file.write(b'{"n":6,"prev')
        read = read_audit(path)
        assert (len(read), read.verification.ok, read.verification.torn_bytes) == (5, False, 12)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda path: None, "no such file"),
            (lambda path: path.mkdir(), "no regular file"),
            (os.mkfifo, "no regular file"),
            (lambda path: path.write_text("id,name\n1,a\n"), "is no audit log"),
            (lambda path: path.write_text('{"n":1}\n'), "not to be trusted|can't be trusted"),
        ],
        ids=["missing", "folder", "pipe", "other", "json"],
    )
    def test_what_is_no_log_is_refused(self, path: Path, make: Any, message: str) -> None:
        make(path)
        with pytest.raises(AuditError, match=message):
            read_audit(path)

    def test_what_may_not_be_read_is_refused(self, path: Path) -> None:
        written(path)
        path.chmod(0)
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        with pytest.raises(AuditError, match="this user may not"):
            read_audit(path)

    def test_a_newer_format_is_named(self, path: Path) -> None:
        from agentplug.manager.audit.lines import seal

        reads = "in format 2; this one reads formats up to 1: upgrade"
        for machine, words in (
            ('{"agentplug":"9.1"}', f"was written by agentplug 9.1 {reads} to agentplug 9.1 or later"),
            ("null", f"was written by a newer agentplug {reads} agentplug"),
        ):
            fields = f'{{"format":"agentplug-audit","version":2,"chain":"c","part":1,"machine":{machine}}}'
            path.write_bytes(seal(1, "0" * 64, "2026-01-01T00:00:00+00:00", "header", fields)[0])
            for use in (read_audit, AuditLog, AuditLog.verify):
                with pytest.raises(AuditError) as failure:
                    use(path)
                assert str(failure.value) == f"{path} {words}"

    def test_a_log_without_a_format_is_none(self, path: Path) -> None:
        from agentplug.manager.audit.lines import seal

        for version in ("0", "true", '"1"', "null"):
            fields = f'{{"format":"agentplug-audit","version":{version},"chain":"c","part":1}}'
            path.write_bytes(seal(1, "0" * 64, "2026-01-01T00:00:00+00:00", "header", fields)[0])
            with pytest.raises(AuditError, match="its header names no format"):
                AuditLog(path)


class TestWriterOfDamagedFiles:
    def test_every_torn_last_line_is_recovered_and_told(self, path: Path) -> None:
        """Cut anywhere in its last line, the log goes on, and the chain names what was lost."""
        written(path, 1)
        whole = path.read_bytes()
        start = whole.rindex(b"\n", 0, -1) + 1
        for end in range(start + 1, len(whole)):
            path.write_bytes(whole[:end])
            written(path, 1)
            read = read_audit(path)
            assert read.verification.ok
            assert [entry.kind for entry in read][2:] == ["recovered", "open", "note", "close"]
            assert read[2].fields["bytes"] == end - start
            assert read[2].fields["began"] == whole[start:end].decode()[:200]

    @pytest.mark.parametrize("torn", [b"\0" * 5000, b"\xff\x1b[2J" * 9, b"{" * 400_000])
    def test_a_tail_of_anything_is_recovered(self, path: Path, torn: bytes) -> None:
        written(path, 1)
        with path.open("ab") as file:
            file.write(torn)
        written(path, 1)
        read = read_audit(path)
        assert read.verification.ok
        told = next(entry.fields for entry in read if entry.kind == "recovered")
        assert told["bytes"] == len(torn)
        assert told["began"].isprintable()

    @pytest.mark.parametrize("first", [b"", b"{", b'{"n":1,"prev":"00', b"\0\0\0"])
    def test_a_log_that_never_had_a_whole_line_begins_anew(self, path: Path, first: bytes) -> None:
        path.write_bytes(first)
        written(path, 1)
        assert kinds(path) == ["header", *["recovered"][: bool(first)], "note", "close"]
        assert verify(path).ok

    def test_a_changed_last_line_is_not_built_upon(self, path: Path) -> None:
        written(path)
        before = path.read_bytes().replace(b'"lines":5', b'"lines":6')
        path.write_bytes(before)
        with pytest.raises(AuditError, match=r"last line .* can't be trusted.*move the file away"):
            AuditLog(path)
        assert path.read_bytes() == before

    def test_another_file_is_left_as_it_is(self, path: Path) -> None:
        for text in ("# notes\n", "no line end", '{"cells": []}\n'):
            path.write_text(text)
            with pytest.raises(AuditError, match=r"no audit log|can't be trusted"):
                AuditLog(path)
            assert path.read_text() == text


class TestPlaces:
    @pytest.mark.parametrize("given_path", ["", "a\0b", 3, None, b""])
    def test_what_is_no_path_is_refused(self, given_path: Any) -> None:
        with pytest.raises(AuditError, match="is no path"):
            AuditLog(given_path)

    def test_no_log_is_made_through_a_link(self, path: Path) -> None:
        """A plugin that may write to its folder could have any file made that its user can make."""
        path.symlink_to(path.parent / "elsewhere")

        with pytest.raises(
            AuditError, match=r"is a link to .*elsewhere, which isn't there; remove the link, or make"
        ):
            AuditLog(path)

        assert os.listdir(path.parent) == [path.name]

    def test_folders_pipes_and_missing_folders_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for name, message in (
            ("folder", "it is a folder"),
            ("pipe", "no regular file"),
            ("no/such", "make the folder"),
        ):
            with pytest.raises(AuditError, match=message):
                AuditLog(tmp_path / name)

    def test_where_this_user_may_not_write_is_refused(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        tmp_path.chmod(0o500)
        with pytest.raises(AuditError, match="this user may not"):
            AuditLog(tmp_path / "audit.jsonl")

    @pytest.mark.parametrize("options", [{"fsync": "sometimes"}, {"max_bytes": "1K"}, {"max_bytes": "much"}])
    def test_options_are_checked_before_anything_is_made(self, path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(AuditError, match=r"fsync=|max_bytes="):
            AuditLog(path, **options)
        assert not path.exists()


_SAMPLE: list[bytes] = []


def _sample() -> bytes:
    """A small log."""
    if not _SAMPLE:
        with tempfile.TemporaryDirectory() as folder:
            written(Path(folder, "log"))
            _SAMPLE.append(Path(folder, "log").read_bytes())
    return _SAMPLE[0]


def _trusted(data: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "log")
        file.write_bytes(data)
        try:
            return verify(file).ok
        except AuditError:
            return False


def test_any_line_may_be_the_noted_head(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        heads = [log.head]
        for number in range(3):
            log.record("note", {"number": number})
            heads.append(log.head)
    assert all(verify(path, head=head).ok for head in heads)


def test_a_part_of_another_log_is_noticed(tmp_path: Path) -> None:
    """Numbers, links and hashes are right: it still is another chain."""
    path = tmp_path / "audit.jsonl"
    with AuditLog(path, max_bytes=4 << 20) as log:
        while not path.with_name("audit.jsonl.1").exists():
            log.record("note", {"text": "x" * 500_000})
    prev, new = None, []
    for line in path.read_bytes().splitlines(keepends=True):
        old = lines.unseal(line)
        told = old.fields | ({"chain": "another"} if old.kind == "header" else {})
        raw, prev = lines.seal(old.n, prev or old.prev, old.at.isoformat(), old.kind, lines.to_json(told))
        new.append(raw)
    path.write_bytes(b"".join(new))
    assert "another log" in str(verify(path))
