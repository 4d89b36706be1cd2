"""LangChain (host; the extra `langchain`): a middleware, outermost in the agents that `create_agent` makes.

    agent = attach(create_agent, manager)(model, tools=[weather])
    await agent.ainvoke({"messages": "How is Oslo?"})

Middleware is fixed when an agent is made, so it is `create_agent` that is attached: what comes back is called like it.
A denied tool call or result comes back to the model as a `ToolMessage` whose status is `error`; any other denied
message ends the run in `HookDenied`. `agent_shutdown` comes from a callback, since `after_agent` isn't called when a
run fails. When a response is streamed, `post_model_call` comes after the last of it: what was streamed can't be
recalled, but nothing is done with it. A structured output and a tool's `Command` are shown, and can't be changed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from pydantic_core import to_jsonable_python

from agentplug.contract.messages import AgentMessage
from agentplug.errors import ContractError, HookDenied
from agentplug.integrations import unknown
from agentplug.integrations.bridge import (
    Framework,
    Place,
    Trail,
    all_text,
    anything,
    call_arguments,
    carry,
    check_manager,
    denial,
    error_of,
    flat,
    response_of,
    text,
    tool_call,
    tool_response,
    uncarried,
)
from agentplug.manager import PluginManager

_FRAMEWORK = Framework.of("langchain", "langchain")
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_TWICE = ("tool_use", "tool_call", "tool_call_chunk", "function_call")  # blocks that `tool_calls` says again


def attach(agent: Any, manager: PluginManager) -> Callable[..., Any]:
    """`create_agent` for agents whose messages go to the hooks of `manager`; `agent` is `create_agent` itself.

    Raises `ContractError` for another object, and for an agent that is made already.
    """
    check_manager(manager)
    if agent is not create_agent:
        if type(agent).__module__.startswith("langgraph."):
            raise ContractError(
                "the middleware of a LangChain agent is fixed when it is made; "
                "make it with attach(create_agent, manager)(model, tools, ...)"
            )
        raise ContractError(unknown(agent))

    @functools.wraps(create_agent)
    def attached(*args: Any, middleware: Sequence[Any] = (), **options: Any) -> Any:
        runs = _Runs(manager, options.get("name"))
        made = create_agent(*args, middleware=[Asking(runs), *middleware], **options)
        return made.with_config(callbacks=[runs])

    return attached


def restore(message: AgentMessage) -> Any:
    """The framework's own objects that a message was made of, by its `native`; None if it has none.

    A list of messages for `input`, `output` and around the model; else the tool call as LangChain has it, or what the
    tool's message was.
    """
    if message.native is None:
        return None
    data = message.native["data"]
    if message.point == "pre_tool_call":
        return data
    found = messages_from_dict(data)
    return found[0] if message.point == "post_tool_call" else found


class _Runs(AsyncCallbackHandler):
    """Knows which run of the agent a step belongs to, and when it has ended."""

    run_inline = True

    def __init__(self, manager: PluginManager, name: str | None) -> None:
        self._manager = manager
        self._name = name
        self._roots: dict[UUID, UUID] = {}
        self._trails: dict[UUID, Trail] = {}

    def trail(self) -> Trail:
        """That of the run that the current step belongs to."""
        config = get_config()
        parent = getattr(config.get("callbacks"), "parent_run_id", None)
        root = self._roots[parent] if parent is not None else None
        assert root is not None, "the agent's callbacks are gone from its configuration"
        if root not in self._trails:
            thread = config.get("configurable", {}).get("thread_id")
            session = None if thread is None else str(thread)
            self._trails[root] = Trail(self._manager, _FRAMEWORK, self._name, str(root), session)
        return self._trails[root]

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any
    ) -> None:
        """Note whose part it is."""
        known = self._roots.get(parent_run_id) if parent_run_id is not None else None
        self._roots[run_id] = known or run_id

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """A step has ended, or the run."""
        await self._ended(run_id, None)

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A step has failed, or the run."""
        await self._ended(run_id, error)

    async def _ended(self, run_id: UUID, error: BaseException | None) -> None:
        if self._roots.get(run_id) != run_id:
            return
        trail = self._trails.pop(run_id, None)
        self._roots = {step: root for step, root in self._roots.items() if root != run_id}
        if trail is not None:
            await trail.end(error)


