"""One agent on each framework, from one script, with that framework's own offline model.

A script is what `ScriptedAgent` takes: texts, and lists of calls `(tool, arguments)`. Calls get the ids `call_1_1`,
`call_1_2`, `call_2_1` …: the model's turn, and which of its calls. Frameworks are imported when one is asked for.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentplug.integrations import attach
from agentplug.manager.manager import PluginManager

Step = str | list[tuple[str, dict[str, Any]]]


@dataclass
class Done:
    """How a run ended: what it answered, or raised; what was streamed; and what the model was sent, each time."""

    answer: str | None = None
    error: Exception | None = None
    streamed: list[str] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    said: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)


class Driver(ABC):
    """Runs a script. `manager=None`: unattached."""

    name = ""
    feature: str | None = None

    def __init__(self, script: Sequence[Step], tools: Sequence[Callable[..., Any]] = (), others: Any = ()) -> None:
        self.script = list(script)
        self.tools = list(tools)
        self.others = list(others)  # of the framework's own: middleware, plugins, hooks
        self.done = Done()

    async def run(self, manager: PluginManager | None, prompt: str = "How is Oslo?", *, stream: bool = False) -> Done:
        """One run. What it raised is kept."""
        try:
            await (self._stream if stream else self._run)(manager, prompt)
        except Exception as error:
            self.done.error = error
        return self.done

    @abstractmethod
    async def _run(self, manager: PluginManager | None, prompt: str) -> None: ...

    @abstractmethod
    async def _stream(self, manager: PluginManager | None, prompt: str) -> None: ...

    @classmethod
    def restore(cls, message: Any) -> Any:
        """As the adapter's."""
        adapter = importlib.import_module(f"agentplug.integrations.{cls.name.replace('-', '_')}.adapter")
        return adapter.restore(message)


def calls(step: Any, turn: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Id, name and arguments of a step's calls."""
    return [(f"call_{turn}_{at}", name, arguments) for at, (name, arguments) in enumerate(step, 1)]


class Scripted(Driver):
    name = "scripted"

    def _agent(self, manager: PluginManager | None) -> Any:
        from agentplug.integrations.scripted import ScriptedAgent

        agent = ScriptedAgent(
            [self._step(step) for step in self.script], {tool.__name__: tool for tool in self.tools}, name="agent"
        )
        return attach(agent, manager) if manager is not None else agent

    def _step(self, step: Step) -> Any:
        def said(history: list[dict[str, Any]]) -> Any:
            self.done.sent.append([dict(part) for part in history])
            return step

        return said

    async def _run(self, manager: PluginManager | None, prompt: str) -> None:
        self.done.answer = await self._agent(manager).run(prompt)

    async def _stream(self, manager: PluginManager | None, prompt: str) -> None:
        self.done.streamed = [word async for word in self._agent(manager).stream(prompt)]


class PydanticAI(Driver):
    name = "pydantic-ai"
    feature = "pydantic-ai"

    def _agent(self, manager: PluginManager | None) -> Any:
        from pydantic_ai import Agent, messages, models
        from pydantic_ai.models.function import DeltaToolCall, FunctionModel

        models.ALLOW_MODEL_REQUESTS = False

        def turn_of(given: list[Any]) -> int:
            self.done.sent.append(list(given))
            return sum(isinstance(message, messages.ModelResponse) for message in given)

        def say(given: list[Any], info: Any) -> Any:
            turn = turn_of(given)
            step = self.script[turn]
            if isinstance(step, str):
                parts: list[Any] = [messages.TextPart(step)]
            else:
                parts = [messages.ToolCallPart(name, args, call) for call, name, args in calls(step, turn + 1)]
            self.done.said.append(messages.ModelResponse(parts=parts))
            return self.done.said[-1]

        async def stream(given: list[Any], info: Any) -> Any:
            turn = turn_of(given)
            step = self.script[turn]
            if isinstance(step, str):
                for word in step.split():
                    yield f"{word} "
            else:
                for at, (call, name, args) in enumerate(calls(step, turn + 1)):
                    yield {at: DeltaToolCall(name, json.dumps(args), tool_call_id=call)}

        model = FunctionModel(say, stream_function=stream)
        agent = Agent(model, tools=self.tools, name="agent", capabilities=self.others)
        return attach(agent, manager) if manager is not None else agent

    async def _run(self, manager: PluginManager | None, prompt: str) -> None:
        result = await self._agent(manager).run(prompt)
        self.done.answer = result.output
        self.done.events = result.all_messages()

    async def _stream(self, manager: PluginManager | None, prompt: str) -> None:
        async with self._agent(manager).run_stream_events(prompt) as events:
            async for event in events:
                part = getattr(event, "part", None)
                if event.event_kind == "part_start" and part.part_kind == "text":
                    self.done.streamed.append(part.content)
                if event.event_kind == "part_delta":
                    self.done.streamed.append(event.delta.content_delta)
                if event.event_kind == "agent_run_result":
                    self.done.answer = event.result.output


class LangChain(Driver):
    name = "langchain"
    feature = "langchain"

    def _agent(self, manager: PluginManager | None) -> Any:
        from langchain.agents import create_agent
        from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
        from langchain_core.messages import AIMessage, AIMessageChunk
        from langchain_core.outputs import ChatGenerationChunk

        done = self.done

        class Model(GenericFakeChatModel):
            def bind_tools(self, tools: Any, **_: Any) -> Any:
                return self

            def _generate(self, messages: Any, *args: Any, **options: Any) -> Any:
                done.sent.append(list(messages))
                return super()._generate(messages, *args, **options)

            def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
                done.sent.append(list(messages))
                said = next(self.messages)
                for at, call in enumerate(said.tool_calls):
                    chunk = {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": at}
                    yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[chunk]))
                for word in said.content.split():
                    yield ChatGenerationChunk(message=AIMessageChunk(f"{word} "))

        for turn, step in enumerate(self.script, 1):
            if isinstance(step, str):
                done.said.append(AIMessage(step))
            else:
                asked = [{"name": name, "args": args, "id": call} for call, name, args in calls(step, turn)]
                done.said.append(AIMessage("", tool_calls=asked))
        make = attach(create_agent, manager) if manager is not None else create_agent
        model = Model(messages=iter(done.said))
        return make(model, self.tools, name="agent", middleware=self.others)

    async def _run(self, manager: PluginManager | None, prompt: str) -> None:
        state = await self._agent(manager).ainvoke({"messages": prompt})
        self.done.events = state["messages"]
        self.done.answer = state["messages"][-1].content

    async def _stream(self, manager: PluginManager | None, prompt: str) -> None:
        async for kind, what in self._agent(manager).astream(
            {"messages": prompt}, stream_mode=["messages", "values"]
        ):
            if kind == "values":
                self.done.answer = what["messages"][-1].content
            elif what[0].type == "AIMessageChunk" and what[0].content:
                self.done.streamed.append(what[0].content)


