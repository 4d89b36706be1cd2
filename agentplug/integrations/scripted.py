"""An agent of plain Python that follows a script in place of a model (host): for lessons, with no framework.

The script is a list of the model's turns: a text ends the run, a list of tool calls goes on.

    agent = ScriptedAgent([[("weather", {"city": "Oslo"})], "It rains."], tools={"weather": weather})
    answer = await attach(agent, manager).run("How is Oslo?")

It does what agents do: turns with tool calls that run at the same time, tool errors, streaming. A tool call that is
denied comes back to the model as its result; any other denied message ends the run in `HookDenied`.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from agentplug.contract.text import printable
from agentplug.errors import ContractError
from agentplug.integrations import unattached, unknown
from agentplug.integrations.bridge import (
    Framework,
    Trail,
    check_manager,
    error_of,
    since,
    text,
    tool_call,
    tool_response,
)
from agentplug.integrations.carrying import (
    Place,
    all_text,
    call_arguments,
    carry,
    response_of,
    settled,
)
from agentplug.manager.manager import PluginManager

_FRAMEWORK = Framework("scripted", None)
_MODEL = {"id": "script", "vendor": None}

Call = tuple[str, dict[str, Any]]
Step = str | Iterable[Call] | Callable[[list[dict[str, Any]]], "str | Iterable[Call]"]


class ScriptedAgent:
    """An agent whose model says what `script` says, one step a turn.

    A step is a text, a list of tool calls `(name, arguments)`, or a function of the conversation so far (a list of
    parts, each with its `role`) that returns either. `tools` are functions or coroutines by name. A tool that raises
    ends the run, unless `forgiving`: then the model gets the error's text as the result.

    Raises `ContractError` for a script or tools that are neither; running past the script's end is an `IndexError`.
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
        """The agent's answer. Raises `HookDenied`, and what a tool raised."""
        said = ""
        async with aclosing(self._run(prompt)) as pieces:
            async for kind, piece in pieces:
                said = piece if kind == "answer" else said
        return said

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        """What the model says, word by word as it comes: before the hooks after the model, which can't recall it."""
        async with aclosing(self._run(prompt)) as pieces:
            async for kind, piece in pieces:
                if kind == "word":
                    yield piece

    async def _run(self, prompt: str) -> AsyncGenerator[tuple[str, str]]:
        trail = Trail(self.manager or PluginManager(), _FRAMEWORK, self.name)
        try:
            (await trail.tell("agent_startup")).check()
            asked = await trail.tell("input", [text(prompt)], role="user", native=lambda: prompt)
            asked.check()
            history = [text(self.instructions, role="system")] if self.instructions else []
            history.append(text(all_text(asked) if asked.changed else prompt, role="user"))
            said: Any = None
            for step in [*self.script, None]:
                sent = await self._before_model(trail, history)
                if step is None:
                    raise IndexError("the script has no further step, and the agent goes on: end it with a text")
                said = step(sent) if callable(step) else step
                if isinstance(said, str):
                    for word in re.findall(r"\s*\S+\s*", said):
                        yield "word", word
                calls = await self._after_model(trail, said, history)
                if not calls:
                    break
                history += await self._tools(trail, calls)
            answer = "".join(part["content"] for part in history[self._last(history) :] if part["type"] == "text")
            final = await trail.tell("output", [text(answer)], role="assistant", native=lambda: answer)
            final.check()
            yield "answer", all_text(final) if final.changed else answer
        except BaseException as error:
            await trail.end(error)
            raise
        await trail.end()

    @staticmethod
    def _last(history: list[dict[str, Any]]) -> int:
        """Where what the model said last begins."""
        at = len(history)
        while at and history[at - 1]["role"] == "assistant":
            at -= 1
        return at

    async def _before_model(self, trail: Trail, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the model is sent. As in the frameworks, a transform changes this, and not what is remembered."""
        trail.turn += 1
        asked = await trail.tell("pre_model_call", history, model=_MODEL, native=lambda: history)
        asked.check()
        places = [Place(at, None, part) for at, part in enumerate(history)]
        return carry(history, places, asked, _Parts("user"))

    async def _after_model(self, trail: Trail, said: Any, history: list[dict[str, Any]]) -> list[dict[str, Any]]:
        begun = time.perf_counter()
        if isinstance(said, str):
            parts, reason = [text(said)], "stop"
        else:
            parts = [tool_call(f"call_{trail.turn}_{at}", *call) for at, call in enumerate(said, 1)]
            reason = "tool_call"
        answered = await trail.tell(
            "post_model_call",
            parts,
            role="assistant",
            model=_MODEL,
            finish_reason=reason,
            duration_ms=since(begun),
            native=lambda: parts,
        )
        answered.check()
        places = [Place(at, None, part) for at, part in enumerate(parts)]
        parts = carry(parts, places, answered, _Parts(None))
        history += [{**part, "role": "assistant"} for part in parts]
        return [part for part in parts if part["type"] == "tool_call"]

    async def _tools(self, trail: Trail, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the calls came to, in their order. One that raises cancels the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._tool(trail, call)) for call in calls]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _tool(self, trail: Trail, call: dict[str, Any]) -> dict[str, Any]:
        fields = trail.call(call["id"], call["name"])
        asked = await trail.tell("pre_tool_call", [call], role="assistant", native=lambda: call, **fields)
        denied, arguments = settled(asked, call_arguments, call["arguments"])
        if denied is not None:
            return tool_response(call["id"], denied, role="tool")
        begun = time.perf_counter()
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
        answered = await trail.tell(
            "post_tool_call",
            [tool_response(call["id"], result)],
            role="tool",
            error=error_of(failure),
            duration_ms=since(begun),
            native=lambda: result,
            **fields,
        )
        if failure is not None and not self.forgiving:
            raise failure
        denied, result = settled(answered, response_of, result)
        return tool_response(call["id"], result if denied is None else denied, role="tool")


class _Parts:
    """A message of this agent is one part."""

    def __init__(self, role: str | None) -> None:
        self.role = role

    def put(self, message: dict[str, Any], where: Any, part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "role": message["role"]} if "role" in message else part

    def drop(self, message: dict[str, Any], where: Any) -> None:
        return None

    def fresh(self, part: dict[str, Any]) -> dict[str, Any]:
        return {"role": self.role, **part} if self.role else part


def attach(agent: Any, manager: PluginManager) -> ScriptedAgent:
    """The same agent, its messages going to the hooks of `manager`; `agent` itself stays as it is.

    Raises `ContractError` for another object.
    """
    if not isinstance(agent, ScriptedAgent):
        raise ContractError(unknown(agent))
    attached = copy.copy(agent)
    attached.manager = check_manager(manager)
    attached.original = agent
    return attached


def detach(agent: Any) -> ScriptedAgent:
    """The agent that was attached. Raises `ContractError` for one that isn't."""
    if not isinstance(agent, ScriptedAgent) or agent.original is None:
        raise unattached(agent)
    return agent.original
