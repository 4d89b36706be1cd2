"""Every error agentplug raises on purpose, in one tree (host and worker).

    AgentplugError
    ├── SpecError (ValueError)          a spec or a source that makes no sense
    │   └── PluginNotFound              nothing, or more than one thing, to load
    ├── ContractError (TypeError)       the object isn't an agent plugin
    ├── DuplicatePlugin (ValueError)    that name is registered already
    ├── UnknownHook (ValueError)        no such hook point
    ├── PinMismatch                     what was pinned isn't what would run
    ├── PolicyError (ValueError)        a policy field that makes no sense
    ├── BarrierUnavailable              this machine can't keep what the policy promises
    ├── PluginError                     the plugin raised
    ├── LimitExceeded (RuntimeError)    a limit of the policy stopped the plugin
    ├── WorkerDied                      its process ended, by itself or because the user stopped it
    ├── ProtocolViolation               it broke the protocol, or its reply could not be carried
    ├── PluginQuarantined               lost too often, or put there by hand; reload it to try again
    ├── HookDenied                      a veto hook denied the message
    └── AuditError                      the audit file can't be trusted or written

Messages give the fact, the limit and the remedy. An error that a run ended in carries that run as `run`.
"""

from __future__ import annotations

from typing import Any


class AgentplugError(Exception):
    """Base of all errors below; `run` is the `Run` it came from, or None."""

    run: Any = None


class SpecError(AgentplugError, ValueError):
    """A spec or a source that makes no sense: wrong type, empty, unreadable, not Python."""


class PluginNotFound(SpecError):
    """No plugin there, or more than one to choose from; the message lists what was found."""


class ContractError(AgentplugError, TypeError):
    """The object lacks a member of `AgentPlugin`, or has one of the wrong type."""


class DuplicatePlugin(AgentplugError, ValueError):
    """A plugin of that name is registered already."""


class UnknownHook(AgentplugError, ValueError):
    """No such hook point."""


class PinMismatch(AgentplugError):
    """What was pinned isn't what would run."""


class PolicyError(AgentplugError, ValueError):
    """A policy field that is unknown, of the wrong type or impossible; the message names it."""


class BarrierUnavailable(AgentplugError):
    """This machine can't enforce a right or a limit of the policy: which barrier, what is missing, the remedy."""


class PluginError(AgentplugError):
    """The plugin raised; the message holds its exception's type and text, escaped."""


class LimitExceeded(AgentplugError, RuntimeError):
    """A limit of the policy stopped the plugin."""


class WorkerDied(AgentplugError):
    """The plugin's worker process ended: by itself, or because the user stopped it (interrupt, kill, close)."""


class ProtocolViolation(AgentplugError):
    """The worker broke the protocol, or the reply can't be carried to the host."""


class PluginQuarantined(AgentplugError):
    """The plugin lost its worker too often, or was quarantined by hand; it stays out of use until it is reloaded."""


class HookDenied(AgentplugError):
    """A veto hook denied the message."""


class AuditError(AgentplugError):
    """The audit file can't be trusted, or can't be written."""