class OpenAIAgents(Driver):
    name = "openai-agents"
    feature = "openai-agents"

    def agent(self, **more: Any) -> Any:
        from agents import Agent, RunConfig, function_tool
        from agents.testing import ScriptedModel
        from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

        steps: list[Any] = []
        for turn, step in enumerate(self.script, 1):
            if isinstance(step, str):
                content = [ResponseOutputText(type="output_text", text=step, annotations=[])]
                said = {"id": f"m{turn}", "type": "message", "role": "assistant", "status": "completed"}
                steps.append([ResponseOutputMessage(content=content, **said)])
            else:
                steps.append(
                    [
                        ResponseFunctionToolCall(
                            type="function_call", call_id=call, name=name, arguments=json.dumps(arguments)
                        )
                        for call, name, arguments in calls(step, turn)
                    ]
                )
        self.done.said = steps
        self.model = ScriptedModel(steps)
        self.config = RunConfig(tracing_disabled=True)
        tools = [function_tool(tool, failure_error_function=None) for tool in self.tools]
        return Agent(**{"name": "agent", "model": self.model, "tools": tools, **more})

    async def _run(self, manager: PluginManager | None, prompt: str) -> None:
        from agents import Runner

        agent = self.agent()
        options = {"run_config": self.config, "hooks": self.others[0] if self.others else None}
        try:
            if manager is None:
                result = await Runner.run(agent, prompt, **options)
            else:
                result = await attach(agent, manager).run(prompt, **options)
            self.done.answer = result.final_output
            self.done.events = result.to_input_list()
        finally:
            self.done.sent = [call.input for call in self.model.calls]

    async def _stream(self, manager: PluginManager | None, prompt: str) -> None:
        assert manager is not None
        result = attach(self.agent(), manager).run_streamed(prompt, run_config=self.config)
        async for event in result.stream_events():
            if getattr(getattr(event, "data", None), "type", "") == "response.output_text.delta":
                self.done.streamed.append(event.data.delta)
        self.done.answer = result.final_output


class GoogleADK(Driver):
    name = "google-adk"
    feature = "google-adk"

    def agent(self, **more: Any) -> Any:
        from google.adk.agents import LlmAgent
        from google.adk.models.base_llm import BaseLlm
        from google.adk.models.llm_response import LlmResponse
        from google.genai import types

        done, script = self.done, self.script

        class Model(BaseLlm):
            async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
                done.sent.append(list(llm_request.contents))
                turn = len(done.sent)
                step = script[turn - 1]
                if isinstance(step, str):
                    parts = [types.Part(text=step)]
                    for word in step.split() if stream else ():
                        part = types.Part(text=f"{word} ")
                        yield LlmResponse(content=types.Content(role="model", parts=[part]), partial=True)
                else:
                    parts = [
                        types.Part(function_call=types.FunctionCall(id=call, name=name, args=dict(arguments)))
                        for call, name, arguments in calls(step, turn)
                    ]
                done.said.append(types.Content(role="model", parts=parts))
                yield LlmResponse(content=done.said[-1])

        return LlmAgent(**{"name": "agent", "model": Model(model="scripted"), "tools": self.tools, **more})

    async def _run(self, manager: PluginManager | None, prompt: str, stream: bool = False, agent: Any = None) -> None:
        from google.adk.agents.run_config import RunConfig, StreamingMode
        from google.adk.apps import App
        from google.adk.runners import InMemoryRunner
        from google.genai import types

        app = App(name="tests", root_agent=agent or self.agent(), plugins=self.others)
        if manager is not None:
            app = attach(app, manager)
        runner = InMemoryRunner(app=app)
        session = await runner.session_service.create_session(app_name="tests", user_id="u")
        message = types.Content(role="user", parts=[types.Part(text=prompt)])
        mode = StreamingMode.SSE if stream else StreamingMode.NONE
        config = RunConfig(streaming_mode=mode)
        try:
            async for event in runner.run_async(
                user_id="u", session_id=session.id, new_message=message, run_config=config
            ):
                text = "".join(part.text or "" for part in event.content.parts or ()) if event.content else ""
                if event.partial:
                    self.done.streamed.append(text)
                    continue
                self.done.events.append(event)
                if event.is_final_response():
                    self.done.answer = text
        finally:
            await runner.close()

    async def _stream(self, manager: PluginManager | None, prompt: str) -> None:
        await self._run(manager, prompt, stream=True)


DRIVERS: dict[str, type[Driver]] = {
    driver.name: driver for driver in (Scripted, PydanticAI, LangChain, OpenAIAgents, GoogleADK)
}
