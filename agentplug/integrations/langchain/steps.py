"""The steps of the LangChain middleware, written once for `invoke` and `ainvoke` (host).

Each step is a generator: it yields a `Message` or a `Call`, which `adapter` executes, with or without `await`.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from itertools import takewhile
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langgraph.errors import GraphBubbleUp
from pydantic_core import to_jsonable_python

from agentplug.integrations.bridge import Trail, error_of, ms_since, output_part, text, tool_call, tool_response
from agentplug.integrations.langchain.parts import (
    MessageEditor,
    as_content,
    blocks,
    dump,
    is_text,
    model_name,
    native,
    places_of,
    plain,
)
from agentplug.integrations.transforms import (
    all_text,
    call_arguments,
    decide,
    flat,
    refuse_change,
    response_of,
    without_role,
    write_back,
)
from agentplug.manager.hooks import Dispatch


class Message(NamedTuple):
    """A message for the hooks; its result is the `Dispatch`."""

    point: str
    parts: list[dict[str, Any]]
    fields: dict[str, Any]


class Call(NamedTuple):
    """A call of the inner handler; its result is the handler's result."""

    request: Any


Steps = Generator[Message | Call, Any, Any]


def begin(state: Any) -> Steps:
    """Dispatch `agent_startup` and `input`. Return the update of the agent's state."""
    (yield Message("agent_startup", [], {})).check()
    messages = list(takewhile(lambda message: isinstance(message, HumanMessage), reversed(state["messages"])))[::-1]
    if not messages:
        return None
    places = flat(places_of(at, message) for at, message in enumerate(messages))
    dispatch = yield Message("input", without_role(places), {"role": "user", "native": native(messages)})
    dispatch.check()
    return _update(messages, write_back(messages, places, dispatch, MessageEditor())) if dispatch.changed else None


def finish(state: Any) -> Steps:
    """Dispatch `output`. Return the update of the agent's state."""
    last = state["messages"][-1] if state["messages"] else None
    structured = state.get("structured_response")
    if structured is not None:
        parts = [output_part(to_jsonable_python(structured, fallback=repr))]
    else:
        parts = [text(str(last.text))] if isinstance(last, AIMessage) else []
    dispatch = yield Message("output", parts, {"role": "assistant", "native": native([last] if last else [])})
    dispatch.check()
    if not dispatch.changed:
        return None
    if structured is not None or not isinstance(last, AIMessage):
        refuse_change(dispatch, "a structured output")
    others = [block for block in blocks(last) if not is_text(block)]
    content = all_text(dispatch)
    changed = [*others, {"type": "text", "text": content}] if others else content
    return {"messages": [last.model_copy(update={"content": changed})]}


def call_model(request: Any) -> Steps:
    """Dispatch `pre_model_call` and `post_model_call`. Return the model's response."""
    messages = [*([request.system_message] if request.system_message else []), *request.messages]
    places = flat(places_of(at, message) for at, message in enumerate(messages))
    model: dict[str, Any] = {"id": model_name(request.model), "vendor": None}
    dispatch = yield Message("pre_model_call", [p.part for p in places], {"model": model, "native": native(messages)})
    dispatch.check()
    if dispatch.changed:
        changed = write_back(messages, places, dispatch, MessageEditor(), head=len(messages) - len(request.messages))
        system = changed.pop(0) if changed and isinstance(changed[0], SystemMessage) else None
        request = request.override(messages=changed, system_message=system)
    start_s = time.perf_counter()
    response: Any
    try:
        response = yield Call(request)
    except GraphBubbleUp:
        raise
    except Exception as error:
        yield Message(
            "post_model_call", [], {"model": model, "error": error_of(error), "duration_ms": ms_since(start_s)}
        )
        raise
    whole = response
    if not isinstance(response, AIMessage):
        response = getattr(response, "model_response", response)
    result = [response] if isinstance(response, AIMessage) else response.result
    reply = next((message for message in result if isinstance(message, AIMessage)), AIMessage(""))
    places = flat(places_of(at, message) for at, message in enumerate(result))
    usage = reply.usage_metadata or {}
    metadata = reply.response_metadata
    fields = {
        "role": "assistant",
        "model": {"id": metadata.get("model_name") or model["id"], "vendor": metadata.get("model_provider")},
        "finish_reason": metadata.get("finish_reason") or metadata.get("stop_reason"),
        "usage": {"input_tokens": usage.get("input_tokens"), "output_tokens": usage.get("output_tokens")},
        "duration_ms": ms_since(start_s),
        "native": native(result),
    }
    dispatch = yield Message("post_model_call", without_role(places), fields)
    dispatch.check()
    if not dispatch.changed:
        return whole
    changed = write_back(result, places, dispatch, MessageEditor())
    if isinstance(whole, AIMessage):
        return changed[0] if len(changed) == 1 else refuse_change(dispatch, f"{len(changed)} messages")
    response.result = changed
    return whole


def call_tool(request: Any, trail: Trail) -> Steps:
    """Dispatch `pre_tool_call` and `post_tool_call`. Return the tool's message or command."""
    call = request.tool_call
    fields = trail.call_fields(call["id"], call["name"])
    part = tool_call(call["id"], call["name"], call["args"])
    dispatch = yield Message(
        "pre_tool_call", [part], {"role": "assistant", "native": dump(lambda: dict(call)), **fields}
    )
    denial, arguments = decide(dispatch, call_arguments, call["args"])
    if denial is not None:
        return _denied_message(call, denial)
    if dispatch.changed:
        request = request.override(tool_call={**call, "args": arguments})
    start_s = time.perf_counter()
    failure: Exception | None = None
    result: Any = None
    try:
        result = yield Call(request)
    except GraphBubbleUp:
        raise  # an interrupt isn't an error
    except Exception as error:
        failure = error
    dispatch = yield Message(
        "post_tool_call",
        [tool_response(call["id"], str(failure) if failure else plain(result))],
        {
            "role": "tool",
            "error": error_of(failure) or ({"type": "tool_error"} if _is_error(result) else None),
            "duration_ms": ms_since(start_s),
            "native": native([result]) if isinstance(result, ToolMessage) else None,
            **fields,
        },
    )
    if failure is not None:
        raise failure
    denial, result = decide(dispatch, lambda changed: _with_response(changed, result), result)
    return result if denial is None else _denied_message(call, denial)


def _with_response(dispatch: Dispatch, result: Any) -> ToolMessage:
    if not isinstance(result, ToolMessage):
        refuse_change(dispatch, "a Command")
    return result.model_copy(update={"content": as_content(response_of(dispatch))})


def _is_error(result: Any) -> bool:
    return isinstance(result, ToolMessage) and result.status == "error"


def _denied_message(call: Any, reason: str) -> ToolMessage:
    return ToolMessage(reason, tool_call_id=call["id"], name=call["name"], status="error")


def _update(before: list[Any], after: list[Any]) -> dict[str, Any]:
    """Return the state update that replaces `before` by `after`. The state knows messages by their id."""
    ids = {message.id for message in after}
    return {"messages": [*(RemoveMessage(m.id) for m in before if m.id not in ids), *after]}