class _Tell(NamedTuple):
    point: str
    parts: list[dict[str, Any]]
    fields: dict[str, Any]


class _Call(NamedTuple):
    request: Any


_Steps = Generator[_Tell | _Call, Any, Any]


class Asking(AgentMiddleware[Any, Any]):
    """Takes the messages to the hooks. Each step is written once, and driven both ways: `invoke` and `ainvoke`."""

    def __init__(self, runs: _Runs) -> None:
        super().__init__()
        self._runs = runs

    @property
    def name(self) -> str:
        """As the graph's nodes are called."""
        return "agentplug"

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """`agent_startup` and `input`."""
        return self._drive(_begin(state))

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """The same."""
        return await self._adrive(_begin(state))

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """`output`."""
        return self._drive(_finish(state))

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """The same."""
        return await self._adrive(_finish(state))

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """`pre_model_call` and `post_model_call`."""
        self._runs.trail().turn += 1
        return self._drive(_model(request), handler)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same."""
        self._runs.trail().turn += 1
        return await self._adrive(_model(request), handler)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """`pre_tool_call` and `post_tool_call`."""
        return self._drive(_tool(request, self._runs.trail()), handler)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same."""
        return await self._adrive(_tool(request, self._runs.trail()), handler)

    def _drive(self, steps: _Steps, handler: Callable[[Any], Any] | None = None) -> Any:
        trail, go = self._runs.trail(), functools.partial(next, steps)
        while True:
            try:
                step = go()
            except StopIteration as done:
                return done.value
            try:
                if isinstance(step, _Tell):
                    came = trail.tell_sync(step.point, step.parts, **step.fields)
                else:
                    assert handler is not None
                    came = handler(step.request)
                go = functools.partial(steps.send, came)
            except Exception as error:
                go = functools.partial(steps.throw, error)

    async def _adrive(self, steps: _Steps, handler: Callable[[Any], Awaitable[Any]] | None = None) -> Any:
        trail, go = self._runs.trail(), functools.partial(next, steps)
        while True:
            try:
                step = go()
            except StopIteration as done:
                return done.value
            try:
                if isinstance(step, _Tell):
                    came = await trail.tell(step.point, step.parts, **step.fields)
                else:
                    assert handler is not None
                    came = await handler(step.request)
                go = functools.partial(steps.send, came)
            except Exception as error:
                go = functools.partial(steps.throw, error)


# ---------------------------------------------------------------------- the steps


def _begin(state: Any) -> _Steps:
    (yield _Tell("agent_startup", [], {})).check()
    given: list[Any] = []
    for message in reversed(state["messages"]):
        if not isinstance(message, HumanMessage):
            break
        given.insert(0, message)
    if not given:
        return None
    places = flat(_places(at, message) for at, message in enumerate(given))
    asked = yield _Tell("input", _without_role(places), {"role": "user", "native": _native(given)})
    asked.check()
    return _update(given, carry(given, _same_parts(places, asked), asked, _Messages())) if asked.changed else None


def _finish(state: Any) -> _Steps:
    last = state["messages"][-1] if state["messages"] else None
    structured = state.get("structured_response")
    if structured is not None:
        parts = [anything(to_jsonable_python(structured, fallback=repr))]
    else:
        parts = [text(str(last.text))] if isinstance(last, AIMessage) else []
    final = yield _Tell("output", parts, {"role": "assistant", "native": _native([last] if last else [])})
    final.check()
    if not final.changed:
        return None
    if structured is not None or not isinstance(last, AIMessage):
        uncarried(final, "a structured output")
    others = [block for block in _blocks(last) if not _is_text(block)]
    content = all_text(final)
    changed = [*others, {"type": "text", "text": content}] if others else content
    return {"messages": [last.model_copy(update={"content": changed})]}


