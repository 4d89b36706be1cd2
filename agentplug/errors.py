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
    ├── PluginError                     the plugin raised
    ├── LimitExceeded (RuntimeError)    a limit of the policy stopped the plugin
    ├── WorkerDied                      its worker ended, by itself or because the user stopped it
    ├── ProtocolViolation               its worker broke the protocol, or its reply can't be sent
    ├── PluginQuarantined               it lost too many workers, or was put there by hand; reload it
    ├── HookDenied                      a veto hook denied the message
    └── AuditError                      the audit file can't be trusted or written

Messages give the fact, the limit and the remedy. The error of a run has that run as `run`.
"""

from __future__ import annotations

from typing import Any


class AgentplugError(Exception):
    """Base of all errors below; `run` is the `Run` that raised the error, or None."""

    run: Any = None


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
    """The plugin raised; the message has the exception's type and text, escaped."""


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
