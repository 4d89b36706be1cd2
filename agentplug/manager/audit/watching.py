"""What a manager's plugins do, as lines of an audit log (host): loaded, called, lost, quarantined, unloaded.

Runs come through the plugin's recorder, so each that is kept is written, whoever called. A line that can't be written
is an `AuditError` of the call it tells of: what can't be audited doesn't go on unnoticed.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from agentplug.contract.events import Event
from agentplug.contract.policy import Policy
from agentplug.core.run import Run
from agentplug.errors import AuditError
from agentplug.manager.audit.log import AuditLog
from agentplug.manager.audit.places import place, shown
from agentplug.manager.audit.runs import policy_fields

if TYPE_CHECKING:
    from agentplug.core.sandboxed import SandboxedPlugin
    from agentplug.core.trusted import TrustedPlugin


class Watch:
    """Writes down what a manager does. `log` is None where nothing is to be audited."""

    def __init__(self, audit: AuditLog | str | os.PathLike[str] | None) -> None:
        self.log: AuditLog | None = audit if isinstance(audit, AuditLog) else None
        self._ended = False
        self._told: weakref.WeakSet[Any] = weakref.WeakSet()
        self._seen: weakref.WeakKeyDictionary[Any, Event] = weakref.WeakKeyDictionary()
        self._finalizer: weakref.finalize[..., Any] | None = None
        if audit is not None and self.log is None:
            self.log = _claimed(place(audit))
            self._finalizer = weakref.finalize(self, _give_back_elsewhere, self.log)

    def begin(self, plugin: SandboxedPlugin | TrustedPlugin) -> None:
        """Write down the runs of `plugin` from now on; a trusted one has none.

        Raises `AuditError` if its policy would let it write the log.
        """
        if self.log is None or not _is_sandboxed(plugin):
            return
        _allow(self.log, plugin.policy)
        # Weakly: a plugin that is dropped ends its worker at once, and not when the collector comes by.
        face, recorder = weakref.ref(plugin), plugin._inside.recorder
        plugin._inside.history.on_run = lambda run: self._ran(run, recorder.known_as, face())
        plugin._inside.on_quarantine = lambda: self._quarantined(face())

    def loaded(self, name: str, plugin: SandboxedPlugin | TrustedPlugin, config: Mapping[str, Any] | None) -> None:
        """`plugin` is ready, under `name`."""
        if self.log is None:
            return
        # Of its configuration only the names: the values may be secrets.
        fields: dict[str, Any] = _identity(plugin) | {"plugin": name, "config": sorted(map(str, config or ()))}
        if _is_sandboxed(plugin):
            source = plugin._inside.source
            fields |= {
                "spec": source.spec,
                "source": source.kind,
                "pinned": source.pinned is not None,
                "policy": policy_fields(plugin.policy),
                "barriers": {row["barrier"]: row["status"] for row in plugin._inside.barrier_rows()},
                "hooks": dict(plugin.hooks),
            }
        else:
            fields["trusted"] = True
        self.log.record("load", fields)

    def refused(self, plugin: SandboxedPlugin | TrustedPlugin, error: BaseException) -> None:
        """`plugin` couldn't be started or initialized."""
        if self.log is None:
            return
        run = getattr(error, "run", None)
        told = {"verdict": str(run.verdict)} if isinstance(run, Run) else {}
        spec = {"spec": plugin._inside.source.spec} if _is_sandboxed(plugin) else {}
        self.log.record("refuse", _identity(plugin) | spec | told | {"error": type(error).__name__})

    def unloaded(self, plugin: SandboxedPlugin | TrustedPlugin) -> None:
        """`plugin` is closed."""
        if self.log is None or self._ended:
            return
        if _is_sandboxed(plugin):
            self._happened(self.log, plugin)
        self.log.record("unload", _identity(plugin))

    def close(self) -> None:
        """The manager is closed: a log that it opened is closed too, unless another manager writes it as well."""
        if self.log is None or self._ended:
            return
        self._ended = True
        if self._finalizer is not None and self._finalizer.detach() is not None:
            _give_back(self.log)

    def _ran(self, run: Run, name: str | None, plugin: SandboxedPlugin | None) -> None:
        if self.log is None or self._ended:
            return
        try:
            if plugin is not None:
                self._happened(self.log, plugin)
            self.log.record_run(run, name)
            self._quarantined(plugin)
        except AuditError as error:
            error.run = run
            raise

    def _quarantined(self, plugin: SandboxedPlugin | None) -> None:
        """Write it down once, if it is so."""
        if self.log is None or self._ended or plugin is None or plugin.state != "quarantined":
            return
        if plugin not in self._told:
            self._told.add(plugin)
            self.log.record("quarantine", _identity(plugin))

    def _happened(self, log: AuditLog, plugin: SandboxedPlugin) -> None:
        """Write down what has happened to its worker while nobody called it, since the last time."""
        events, seen = plugin._inside.events, self._seen.get(plugin)
        if events and events[-1] is not seen:
            self._seen[plugin] = events[-1]
            known = next((at for at, event in enumerate(events, 1) if event is seen), 0)
            log.record("idle", _identity(plugin) | {"events": events[known:]})


def _allow(log: AuditLog, policy: Policy) -> None:
    path = str(log.path)
    for granted in policy.write:
        if path == granted or path.startswith(f"{granted.rstrip('/')}/"):
            raise AuditError(
                f"The audit log {shown(path)} lies in {shown(granted)}, which this policy lets the plugin write; "
                "grant another folder, or keep the log elsewhere"
            )


def _identity(plugin: SandboxedPlugin | TrustedPlugin) -> dict[str, Any]:
    if not _is_sandboxed(plugin):
        return {"plugin": plugin.name, "version": plugin.version}
    name = plugin._inside.recorder.known_as or plugin.name
    return {"plugin": name, "version": plugin.version, "digest": plugin._inside.source.digest}


def _is_sandboxed(plugin: SandboxedPlugin | TrustedPlugin) -> TypeGuard[SandboxedPlugin]:
    return not hasattr(plugin, "trusted")


# ---------------------------------------------------------------------- logs by path, one a process

_claims: dict[AuditLog, int] = {}
_guard = threading.Lock()
_CLOSING_S = 1.0


def _claimed(path: str) -> AuditLog:
    """The log at `path`: the one that another manager of this process writes already, as when a cell is run again."""
    with _guard:
        for log in list(_claims):
            if log.closed:
                del _claims[log]
            elif str(log.path) == path:
                _claims[log] += 1
                return log
        log = AuditLog(path)
        _claims[log] = 1
        return log


def _give_back_elsewhere(log: AuditLog) -> None:
    """A finalizer comes in the middle of anything, perhaps while this very thread holds the locks that closing takes.

    So another thread closes, and is waited for as long as that takes if nobody holds them.
    """
    closing = threading.Thread(target=_give_back, args=(log,), name="agentplug-audit-end", daemon=True)
    try:
        closing.start()
    except RuntimeError:  # the interpreter is ending: nobody writes any more
        _give_back(log)
    else:
        closing.join(_CLOSING_S)


def _give_back(log: AuditLog) -> None:
    """Close the log with the last manager that had it."""
    with _guard:
        left = _claims.pop(log, 1) - 1
        if left > 0:
            _claims[log] = left
            return
    log.close()
