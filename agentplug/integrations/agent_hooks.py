"""An adapter to AGENT-HOOKS 0.1 (host): a manager's hooks as an interceptor, and interceptors in workers.

The specification defines how an agent's host calls interceptors and uses their verdicts; it defines no isolation.
`Interceptor` offers the vetoes and transforms of a `PluginManager` to any such host. `ConfinedInterceptor` runs the
code of one interceptor in a worker. Both use the wire form (plain JSON), so `agent-hooks-sdk` isn't imported. After
an exception the host must deny (section 6.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentplug.contract.messages.message import AgentMessage
from agentplug.contract.text import printable
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.errors import ContractError
from agentplug.manager.manager import PluginManager

FRAMEWORK = "agent-hooks"
_RESERVED = "host_error:"


class Interceptor:
    """All hooks of `manager` as one interceptor: `emitter.register(Interceptor(manager))`.

    A denial becomes `deny` with the hook's reason; a changed payload becomes `transform` of `$target`; else `allow`.
    Observers of the manager see every context. Plugins that were granted `native` see the context itself.
    """

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager

    async def intercept(self, context: Mapping[str, Any], /) -> dict[str, Any]:
        """Return the verdict on one agent context, as wire JSON.

        Raises `ContractError` for an invalid context, and for a change that doesn't fit the context.
        """
        message = message_of(context)
        dispatch = await self.manager.dispatch(message)
        if not dispatch.allowed:
            reason = dispatch.reason or "denied"
            if reason.startswith(_RESERVED):
                reason = f"hook:{reason}"
            return {"decision": "deny", "reason": reason, "message": f"{dispatch.denied_by} denied it"}
        if not dispatch.changed:
            return {"decision": "allow"}
        if message.redactions:
            raise ContractError(f"a changed payload has lost what the message left out: {message.redactions[0]}")
        value = target_of(dispatch.message, context.get("target"))
        return {"decision": "transform", "transform": {"path": "$target", "value": value}}


class ConfinedInterceptor:
    """One interceptor whose code lives in the worker of `plugin`: `on_message(point, context)` returns the verdict.

    The verdict is returned unchecked; the emitter checks it. The plugin is called whatever its policy's `hooks` say,
    because no manager is involved.
    """

    def __init__(self, plugin: SandboxedPlugin) -> None:
        self.plugin = plugin

    async def intercept(self, context: Mapping[str, Any], /) -> Any:
        """Return the plugin's verdict on one agent context. Raises what `SandboxedPlugin.process` raises."""
        return await self.plugin.on_message(str(context.get("interception_point", "")), dict(context))


def message_of(context: Mapping[str, Any]) -> AgentMessage:
    """Return an agent context as a message: its `target` as parts. Raises `ContractError` for an unknown point."""
    if not isinstance(context, Mapping):
        raise ContractError(f"a {type(context).__name__} is no agent context; give the dict that an interceptor gets")
    point = context.get("interception_point")
    session, agent = _dict(context, "session"), _dict(context, "agent")
    call, result, response = _dict(context, "tool_call"), _dict(context, "tool_result"), _dict(context, "response")
    usage, model = _dict(context, "usage"), _dict(context, "model")
    fields: dict[str, Any] = {
        "session_id": session.get("id"),
        "seq": context.get("sequence", 0),
        "ts": context.get("timestamp"),
        "turn": session.get("turn"),
        "request_id": context.get("request_id"),
        "agent": {"id": agent.get("id"), "name": agent.get("name"), "framework": agent.get("framework")},
        "role": _role(point, context),
        "name": call.get("name"),
        "model": {"id": model.get("id"), "vendor": model.get("vendor")} if model else None,
        "finish_reason": response.get("finish_reason"),
        "usage": {"input_tokens": usage.get("prompt_tokens"), "output_tokens": usage.get("completion_tokens")}
        if usage
        else None,
        "error": {"type": "tool_error"} if result.get("is_error") is True else None,
        "duration_ms": result.get("duration_ms"),
        "native": {"framework": FRAMEWORK, "data": dict(context)},
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    return AgentMessage.coerced(point=point, parts=_parts_of(point, context), **fields)


def _parts_of(point: object, context: Mapping[str, Any]) -> list[dict[str, Any]]:
    target = context.get("target")
    call = _dict(context, "tool_call")
    match point:
        case "pre_tool_call":
            return [{"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": target}]
        case "post_tool_call":
            return [{"type": "tool_call_response", "id": call.get("id"), "response": target}]
        case "input" | "output" if isinstance(target, Mapping):
            return [_content(target.get("content"))]
        case "pre_model_call" if isinstance(target, list):
            return [_content(m.get("content")) | {"role": m.get("role")} for m in target if isinstance(m, Mapping)]
        case "post_model_call" if isinstance(target, Mapping):
            said = [] if target.get("content") is None else [_content(target["content"])]
            return said + [
                {"type": "tool_call", "id": c.get("id"), "name": c.get("name"), "arguments": c.get("args")}
                for c in target.get("tool_calls") or ()
            ]
    return [{"type": "generic", "content": target}]


def target_of(message: AgentMessage, target: Any) -> Any:
    """Return the context's new `target`, made from the parts of a changed `message`.

    Raises `ContractError` for parts that don't fit into a target of this kind.
    """
    parts, point = message.parts, message.point
    match point:
        case "pre_tool_call" if _is_one(parts, "tool_call"):
            return parts[0].get("arguments")
        case "post_tool_call" if _is_one(parts, "tool_call_response"):
            return parts[0]["response"]
        case "input" | "output" if isinstance(target, Mapping) and len(parts) == 1 and "content" in parts[0]:
            return {**target, "content": parts[0]["content"]}
        case "pre_model_call" if isinstance(target, list) and all("content" in part for part in parts):
            return _messages(parts, target)
        case "post_model_call" if isinstance(target, Mapping):
            said = [part for part in parts if part["type"] != "tool_call"]
            if len(said) <= 1 and all("content" in part for part in said):
                calls = [
                    {"id": c.get("id"), "name": c["name"], "args": c.get("arguments")}
                    for c in parts
                    if c["type"] == "tool_call"
                ]
                bare = [{key: item for key, item in call.items() if item is not None} for call in calls]
                return {**target, "content": said[0]["content"] if said else None, "tool_calls": bare}
        case "agent_startup" | "agent_shutdown" if _is_one(parts, "generic"):
            return parts[0].get("content")
    kinds = ", ".join(printable(part["type"], 40) for part in parts[:5]) or "nothing"
    raise ContractError(f"a transform at {point} left {kinds}, which has no place in the target there")


def _messages(parts: list[dict[str, Any]], target: list[Any]) -> list[Any]:
    """Return new messages. If none was added or removed, they keep the host's other fields."""
    messages = []
    for at, part in enumerate(parts):
        before = target[at] if len(parts) == len(target) and isinstance(target[at], Mapping) else {}
        messages.append({**before, "role": part.get("role") or "user", "content": part["content"]})
    return messages


def _is_one(parts: list[dict[str, Any]], kind: str) -> bool:
    return len(parts) == 1 and parts[0]["type"] == kind


def _content(content: Any) -> dict[str, Any]:
    return {"type": "text" if isinstance(content, str) else "generic", "content": content}


def _role(point: object, context: Mapping[str, Any]) -> Any:
    if point == "input":
        return _dict(context, "input").get("role")
    return "assistant" if point in ("output", "post_model_call") else None


def _dict(context: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = context.get(name)
    return value if isinstance(value, Mapping) else {}
