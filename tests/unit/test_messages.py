"""`AgentMessage`: strict construction, JSON in and out, parts as the GenAI conventions have them, the way back."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug import AgentMessage, ContractError
from agentplug.contract.messages.message import MAX_MESSAGE_BYTES
from agentplug.contract.messages.plain_json import MAX_DEPTH, MAX_INTEGER, Coercion

SCHEMA = json.loads((Path(__file__).parent / "data" / "genai_parts.json").read_text())
TEXT = {"type": "text", "content": "hello"}
FULL: dict[str, Any] = {
    "v": 1,
    "id": "m1",
    "session_id": "s",
    "seq": 3,
    "ts": "2026-01-31T12:00:00.5Z",
    "run_id": "r",
    "turn": 2,
    "request_id": "q",
    "group": "g",
    "agent": {"id": "a", "name": "A", "framework": "f", "framework_version": "1"},
    "point": "post_model_call",
    "role": "assistant",
    "name": "planner",
    "parts": [TEXT, {"type": "tool_call", "id": "1", "name": "add", "arguments": {"a": 1, "b": 2.5}}],
    "model": {"id": "m", "vendor": "v"},
    "finish_reason": "stop",
    "usage": {"input_tokens": 5, "output_tokens": 7},
    "error": {"type": "ValueError"},
    "duration_ms": 12.5,
    "redactions": ["parts[0].content: cut"],
    "truncated": True,
    "native": {"framework": "f", "data": {"anything": [1, None, "é"]}},
}


def nested(levels: int) -> Any:
    """A list within a list, so many levels."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def message(**fields: Any) -> AgentMessage:
    return AgentMessage(point="input", **fields)


# ---------------------------------------------------------------------- there and back


def test_all_fields_go_through_json_and_come_back() -> None:
    """JSON and dicts keep every field; the names are those of the design, in its order."""
    full = AgentMessage(**FULL)
    assert full.to_dict() == FULL
    assert list(full.to_dict()) == list(FULL)
    assert AgentMessage.from_json(full.to_json()) == full
    assert AgentMessage.from_json(full.to_json().encode()) == full
    assert AgentMessage.from_dict(full.to_dict()) == full
    assert (full.size_bytes, json.loads(full.to_json())) == (len(full.to_json().encode()), FULL)


def test_only_the_point_has_to_be_said() -> None:
    """Ids and times are made; the rest is empty, and no two messages share anything."""
    one, two = message(), message()
    assert one.id != two.id
    assert (one.v, one.point, one.parts, one.native, one.ts.endswith("Z")) == (1, "input", [], None, True)
    assert one.parts is not two.parts
    with pytest.raises(ContractError, match=r"^point: missing"):
        AgentMessage.from_dict({})


def test_a_message_is_frozen_and_shares_nothing_with_what_it_was_made_of() -> None:
    """Neither the message nor what it was made of can be changed through the other, nor through a copy."""
    given_parts = [{"type": "text", "content": "as it was"}]
    made = message(parts=given_parts)
    given_parts[0]["content"] = "changed"
    made.payload[0]["content"] = made.copy().parts[0]["content"] = "changed"
    made.to_dict()["parts"].clear()
    assert made.parts == [{"type": "text", "content": "as it was"}]
    assert made.copy() == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.parts = []  # type: ignore[misc]


def test_replace_checks_like_construction() -> None:
    """`replace` gives a checked copy."""
    assert message(id="1", ts=FULL["ts"]).replace(parts=[TEXT]) == message(id="1", ts=FULL["ts"], parts=[TEXT])
    with pytest.raises(ContractError, match=r"^parts\[0\]: a int"):
        message().replace(parts=[1])
    with pytest.raises(ContractError, match=r"^part: a message has no such field; did you mean 'parts'\?"):
        message().replace(part=[])


def test_the_digest_follows_the_content_alone() -> None:
    """Equal messages have equal digests, in whatever order their members stand; any change gives another."""
    one = AgentMessage(**FULL)
    other = AgentMessage.from_dict(dict(reversed(FULL.items())))
    assert one.digest == other.digest
    assert one.digest.startswith("sha256:")
    assert one.digest != one.replace(seq=4).digest


def test_native_goes_only_to_plugins_that_were_granted_it() -> None:
    """`for_plugin` leaves the framework's own dump out unless asked."""
    full = AgentMessage(**FULL)
    assert full.for_plugin() == {**FULL, "native": None}
    assert full.for_plugin(native=True) == FULL


