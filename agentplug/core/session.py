"""`Sandbox`: a confined session for code as text, whose names live on from run to run (host).

It is a plugin that runs cells (`core.worker.cells`), with what that means for users of code: given variables, wanted
variables, a last value. A cell of `%%sandbox` is a run in a sandbox of its own, or in one that lasts.
"""

from __future__ import annotations

import keyword
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from agentplug.contract.display import MAX_REPR, Described
from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.contract.record import ErrorText, judge
from agentplug.contract.text import is_utf8, printable
from agentplug.core.encode import call_request
from agentplug.core.host.conversation import wait_for
from agentplug.core.host.exchange import Request
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.names import quoted
from agentplug.core.sources.source import Source
from agentplug.errors import ContractError, WorkerDied
from agentplug.report.sentences import began_empty

if TYPE_CHECKING:
    import pandas as pd

_LARGE = "matplotlib|numpy|pandas|polars|scipy|seaborn|sklearn|tensorflow|torch"
_IMPORTS_LARGE = re.compile(rf"^ *(?:import|from) +({_LARGE})\b", re.M)
_MEDDLED = "it answered what it was not asked: its code has meddled with what runs it"
_RUNNER = Source("<sandbox cell>", "cell", text_digest(b""), "agentplug.core.worker.cells", "CellsPlugin")


@dataclass(frozen=True, slots=True)
class Cell:
    """Checked text to run, its file's name in tracebacks, the variables for it, and the names of those wanted."""

    code: str
    file: str
    variables: Mapping[str, Any]
    out: Sequence[str]

    @classmethod
    def checked(cls, code: object, file: str, variables: object, out: object) -> Cell:
        """Make a cell of what users passed. Raises `ContractError`."""
        if not isinstance(code, str):
            raise ContractError(f"code is of type {_type_of(code)}; write text, as in run('x = 1')")
        if not is_utf8(code):
            raise ContractError(
                "code holds a lone surrogate, which no file could hold; write an escape like '\\ud800'"
            )
        if variables is not None and not isinstance(variables, Mapping):
            raise ContractError(f"given is of type {_type_of(variables)}; write a dict of names and values")
        if isinstance(out, str) or not isinstance(out, Iterable):
            raise ContractError(f"out is of type {_type_of(out)}; write a list of names, as in out=['x']")
        cell = cls(code, file, dict(variables or {}), tuple(out))
        for word, names in (("given", cell.variables), ("out", cell.out)):
            for name in names:
                if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                    raise ContractError(f"{word}: {printable(repr(name), 100)} can't be a variable's name")
        return cell

    def request(self) -> Request:
        """Return the request to run it. Raises `ContractError`, naming the variable, if one can't be sent."""
        try:
            return call_request(
                {"code": self.code, "file": self.file, "given": self.variables, "out": list(self.out)}
            )
        except ContractError:
            for name, value in self.variables.items():
                _check_sendable(name, value)
            raise


