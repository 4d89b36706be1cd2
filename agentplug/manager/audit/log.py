"""`AuditLog`, the only writer of an audit file (host).

One write(2) writes a line before `record` returns, so a killed host loses none; the fsync policy decides what a power
cut may lose. The file's size is checked before each line, so changes by anybody else are noticed at the next line.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import uuid
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agentplug.contract.formats import AUDIT_FORMAT
from agentplug.contract.policy import brief, format_size, parse_size
from agentplug.core.boundary.codec import HURRY
from agentplug.core.run import Run
from agentplug.errors import AuditError, PolicyError
from agentplug.manager.audit import lines, places
from agentplug.manager.audit.resuming import end_of, next_entry
from agentplug.manager.audit.runs import RunWriter
from agentplug.manager.audit.syncing import Syncer
from agentplug.report.machine import machine

if TYPE_CHECKING:
    import pandas as pd

    from agentplug.core.boundary.codec.layout import Pace
    from agentplug.manager.audit.chain import Verification
    from agentplug.manager.audit.reading import Audit

FSYNC = ("always", "batch", "never")
BATCH_S = 1.0
OWN_KINDS = frozenset(("header", "open", "recovered", "lost", "close"))
"""The kinds of lines that the log itself writes; `record` takes any other."""
_LEAST_PART_BYTES = 4 * lines.MAX_LINE_BYTES


class AuditLog:
    """A writer that appends to the audit file at `path`. A context manager, usable from any thread.

    With `content`, values, output, messages and tracebacks are written; without, only their digests and sizes (a
    short text can be guessed from its digest). Of environment variables only the names are ever written.

    `fsync` decides what a power cut may lose; a killed process loses nothing in any case. `always`: no recorded line.
    `batch`: the lines of the last second; a thread calls fsync. `never`: the lines that the kernel hasn't written
    yet, some 30 seconds.

    A file that would grow over `max_bytes` (text like `"64M"` too, at least 4 MiB) becomes `path.1`, `path.2`, …, and
    the chain goes on in a new one. Nothing is ever deleted.

    Raises `AuditError` if the path can't be written, the file is no audit log, its last line can't be trusted, or
    another writer has it open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        content: bool = False,
        fsync: str = "batch",
        max_bytes: int | str = "64M",
    ) -> None:
        self._path = places.place(path)
        if fsync not in FSYNC:
            raise AuditError(f"fsync={brief(fsync)}: write {', '.join(FSYNC)}")
        try:
            self.max_bytes = parse_size(max_bytes, "max_bytes")
        except PolicyError as error:
            raise AuditError(str(error)) from None
        if self.max_bytes < _LEAST_PART_BYTES:
            raise AuditError(f"max_bytes={brief(max_bytes)}: at least {format_size(_LEAST_PART_BYTES)}, please")
        self.content = bool(content)
        self.fsync = fsync
        self._runs = RunWriter(self.content)
        self._guard = threading.Lock()
        self._pid = os.getpid()
        self._n, self._head, self._part, self._size, self._lost = 0, lines.NO_HASH, 0, 0, 0
        self._chain = uuid.uuid4().hex
        self._syncer = Syncer(BATCH_S) if fsync == "batch" else None
        self._open = [places.take_lock(self._path)]  # descriptors: the lock's, then the file's
        self._finalizer = weakref.finalize(self, _close_all, self._open, self._syncer, self._pid)
        try:
            self._resume()
        except BaseException:
            self._finalizer()
            raise

    # ------------------------------------------------------------------ state

    @property
    def path(self) -> Path:
        """The path of the file that is written now."""
        return Path(self._path)

    @property
    def head(self) -> str:
        """The hash of the last line. Noted elsewhere, it proves that no line before was rewritten or cut off."""
        return self._head

    @property
    def count(self) -> int:
        """The number of lines in all files of the log."""
        return self._n

    @property
    def closed(self) -> bool:
        """True if nothing can be recorded any more."""
        return not self._open

    # ------------------------------------------------------------------ writing

    def record(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Append one line. `kind` is a word like `dispatch`; `fields` are JSON values (for others see `audit.lines`).

        Tables and filters use `plugin`, `version`, `digest`, `point`, `hook`, `verdict` and `usage`. A line over
        1 MiB loses its largest members; its field `truncated` names them. Raises `AuditError` if the line can't be
        written; before the next one, a `lost` line says how many couldn't.
        """
        if not lines.is_kind(kind) or kind in OWN_KINDS:
            raise AuditError(f"kind={brief(kind)}: write a word in small letters, and none of {', '.join(OWN_KINDS)}")
        text = lines.to_json(fields)
        with self._guard:
            self._append(kind, text)

    def record_run(self, run: Run, plugin: str | None = None, text: str | None = None) -> None:
        """Append a `run` line. `plugin` is the plugin's name in its manager. Raises as `record` does.

        `text` is what `describe_run` returned, in another thread perhaps; without, it is called here.
        """
        text = text or self.describe_run(run, plugin)
        with self._guard:
            self._append("run", text)

    def describe_run(self, run: Run, plugin: str | None = None, pace: Pace = HURRY) -> str:
        """Return the fields of a `run` line as JSON, for `record_run`. Pauses now and then, by `pace`."""
        text = self._runs.to_json(run, plugin, pace)
        return text if len(text) <= lines.MAX_FIELDS_BYTES else lines.fit(text, lines.MAX_FIELDS_BYTES)

    def flush(self) -> None:
        """Call fsync, whatever the policy. Raises `AuditError`."""
        with self._guard:
            self._sync()

    def close(self) -> None:
        """Write a `close` line, sync and close the file; once is enough. Raises `AuditError` if that fails."""
        with self._guard:
            if not self._open or self._pid != os.getpid():
                return
            try:
                self._append("close", lines.to_json({"lines": self._n + 1}))
                if self.fsync != "never":
                    self._sync()
            finally:
                self._finalizer()

    def read(self) -> Audit:
        """Read the log as it is now: see `read_audit`."""
        from agentplug.manager.audit.reading import read_audit

        return read_audit(self._path)

    def to_frame(self) -> pd.DataFrame:
        """Read the log as a table, one row a line: see `Audit.to_frame`."""
        return self.read().to_frame()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def verify(path: str | os.PathLike[str], head: str | None = None) -> Verification:
        """Check the whole chain of the log at `path`: see `audit.chain.verify`."""
        from agentplug.manager.audit.chain import verify

        return verify(path, head)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self._n} lines"
        return f"<AuditLog {places.path_text(self._path)}: {state}>"

    # ------------------------------------------------------------------ inside

    def _append(self, kind: str, fields: str) -> None:
        """Write one line, after a header if the file is empty; the caller holds the guard."""
        self._check()
        self._ensure_header()
        if self._lost:
            self._write(
                *self._sealed("lost", lines.to_json({"lines": self._lost, "why": "they couldn't be written"}))
            )
            self._lost = 0
        raw, digest = self._sealed(kind, fields)
        if self._size + len(raw) > self.max_bytes:
            self._rotate()
            self._ensure_header()
            raw, digest = self._sealed(kind, fields)
        self._write(raw, digest)

    def _sealed(self, kind: str, fields: str) -> tuple[bytes, str]:
        return lines.seal(self._n + 1, self._head, datetime.now(UTC).isoformat(), kind, fields)

    def _ensure_header(self) -> None:
        if self._size:
            return
        header = {"format": lines.FORMAT, "version": AUDIT_FORMAT, "chain": self._chain, "part": self._part}
        self._write(*self._sealed("header", lines.to_json(header | self._settings())))

    def _settings(self) -> dict[str, Any]:
        return {"machine": machine(), "content": self.content, "fsync": self.fsync}

    def _write(self, raw: bytes, digest: str) -> None:
        descriptor = self._open[-1]
        try:
            written = os.pwrite(descriptor, raw, self._size)
            if written != len(raw):
                raise OSError(errno.ENOSPC, f"only {written} of {len(raw)} bytes could be written")
            if self.fsync == "always":
                os.fsync(descriptor)
        except OSError as error:
            self._lost += 1
            with contextlib.suppress(OSError):  # if this fails, the check before the next line raises
                os.ftruncate(descriptor, self._size)
            raise places.unusable(self._path, error) from None
        self._n, self._head, self._size = self._n + 1, digest, self._size + len(raw)
        if self._syncer is not None:
            self._syncer.touch(descriptor)
            failed, self._syncer.error = self._syncer.error, None
            if failed is not None:
                raise places.unusable(self._path, failed)

    def _sync(self) -> None:
        self._check()
        try:
            os.fsync(self._open[-1])
        except OSError as error:
            raise places.unusable(self._path, error) from None

    def _check(self) -> None:
        """Raise `AuditError` unless the file is open, belongs to this process, and is unchanged."""
        if not self._open:
            raise AuditError(f"The audit log {places.path_text(self._path)} is closed; open another")
        if self._pid != os.getpid():
            raise AuditError(
                f"The audit log {places.path_text(self._path)} belongs to the process that this one was forked "
                "from; open another file here"
            )
        status = os.fstat(self._open[-1])
        if status.st_nlink == 0:
            raise AuditError(f"The audit log {places.path_text(self._path)} was removed while in use; open another")
        if status.st_size != self._size:
            # An interrupt may have come between the write and the update of `_size`: then the line is ours.
            entry = next_entry(self._open[-1], self._size, self._n, self._head)
            if entry is None:
                raise AuditError(
                    f"The audit log {places.path_text(self._path)} was changed by somebody else while in use "
                    f"({self._size} bytes expected, {status.st_size} there); keep it as evidence, and open another"
                )
            self._n, self._head, self._size = entry.n, entry.hash, status.st_size

    # ------------------------------------------------------------------ the first and the last file

    def _resume(self) -> None:
        """Continue the chain of the files that exist, or start one."""
        parts = places.parts_of(self._path)
        self._open.append(places.open_to_write(self._path))
        end = end_of(self._open[-1], self._path)
        if not end.size and parts:  # a rotation was interrupted
            descriptor = places.open_to_read(parts[-1][1])
            try:
                end = end_of(descriptor, parts[-1][1])._replace(size=0, torn=end.torn)
            finally:
                os.close(descriptor)
        self._n, self._head, self._size = end.n, end.head, end.size
        self._chain = end.chain or self._chain
        self._part = end.part if end.size else end.part + 1
        if end.torn:
            # Over the torn line, and cut only then: a crash in between leaves a torn line to be header of again.
            self._ensure_header()
            self._write(*self._sealed("recovered", lines.to_json(end.loss())))
            os.ftruncate(self._open[-1], self._size)
        if end.size:
            self._append("open", lines.to_json(self._settings()))
        else:
            self._ensure_header()
            places.sync_folder(self._path)

    def _rotate(self) -> None:
        """Rename the full file, and continue in an empty one."""
        full = f"{self._path}.{self._part}"
        if os.path.lexists(full):
            raise AuditError(f"{places.path_text(full)} is in the way of the audit log's full part; move it away")
        old = self._open[-1]
        try:
            os.fsync(old)
            os.rename(self._path, full)
        except OSError as error:
            raise places.unusable(self._path, error) from None
        try:
            self._open[-1] = places.open_to_write(self._path, new=True)
        except AuditError:
            os.rename(full, self._path)
            raise
        self._part, self._size = self._part + 1, 0
        if self._syncer is None:
            os.close(old)
        else:
            self._syncer.replace(old, self._open[-1])
        places.sync_folder(self._path)


def _close_all(descriptors: list[int], syncer: Syncer | None, pid: int) -> None:
    """Close the file, then release the lock."""
    if pid != os.getpid():
        return
    if syncer is not None:
        syncer.stop()
    while len(descriptors) > 1:
        os.close(descriptors.pop())
    if descriptors:
        places.release_lock(descriptors.pop())
