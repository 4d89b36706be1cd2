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
    from agentplug.core.session import Sandbox
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
    from agentplug.integrations import attach, detach
    from agentplug.jupyter.dashboard import dashboard
    from agentplug.manager.audit.log import AuditLog
    from agentplug.manager.audit.reading import read_audit
    from agentplug.manager.manager import PluginManager
    from agentplug.report.accessor import read_trace
    from agentplug.report.learning.lesson import learn

__version__ = "0.1.0"

_HOME = {
    "AgentMessage": "agentplug.contract.messages.message",
    "AgentPlugin": "agentplug.contract.plugin",
    "AuditLog": "agentplug.manager.audit.log",
    "Policy": "agentplug.contract.policy",
    "Run": "agentplug.core.run",
    "Usage": "agentplug.contract.record",
    "Verdict": "agentplug.contract.record",
    "attach": "agentplug.integrations",
    "dashboard": "agentplug.jupyter.dashboard",
    "detach": "agentplug.integrations",
    "doctor": "agentplug.doctor",
    "learn": "agentplug.report.learning.lesson",
    "load_ipython_extension": "agentplug.jupyter.extension",
    "read_audit": "agentplug.manager.audit.reading",
    "read_trace": "agentplug.report.accessor",
    "unload_ipython_extension": "agentplug.jupyter.extension",
    "PluginManager": "agentplug.manager.manager",
    "Sandbox": "agentplug.core.session",
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
    "AuditLog",
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
    "Sandbox",
    "SandboxedPlugin",
    "SpecError",
    "UnknownHook",
    "Usage",
    "Verdict",
    "WorkerDied",
    "attach",
    "dashboard",
    "detach",
    "doctor",
    "learn",
    "load_plugin_from_module",
    "read_audit",
    "read_trace",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        import difflib  # a worker's start needn't pay for it

        near = () if name.startswith("_") else difflib.get_close_matches(name, __all__, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module 'agentplug' has no attribute {name!r}{hint}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
