"""An agent for lessons, without a framework: a script takes the place of the model (host).

The script is a list of the model's turns. A text ends the run; a list of tool calls continues it.

    agent = ScriptedAgent([[("weather", {"city": "Oslo"})], "It rains."], tools={"weather": weather})
    answer = await attach(agent, manager).run("How is Oslo?")

The agent supports parallel tool calls, tool errors and streaming. The result of a denied tool call is the reason of
the denial; any other denied message ends the run with `HookDenied`.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from itertools import takewhile
from typing import Any

from agentplug.contract.text import printable
from agentplug.errors import ContractError
from agentplug.integrations import unattached, unknown
from agentplug.integrations.bridge import (
    Framework,
    Trail,
    check_manager,
    error_of,
    ms_since,
    text,
    tool_call,
    tool_response,
)
from agentplug.integrations.transforms import Place, all_text, call_arguments, decide, response_of, write_back
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework("scripted", None)
_MODEL = {"id": "script", "vendor": None}

Call = tuple[str, dict[str, Any]]
Step = str | Iterable[Call] | Callable[[list[dict[str, Any]]], "str | Iterable[Call]"]


class ScriptedAgent:
    """An agent whose model follows `script`, one step a turn.

    A step is a text, a list of tool calls `(name, arguments)`, or a function of the conversation so far (a list of
    parts, each with its `role`) that returns either. `tools` are functions or coroutines by name. A tool that raises
    ends the run, unless `forgiving`: then the model gets the error's text as the result.

    Raises `ContractError` for an invalid script or tool. A run past the end of the script raises `IndexError`.
    """

    def __init__(
        self,
        script: Iterable[Step],
        tools: Mapping[str, Callable[..., Any]] | None = None,
        *,
        name: str = "scripted",
        instructions: str = "",
        forgiving: bool = False,
    ) -> None:
        if isinstance(script, str) or not isinstance(script, Iterable):
            raise ContractError("script: write a list of texts and of lists of tool calls")
        self.script = list(script)
        self.tools = dict(tools or {})
        for tool, function in self.tools.items():
            if not callable(function):
                raise ContractError(f"tools[{printable(repr(tool), 60)}] is a {type(function).__name__}, no function")
        self.name = name
        self.instructions = instructions
        self.forgiving = forgiving
        self.manager: PluginManager | None = None
        self.original: ScriptedAgent | None = None

    async def run(self, prompt: str) -> str:
        """Return the agent's answer. Raises `HookDenied`, and the errors of tools."""
        answer = ""
        async with aclosing(self._run(prompt)) as pieces:
            async for kind, piece in pieces:
                answer = piece if kind == "answer" else answer
        return answer

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        """Yield the model's words as they come. Hooks are called after that and can't recall them."""
        async with aclosing(self._run(prompt)) as pieces:
            async for kind, piece in pieces:
                if kind == "word":
                    yield piece

    async def _run(self, prompt: str) -> AsyncGenerator[tuple[str, str]]:
        trail = Trail(self.manager or PluginManager(), _FRAMEWORK, self.name)
        async with trail:
            (await trail.dispatch("agent_startup")).check()
            dispatch = await trail.dispatch("input", [text(prompt)], role="user", native=lambda: prompt)
            dispatch.check()
            history = [text(self.instructions, role="system")] if self.instructions else []
            history.append(text(all_text(dispatch) if dispatch.changed else prompt, role="user"))
            for step in [*self.script, None]:
                messages = await self._before_model(trail, history)
                if step is None:
                    raise IndexError("the script has no further step, and the agent goes on: end it with a text")
                response: Any = step(messages) if callable(step) else step
                if isinstance(response, str):
                    for word in re.findall(r"\s*\S+\s*", response):
                        yield "word", word
                calls = await self._after_model(trail, response, history)
                if not calls:
                    break
                history += await self._tools(trail, calls)
            said = takewhile(lambda part: part["role"] == "assistant", reversed(history))
            answer = "".join([part["content"] for part in said if part["type"] == "text"][::-1])
            dispatch = await trail.dispatch("output", [text(answer)], role="assistant", native=lambda: answer)
            dispatch.check()
            yield "answer", all_text(dispatch) if dispatch.changed else answer

    async def _before_model(self, trail: Trail, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the parts to send to the model. As in the frameworks, a transform doesn't change `history`."""
        trail.turn += 1
        dispatch = await trail.dispatch("pre_model_call", history, model=_MODEL, native=lambda: history)
        dispatch.check()
        places = [Place(at, None, part) for at, part in enumerate(history)]
        return write_back(history, places, dispatch, _PartEditor("user"))

    async def _after_model(self, trail: Trail, response: Any, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        start_s = time.perf_counter()
        if isinstance(response, str):
            parts, reason = [text(response)], "stop"
        else:
            parts = [tool_call(f"call_{trail.turn}_{at}", *call) for at, call in enumerate(response, 1)]
            reason = "tool_call"
        dispatch = await trail.dispatch(
            "post_model_call",
            parts,
            role="assistant",
            model=_MODEL,
            finish_reason=reason,
            duration_ms=ms_since(start_s),
            native=lambda: parts,
        )
        dispatch.check()
        places = [Place(at, None, part) for at, part in enumerate(parts)]
        parts = write_back(parts, places, dispatch, _PartEditor(None))
        history += [{**part, "role": "assistant"} for part in parts]
        return [part for part in parts if part["type"] == "tool_call"]

    async def _tools(self, trail: Trail, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the results of the calls, in order. A call that raises cancels the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._tool(trail, call)) for call in calls]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _tool(self, trail: Trail, call: dict[str, Any]) -> dict[str, Any]:
        fields = trail.call_fields(call["id"], call["name"])
        dispatch = await trail.dispatch("pre_tool_call", [call], role="assistant", native=lambda: call, **fields)
        denial, arguments = decide(dispatch, call_arguments, call["arguments"])
        if denial is not None:
            return tool_response(call["id"], denial, role="tool")
        start_s = time.perf_counter()
        result, failure = None, None
        try:
            if call["name"] not in self.tools:
                raise LookupError(
                    f"no tool {printable(call['name'], 60)}; there are {', '.join(self.tools) or 'none'}"
                )
            result = self.tools[call["name"]](**arguments)
            result = await result if inspect.isawaitable(result) else result
        except Exception as error:
            result, failure = str(error), error
        dispatch = await trail.dispatch(
            "post_tool_call",
            [tool_response(call["id"], result)],
            role="tool",
            error=error_of(failure),
            duration_ms=ms_since(start_s),
            native=lambda: result,
            **fields,
        )
        if failure is not None and not self.forgiving:
            raise failure
        denial, result = decide(dispatch, response_of, result)
        return tool_response(call["id"], result if denial is None else denial, role="tool")


class _PartEditor:
    """Changes a message of this agent, which is one part: see `Editor`."""

    def __init__(self, role: str | None) -> None:
        self.role = role

    def put(self, message: dict[str, Any], where: Any, part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "role": message["role"]} if "role" in message else part

    def drop(self, message: dict[str, Any], where: Any) -> None:
        return None

    def fresh(self, part: dict[str, Any]) -> dict[str, Any]:
        return {"role": self.role, **part} if self.role else part


def attach(agent: Any, manager: PluginManager) -> ScriptedAgent:
    """Return a copy of the agent whose messages go to the hooks of `manager`.

    Raises `ContractError` for another object.
    """
    if not isinstance(agent, ScriptedAgent):
        raise ContractError(unknown(agent))
    attached = copy.copy(agent)
    attached.manager = check_manager(manager)
    attached.original = agent
    return attached


def detach(agent: Any) -> ScriptedAgent:
    """Return the original agent. Raises `ContractError` if `agent` isn't attached."""
    if not isinstance(agent, ScriptedAgent) or agent.original is None:
        raise unattached(agent)
    return agent.original