def _model(request: Any) -> _Steps:
    given = [*([request.system_message] if request.system_message else []), *request.messages]
    places = flat(_places(at, message) for at, message in enumerate(given))
    model: dict[str, Any] = {"id": _model_name(request.model), "vendor": None}
    asked = yield _Tell("pre_model_call", [p.part for p in places], {"model": model, "native": _native(given)})
    asked.check()
    if asked.changed:
        changed = carry(given, places, asked, _Messages())
        system = changed.pop(0) if changed and isinstance(changed[0], SystemMessage) else None
        request = request.override(messages=changed, system_message=system)
    begun = time.perf_counter()
    try:
        response = yield _Call(request)
    except GraphBubbleUp:
        raise
    except Exception as error:
        fields = {"model": model, "error": error_of(error), "duration_ms": _ms(begun)}
        yield _Tell("post_model_call", [], fields)
        raise
    whole = response
    if isinstance(response, AIMessage):
        result = [response]
    else:
        response = getattr(response, "model_response", response)
        result = response.result
    said = next((message for message in result if isinstance(message, AIMessage)), AIMessage(""))
    places = flat(_places(at, message) for at, message in enumerate(result))
    used = said.usage_metadata or {}
    told = said.response_metadata
    fields = {
        "role": "assistant",
        "model": {"id": told.get("model_name") or model["id"], "vendor": told.get("model_provider")},
        "finish_reason": told.get("finish_reason") or told.get("stop_reason"),
        "usage": {"input_tokens": used.get("input_tokens"), "output_tokens": used.get("output_tokens")},
        "duration_ms": _ms(begun),
        "native": _native(result),
    }
    answered = yield _Tell("post_model_call", _without_role(places), fields)
    answered.check()
    if not answered.changed:
        return whole
    changed = carry(result, _same_parts(places, answered), answered, _Messages())
    if isinstance(whole, AIMessage):
        return changed[0] if len(changed) == 1 else uncarried(answered, f"{len(changed)} messages")
    response.result = changed
    return whole


def _tool(request: Any, trail: Trail) -> _Steps:
    call = request.tool_call
    fields = trail.call(call["id"], call["name"])
    part = tool_call(call["id"], call["name"], call["args"])
    native = _dump(lambda: dict(call))
    asked = yield _Tell("pre_tool_call", [part], {"role": "assistant", "native": native, **fields})
    if (denied := denial(asked)) is not None:
        return _denied(call, denied)
    if asked.changed:
        request = request.override(tool_call={**call, "args": call_arguments(asked)})
    begun = time.perf_counter()
    failure: Exception | None = None
    result: Any = None
    try:
        result = yield _Call(request)
    except GraphBubbleUp:
        raise  # an interrupt isn't an error
    except Exception as error:
        failure = error
    answered = yield _Tell(
        "post_tool_call",
        [tool_response(call["id"], str(failure) if failure else _shown(result))],
        {
            "role": "tool",
            "error": error_of(failure) or ({"type": "tool_error"} if _is_error(result) else None),
            "duration_ms": _ms(begun),
            "native": _native([result]) if isinstance(result, ToolMessage) else None,
            **fields,
        },
    )
    if failure is not None:
        raise failure
    if (denied := denial(answered)) is not None:
        return _denied(call, denied)
    if not answered.changed:
        return result
    if not isinstance(result, ToolMessage):
        uncarried(answered, "a Command")
    return result.model_copy(update={"content": _as_content(response_of(answered))})


# ---------------------------------------------------------------------- parts


def _places(at: int, message: BaseMessage) -> list[Place]:
    role = _ROLES.get(message.type, "user")
    if isinstance(message, ToolMessage):
        return [Place(at, "response", tool_response(message.tool_call_id, _shown(message), role=role))]
    found = [
        Place(at, i, {**_block(block), "role": role})
        for i, block in enumerate(_blocks(message))
        if not (isinstance(message, AIMessage) and isinstance(block, dict) and block.get("type") in _TWICE)
    ]
    if isinstance(message, AIMessage):
        for i, call in enumerate(message.tool_calls):
            found.append(Place(at, ("call", i), tool_call(call["id"], call["name"], call["args"], role=role)))
    return found


def _blocks(message: BaseMessage) -> list[Any]:
    content = message.content
    return list(content) if isinstance(content, list) else [content] if content else []


def _is_text(block: Any) -> bool:
    return isinstance(block, str) or (isinstance(block, dict) and block.get("type") == "text")


