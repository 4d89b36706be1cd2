"""AGENT-HOOKS 0.1: its conformance kit with interceptors in workers, and our hooks as one of its interceptors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from agentplug import AgentMessage, ContractError, PluginManager, Policy, SandboxedPlugin
from agentplug.integrations.agent_hooks import ConfinedInterceptor, Interceptor, message_of, target_of

agent_hooks = pytest.importorskip("agent_hooks", reason="the extra agent-hooks isn't installed")
ctk = pytest.importorskip("agent_hooks.ctk.runner")
from agent_hooks import AgentContextBuilder, InterceptionBlocked, InterceptionEmitter  # noqa: E402
from agent_hooks.ctk.reference import ReferenceHarness  # noqa: E402
from agent_hooks.ctk.scripted import RecordingInterceptor  # noqa: E402

VECTORS = ctk.load_vectors()
SKIPPED = {"AH-CTK-110", "AH-CTK-111", "AH-CTK-112", "AH-CTK-113"}  # for hosts that release output bit by bit


class ScriptedPlugin:
    """The kit's scripted interceptor: the kit's own rules, evaluated in here."""

    name, version = "scripted", "1"

    async def initialize(self, config: dict[str, Any]) -> None:
        self.rules = config.get("rules", "[]")

    async def process(self, x: Any) -> Any:
        import os

        return os.getpid()

    async def on_message(self, point: str, context: dict[str, Any]) -> Any:
        import json

        from agent_hooks import _core  # type: ignore[import-not-found, unused-ignore]

        verdict = json.loads(_core.ctk_scripted_intercept(self.rules, json.dumps(context)))
        fault = verdict.get("__ctk_fault__")
        if fault == "mutate":
            context["target"] = "TAMPERED"
            return {"decision": "allow", "reason": "ctk:mutated"}
        if fault is not None:
            raise RuntimeError(f"the script says {fault}")
        return verdict


class Scripted(ConfinedInterceptor):
    """A worker of the pool, given this script before it is asked by it."""

    def __init__(self, plugin: SandboxedPlugin, rules: str) -> None:
        super().__init__(plugin)
        self.rules = rules

    async def intercept(self, context: Any, /) -> Any:
        await self.plugin.initialize({"rules": self.rules})
        return await super().intercept(context)


@pytest.fixture(scope="module")
def pool() -> Iterator[list[SandboxedPlugin]]:
    """A worker for each script that a vector can have."""
    workers = [
        SandboxedPlugin(ScriptedPlugin) for _ in range(max(len(v.get("interceptor_scripts") or [0]) for v in VECTORS))
    ]
    yield workers
    for worker in workers:
        worker.close_sync()


def conforms(vector: dict[str, Any], pool: list[SandboxedPlugin], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kit's result for one vector, each script of which is in a worker of `pool`."""

    def interceptor(scripts: Any, i: int) -> Any:
        confined = Scripted(pool[i], ctk.dumps(scripts.scripts[i]))
        return RecordingInterceptor(confined, recorded=scripts.recorded) if i == 0 else confined

    monkeypatch.setattr(ctk._Scripts, "interceptor", interceptor)
    return asyncio.run(ctk.run_vector(ReferenceHarness(), vector))


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_the_conformance_kit_passes_with_interceptors_in_workers(
    vector: dict[str, Any], pool: list[SandboxedPlugin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every vector, by value and by declaration, with the kit's reference host around confined interceptors."""
    result = conforms(vector, pool, monkeypatch)
    assert result.failures == []
    assert result.status == ("skip" if vector["id"] in SKIPPED else "pass"), result.detail
    if result.status == "skip":
        pytest.skip(result.detail)


def test_the_kits_interceptors_are_asked_in_workers(
    pool: list[SandboxedPlugin], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conformance is that of a worker's answers: one run for each context that its script was shown."""
    (vector,) = (vector for vector in VECTORS if vector["id"] == "AH-CTK-001")
    before = pool[0]._inside.calls
    assert conforms(vector, pool, monkeypatch).status == "pass"
    assert pool[0]._inside.calls - before == len(vector["expect"]["interceptions"])
    assert pool[0].pid != os.getpid()


# ---------------------------------------------------------------------- our hooks as an interceptor


class GuardPlugin:
    """Denies some tools, writes others' arguments anew, and counts what it sees."""

    name, version = "guard", "1"
    hooks = {"pre_tool_call": "veto", "input": "transform", "output": "observe"}  # noqa: RUF012

    async def initialize(self, config: Any) -> None:
        self.seen: list[Any] = []

    async def process(self, x: Any) -> Any:
        return self.seen

    async def on_message(self, point: str, message: dict[str, Any]) -> Any:
        self.seen.append(message)
        if point == "input":
            return [{"type": "text", "content": message["parts"][0]["content"].replace("secret", "***")}]
        return {"deny": "no rm here"} if message["name"] == "rm" else None


def builder() -> Any:
    return AgentContextBuilder(agent_id="a", framework="f", session_id="s", agent_name="A")


async def test_vetoes_and_transforms_of_a_confined_plugin_hold_in_its_emitter() -> None:
    """A denial blocks, a change is folded into the context, an observer sees; all through an unchanged emitter."""
    async with PluginManager() as manager:
        guard = SandboxedPlugin(GuardPlugin, Policy(hooks=GuardPlugin.hooks))
        await manager.register(guard)
        emitter, build = InterceptionEmitter().register(Interceptor(manager)), builder()
        context = build.input(content="a secret", role="user")
        await emitter.emit(context)
        assert context["input"] == {"content": "a ***", "role": "user"}
        await emitter.emit(build.pre_tool_call(call_id="1", name="ls", args={}))
        with pytest.raises(InterceptionBlocked) as blocked:
            await emitter.emit(build.pre_tool_call(call_id="2", name="rm", args={"path": "/"}))
        assert (blocked.value.result.verdict.reason, blocked.value.result.verdict.message) == (
            "no rm here",
            "guard denied it",
        )
        await emitter.emit(build.output(content="done"))
        await manager.drain()
        assert [m["point"] for m in await guard.process(None)] == [
            "input",
            "pre_tool_call",
            "pre_tool_call",
            "output",
        ]


def contexts() -> dict[str, Any]:
    build = builder()
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": ["x", 1], "more": 1}]
    calls = [{"id": "1", "name": "add", "args": {"a": 1}}]
    return {
        "agent_startup": build.agent_startup(tools_registered=["add"]),
        "input": build.input(content="hi", role="external", locale="en"),
        "pre_model_call": build.pre_model_call(model_id="m", messages=messages, request_id="r"),
        "post_model_call": build.post_model_call(
            model_id="m", content="text", tool_calls=calls, finish_reason="stop", usage={"prompt_tokens": 3}
        ),
        "pre_tool_call": build.pre_tool_call(call_id="1", name="add", args={"a": 1}),
        "post_tool_call": build.post_tool_call(
            call_id="1", name="add", args={"a": 1}, value=[2], is_error=True, duration_ms=1.5
        ),
        "output": build.output(content={"answer": 2}),
        "agent_shutdown": build.agent_shutdown(reason="completed"),
    }


@pytest.mark.parametrize("point", list(contexts()))
def test_the_target_survives_the_way_into_parts_and_back(point: str) -> None:
    """At every point the target that a message gives is the one that it was made of."""
    context = contexts()[point]
    message = message_of(context)
    assert (message.point, message.session_id, message.seq, message.redactions) == (
        point,
        "s",
        context["sequence"],
        [],
    )
    assert message.native == {"framework": "agent-hooks", "data": context}
    assert target_of(message, context["target"]) == context["target"]


def test_what_else_a_context_says_is_in_the_message() -> None:
    """Roles, names, usage, errors and durations have fields of their own."""
    made = {point: message_of(context) for point, context in contexts().items()}
    assert made["input"].role == "external"
    assert (made["pre_tool_call"].name, made["pre_tool_call"].parts[0]["arguments"]) == ("add", {"a": 1})
    assert (made["post_tool_call"].error, made["post_tool_call"].duration_ms) == ({"type": "tool_error"}, 1.5)
    after = made["post_model_call"]
    assert (after.usage, after.finish_reason, after.model) == (
        {"input_tokens": 3, "output_tokens": None},
        "stop",
        {"id": "m", "vendor": None},
    )
    assert [part["type"] for part in after.parts] == ["text", "tool_call"]
    assert made["pre_model_call"].request_id == "r"
    assert made["output"].parts == [{"type": "generic", "content": {"answer": 2}}]


async def verdicts(manager: PluginManager, context: Any) -> Any:
    return await Interceptor(manager).intercept(context)


@pytest.mark.parametrize("point", [p for p in contexts() if not p.startswith("agent_")])
async def test_a_change_that_has_no_place_in_the_target_raises(point: str) -> None:
    """Parts that no target of that point can hold: the interceptor raises, and such a host denies."""
    async with PluginManager() as manager:
        manager.register_hook(point, lambda m: [{"type": "uri", "modality": "image", "uri": "x:y"}] * 2, "transform")
        with pytest.raises(ContractError, match=f"a transform at {point} left uri, uri, which has no place"):
            await verdicts(manager, contexts()[point])
        context = contexts()[point]
        with pytest.raises(InterceptionBlocked) as blocked:
            await InterceptionEmitter().register(Interceptor(manager)).emit(context)
        assert blocked.value.result.verdict.reason == "host_error:interceptor_failed"


async def test_a_message_that_was_cut_isnt_written_back() -> None:
    """What didn't fit into the message would be lost from the target."""
    async with PluginManager() as manager:
        manager.register_hook("input", lambda m: [{"type": "text", "content": "short"}], "transform")
        with pytest.raises(ContractError, match="has lost what the message left out"):
            await verdicts(manager, builder().input(content="x" * 2_000_000))


async def test_a_reserved_reason_isnt_passed_on_as_the_hosts() -> None:
    """`host_error:` is the emitter's own word; a hook that says it is quoted."""
    async with PluginManager() as manager:
        manager.register_hook("input", lambda m: {"deny": "host_error:made_up"}, "veto")
        assert (await verdicts(manager, contexts()["input"]))["reason"] == "hook:host_error:made_up"


@pytest.mark.parametrize("context", [None, "input", {}, {"interception_point": "inptu"}])
def test_what_is_no_context_is_an_error(context: Any) -> None:
    """Not a dict, or at no point that there is."""
    with pytest.raises(ContractError):
        message_of(context)


def test_odd_members_of_a_context_do_no_harm() -> None:
    """Members of the wrong types are left out; the message is still made."""
    made = message_of(
        {
            "interception_point": "pre_tool_call",
            "session": 5,
            "tool_call": [],
            "sequence": "x",
            "target": {1: object()},
        }
    )
    assert isinstance(made, AgentMessage)
    assert made.parts[0]["type"] == "generic"