# ---------------------------------------------------------------------- refusals


BAD: list[tuple[dict[str, Any], str]] = [
    ({"v": 2}, "v: 2; this version reads 1"),
    ({"v": True}, "v: True"),
    ({"point": "inptu"}, "point: 'inptu' is unknown; did you mean 'input'?"),
    ({"point": "pre_process"}, "point: 'pre_process' is unknown"),
    ({"point": None}, "point: None is unknown"),
    ({"id": ""}, "id: ''"),
    ({"id": "x" * 201}, "id: 'xxx"),
    ({"ts": "yesterday"}, "ts: 'yesterday'; write a time as RFC 3339 has it"),
    ({"ts": 5}, "ts: 5"),
    ({"ts": "2026-13-01T12:00:00Z"}, "ts: '2026-13-01T12:00:00Z'"),
    ({"ts": "2026-01-31T24:00:00Z"}, "ts: "),
    ({"ts": "2026-02-30T12:00:00Z"}, "ts: "),
    ({"ts": "2026-02-29T12:00:00+01:00"}, "ts: "),
    ({"ts": "２026-01-31T12:00:00Z"}, "ts: "),
    ({"seq": -1}, "seq: -1; write a whole number, 0 or more"),
    ({"seq": True}, "seq: True"),
    ({"turn": 1.5}, "turn: 1.5"),
    ({"session_id": 5}, "session_id: 5; write text, or None"),
    ({"role": b"user"}, "role: b'user'"),
    ({"agent": "me"}, "agent: 'me'; write a dict"),
    ({"agent": {"nmae": "x"}}, "agent.nmae: unknown; agent has id, name, framework, framework_version"),
    ({"model": {"id": 5}}, "model.id: 5; write text, or None"),
    ({"usage": {"input_tokens": -5}}, "usage.input_tokens: -5"),
    ({"usage": {"tokens": 5}}, "usage.tokens: unknown"),
    ({"error": {"message": "x"}}, "error.message: unknown; error has type"),
    ({"duration_ms": -1}, "duration_ms: -1"),
    ({"duration_ms": math.nan}, "duration_ms: nan"),
    ({"duration_ms": "5"}, "duration_ms: '5'"),
    ({"redactions": "all"}, "redactions: 'all'; write a list of texts"),
    ({"truncated": 1}, "truncated: 1; write True or False"),
    ({"native": {"framework": "f"}}, "native: write a dict of framework (text) and data"),
    ({"native": {"framework": "f", "data": object()}}, "native.data: a object isn't a plain JSON value"),
    ({"parts": "hello"}, "parts: a str; write a list of dicts, each with a type"),
    ({"parts": [{}]}, "parts[0].type: None; write text"),
    ({"parts": [TEXT, {"type": "text"}]}, "parts[1].content: None; a text part has a text there"),
    ({"parts": [{"type": "tool_call", "name": None}]}, "parts[0].name: None; a tool_call part has a text there"),
    ({"parts": [{"type": "tool_call", "name": "x", "id": 1}]}, "parts[0].id: 1; text, or None"),
    ({"parts": [{"type": "tool_call_response"}]}, "parts[0].response: missing; a tool_call_response part has one"),
    ({"parts": [{"type": "blob", "content": "eA=="}]}, "parts[0].modality: None; a blob part has a text there"),
    ({"parts": [{**TEXT, "x": math.inf}]}, "parts[0].x: inf has no place in JSON"),
    ({"parts": [{**TEXT, "x": MAX_INTEGER + 1}]}, "parts[0].x: an integer beyond 2**53"),
    ({"parts": [{**TEXT, "x": [0, {"y": "\ud800"}]}]}, "parts[0].x[1].y: a lone surrogate"),
    ({"parts": [{**TEXT, "\udfff": 1}]}, "parts[0].\\udfff: a lone surrogate"),
    ({"parts": [{**TEXT, 1: 1}]}, "parts[0]: a key is a int; keys are text"),
    ({"parts": [{**TEXT, "x": {1, 2}}]}, "parts[0].x: a set isn't a plain JSON value"),
    ({"parts": [{**TEXT, "x": nested(MAX_DEPTH - 1)}]}, f"nested deeper than {MAX_DEPTH} levels"),
    ({"parts": [{"type": "text", "content": "x" * MAX_MESSAGE_BYTES}]}, "message: 104"),
]


