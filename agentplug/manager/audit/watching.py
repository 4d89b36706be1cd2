"""Recording a manager's plugins in an audit log (host): loads, refused loads, runs, quarantines, unloads.

Runs come from the plugin's history, so all are written, whoever made the call. If a line can't be written, the call
it belongs to raises `AuditError`: no call goes unaudited in silence.
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
from agentplug.manager.audit.places import path_text, place
from agentplug.report.frames import policy_fields

if TYPE_CHECKING:
    from agentplug.core.sandboxed import SandboxedPlugin
    from agentplug.core.trusted import TrustedPlugin


class Watch:
    """A recorder of what a manager does. `log` is None if nothing is audited."""

    def __init__(self, audit: AuditLog | str | os.PathLike[str] | None) -> None:
        self.log: AuditLog | None = audit if isinstance(audit, AuditLog) else None
        self._ended = False
        self._in_quarantine: weakref.WeakSet[Any] = weakref.WeakSet()
        self._seen: weakref.WeakKeyDictionary[Any, Event] = weakref.WeakKeyDictionary()
        self._finalizer: weakref.finalize[..., Any] | None = None
        if audit is not None and self.log is None:
            self.log = _shared_log(place(audit))
            self._finalizer = weakref.finalize(self, _release_in_a_thread, self.log)

    def begin(self, plugin: SandboxedPlugin | TrustedPlugin) -> None:
        """Record the runs of `plugin` from now on; a trusted plugin has none.

        Raises `AuditError` if the policy lets the plugin write the log.
        """
        if self.log is None or not _is_sandboxed(plugin):
            return
        _check_policy(self.log, plugin.policy)
        # A weak reference, so that dropping a plugin ends its worker at once, without the garbage collector.
        reference, recorder, log = weakref.ref(plugin), plugin._inside.recorder, self.log
        history = plugin._inside.history
        history.describe = lambda run, pace: log.describe_run(run, recorder.known_as, pace)
        history.on_run = lambda run, text: self._record_run(run, text, reference())
        plugin._inside.on_quarantine = lambda: self._record_quarantine(reference())

    def loaded(self, name: str, plugin: SandboxedPlugin | TrustedPlugin, config: Mapping[str, Any] | None) -> None:
        """Record that `plugin` is ready, under `name`."""
        if self.log is None:
            return
        # Only the names of the configuration: its values may be secrets.
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
        """Record that `plugin` couldn't be started or initialized."""
        if self.log is None:
            return
        run = getattr(error, "run", None)
        verdict = {"verdict": str(run.verdict)} if isinstance(run, Run) else {}
        spec = {"spec": plugin._inside.source.spec} if _is_sandboxed(plugin) else {}
        self.log.record("refuse", _identity(plugin) | spec | verdict | {"error": type(error).__name__})

    def unloaded(self, plugin: SandboxedPlugin | TrustedPlugin) -> None:
        """Record that `plugin` is closed."""
        if self.log is None or self._ended:
            return
        if _is_sandboxed(plugin):
            self._record_idle(self.log, plugin)
        self.log.record("unload", _identity(plugin))

    def close(self) -> None:
        """Stop recording, and close a log that this manager opened, unless another manager writes it too."""
        if self.log is None or self._ended:
            return
        self._ended = True
        if self._finalizer is not None and self._finalizer.detach() is not None:
            _release(self.log)

    def _record_run(self, run: Run, text: str, plugin: SandboxedPlugin | None) -> None:
        if self.log is None or self._ended:
            return
        try:
            if plugin is not None:
                self._record_idle(self.log, plugin)
            self.log.record_run(run, text=text)
            self._record_quarantine(plugin)
        except AuditError as error:
            error.run = run
            raise

    def _record_quarantine(self, plugin: SandboxedPlugin | None) -> None:
        """Record once that `plugin` is in quarantine, if it is."""
        if self.log is None or self._ended or plugin is None or plugin.state != "quarantined":
            return
        if plugin not in self._in_quarantine:
            self._in_quarantine.add(plugin)
            self.log.record("quarantine", _identity(plugin))

    def _record_idle(self, log: AuditLog, plugin: SandboxedPlugin) -> None:
        """Record the worker's events since the last time: those that happened outside a call."""
        events, seen = plugin._inside.events, self._seen.get(plugin)
        if events and events[-1] is not seen:
            self._seen[plugin] = events[-1]
            known = next((at for at, event in enumerate(events, 1) if event is seen), 0)
            log.record("idle", _identity(plugin) | {"events": events[known:]})


def _check_policy(log: AuditLog, policy: Policy) -> None:
    path = str(log.path)
    for granted in policy.write:
        if path == granted or path.startswith(f"{granted.rstrip('/')}/"):
            raise AuditError(
                f"The audit log {path_text(path)} lies in {path_text(granted)}, which this policy lets the plugin "
                "write; grant another folder, or keep the log elsewhere"
            )


def _identity(plugin: SandboxedPlugin | TrustedPlugin) -> dict[str, Any]:
    if not _is_sandboxed(plugin):
        return {"plugin": plugin.name, "version": plugin.version}
    name = plugin._inside.recorder.known_as or plugin.name
    return {"plugin": name, "version": plugin.version, "digest": plugin._inside.source.digest}


def _is_sandboxed(plugin: SandboxedPlugin | TrustedPlugin) -> TypeGuard[SandboxedPlugin]:
    return not hasattr(plugin, "trusted")


# ---------------------------------------------------------------------- one log a path in each process

_managers: dict[AuditLog, int] = {}
_guard = threading.Lock()
_CLOSING_S = 1.0


def _shared_log(path: str) -> AuditLog:
    """Return the log at `path`, shared with a manager that has it open already, as when a cell is run again."""
    with _guard:
        for log in list(_managers):
            if log.closed:
                del _managers[log]
            elif str(log.path) == path:
                _managers[log] += 1
                return log
        log = AuditLog(path)
        _managers[log] = 1
        return log


def _release_in_a_thread(log: AuditLog) -> None:
    """Release the log in another thread, and wait for it for a while.

    A finalizer may run at any moment, perhaps while this thread holds the locks that closing takes.
    """
    closing = threading.Thread(target=_release, args=(log,), name="agentplug-audit-end", daemon=True)
    try:
        closing.start()
    except RuntimeError:  # the interpreter is ending, so nobody writes any more
        _release(log)
    else:
        closing.join(_CLOSING_S)


def _release(log: AuditLog) -> None:
    """Close the log if no other manager has it."""
    with _guard:
        left = _managers.pop(log, 1) - 1
        if left > 0:
            _managers[log] = left
            return
    log.close()
