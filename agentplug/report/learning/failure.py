"""The end of a run that didn't complete (host): which refused call its error names.

An error is the plugin's own text, so a name in it grants nothing by itself: it only picks among the calls that were
refused. Libraries try much while they are imported, and most of it is refused without harm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from agentplug.contract.events import Event
from agentplug.contract.record import RunRecord
from agentplug.report.learning.probes import is_probe

NETWORK_CALLS = frozenset(("connect", "sendto", "bind", "getaddrinfo", "socket"))
_REFUSAL = re.compile(
    r"\[Errno |(Permission|BlockingIO|Connection\w*|Connect|OS|IO)Error\b|Operation not permitted|Permission denied"
    r"|name resolution|\bgaierror\b|[Uu]nable to open"
)


_NO_PROCESS = re.compile(r"\[Errno 11\]|BlockingIOError|temporarily unavailable|\bfork\b")
_NO_ROOM = re.compile(r"temporary directory|database|\[Errno (28|30|122)\]|No space left|Read-only file system")


def events_of(run: RunRecord, kind: str) -> Iterator[Event]:
    """Return the run's events of one kind."""
    return (event for event in run.events if event.kind == kind)


class Failure:
    """The names in the error of a run: none, unless the plugin raised."""

    def __init__(self, run: RunRecord) -> None:
        error = run.error if run.verdict.kind == "failed" else None
        lines = [f"{error.type}: {error.message}", *error.traceback.splitlines()] if error else []
        self._text = "\n".join(line for line in lines if not line.startswith(" "))  # errors, without stack frames
        self.is_refusal = bool(_REFUSAL.search(self._text))
        self._last = self._last_call(run) if self.is_refusal else None

    def names_path(self, path: str, real: str) -> bool:
        """True if an error names this file: by its path, or by the end of it, as it may have been opened."""
        return any(f"'{name}'" in self._text or f" {name}\n" in f"{self._text}\n" for name in (path, real)) or (
            self.is_refusal and f"'{os.path.basename(path)}'" in self._text
        )

    def names_call(self, call: str, argument: str) -> bool:
        """True if an error names this refused call's host, or names none and this call was the last one refused."""
        return self._names(argument) or (call, argument) == self._last

    def names_process(self, run: RunRecord) -> bool:
        """True if an error says that no process could be started, or names a program that was refused."""
        programs = [str(event.detail["argument"]) for event in events_of(run, "tried") if event.detail["argument"]]
        return bool(_NO_PROCESS.search(self._text)) or (
            self.is_refusal and any(f"'{program}'" in self._text for program in programs)
        )

    def names_scratch(self, names: Iterable[str]) -> bool:
        """True if an error says that nothing could be written, or names one of these files of its scratch."""
        return bool(_NO_ROOM.search(self._text)) or (
            self.is_refusal and any(f"{name}'" in self._text for name in names)
        )

    def _last_call(self, run: RunRecord) -> tuple[str, str] | None:
        """Return the last refused call to the network, if the error names no path and no host."""
        calls = [event.detail for event in events_of(run, "tried") if event.detail["syscall"] in NETWORK_CALLS]
        asked = [(str(of["syscall"]), str(of["argument"])) for of in calls]
        asked = [(call, argument) for call, argument in asked if not is_probe(call, argument)]
        if not asked or re.search(r"denied: '|permitted: '", self._text) or any(self._names(a) for _, a in asked):
            return None
        return asked[-1]

    def _names(self, address: str) -> bool:
        host, _, port = address.rpartition(":")
        if not (host := host.strip("[]")) or not self.is_refusal:
            return False
        named = re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", self._text)
        return named is not None and (port in self._text or "port" not in self._text)