@pytest.mark.parametrize(("fields", "text"), BAD, ids=[f"{i}-{next(iter(f))}" for i, (f, _) in enumerate(BAD)])
def test_whatever_is_wrong_is_named(fields: dict[str, Any], text: str) -> None:
    """A field of the wrong type or with an impossible value is a `ContractError` that begins with its name."""
    with pytest.raises(ContractError) as caught:
        AgentMessage(**{"point": "input", **fields})
    assert text in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_the_bounds_themselves_are_allowed() -> None:
    """2**53, 32 levels and a megabyte less the rest are fine."""
    inside = {**TEXT, "x": nested(MAX_DEPTH - 2), "n": [MAX_INTEGER, -MAX_INTEGER]}
    assert message(parts=[inside]).parts == [inside]
    room = MAX_MESSAGE_BYTES - message(parts=[{"type": "text", "content": ""}]).size_bytes
    full = message(parts=[{"type": "text", "content": "x" * room}])
    assert AgentMessage.from_json(full.to_json()) == full


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "a list; give a dict of its fields"),
        ('{"point": "input", "seq": NaN}', "NaN has no place in JSON"),
        ('{"point": "input", "seq": 1, "seq": 2}', "a key stands there twice"),
        ('{"point": "input", "name": "\\ud800"}', "name: a lone surrogate"),
        ('{"point": "input", "seq": ' + "9" * 5_000 + "}", "message: not JSON"),
        ('{"point": "input", "parts": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"point": "input", "whatever": 1}', "whatever: a message has no such field"),
        (b"\xff", "not JSON"),
        (" " * (MAX_MESSAGE_BYTES + 1), "long as JSON"),
        (5, "a int; give its JSON as text"),
    ],
)
def test_json_that_is_no_message(text: Any, error: str) -> None:
    """Anything that isn't the JSON of a message is a `ContractError`."""
    with pytest.raises(ContractError) as caught:
        AgentMessage.from_json(text)
    assert error in str(caught.value)


# ---------------------------------------------------------------------- parts and their schema

OTHERS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.just({"type": "t"}), st.just({})
)
MEMBERS = (
    "content",
    "id",
    "name",
    "arguments",
    "response",
    "modality",
    "uri",
    "file_id",
    "mime_type",
    "server_tool_call",
)


@settings(deadline=None, database=None)
@given(st.sampled_from([*SCHEMA["$defs"], "other"]), st.dictionaries(st.sampled_from(MEMBERS), OTHERS, max_size=5))
def test_parts_are_held_to_the_published_schema(kind: str, members: dict[str, Any]) -> None:
    """A part is taken exactly if the definition of its type takes it; any other type is generic, and taken."""
    part = {**members, "type": kind}
    import jsonschema  # seconds of a grammar that it may need: here for one process of several

    definition = SCHEMA["$defs"].get(kind, {"type": "object"})
    expected = jsonschema.Draft202012Validator(definition).is_valid(part)
    try:
        taken = message(parts=[part]).parts == [part]
    except ContractError:
        taken = False
    assert taken == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, database=None)
@given(JSON)
def test_any_plain_value_survives_the_way_there_and_back(value: Any) -> None:
    """What construction takes, JSON brings back equal, to the type of every number."""
    made = message(parts=[{"type": "generic", "value": value}], native={"framework": "f", "data": value})
    back = AgentMessage.from_json(made.to_json())
    assert back == made
    assert repr(back.native) == repr({"framework": "f", "data": value})


# ---------------------------------------------------------------------- made to fit


class Odd:
    """An object of some framework's, with a repr that nobody should call."""

    def __repr__(self) -> str:
        raise AssertionError("its code ran")


