"""Reading an audit log (host): `Audit`, its entries as a value, and what they answer.

Nothing is believed that the chain doesn't hold: the lines before the first bad one are all there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
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


def read_audit(path: str | os.PathLike[str], *, partial: bool = False) -> Audit:
    """The log at `path`, its full parts included, checked while it is read.

    Raises `AuditError` for a file that is missing, unreadable or no audit log, and naming the first bad line; with
    `partial` what stands before that line is given instead. A line that a crash left torn at the very end isn't bad:
    `verification` tells of it.
    """
    walk = Walk(places.place(path))
    entries = tuple(walk)
    found = walk.verification()
    if found.first_bad is not None and not found.torn_bytes and not partial:
        raise AuditError(
            f"The audit log can't be trusted from {found.first_bad}. read_audit(path, partial=True) gives the "
            f"{len(entries)} lines before that"
        )
    return Audit(entries, found)


class Audit(Sequence[Entry]):
    """Entries of a log, oldest first, and the `verification` of the log that they are from. Immutable."""

    def __init__(self, entries: tuple[Entry, ...], verification: Verification) -> None:
        self.entries = entries
        self.verification = verification

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

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
        """The entries to which all of these apply.

        `verdict` is whole (`limited:memory`) or a kind (`limited`), of a run, a hook or a message (`denied`). Times
        are datetimes or ISO text, in UTC where they name no zone; `since` is included, `until` isn't. Raises
        `AuditError` for a time that is none.
        """
        wanted = Wanted(kind, plugin, point, verdict, time_of(since), time_of(until))
        return Audit(tuple(entry for entry in self.entries if wanted.matches(entry)), self.verification)

    def runs(self, plugin: str | None = None) -> list[Run]:
        """The runs of these entries (of one plugin), as values: same verdicts, tables and pictures as the live ones.

        Without kept content a value is None, and output and messages are empty. A run whose line had to be cut is
        left out; its entry says `truncated`. Raises `AuditError` for a line that tells of no run.
        """
        return [run for entry, run in self._runs() if plugin is None or entry.fields.get("plugin", "") == plugin]

    @property
    def trace(self) -> pd.DataFrame:
        """The calls frame of these runs, under the names that the manager knew them by: `manager.trace` of then.

        Figures that an older agentplug didn't write are missing.
        """
        from agentplug.manager.audit.tables import audited_trace

        return audited_trace(self._runs(), self._machine())

    def to_frame(self) -> pd.DataFrame:
        """One row an entry; see `report.audit.audit_frame`."""
        from agentplug.manager.audit.tables import audit_frame

        return audit_frame(self.entries)

    def table(self, most: int = 50) -> Table:
        """The last `most` entries for a terminal."""
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
                    f"Line {entry.line} of {places.shown(entry.file)} tells of no run that this agentplug knows: "
                    f"{printable(str(error), 300)}"
                ) from None
        return runs

    def _machine(self) -> Mapping[str, Any] | None:
        """The machine that the last of these entries was written on."""
        told = [entry.fields.get("machine") for entry in self.entries if entry.kind in ("header", "open")]
        return told[-1] if told and isinstance(told[-1], dict) else None


def time_of(given: datetime | str | None) -> datetime | None:
    """A time that somebody wrote, in UTC where it names no zone. Raises `AuditError`."""
    if given is None:
        return None
    try:
        time = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (ValueError, TypeError):
        told = printable(str(given), 60)
        raise AuditError(f"{told!r} is no time; write one like 2026-01-31 or 2026-01-31T12:00:00+01:00") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


class Wanted:
    """What entries are asked for by."""

    def __init__(
        self,
        kind: str | None = None,
        plugin: str | None = None,
        point: str | None = None,
        verdict: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self._kind, self._plugin, self._point, self._verdict = kind, plugin, point, verdict
        self._since, self._until = since, until

    def matches(self, entry: Entry) -> bool:
        """Whether all of it applies to `entry`."""
        if self._kind is not None and entry.kind != self._kind:
            return False
        if (self._since is not None and entry.at < self._since) or (
            self._until is not None and entry.at >= self._until
        ):
            return False
        if self._point is not None and entry.fields.get("point") != self._point:
            return False
        if self._plugin is not None and self._plugin not in plugins_of(entry):
            return False
        if self._verdict is None:
            return True
        told = verdict_of(entry)
        return self._verdict in (told, told.partition(":")[0])
