"""`learn`: the least policy under which runs would have completed (host).

Figures are the host's own measurements. Files, addresses and processes are reported by the kernel, or else by the
worker, and then a note says so. A completed run needs the rights that it used, and none that it was refused. Of a
failed run's refused rights those that its error names are proposed; what else it was refused stands below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from agentplug.contract.limits import FIELDS, Kind
from agentplug.contract.policy import Policy, brief, format_amount, format_size
from agentplug.contract.record import RunRecord, Verdict, added_memory_bytes, plugin_name
from agentplug.contract.text import printable
from agentplug.errors import PolicyError
from agentplug.report.learning.failure import NETWORK_CALLS, Failure, events_of
from agentplug.report.learning.proposal import Learned, Right
from agentplug.report.learning.used_rights import Files, Network, Part, in_runs
from agentplug.report.sentences import format_seconds

_MIB, _KIB = 1 << 20, 1 << 10
_LEAST_MEMORY = 16 * _MIB
_LEAST_CPU_S, _LEAST_WALL_S = 0.5, 2.0
_LEAST_TEXT = 64 * _KIB
_SPARE_THREADS = 2
_FORKS = frozenset(("clone", "fork", "vfork", "execve", "execveat"))


def learn(runs: Iterable[RunRecord] | RunRecord) -> Learned:
    """Propose the least policy under which `runs` of one plugin would have completed. Raises `PolicyError`."""
    return _Lesson(_checked(runs)).learned()


def _checked(runs: Iterable[RunRecord] | RunRecord) -> list[RunRecord]:
    try:
        taken = [runs] if isinstance(runs, RunRecord) else list(runs)
    except TypeError:
        raise PolicyError(
            f"learn({brief(runs)}): give it runs of a plugin, as in Policy.learn(plugin.runs)"
        ) from None
    for run in taken:
        if not isinstance(run, RunRecord):
            raise PolicyError(f"learn: {brief(run)} isn't a Run; give it runs, as in Policy.learn(plugin.runs)")
    if not taken:
        raise PolicyError("learn: there is no run to learn from; call the plugin under Policy(observe='files') first")
    names = sorted({plugin_name(run) for run in taken})
    if len(names) > 1:
        raise PolicyError(
            f"learn: these are runs of {', '.join(names[:5])}; learn from the runs of one plugin at a time"
        )
    return taken


class _Lesson(Part):
    """The rights, limits and notes that are collected from some runs."""

    def __init__(self, runs: list[RunRecord]) -> None:
        super().__init__()
        self.runs = runs
        self.notes: list[str] = []
        # The use of these runs is unknown, so all that they were granted is proposed.
        self.failures = {run: Failure(run) for run in runs}
        self.blind = [run for run in runs if run.policy.observe != "files" or _dropped(run)]

    def learned(self) -> Learned:
        self._processes()
        self._limits()
        files = Files(self.runs, self.blind, self.failures)
        network = Network(self.runs, self.blind, self.failures)
        for part in (files, network):
            self.values |= part.values
            self.rights += part.rights
            self.refused += part.refused
        self._disk(files)
        self._unobserved()
        self._ungranted()
        self._remarks()
        policy = Policy.from_dict(self.values, is_record=True)  # a proposal grants nothing before it is used
        return Learned(policy, tuple(self.rights), tuple(self.refused), tuple(self.notes))

    def put(self, field: str, value: Any, source: str, reason: str) -> None:
        """Propose a right, or a limit."""
        self.values[field] = value
        self.rights.append(Right(field, source, reason))

    # ------------------------------------------------------------------ limits

    def _limits(self) -> None:
        most, run = self._most(added_memory_bytes, "added_memory_bytes")
        memory = max(_LEAST_MEMORY, _up(most * 1.25, _MIB))
        reason = f"added {format_size(most)} at its peak ({in_runs([run])}), + 25 %"
        if children := self.values.get("processes", 0):  # the host may have missed a short-lived one
            size = max(run.usage.baseline_memory_bytes for run in self.runs)
            if _LEAST_MEMORY + children * _up(size, _MIB) > memory:
                memory = _LEAST_MEMORY + children * _up(size, _MIB)
                reason = f"a child begins as large as its parent, {format_size(size)}; " + reason
        self._limit("memory", memory, reason)
        for field, least in (("cpu_s", _LEAST_CPU_S), ("wall_s", _LEAST_WALL_S)):
            seconds, run = self._most(lambda run, field=field: getattr(run.usage, field), field)  # type: ignore[misc]
            value = max(least, math.ceil(seconds * 20) / 10)
            why = "× 2" if value > least else f"and {least:g} s leave room for a busy machine"
            self._limit(field, value, f"took {format_seconds(seconds)} at most ({in_runs([run])}), {why}")
        threads, run = self._most(lambda run: run.usage.threads, "threads")
        reason = f"had {threads} ({in_runs([run])}), + {_SPARE_THREADS} for short-lived ones"
        self._limit("threads", threads + _SPARE_THREADS, reason)
        wide = max(run.policy.open_files for run in self.runs)
        if wide != Policy().open_files or self._stopped_by("open_files"):
            self._limit("open_files", wide, "as in the runs: how many are open at once isn't counted")
        for field, figure in (("output", "output_bytes"), ("reply", "reply_bytes")):
            size, run = self._most(lambda run, figure=figure: getattr(run.usage, figure), figure)  # type: ignore[misc]
            value = max(_LEAST_TEXT, _up(size * 1.25, _KIB))
            self._limit(field, value, f"{format_size(size)} at most ({in_runs([run])})")

    def _limit(self, field: str, value: float, reason: str) -> None:
        """Propose a limit: `value`, or twice the limit that stopped a run, whose real need is unknown."""
        stopped = self._stopped_by(field)
        if stopped:
            old = max(getattr(run.policy, field) for run in stopped)
            if field == "disk":
                old = max(old, _MIB // 2)
            if 2 * old > value:
                value = 2 * old
                how = format_amount(FIELDS[field], old)
                reason = f"{how} was too little ({in_runs(stopped)}); how much is enough isn't known: twice that"
        value = min(value, FIELDS[field].most)
        self.put(field, value, _literal(field, value), reason)

    def _stopped_by(self, field: str) -> list[RunRecord]:
        return [run for run in self.runs if run.verdict == Verdict("limited", FIELDS[field].by)]

    def _most(self, of: Callable[[RunRecord], float], loaded: str) -> tuple[Any, RunRecord]:
        """Return the largest figure, of a call or of loading the plugin before it, and its run."""
        figures = [(of(run), run) for run in self.runs]
        figures += [
            (e.detail[loaded], run) for run in self.runs for e in events_of(run, "loaded") if loaded in e.detail
        ]
        return max(figures, key=lambda pair: pair[0])

    # ------------------------------------------------------------------ processes and disk

    def _processes(self) -> None:
        started = {run: _started(run) for run in self.runs if run.policy.processes and run not in self.blind}
        stopped = self._stopped_by("processes")
        wanted = [run for run in self.runs if not run.policy.processes]
        wanted = [run for run in wanted if run in stopped or self.failures[run].names_process(run)]
        wanted = [run for run in wanted if any(e.detail["syscall"] in _FORKS for e in events_of(run, "tried"))]
        unknown = [run for run in self.blind if run.policy.processes]
        need = max((min(count, run.policy.processes) for run, count in started.items()), default=0)
        if unknown:
            most = max(run.policy.processes for run in unknown)
            self._limit("processes", max(most, need), f"as in the runs ({in_runs(unknown)}): not observed")
        elif need:
            users = [run for run, count in started.items() if count]
            programs = sorted({str(e.detail["program"]) for run in users for e in events_of(run, "ran")})
            what = f": {printable(', '.join(programs[:4]), 200)}" if programs else ""
            reason = f"started so many in one call, perhaps not all at once ({in_runs(users)}){what}"
            self._limit("processes", need, reason)
        elif wanted:
            self._limit("processes", 1, f"was refused one ({in_runs(wanted)}); how many it needs isn't known")
        for run in self.runs:
            if run not in wanted and not run.policy.processes:
                refused = {str(e.detail["syscall"]) for e in events_of(run, "tried") if e.detail["syscall"] in _FORKS}
                if refused:
                    self.refuse("processes", ", ".join(sorted(refused)), run)

    def _disk(self, files: Files) -> None:
        users = [run for run in files.scratch if run.policy.disk]
        unknown = [run for run in self.blind if run.policy.disk]
        refused = [
            run
            for run in files.scratch
            if not run.policy.disk and self.failures[run].names_scratch(files.scratch[run])
        ]
        if unknown:
            self._limit("disk", max(int(run.policy.disk) for run in unknown), f"as in the runs ({in_runs(unknown)})")
        elif users:
            loaded = sum(e.detail["write_bytes"] for run in users for e in events_of(run, "loaded"))
            written = loaded + sum(run.usage.write_bytes for run in users)
            most = max(int(run.policy.disk) for run in users)
            value = min(most, max(_MIB, _up(written * 1.25, _MIB)))
            reason = f"wrote {format_size(written)} in all, to its scratch or elsewhere ({in_runs(users)})"
            if any(_started(run) for run in users):
                value, reason = most, f"as in the runs: what children write isn't counted ({in_runs(users)})"
            self._limit("disk", value, reason)
        elif refused := refused or self._stopped_by("disk"):
            self._limit(
                "disk", _MIB, f"was refused to write to its scratch ({in_runs(refused)}); how much isn't known"
            )

    # ------------------------------------------------------------------ the rest

    def _unobserved(self) -> None:
        """Propose the granted rights whose use isn't observed."""
        for field in ("env", "hooks"):
            granted: dict[str, str] = {}
            for run in self.runs:
                granted |= getattr(run.policy, field)
            if granted:
                self.values[field] = granted
            for name, text in granted.items():
                value = f"os.environ[{name!r}]" if field == "env" else repr(text)  # a variable may be a secret
                why = "as in the runs: whether it is read can't be seen" if field == "env" else "as in the runs"
                self.rights.append(Right(field, f"{name!r}: {value}", why))
        preload = sorted({name for run in self.runs for name in run.policy.preload})
        if preload:
            self.values["preload"] = tuple(preload)
            self.rights += [Right("preload", repr(name), "as in the runs") for name in preload]
        if any(run.policy.best_effort for run in self.runs):
            self.put("best_effort", True, "True", "as in the runs; leave it out where every barrier is there")

    def _ungranted(self) -> None:
        """Warn of refused calls that no policy can grant, of runs that didn't complete."""
        calls: dict[str, list[RunRecord]] = {}
        for run in self.runs:
            if run.verdict.kind != "completed":
                for event in events_of(run, "tried"):
                    if event.detail["syscall"] not in _FORKS | NETWORK_CALLS:
                        call = f"{event.detail['syscall']} {event.detail['argument']}".strip()
                        calls.setdefault(call, []).append(run)
        for call, runs in calls.items():
            self.refused.append(Right("warning", call, f"no policy grants this ({in_runs(runs)})"))

    def _remarks(self) -> None:
        unobserved = [run for run in self.runs if run.policy.observe != "files"]
        if unobserved:
            self.notes.append(
                f"{in_runs(unobserved)} without Policy(observe='files'): what was used of the granted paths, "
                "network, processes and disk isn't known, so these stay as they were"
            )
        dropped = [run for run in self.blind if run not in unobserved]
        if dropped:
            self.notes.append(f"{in_runs(dropped)} used more than is kept: its rights stay as they were")
        if any(e.detail.get("source") == "worker" for run in self.runs for e in run.events):
            self.notes.append("some of this is the worker's own report: what goes past Python isn't in it")
        for run in self.runs:
            if run.verdict.kind != "completed":
                self.notes.append(
                    f"{in_runs([run])} ended as {printable(str(run.verdict), 100)}: what it would have needed after "
                    "that isn't known; run it again under this policy with observe='files', and learn again"
                )
        if len({run.source.digest for run in self.runs}) > 1:
            self.notes.append("the plugin's bytes weren't the same in all these runs")


def _dropped(run: RunRecord) -> bool:
    return any(event.detail.get("what") == "attempts" for event in events_of(run, "dropped"))


def _started(run: RunRecord) -> int:
    """Count the child processes of a run; 1 if it only became another program."""
    return sum(int(e.detail["count"]) for e in events_of(run, "forked")) or int(
        any(True for _ in events_of(run, "ran"))
    )


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step


def _literal(field: str, value: float) -> str:
    """Write a limit as source, sizes as `"24M"`."""
    if FIELDS[field].kind is Kind.SIZE:
        for unit, size in (("M", _MIB), ("K", _KIB)):
            if value and value % size == 0:
                return f'"{int(value) // size}{unit}"'
    return repr(value)
