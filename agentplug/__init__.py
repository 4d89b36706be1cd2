"""agentplug: run untrusted agent plugins in confined worker processes, from a notebook.

Names load on first use, so that `import agentplug` costs next to nothing and a worker, whose modules live in this
package too, never loads the host's side. Nothing inside the package imports this module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentplug.contract.messages.message import AgentMessage
    from agentplug.contract.plugin import AgentPlugin
    from agentplug.contract.policy import Policy
    from agentplug.contract.record import Usage, Verdict
    from agentplug.core.run import Run
    from agentplug.core.sandboxed import SandboxedPlugin, load_plugin_from_module
    from agentplug.doctor import doctor
    from agentplug.errors import (
        AgentplugError,
        AuditError,
        BarrierUnavailable,
        ContractError,
        DuplicatePlugin,
        HookDenied,
        LimitExceeded,
        PinMismatch,
        PluginError,
        PluginNotFound,
        PluginQuarantined,
        PolicyError,
        ProtocolViolation,
        SpecError,
        UnknownHook,
        WorkerDied,
    )
    from agentplug.jupyter.dashboard import dashboard
    from agentplug.manager.manager import PluginManager

__version__ = "0.1.0"

_HOME = {
    "AgentMessage": "agentplug.contract.messages.message",
    "AgentPlugin": "agentplug.contract.plugin",
    "Policy": "agentplug.contract.policy",
    "Run": "agentplug.core.run",
    "Usage": "agentplug.contract.record",
    "Verdict": "agentplug.contract.record",
    "dashboard": "agentplug.jupyter.dashboard",
    "doctor": "agentplug.doctor",
    "load_ipython_extension": "agentplug.jupyter.extension",
    "unload_ipython_extension": "agentplug.jupyter.extension",
    "PluginManager": "agentplug.manager.manager",
    "SandboxedPlugin": "agentplug.core.sandboxed",
    "load_plugin_from_module": "agentplug.core.sandboxed",
} | dict.fromkeys(
    (
        "AgentplugError",
        "AuditError",
        "BarrierUnavailable",
        "ContractError",
        "DuplicatePlugin",
        "HookDenied",
        "LimitExceeded",
        "PinMismatch",
        "PluginError",
        "PluginNotFound",
        "PluginQuarantined",
        "PolicyError",
        "ProtocolViolation",
        "SpecError",
        "UnknownHook",
        "WorkerDied",
    ),
    "agentplug.errors",
)

__all__ = [
    "AgentMessage",
    "AgentPlugin",
    "AgentplugError",
    "AuditError",
    "BarrierUnavailable",
    "ContractError",
    "DuplicatePlugin",
    "HookDenied",
    "LimitExceeded",
    "PinMismatch",
    "PluginError",
    "PluginManager",
    "PluginNotFound",
    "PluginQuarantined",
    "Policy",
    "PolicyError",
    "ProtocolViolation",
    "Run",
    "SandboxedPlugin",
    "SpecError",
    "UnknownHook",
    "Usage",
    "Verdict",
    "WorkerDied",
    "dashboard",
    "doctor",
    "load_plugin_from_module",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agentplug' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
