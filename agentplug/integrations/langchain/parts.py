"""Conversion of LangChain's messages to parts and back (host)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage, message_to_dict
from pydantic_core import to_jsonable_python

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import text, tool_call, tool_response
from agentplug.integrations.transforms import Place, changed_call

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_CALL_BLOCKS = ("tool_use", "tool_call", "tool_call_chunk", "function_call")  # also listed in `tool_calls`


def places_of(at: int, message: BaseMessage) -> list[Place]:
    role = _ROLES.get(message.type, "user")
    if isinstance(message, ToolMessage):
        return [Place(at, "response", tool_response(message.tool_call_id, plain(message), role=role))]
    places = [
        Place(at, i, {**_block(block), "role": role})
        for i, block in enumerate(blocks(message))
        if not (isinstance(message, AIMessage) and isinstance(block, dict) and block.get("type") in _CALL_BLOCKS)
    ]
    if isinstance(message, AIMessage):
        for i, call in enumerate(message.tool_calls):
            places.append(Place(at, ("call", i), tool_call(call["id"], call["name"], call["args"], role=role)))
    return places


def blocks(message: BaseMessage) -> list[Any]:
    content = message.content
    return list(content) if isinstance(content, list) else [content] if content else []


def is_text(block: Any) -> bool:
    return isinstance(block, str) or (isinstance(block, dict) and block.get("type") == "text")


def _block(block: Any) -> dict[str, Any]:
    if is_text(block):
        return text(block if isinstance(block, str) else str(block.get("text", "")))
    if block.get("type") == "reasoning" and isinstance(block.get("reasoning"), str):
        return {"type": "reasoning", "content": block["reasoning"]}
    if isinstance(block.get("url"), str):
        return {"type": "uri", "modality": str(block.get("type")), "uri": block["url"]}
    if isinstance(block.get("base64"), str):
        part = {"type": "blob", "modality": str(block.get("type")), "content": block["base64"]}
        return part | ({"mime_type": block["mime_type"]} if isinstance(block.get("mime_type"), str) else {})
    return {"type": f"langchain.{block.get('type')}", "content": to_jsonable_python(block, fallback=repr)}


def plain(result: Any) -> Any:
    """Return the content of a tool's message, or a command, as JSON values."""
    return to_jsonable_python(result.content if isinstance(result, ToolMessage) else result, fallback=repr)


def native(messages: list[Any]) -> Callable[[], Any]:
    return dump(lambda: [message_to_dict(message) for message in messages])


def dump(make: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: to_jsonable_python(make())


def model_name(model: Any) -> str | None:
    name = getattr(model, "model_name", None) or getattr(model, "model", None)
    return name if isinstance(name, str) else getattr(model, "_llm_type", None)


class MessageEditor:
    def put(self, message: Any, where: Any, part: dict[str, Any]) -> Any:
        if where == "response":
            return message.model_copy(update={"content": as_content(part["response"])})
        if isinstance(where, tuple):
            calls = [dict(call) for call in message.tool_calls]
            name, arguments, call_id = changed_call(part, calls[where[1]]["id"])
            calls[where[1]] |= {"name": name, "args": arguments, "id": call_id}
            return message.model_copy(update={"tool_calls": calls})
        content = blocks(message)
        content[where] = _changed(content[where], part)
        return message.model_copy(update={"content": content if isinstance(message.content, list) else content[0]})

    def drop(self, message: Any, where: Any) -> Any:
        if where == "response":
            return None
        if isinstance(where, tuple):
            calls = [call for at, call in enumerate(message.tool_calls) if at != where[1]]
            left = message.model_copy(update={"tool_calls": calls})
        else:
            content = [block for at, block in enumerate(blocks(message)) if at != where]
            left = message.model_copy(update={"content": content if isinstance(message.content, list) else ""})
        return left if places_of(0, left) else None

    def fresh(self, part: dict[str, Any]) -> Any:
        role = part.get("role", "assistant")
        if role == "assistant" and part["type"] == "tool_call":
            name, arguments, call_id = changed_call(part, None)
            return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": call_id}])
        kinds: dict[str, Any] = {"assistant": AIMessage, "user": HumanMessage, "system": SystemMessage}
        if part["type"] == "text" and role in kinds:
            return kinds[role](part["content"])
        raise HookDenied(f"a transform added what can't be carried back: a {part['type']} part of {role}")


def _changed(block: Any, part: dict[str, Any]) -> Any:
    if isinstance(block, str):
        return part["content"]
    if block.get("type") == "text":
        return {**block, "text": part["content"]}
    if block.get("type") == "reasoning" and "reasoning" in block:
        return {**block, "reasoning": part["content"]}
    raise HookDenied(f"a transform changed what can't be carried back: a {block.get('type')} block")


def as_content(response: Any) -> Any:
    return response if isinstance(response, (str, list)) else str(to_jsonable_python(response))
