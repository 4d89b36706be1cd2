"""Bridges to agent frameworks and other tools (host), one file each; none is imported unless it is used.

`attach(agent, manager)` gives the agent to use from then on: its messages go to the manager's hooks, at the eight
agent points, by the framework's own way of intercepting. `detach(agent)` takes the hooks out again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentplug.contract.text import printable
from agentplug.errors import ContractError

if TYPE_CHECKING:
    from agentplug.manager.manager import PluginManager

__all__ = ["attach", "detach"]

# Where a framework's classes live: the file that knows them, and what it attaches to.
_ADAPTERS = {
    "pydantic_ai": ("pydantic_ai.adapter", "a pydantic-ai Agent"),
    "langchain": ("langchain.adapter", "LangChain's create_agent"),
    "langgraph": ("langchain.adapter", "LangChain's create_agent"),
    "agents": ("openai_agents.adapter", "an OpenAI Agents SDK Agent"),
    "google.adk": ("google_adk.adapter", "a Google ADK Runner or App"),
    "agentplug.integrations.scripted": ("scripted", "a ScriptedAgent"),
}


def attach(agent: Any, manager: PluginManager) -> Any:
    """The agent to use from now on, its messages going to the hooks of `manager`.

    `agent` is a pydantic-ai `Agent`, LangChain's `create_agent` itself, an OpenAI Agents SDK `Agent`, a Google ADK
    `Runner` or `App`, or a `ScriptedAgent`; what comes back is of the same use, as the file of each says. Raises
    `ContractError` for anything else.

    Words that an agent streams are out before the hooks at `post_model_call` and `output` are asked: a denial there
    can't recall them; it keeps the agent from going on with them.
    """
    return _adapter(agent).attach(agent, manager)


def detach(agent: Any) -> Any:
    """The agent without a manager's hooks: what `attach` was given, where it gave another object.

    A Google ADK `Runner` or `App` stays the object that it is; a run of it that is under way isn't asked about any
    further. Raises `ContractError` for an agent that no manager is attached to.
    """
    return _adapter(agent).detach(agent)


def _adapter(agent: object) -> Any:
    """The module that knows the framework of `agent`. Raises `ContractError`."""
    homes: list[object] = [cls.__module__ for cls in type(agent).__mro__]
    homes.append(getattr(agent, "__module__", None))  # that of a function, such as create_agent
    name = next((name for name in map(_adapter_name, homes) if name is not None), None)
    if name is None:
        raise ContractError(unknown(agent))
    try:
        return import_module(f"{__name__}.{name}")
    except ImportError as error:  # a package of the same name, or a version that the extra doesn't mean
        raise ContractError(
            f"{unknown(agent)}; the adapter can't be imported: {printable(str(error), 200)}"
        ) from error


def unknown(agent: object) -> str:
    """That nothing can be attached to this, and what it can be attached to."""
    kind = printable(f"{type(agent).__module__}.{type(agent).__qualname__}", 120)
    supported = ", ".join(dict.fromkeys(what for _, what in _ADAPTERS.values()))
    return f"a {kind} is no agent that a manager can be attached to; there are adapters for {supported}"


def unattached(agent: object) -> ContractError:
    """The error for an agent that no manager is attached to."""
    kind = printable(f"{type(agent).__module__}.{type(agent).__qualname__}", 120)
    return ContractError(f"no manager is attached to this {kind}; detach takes what attach gave")


def _adapter_name(module: object) -> str | None:
    for prefix, (name, _) in _ADAPTERS.items():
        if isinstance(module, str) and (module in (prefix, f"{__name__}.{name}") or module.startswith(f"{prefix}.")):
            return name
    return None
