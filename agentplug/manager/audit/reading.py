"""Reading an audit log (host): `Audit`, the entries up to the first line that breaks the chain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.core.run import Run
from agentplug.errors import AuditError
from agentplug.manager.audit import places
from agentplug.manager.audit.chain import Verification, Walk
from agentplug.manager.audit.lines import Entry, plugins_of, verdict_of
from agentplug.manager.audit.runs import run_of

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


MAX_VALUES = 30_000_000
"""The most values of a log in memory: some gigabytes, a hundred thousand runs and more."""


def read_audit(path: str | os.PathLike[str], *, partial: bool = False) -> Audit:
    """Read and check the log at `path`, its full parts included.

    Raises `AuditError` if the file is missing, unreadable, too large or no audit log, or a line is bad; with
    `partial` the lines before the bad one are returned instead. A torn line at the very end, which a crash leaves,
    isn't bad; see `verification.torn_bytes`.
    """
    walk = Walk(places.place(path))
    entries = []
    for entry in walk:
        entries.append(entry)
        if walk.values > MAX_VALUES:
            raise AuditError(
                f"{places.path_text(walk.path)} holds more than {MAX_VALUES:,} values in {len(entries):,} lines, the "
                "most that are read; read its parts one by one, or check it with `agentplug audit verify`"
            )
    verification = walk.verification()
    if verification.first_bad is not None and not verification.torn_bytes and not partial:
        raise AuditError(
            f"The audit log can't be trusted from {verification.first_bad}. read_audit(path, partial=True) gives the "
            f"{len(entries)} lines before that"
        )
    return Audit(tuple(entries), verification)


class Audit(Sequence[Entry]):
    """Entries of a log, oldest first, and the log's `verification`. Immutable."""

    def __init__(self, entries: tuple[Entry, ...], verification: Verification) -> None:
        self.entries = entries
        self.verification = verification

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def select(
        self,
        *,
        kind: str | None = None,
        plugin: str | None = None,
        point: str | None = None,
        verdict: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
    ) -> Audit:
        """Select the entries that fit all arguments.

        `verdict` is a whole verdict (`limited:memory`) or its kind (`limited`), of a run, a hook or a message
        (`denied`). Times are datetimes or ISO text, in UTC if they name no zone; `since` is included, `until` isn't.
        Raises `AuditError` for a time that can't be read.
        """
        begin, end = _parse_time(since), _parse_time(until)

        def matches(entry: Entry) -> bool:
            ended = verdict_of(entry)
            return (
                (kind is None or entry.kind == kind)
                and (begin is None or entry.at >= begin)
                and (end is None or entry.at < end)
                and (point is None or entry.fields.get("point") == point)
                and (plugin is None or plugin in plugins_of(entry))
                and (verdict is None or verdict in (ended, ended.partition(":")[0]))
            )

        return Audit(tuple(filter(matches, self.entries)), self.verification)

    def runs(self, plugin: str | None = None) -> list[Run]:
        """Rebuild the runs of these entries (of one plugin), with the verdicts, tables and pictures of the live ones.

        If the log has no content, values are None, and output and messages are empty. A run whose line was cut is
        left out; its entry says `truncated`. Raises `AuditError` for a line that describes no valid run.
        """
        return [run for entry, run in self._runs() if plugin is None or entry.fields.get("plugin", "") == plugin]

    @property
    def trace(self) -> pd.DataFrame:
        """The calls table of these runs, with the plugins' names in their manager, as `manager.trace` was.

        Figures that an older agentplug didn't write are missing.
        """
        from agentplug.manager.audit.tables import audited_trace

        return audited_trace(self._runs(), self._machine())

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row an entry; see `audit.tables.audit_frame`."""
        from agentplug.manager.audit.tables import audit_frame

        return audit_frame(self.entries)

    def table(self, most: int = 50) -> Table:
        """Render the last `most` entries for a terminal."""
        from agentplug.manager.audit.tables import audit_table

        return audit_table(self.entries, most)

    def __repr__(self) -> str:
        return f"<Audit of {len(self.entries)} entries: {self.verification}>"

    def _repr_html_(self) -> str:
        from agentplug.manager.audit.tables import audit_html

        return audit_html(self.entries, str(self.verification), self.verification.ok)

    def _runs(self) -> list[tuple[Entry, Run]]:
        runs = []
        for entry in self.entries:
            if entry.kind != "run" or "truncated" in entry.fields:
                continue
            try:
                runs.append((entry, run_of(entry.fields)))
            except ValueError as error:  # also PolicyError, DecodeError and msgspec's
                raise AuditError(
                    f"Line {entry.line} of {places.path_text(entry.file)} tells of no run that this agentplug knows: "
                    f"{printable(str(error), 300)}"
                ) from None
        return runs

    def _machine(self) -> Mapping[str, Any] | None:
        """Return the machine that wrote the last of these entries."""
        machines = [entry.fields.get("machine") for entry in self.entries if entry.kind in ("header", "open")]
        return machines[-1] if machines and isinstance(machines[-1], dict) else None


def _parse_time(argument: datetime | str | None) -> datetime | None:
    if argument is None:
        return None
    try:
        time = argument if isinstance(argument, datetime) else datetime.fromisoformat(argument)
    except (ValueError, TypeError):
        text = printable(str(argument), 60)
        raise AuditError(f"{text!r} is no time; write one like 2026-01-31 or 2026-01-31T12:00:00+01:00") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
