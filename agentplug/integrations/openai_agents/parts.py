"""Conversion of items of the OpenAI Responses API to parts and back (host).

Items sent to a model are dicts; items from a model are pydantic models. Both are read as dicts here. A changed item
keeps its type.
"""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import ResponseFunctionToolCall, ResponseOutputItem, ResponseOutputMessage
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from agentplug.errors import HookDenied
from agentplug.integrations.bridge import parsed_arguments, text, tool_call, tool_response
from agentplug.integrations.transforms import Place, changed_call

OUTPUT: TypeAdapter[Any] = TypeAdapter(list[ResponseOutputItem])
_TEXTS = ("input_text", "output_text", "text")
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


def places_of(at: int, item: Any) -> list[Place]:
    fields = as_dict(item)
    kind = fields.get("type") or ("message" if "role" in fields else None)
    if kind == "message":
        role = _ROLES.get(fields.get("role", ""), "user")
        content = fields.get("content")
        if isinstance(content, str):
            return [Place(at, None, text(content, role=role))] if content else []
        return [Place(at, i, {**_block(block), "role": role}) for i, block in enumerate(content or ())]
    if kind == "function_call":
        return [
            Place(at, kind, tool_call(fields.get("call_id"), fields["name"], fields["arguments"], role="assistant"))
        ]
    if kind == "function_call_output":
        return [Place(at, kind, tool_response(fields.get("call_id"), fields.get("output"), role="tool"))]
    if kind == "reasoning":
        blocks = [*(fields.get("summary") or ()), *(fields.get("content") or ())]
        content = "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))
        return [Place(at, kind, {"type": "reasoning", "content": content, "role": "assistant"})]
    return [Place(at, kind, {"type": f"openai.{kind}", "content": plain(fields), "role": "assistant"})]


def as_dict(item: Any) -> dict[str, Any]:
    return item.model_dump(exclude_unset=True) if isinstance(item, BaseModel) else dict(item)


def as_items(input: Any) -> list[Any]:
    """Return the input of a run or of a model as items."""
    return [{"role": "user", "content": input}] if isinstance(input, str) else list(input)


def plain(value: Any) -> Any:
    return to_jsonable_python(value, fallback=repr)


def _block(block: Any) -> dict[str, Any]:
    kind = block.get("type")
    if kind in _TEXTS:
        return text(str(block.get("text", "")))
    if kind == "refusal":
        return text(str(block.get("refusal", "")))
    if kind == "input_image" and isinstance(block.get("image_url"), str):
        return {"type": "uri", "modality": "image", "uri": block["image_url"]}
    if isinstance(block.get("file_id"), str):
        return {"type": "file", "modality": str(kind).removeprefix("input_"), "file_id": block["file_id"]}
    return {"type": f"openai.{kind}", "content": plain(block)}


class ItemEditor:
    """Changes items: see `Editor`. With `from_model`, new items are pydantic models, like a model's own output."""

    def __init__(self, *, from_model: bool = False) -> None:
        self._from_model = from_model

    def put(self, message: Any, where: Any, part: dict[str, Any]) -> Any:
        fields = as_dict(message)
        if where == "function_call":
            name, arguments, call_id = changed_call(part, fields.get("call_id"))
            changed = {**fields, "name": name, "call_id": call_id}
            if arguments != parsed_arguments(fields["arguments"]):
                changed["arguments"] = json.dumps(arguments)
        elif where == "function_call_output":
            output = part["response"]
            changed = {**fields, "output": output if isinstance(output, (str, list)) else json.dumps(output)}
        elif where is None:
            changed = {**fields, "content": part["content"]}
        elif isinstance(where, int):
            blocks = list(fields["content"])
            field = "refusal" if blocks[where].get("type") == "refusal" else "text"
            if field not in blocks[where] or part["type"] != "text":
                raise HookDenied(f"a transform changed what can't be carried back: a {blocks[where].get('type')}")
            blocks[where] = {**blocks[where], field: part["content"]}
            changed = {**fields, "content": blocks}
        else:
            raise HookDenied(f"a transform changed what can't be carried back: a {where} item")
        return type(message).model_validate(changed) if isinstance(message, BaseModel) else changed

    def drop(self, message: Any, where: Any) -> Any:
        fields = as_dict(message)
        if not isinstance(where, int):
            return None
        blocks = [block for at, block in enumerate(fields["content"]) if at != where]
        changed = {**fields, "content": blocks}
        if not blocks:
            return None
        return type(message).model_validate(changed) if isinstance(message, BaseModel) else changed

    def fresh(self, part: dict[str, Any]) -> Any:
        role = part.get("role", "assistant" if self._from_model else "user")
        if role == "assistant" and part["type"] == "tool_call" and part.get("id"):
            name, arguments, call_id = changed_call(part, None)
            called = {"name": name, "arguments": json.dumps(arguments), "call_id": call_id}
            made = ResponseFunctionToolCall.model_validate({"type": "function_call", **called})
            return made if self._from_model else made.model_dump(exclude_unset=True)
        if part["type"] == "text" and self._from_model:
            block = {"type": "output_text", "text": part["content"], "annotations": []}
            return ResponseOutputMessage.model_validate(
                {"id": "agentplug", "type": "message", "role": role, "status": "completed", "content": [block]}
            )
        if part["type"] == "text" and role in ("user", "assistant", "system"):
            return {"role": role, "content": part["content"]}
        raise HookDenied(f"a transform added what can't be carried back: a {part['type']} part of {role}")
