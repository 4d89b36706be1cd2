"""Adapters for agent frameworks, one folder each, and for other tools (host). Each is imported on first use.

`attach(agent, manager)` returns an agent whose messages go to the manager's hooks at the eight agent points. Each
adapter uses its framework's own way of intercepting. `detach(agent)` removes the hooks again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.errors import ContractError

if TYPE_CHECKING:
    from agentplug.manager.manager import PluginManager

__all__ = ["attach", "detach"]

# The module of a framework's classes: our adapter, and the objects that it attaches to.
_ADAPTERS = {
    "pydantic_ai": ("pydantic_ai.adapter", "a pydantic-ai Agent"),
    "langchain": ("langchain.adapter", "LangChain's create_agent"),
    "langgraph": ("langchain.adapter", "LangChain's create_agent"),
    "agents": ("openai_agents.adapter", "an OpenAI Agents SDK Agent"),
    "google.adk": ("google_adk.adapter", "a Google ADK Runner or App"),
    "agentplug.integrations.scripted": ("scripted", "a ScriptedAgent"),
}


def attach(agent: Any, manager: PluginManager) -> Any:
    """Return the agent to use from now on: its messages go to the hooks of `manager`.

    `agent` is a pydantic-ai `Agent`, LangChain's `create_agent` itself, an OpenAI Agents SDK `Agent`, a Google ADK
    `Runner` or `App`, or a `ScriptedAgent`. The result is used in the same way; each adapter's docstring says how.
    Raises `ContractError` for anything else.

    Streamed words are out before the hooks at `post_model_call` and `output` are called. A denial there can't recall
    the words; it stops the agent from using them.
    """
    return _adapter(agent).attach(agent, manager)


def detach(agent: Any) -> Any:
    """Return the agent without a manager's hooks: the object that was passed to `attach`.

    Messages of a run that is under way in a Google ADK `Runner` or `App` no longer go to the hooks. Raises
    `ContractError` for an agent that no manager is attached to.
    """
    return _adapter(agent).detach(agent)


def _adapter(agent: object) -> Any:
    """Return the adapter's module for `agent`. Raises `ContractError`."""
    modules: list[object] = [cls.__module__ for cls in type(agent).__mro__]
    modules.append(getattr(agent, "__module__", None))  # for a function, such as create_agent
    name = next((name for name in map(_adapter_name, modules) if name is not None), None)
    if name is None:
        raise ContractError(unknown(agent))
    try:
        return import_module(f"{__name__}.{name}")
    except ImportError as error:  # another package of that name, or a version that the extra excludes
        raise ContractError(
            f"{unknown(agent)}; the adapter can't be imported: {printable(str(error), 200)}"
        ) from error


def unknown(agent: object) -> str:
    """Return the error message for an object that has no adapter."""
    kind = printable(f"{type(agent).__module__}.{type(agent).__qualname__}", 120)
    supported = ", ".join(dict.fromkeys(what for _, what in _ADAPTERS.values()))
    return f"a {kind} is no agent that a manager can be attached to; there are adapters for {supported}"


def unattached(agent: object) -> ContractError:
    """Return the error for an agent that no manager is attached to."""
    kind = printable(f"{type(agent).__module__}.{type(agent).__qualname__}", 120)
    return ContractError(f"no manager is attached to this {kind}; detach takes what attach gave")


def _adapter_name(module: object) -> str | None:
    for prefix, (name, _) in _ADAPTERS.items():
        if isinstance(module, str) and (module in (prefix, f"{__name__}.{name}") or module.startswith(f"{prefix}.")):
            return name
    return None