class Sandbox:
    """A confined session for code as text: `await run(code)` again and again, with names that live on.

    One worker under `policy` runs it all, and its limits count for each run; modules of `preload` are imported once,
    before it is confined. If the worker is lost (a limit, a crash, a kill), the next run gets a fresh one and says
    that it begins empty. The worker starts with the first run. Raises `PolicyError`.
    """

    def __init__(self, policy: Policy | None = None, *, preload: Sequence[str] = ()) -> None:
        if preload and (policy is None or isinstance(policy, Policy)):
            policy = policy or Policy()
            policy = policy.replace(preload=(*policy.preload, *Policy(preload=preload).preload))  # type: ignore[arg-type]
        self._plugin = SandboxedPlugin(_RUNNER, policy)
        self._plugin._inside.life.quarantines = False  # each run is asked for by its user, who sees how it ended
        self._file = "sandbox code {}"
        self._cells = 0
        self._starts = 0
        self._loss = ""
        self._rename("sandbox")

    def _rename(self, name: str, file: str = "") -> None:
        """Use another name in tables, and for the files in tracebacks, with `{}` for the number of the run."""
        self._plugin._inside.rename(name)
        self._file = file or self._file

    @property
    def policy(self) -> Policy:
        """The session's rights and limits."""
        return self._plugin.policy

    @property
    def state(self) -> str:
        """The session's state: new, ready, busy, failed (the next run begins empty) or closed."""
        return self._plugin.state

    @property
    def pid(self) -> int | None:
        """The worker's process id, None without a worker."""
        return self._plugin.pid

    @property
    def barriers(self) -> pd.DataFrame:
        """The worker's barriers, a row each: barrier, protects, status, detail. Empty before the first run."""
        return self._plugin.barriers

    @property
    def runs(self) -> Sequence[Run]:
        """The latest runs, oldest first: at most a thousand, and 64 MiB."""
        return self._plugin.runs

    @property
    def trace(self) -> pd.DataFrame:
        """The calls table: one row a run, oldest first."""
        return self._plugin.trace

    async def run(self, code: str, given: Mapping[str, Any] | None = None, out: Iterable[str] = ()) -> Run:
        """Run `code` with the variables `given`; return a `Run` with its last value and, in `out`, those wanted.

        `await` works in it, a final semicolon hides the value. Nothing that the code does raises here: the verdict
        says it, `check()` raises it. Raises `ContractError` for what is no code or name, `WorkerDied` once closed.
        """
        run = await self._run(code, given, out)
        if note := began_empty(run):
            warnings.warn(note, RuntimeWarning, stacklevel=2)
        return run

    def run_sync(self, code: str, given: Mapping[str, Any] | None = None, out: Iterable[str] = ()) -> Run:
        """Run `code` as `run` does, for scripts; works where a loop is running too."""
        run = wait_for(self._run(code, given, out))
        if note := began_empty(run):
            warnings.warn(note, RuntimeWarning, stacklevel=2)
        return run

    async def close(self) -> None:
        """End the session: stop a run that is under way, and wait until no process or file is left."""
        await self._plugin.close()

    def close_sync(self) -> None:
        """End the session as `close` does, for scripts; works where a loop is running too."""
        wait_for(self.close())

    async def __aenter__(self) -> Self:
        await self._plugin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        runs = self._plugin._inside.calls
        return f"<Sandbox: {self.state}, {runs} {'run' if runs == 1 else 'runs'}>"

    def _repr_html_(self) -> str:
        return self._plugin._repr_html_()

    # ------------------------------------------------------------------ runs

    async def _run(self, code: object, variables: object, out: object) -> Run:
        cell = Cell.checked(code, f"<{self._file.format(self._cells + 1)}>", variables, out)
        if self.state == "closed":
            raise WorkerDied("This sandbox is closed; make a new one")
        request = cell.request()
        self._cells += 1
        return await self._plugin._inside.answer(request, lambda run: self._finished(cell, run))

    def _finished(self, cell: Cell, run: Run) -> Run:
        """Return the run of a cell, made of the run of the plugin that ran it."""
        life = self._plugin._inside.life
        run = run.__replace__(source=replace(run.source, digest=text_digest(cell.code.encode())))
        if life.starts > self._starts:
            if self._starts:
                because = self._loss or (str(judge((life.events[-1],))) if life.events else "")
                run = run.__replace__(events=(Event(0.0, "empty", {"because": because}), *run.events))
            self._starts = life.starts
        if run.verdict.kind == "completed":
            run = self._answered(cell, run)
        elif run.verdict.by == "memory" and (modules := sorted(set(_IMPORTS_LARGE.findall(cell.code)))):
            run = run.__replace__(events=(*run.events, Event(0.0, "imports", {"modules": modules})))
        ended = life.worker is None or life.worker.process.ending
        self._loss = str(run.verdict) if ended else ""
        return run

    def _answered(self, cell: Cell, run: Run) -> Run:
        """Split a reply into the last value and the wanted variables. The code can alter what runs it in its worker,
        so the reply is checked: no other name of the user's may be bound."""
        match run.value:
            case {
                "last value": value,
                "described": described,
                "-o": dict(out),
                "missing": dict(missing),
                "unsendable": dict(unsendable),
            } if len(run.value) == 5 and _is_split(cell.out, out, missing, unsendable):
                value = _described(described) if value is None else value
                run = run.__replace__(value=value, out=out)
                if missing:
                    return _failed_for(missing, run)
                return _broken_for(unsendable, run) if unsendable else run
        if (worker := self._plugin._inside.life.worker) is not None:
            worker.stop("protocol")
        return run.__replace__(value=None, events=_ended_by("protocol", {"reason": _MEDDLED}, run))


def _is_split(names: Sequence[str], *parts: Mapping[str, Any]) -> bool:
    """True if each of `names` is in one of `parts`, and nothing else is."""
    keys = [name for part in parts for name in part]
    return len(keys) == len(set(names)) and set(keys) == set(names)


def _described(described: object) -> Described | None:
    """Return what the worker says of a last value without a plain form, None if there is none."""
    match described:
        case {"type": str(kind), "text": str(text), "is_displayed": bool(is_displayed)}:
            return Described(kind[:200], text[: MAX_REPR + 1], is_displayed)
    return None


def _broken_for(unsendable: Mapping[str, object], run: Run) -> Run:
    """Return `run` as one that couldn't send some wanted variables; it keeps its value and the others."""
    parts = [f"{str(kind)[:100]} in the variable {quoted(name)}" for name, kind in unsendable.items()]
    detail = {"type": ", ".join(parts)[:1_000], "where": ""}
    return run.__replace__(events=_ended_by("unserializable", detail, run))


def _check_sendable(name: str, value: object) -> None:
    try:
        call_request(value)
    except ContractError as error:
        message = str(error).replace("This input", f"The variable {name}").replace(" at value has", " has")
        raise ContractError(message) from None


def _failed_for(missing: Mapping[str, object], run: Run) -> Run:
    """Return `run` as one that failed because wanted variables are missing; it keeps its value and the others."""
    parts = []
    for name, near in missing.items():
        hint = f", but one named {quoted(near)}" if isinstance(near, str) and near else ""
        parts.append(f"the code left no variable {quoted(name)} to bring back{hint}")
    error = ErrorText("NameError", "; ".join(parts))
    return run.__replace__(error=error, events=_ended_by("error", {"type": error.type}, run))


def _ended_by(kind: str, detail: Mapping[str, Any], run: Run) -> tuple[Event, ...]:
    """Return the events of `run` with another one in place of its reply."""
    return tuple(Event(event.t_s, kind, detail) if event.kind == "reply" else event for event in run.events)


def _type_of(value: object) -> str:
    return printable(type(value).__name__, 60)