def _block(block: Any) -> dict[str, Any]:
    if _is_text(block):
        return text(block if isinstance(block, str) else str(block.get("text", "")))
    if block.get("type") == "reasoning" and isinstance(block.get("reasoning"), str):
        return {"type": "reasoning", "content": block["reasoning"]}
    if isinstance(block.get("url"), str):
        return {"type": "uri", "modality": str(block.get("type")), "uri": block["url"]}
    if isinstance(block.get("base64"), str):
        found = {"type": "blob", "modality": str(block.get("type")), "content": block["base64"]}
        return found | ({"mime_type": block["mime_type"]} if isinstance(block.get("mime_type"), str) else {})
    return {"type": f"langchain.{block.get('type')}", "content": to_jsonable_python(block, fallback=repr)}


def _shown(result: Any) -> Any:
    """What a tool's message or command says."""
    return to_jsonable_python(result.content if isinstance(result, ToolMessage) else result, fallback=repr)


def _is_error(result: Any) -> bool:
    return isinstance(result, ToolMessage) and result.status == "error"


def _denied(call: Any, reason: str) -> ToolMessage:
    return ToolMessage(reason, tool_call_id=call["id"], name=call["name"], status="error")


def _without_role(places: list[Place]) -> list[dict[str, Any]]:
    return [{name: value for name, value in place.part.items() if name != "role"} for place in places]


def _same_parts(places: list[Place], dispatch: Any) -> list[Place]:
    return [place._replace(part=part) for place, part in zip(places, dispatch.original.parts, strict=False)]


def _native(messages: list[Any]) -> Callable[[], Any]:
    return _dump(lambda: [message_to_dict(message) for message in messages])


def _dump(make: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: to_jsonable_python(make())


def _model_name(model: Any) -> str | None:
    name = getattr(model, "model_name", None) or getattr(model, "model", None)
    return name if isinstance(name, str) else getattr(model, "_llm_type", None)


# ---------------------------------------------------------------------- the way back


class _Messages:
    def put(self, message: Any, where: Any, part: dict[str, Any]) -> Any:
        if where == "response":
            return message.model_copy(update={"content": _as_content(part["response"])})
        if isinstance(where, tuple):
            calls = [dict(call) for call in message.tool_calls]
            calls[where[1]] |= {"name": part["name"], "args": part.get("arguments") or {}, "id": part.get("id")}
            return message.model_copy(update={"tool_calls": calls})
        blocks = _blocks(message)
        blocks[where] = _changed(blocks[where], part)
        return message.model_copy(update={"content": blocks if isinstance(message.content, list) else blocks[0]})

    def drop(self, message: Any, where: Any) -> Any:
        if where == "response":
            return None
        if isinstance(where, tuple):
            calls = [call for at, call in enumerate(message.tool_calls) if at != where[1]]
            left = message.model_copy(update={"tool_calls": calls})
        else:
            blocks = [block for at, block in enumerate(_blocks(message)) if at != where]
            left = message.model_copy(update={"content": blocks if isinstance(message.content, list) else ""})
        return left if _places(0, left) else None

    def fresh(self, part: dict[str, Any]) -> Any:
        role = part.get("role", "assistant")
        if role == "assistant" and part["type"] == "tool_call":
            call = {"name": part["name"], "args": part.get("arguments") or {}, "id": part.get("id")}
            return AIMessage("", tool_calls=[call])
        kinds: dict[str, Any] = {"assistant": AIMessage, "user": HumanMessage, "system": SystemMessage}
        if part["type"] == "text" and role in kinds:
            return kinds[role](part["content"])
        raise HookDenied(f"a transform added what can't be carried: a {part['type']} part of {role}")


def _changed(block: Any, part: dict[str, Any]) -> Any:
    if isinstance(block, str):
        return part["content"]
    if block.get("type") == "text":
        return {**block, "text": part["content"]}
    if block.get("type") == "reasoning" and "reasoning" in block:
        return {**block, "reasoning": part["content"]}
    raise HookDenied(f"a transform changed what can't be carried: a {block.get('type')} block")


def _as_content(response: Any) -> Any:
    return response if isinstance(response, (str, list)) else str(to_jsonable_python(response))


def _update(before: list[Any], after: list[Any]) -> dict[str, Any]:
    """What turns `before` into `after` in the agent's state, where messages are known by their id."""
    kept = {message.id for message in after}
    return {"messages": [*(RemoveMessage(m.id) for m in before if m.id not in kept), *after]}


def _ms(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
