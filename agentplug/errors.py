"""Every error of agentplug, in one tree (host and worker).

    AgentplugError
    ├── SpecError (ValueError)          an invalid spec or source
    │   └── PluginNotFound              no plugin there, or more than one
    ├── ContractError (TypeError)       the object isn't an agent plugin
    ├── DuplicatePlugin (ValueError)    that name is registered already
    ├── UnknownHook (ValueError)        no such hook point
    ├── PinMismatch                     the plugin isn't as it was pinned
    ├── PolicyError (ValueError)        an invalid field of a policy
    ├── BarrierUnavailable              this machine can't enforce the policy
    ├── PluginError                     the plugin raised; its class is named as the plugin's exception
    ├── LimitExceeded (RuntimeError)    a limit of the policy stopped the plugin
    ├── WorkerDied                      its worker ended, by itself or because the user stopped it
    ├── ProtocolViolation               its worker broke the protocol, or its reply can't be sent
    ├── PluginQuarantined               it lost too many workers, or was put there by hand; reload it
    ├── HookDenied                      a veto hook denied the message
    └── AuditError                      the audit file can't be trusted or written

Messages give the fact, the limit and the remedy. The error of a run has that run as `run`, and the plugin's own
traceback, escaped, as a note.
"""

from __future__ import annotations

import functools
from typing import Any


class AgentplugError(Exception):
    """Base of all errors below; `run` is the `Run` that raised the error, or None."""

    run: Any = None

    _render_traceback_: Any
    """The lines that IPython shows of this error; `core.run` sets it, for `report` makes them."""


class SpecError(AgentplugError, ValueError):
    """An invalid spec or source: wrong type, empty, unreadable, not Python."""


class PluginNotFound(SpecError):
    """No plugin there, or more than one to choose from; the message lists them."""


class ContractError(AgentplugError, TypeError):
    """The object lacks a member of `AgentPlugin`, or has one of the wrong type."""


class DuplicatePlugin(AgentplugError, ValueError):
    """A plugin of that name is registered already."""


class UnknownHook(AgentplugError, ValueError):
    """No such hook point."""


class PinMismatch(AgentplugError):
    """The plugin isn't as it was pinned."""


class PolicyError(AgentplugError, ValueError):
    """A policy field that is unknown, of the wrong type or impossible; the message names it."""


class BarrierUnavailable(AgentplugError):
    """This machine can't enforce the policy; the message names the barrier, what is missing and the remedy."""


class PluginError(AgentplugError):
    """The plugin raised; the message has the exception's type and text, escaped.

    The class of an error is a subclass of this, named as the plugin's exception, so that a traceback of
    `ZeroDivisionError` says so. It is no subclass of the host's own exception of that name.
    """

    @staticmethod
    def named(name: str, *arguments: object) -> PluginError:
        """Make an error of a subclass called `name`, which is a claim; of `PluginError` itself if no class has it."""
        return (_named(name) if name.isidentifier() and len(name) <= _MOST_NAME else PluginError)(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return PluginError.named, (type(self).__name__, *self.args), self.__dict__


class LimitExceeded(AgentplugError, RuntimeError):
    """A limit of the policy stopped the plugin."""


class WorkerDied(AgentplugError):
    """The plugin's worker process ended: by itself, or because the user stopped it (interrupt, kill, close)."""


class ProtocolViolation(AgentplugError):
    """The worker broke the protocol, or the reply can't be sent to the host."""


class PluginQuarantined(AgentplugError):
    """The plugin lost its worker too often, or was quarantined by hand; reload it to use it again."""


class HookDenied(AgentplugError):
    """A veto hook denied the message."""


class AuditError(AgentplugError):
    """The audit file can't be trusted, or can't be written."""


_MOST_NAME = 100


@functools.lru_cache(maxsize=64)
def _named(name: str) -> type[PluginError]:
    members = {"__module__": __name__, "__doc__": f"The plugin raised {name}."}
    return PluginError if name == "PluginError" else type(name, (PluginError,), members)