def test_anything_a_framework_holds_can_be_made_a_message() -> None:
    """`coerced` never fails for content: what has no plain form is replaced, and named in `redactions`."""
    made = AgentMessage.coerced(
        point="post_tool_call",
        id="1",
        ts=FULL["ts"],
        name="divide",
        parts=[
            {"type": "tool_call_response", "response": [math.nan, -math.inf, 2**60, b"xy", "\ud800!", Odd(), (1, 2)]},
            {"type": "text", "content": 5},
            Odd(),
        ],
        usage={"input_tokens": 5, "output_tokens": -1, "other": 2},
        turn="three",
        run_id=17,
        native={"framework": "f", "data": Odd()},
    )
    assert made.parts == [
        {
            "type": "tool_call_response",
            "response": ["NaN", "-Infinity", str(2**60), "eHk=", "\ufffd!", "<Odd>", [1, 2]],
        },
        {"type": "generic", "content": 5},
        {"type": "generic", "content": "<Odd>"},
    ]
    assert (made.usage, made.turn, made.run_id, made.native) == ({"input_tokens": 5}, None, "17", None)
    assert not made.truncated
    assert made.redactions == [
        "usage: not as the field has it",
        "turn: not as the field has it",
        "run_id: not as the field has it",
        "parts[0].response[0]: no JSON number, as text",
        "parts[0].response[1]: no JSON number, as text",
        "parts[0].response[2]: an integer beyond 2**53, as text",
        "parts[0].response[3]: bytes, in base64",
        "parts[0].response[4]: a lone surrogate",
        "parts[0].response[5]: a Odd",
        "parts[2]: a Odd",
        "parts[1].content: not as its type has it, so generic",
        "parts[2]: not as its type has it, so generic",
        "native: left out, native.data: a Odd isn't a plain JSON value; AgentMessage.coerced makes it one",
    ]


def test_a_message_that_needs_nothing_is_coerced_to_itself() -> None:
    """`coerced` of what construction takes is the same message, native and all."""
    assert AgentMessage.coerced(**FULL) == AgentMessage(**FULL)


@pytest.mark.parametrize(
    "content",
    [
        "x" * 5_000_000,
        "é" * 3_000_000,
        ["x"] * 1_000_000,
        nested(500),
        {str(i): [i] * 50 for i in range(100_000)},
        10**6_000,
        "\x01" * 5_000_000,
        '"' * 5_000_000,
        "x" * 100_000 + "\x01\n" * 400_000,
        [0.1234567890123456] * 200_000,
        {"\x01" * 1_000 + str(i): None for i in range(5_000)},
    ],
    ids=["text", "wide text", "list", "deep", "dict", "digits", "control", "quotes", "mixed", "floats", "keys"],
)
def test_what_is_too_large_is_cut(content: Any) -> None:
    """A message made to fit fits, and says that it was cut."""
    made = AgentMessage.coerced(point="input", parts=[{"type": "generic", "content": content}])
    assert made.size_bytes <= MAX_MESSAGE_BYTES
    assert made.redactions
    assert made.truncated == (not isinstance(content, int))
    assert AgentMessage.from_json(made.to_json()) == made


def test_a_native_dump_is_kept_whole_or_not_at_all() -> None:
    """Half a dump is no way back."""
    made = AgentMessage.coerced(point="input", native={"framework": "f", "data": "x" * MAX_MESSAGE_BYTES})
    assert (made.native, made.redactions) == (None, ["native: left out, native: too large"])


def test_keys_that_are_no_text_hide_nothing() -> None:
    """They become text, as JSON's writers have it; what stands under two keys of one text is there twice."""
    result = {1: "ghp_secret", "1": "open", None: 2, 1.5: 4, b"k": 5, (1, 2): 6}

    made = AgentMessage.coerced(point="post_tool_call", parts=[{"type": "generic", "content": result}])

    content = made.parts[0]["content"]
    assert content == {"1": "ghp_secret", "1…": "open", "null": 2, "1.5": 4, "aw==": 5, "…": 6}
    assert any("another key of the same text" in note for note in made.redactions)


@pytest.mark.parametrize("fields", [{"point": "inptu"}, {"point": "input", "prts": []}, {}])
def test_the_mistakes_of_an_adapter_are_errors(fields: dict[str, Any]) -> None:
    """An unknown point or field isn't content: `coerced` raises too."""
    with pytest.raises(ContractError):
        AgentMessage.coerced(**fields)


@settings(deadline=None, database=None)
@given(st.recursive(JSON | st.binary() | st.floats() | st.builds(object), st.lists, max_leaves=10))
def test_what_is_made_plain_is_plain(value: Any) -> None:
    """Whatever comes, what `Coercion` gives is taken by strict construction."""
    made = Coercion(10_000)(value, "it")
    assert message(parts=[{"type": "generic", "content": made}]).parts == [{"type": "generic", "content": made}]
