"""The plugins for an agent's messages: what the logger writes, what the guard denies, what the redactor takes out.

No secret or person here is a real one: whatever looks like one is put together as the tests run.
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import json
import random
import re
import string
from collections.abc import Callable
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import numpy
import pytest

from agentplug import AgentMessage, PluginManager, Policy
from agentplug.contract.plugin import AGENT_POINTS
from agentplug.plugins.manifest_reader import ManifestReaderPlugin
from agentplug.plugins.message_logger import MessageLoggerPlugin
from agentplug.plugins.pii_redactor import PiiRedactorPlugin
from agentplug.plugins.secret_guard import SecretGuardPlugin
from agentplug.plugins.word_count import WordCountPlugin
from tests.leftovers import _warmed, nothing_left  # noqa: F401

LOGGER = "agentplug.plugins.message_logger:MessageLoggerPlugin"
GUARD = "agentplug.plugins.secret_guard:SecretGuardPlugin"
REDACTOR = "agentplug.plugins.pii_redactor:PiiRedactorPlugin"
OBSERVE = dict.fromkeys(AGENT_POINTS, "observe")

LETTERS = string.ascii_letters + string.digits
_random = random.Random(4)


def noise(length: int, letters: str = LETTERS) -> str:
    """A random word with letters and digits in it, the same in every test run."""
    return "".join(_random.choice(letters) for _ in range(length - 4)) + "a1Z9"


def web64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def text_message(text: str, point: str = "output", **fields: Any) -> AgentMessage:
    return AgentMessage(id="m", point=point, parts=[{"type": "text", "content": text}], **fields)


def call_message(arguments: Any) -> AgentMessage:
    part = {"type": "tool_call", "id": "c", "name": "send", "arguments": arguments}
    return AgentMessage(id="m", point="pre_tool_call", name="send", parts=[part])


# ---------------------------------------------------------------------- message_logger


async def lines_of(config: dict[str, Any], *values: Any) -> list[Any]:
    """What the logger writes to a file for `values`, given to `process`."""
    plugin = MessageLoggerPlugin()
    await plugin.initialize(config)
    for value in values:
        assert await plugin.process(value) is value
    plugin._out.close()
    return [json.loads(line)["data"] for line in Path(config["path"]).read_text("ascii").splitlines()]


def test_the_logger_fits_on_two_screens() -> None:
    """A model of its kind is short, and asks for every agent point."""
    assert len(Path(inspect.getfile(MessageLoggerPlugin)).read_text().splitlines()) < 80
    assert MessageLoggerPlugin.hooks == OBSERVE


@pytest.mark.parametrize("kind", [MessageLoggerPlugin, SecretGuardPlugin, PiiRedactorPlugin, WordCountPlugin])
def test_what_they_ask_for_can_be_read_without_running_them(kind: type[Any]) -> None:
    """So they can be pinned, with their rights."""
    code = Path(inspect.getfile(kind)).read_bytes()
    found = ManifestReaderPlugin().process({"code": code, "attribute": kind.__name__})
    assert found.pop("hooks", {}) == getattr(kind, "hooks", {})
    assert found == {"name": kind.name, "version": kind.version}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('dict.fromkeys(["input", "output"], "veto")', {"input": "veto", "output": "veto"}),
        ('dict.fromkeys(POINTS.split(), "observe")', {"input": "observe", "output": "observe"}),
        ('dict.fromkeys(("input",), KIND)', None),
        ('dict.fromkeys([["input"]], "veto")', None),
        ('dict.fromkeys(["input"])', None),
        ('dict.fromkeys(["input"], value="veto")', None),
        ('dict.fromkeys(POINTS.split(","), "veto")', None),
        ('dict.fromkeys(POINTS.upper(), "veto")', None),
        ('dict.copy(["input"], "veto")', None),
        ('other.fromkeys(["input"], "veto")', None),
        ('dict(input="veto")', None),
    ],
)
def test_the_ways_to_ask_for_many_points_that_are_as_good_as_literals(
    written: str, read: dict[str, str] | None
) -> None:
    """What else is called may be anything, and isn't guessed."""
    for first in ("", "dict = 3\n"):
        code = f'{first}POINTS = "input output"\nclass APlugin:\n    hooks = {written}\n'.encode()
        found = ManifestReaderPlugin().process({"code": code, "attribute": "APlugin"})
        if read is None or first:
            assert found == {"problem": "hooks of class APlugin is computed; write it as a literal"}
        else:
            assert found == {"hooks": read}


async def test_the_logger_writes_a_line_a_message_into_a_granted_folder(tmp_path: Path) -> None:
    """In its worker: all eight points in order, denied messages with who denied them, and no more than that."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "agent.jsonl"
    async with PluginManager() as manager:
        await manager.load(LOGGER, policy=Policy(hooks=OBSERVE, write=str(folder)), config={"path": str(path)})
        manager.register_hook("input", lambda m: [{"type": "text", "content": "a card"}], "transform")
        manager.register_hook("output", lambda m: {"deny": "not today"}, "veto")
        for seq, point in enumerate(AGENT_POINTS):
            await manager.dispatch(text_message("hello", point, seq=seq, native={"framework": "x", "data": 1}))
        await manager.drain()
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["point"] for line in written] == list(AGENT_POINTS)
    assert [line["seq"] for line in written] == list(range(8))
    assert [line["dispatch"]["allowed"] for line in written] == [point != "output" for point in AGENT_POINTS]
    assert written[1].keys() == {"point", "v", "id", "seq", "ts", "parts", "redactions", "dispatch"}
    assert written[1]["parts"] == [{"type": "text", "content": "a card"}]
    assert [note.split(" by ")[0] for note in written[1]["redactions"]] == ["parts[0]: changed"]
    assert "hello" not in path.read_text().splitlines()[1]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_logger_without_a_path_writes_to_the_hosts_sink() -> None:
    """The line is the run's standard output."""
    async with PluginManager() as manager:
        plugin = await manager.load(LOGGER, policy=Policy(hooks=OBSERVE))
        await manager.dispatch(text_message("hello\x1b[31m\u202e"))
        await manager.drain()
        line = plugin.runs[-1].stdout
    assert json.loads(line)["parts"] == [{"type": "text", "content": "hello\x1b[31m\u202e"}]
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.isascii()


async def test_the_logger_says_at_once_that_its_path_is_not_granted(tmp_path: Path) -> None:
    """A log that can't be written is an error when the plugin is loaded, not silence later."""
    async with PluginManager() as manager:
        with pytest.raises(Exception, match="PermissionError"):
            await manager.load(LOGGER, policy=Policy(hooks=OBSERVE), config={"path": str(tmp_path / "agent.jsonl")})


async def test_the_logger_survives_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    """The line is lost, standard error says so, and the agent hears nothing of it."""
    plugin = MessageLoggerPlugin()
    await plugin.initialize({"path": "/dev/full"})
    await plugin.on_message("input", {"parts": [], "seq": 0})
    with contextlib.suppress(OSError):
        plugin._out.close()
    assert "No space left on device" in capsys.readouterr().err


async def test_the_logger_rotates(tmp_path: Path) -> None:
    """Full files become .1 and .2, older ones go; no line is cut."""
    path = tmp_path / "log"
    await lines_of({"path": str(path), "max_bytes": 200, "backups": 2}, *(f"{n:060}" for n in range(20)))
    kept = sorted(tmp_path.iterdir())
    assert [file.name for file in kept] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 200 for file in kept)
    numbers = [int(json.loads(line)["data"]) for file in reversed(kept) for line in file.read_text().splitlines()]
    assert numbers == list(range(20 - len(numbers), 20))


async def test_the_logger_survives_what_json_has_no_form_for(tmp_path: Path) -> None:
    """Objects, bytes and cycles are named, not written; odd numbers, keys and surrogates don't matter."""

    class Nasty:
        def __repr__(self) -> str:
            raise AssertionError("nobody calls this")

        __str__ = __repr__

    loop: list[Any] = []
    loop += [loop, loop]
    written = await lines_of(
        {"path": str(tmp_path / "log")},
        Nasty(),
        b"\xff\x00",
        {Nasty(): 1, 3: 2, None: 3, (1, "a"): 4},
        {"set": {1}, "array": numpy.arange(3), "real": numpy.float64(0.5)},
        ["\ud800 \U0001f600", float("nan"), float("-inf"), 10**5000, -0.0, True, None],
        loop,
    )
    assert written[:5] == [
        "<Nasty>",
        "<bytes>",
        {"<Nasty>": 1, "3": 2, "None": 3, "[1, 'a']": 4},
        {"set": [1], "array": "<ndarray>", "real": 0.5},
        ["? \U0001f600", "<float>", "<float>", "<int>", -0.0, True, None],
    ]
    assert len(json.dumps(written[5])) < 200_000


async def test_the_logger_keeps_a_bounded_share_of_what_is_large(tmp_path: Path) -> None:
    """Long texts, wide lists and deep nests are cut, and say so by an ellipsis."""
    deep: Any = "bottom"
    for _ in range(500):
        deep = [deep]
    config = {"path": str(tmp_path / "log"), "max_characters": 100}
    text, wide, nest, keys = await lines_of(
        config, "x" * 1_000_000, list(range(1_000_000)), deep, {str(n): n for n in range(1_000_000)}
    )
    assert text.rstrip("…") == "x" * (len(text) - 1)
    assert 50 < len(text) < 102
    assert 50 < len(wide) < 101
    assert "bottom" not in str(nest)
    assert len(keys) < 100


async def test_the_logger_redacts_keys_and_patterns_also_within_texts(tmp_path: Path) -> None:
    """Under whatever member, in JSON as text, in headers and URLs; what isn't secret stays."""
    word = noise(24)
    bearer = "Authorization: Bearer " + word
    written = await lines_of(
        {"path": str(tmp_path / "log")},
        {"api_key": word, "X-API-Key": word, "apiKey": word, "db_password": [word], "input_tokens": 5},
        json.dumps({"password": f'{word} "{word}', "user": "ada"}),
        json.dumps(json.dumps({"password": f"{word} and {word}", "user": "ada"})),
        f"GET /?token={word}&page=2 {bearer}, ok",
        f"curl -u me -H '{bearer}' with ghp_{word}",
        "the token was refused; password: ",
    )
    assert word not in str(written)
    hidden = "[redacted]"
    assert written[0] == {
        "api_key": hidden, "X-API-Key": hidden, "apiKey": hidden, "db_password": hidden, "input_tokens": 5,
    }  # fmt: skip
    assert json.loads(written[1].replace(hidden, '"*')) == {"password": "*", "user": "ada"}
    assert "ada" in written[2]
    assert written[3:] == [
        f"GET /?token={hidden}&page=2 Authorization: {hidden}, ok",
        f"curl -u me -H 'Authorization: {hidden}' with {hidden}",
        "the token was refused; password: ",
    ]


async def test_the_logger_redacts_what_it_is_told_to(tmp_path: Path) -> None:
    """Keys and patterns of the configuration take the place of the usual ones; none at all is possible."""
    config = {"path": str(tmp_path / "log"), "redact_keys": ["badge.no"], "redact_patterns": [r"\bB-\d+"]}
    assert await lines_of(config, {"badge.no": 1, "badgeXno": 2, "password": "x", "said": "B-17 left"}) == [
        {"badge.no": "[redacted]", "badgeXno": 2, "password": "x", "said": "[redacted] left"}
    ]
    config = {"path": str(tmp_path / "other"), "redact_keys": [], "redact_patterns": []}
    assert await lines_of(config, {"password": "password=x"}) == [{"password": "password=x"}]


# ---------------------------------------------------------------------- secret_guard

PEM = "-----BEGIN " + "{}PRIVATE KEY-----"
SECRETS: dict[str, Callable[[], str]] = {
    "an AWS access key": lambda: "AK" + "IA" + noise(20, "ABCDEFGH234567")[:16],
    "a GitHub token": lambda: "gh" + "p_" + noise(36),
    "a GitLab token": lambda: "gl" + "pat-" + noise(20),
    "a Slack token": lambda: "xo" + "xb-" + "123456789012-" + noise(24),
    "a Stripe key": lambda: "sk" + "_live_" + noise(24),
    "a Google API key": lambda: "AI" + "za" + noise(35),
    "a key of a model's vendor": lambda: "sk" + "-ant-api03-" + noise(40),
    "a Hugging Face token": lambda: "h" + "f_" + noise(34),
    "an npm token": lambda: "np" + "m_" + noise(36),
    "a PyPI token": lambda: "py" + "pi-AgE" + noise(60),
    "a JSON web token": lambda: ".".join(
        (web64({"alg": "HS256", "typ": "JWT"}), web64({"sub": "1234567890"}), noise(43))
    ),
    "a private key": lambda: PEM.format("RSA ") + "\nProc-Type: 4,ENCRYPTED\n\n" + noise(64) + "\n" + noise(64),
    "a password in a URL": lambda: "postgres://ada:" + noise(10) + "@db.internal/x",
    "a secret beside its name": lambda: 'api_key = "' + noise(32) + '"',
}


async def guard(config: dict[str, Any] | None = None) -> SecretGuardPlugin:
    plugin = SecretGuardPlugin()
    await plugin.initialize(config or {})
    return plugin


async def denial(message: AgentMessage, config: dict[str, Any] | None = None) -> str | None:
    reply = await (await guard(config)).on_message(message.point, message.for_plugin())
    return None if reply is None else reply["deny"]


@pytest.mark.parametrize("kind", SECRETS)
async def test_the_guard_names_the_kind_and_never_the_secret(kind: str) -> None:
    """Wherever it stands: in a text, in arguments at any depth, as a key, in JSON as text, in a file's bytes."""
    secret = SECRETS[kind]()
    blob = {"type": "blob", "modality": "file", "content": base64.b64encode(f"x {secret}".encode()).decode()}
    for message in (
        text_message(f"here: {secret}"),
        text_message(f"<{secret}>\n"),
        call_message({"to": ["x", {"body": secret}]}),
        call_message({secret: 1}),
        call_message(json.dumps({"body": secret})),
        AgentMessage(point="output", parts=[blob]),
    ):
        reason = await denial(message)
        assert reason is not None, message.parts
        assert kind in reason
        assert not any(word in reason for word in re.findall(r"\w{8,}", secret) if word not in ("password",))


@pytest.mark.parametrize(
    "arguments",
    [
        lambda word: {"api_key": word},
        lambda word: {"headers": {"Authorization": f"Bearer {word}"}},
        lambda word: {"body": json.dumps({"client": {"access_token": word}})},
        lambda word: {"body": json.dumps(json.dumps({"secret": word}))},
        lambda word: {"url": f"https://example.org/?a=1&api-key={word}"},
        lambda word: {"text": f"The password is {word}"},
        lambda word: {"env": f"AWS_SECRET_ACCESS_KEY={word}"},
    ],
    ids=["member", "header", "json", "json in json", "url", "sentence", "variable"],
)
async def test_the_guard_knows_a_random_word_beside_its_name(arguments: Callable[[str], Any]) -> None:
    """As a member, a header, a parameter, a variable or in a sentence."""
    assert await denial(call_message(arguments(noise(40)))) == "it carries a secret beside its name"


@pytest.mark.parametrize(
    "text",
    [
        "The AWS documentation uses AKIA" + "IOSFODNN7EXAMPLE as its key.",
        "A key begins with -----BEGIN PRIVATE KEY-----, then comes the base64.",
        "export API_KEY=<your key here>; password=${DATABASE_PASSWORD_OF_PRODUCTION1}",
        "api_key: YOUR_API_KEY_GOES_HERE_1234567890",
        "postgres://user:password@localhost/db and https://example.org:8080/path@v2",
        "token=monthly-report-for-the-year-2024-final",
        "nextPageToken: " + noise(40),
        "max_tokens: 20000000000000000000000",
        "commit " + noise(40, "0123456789abcdef") + " on 3c59dc04-8e88-4502-a3f2-9e0a1b2c3d4e",
        "sha256:" + noise(64, "0123456789abcdef"),
        "eyJ" + noise(20) + ".eyJ" + noise(20) + "." + noise(20),
        "the secret of sk-learn-style-estimators-and-pipelines-2024 is their interface",
        "password: correct horse battery staple",
        base64.b64encode(bytes(range(256)) * 40).decode(),
        "\ud7ff\U0010ffff",
        "",
    ],
    ids=[
        *(
            "documentation",
            "header",
            "variables",
            "placeholder",
            "url",
            "slug",
            "paging",
            "number",
            "digest",
            "sha256",
        ),
        *("no token", "package", "words", "binary", "characters", "nothing"),
    ],
)
async def test_the_guard_lets_pass_what_only_looks_like_one(text: str) -> None:
    """Examples, placeholders, digests, identifiers, slugs, headers without a key."""
    assert await denial(text_message(text)) is None
    assert await denial(call_message({"body": text, "at": [1, 2.5, None, True]})) is None


async def test_the_guard_in_its_worker_denies_the_call(tmp_path: Path) -> None:
    """Granted or not: at the points of its policy alone."""
    hooks = {"pre_tool_call": "veto", "output": "veto"}
    async with PluginManager() as manager:
        await manager.load(GUARD, policy=Policy(hooks=hooks))
        secret = SECRETS["a GitHub token"]()
        dispatch = await manager.dispatch(call_message({"body": f"{secret} and {SECRETS['a Stripe key']()}"}))
        assert (dispatch.allowed, dispatch.denied_by) == (False, "secret_guard")
        assert dispatch.reason == "it carries a GitHub token and a Stripe key"
        assert (await manager.dispatch(text_message(secret, "input"))).allowed
        assert (await manager.dispatch(call_message({"body": "hello"}))).allowed


async def test_what_is_too_large_to_be_seen_whole_does_not_pass_unless_told_so() -> None:
    """What was cut off may hold what they look for: the guard denies, the redactor fails, which denies too."""
    cut = AgentMessage.coerced(point="output", parts=[{"type": "text", "content": "x" * 2_000_000}])
    assert cut.truncated
    too_large = "it is too large to be seen whole; the configuration allow_cut lets such pass"
    assert await denial(cut) == too_large
    assert await denial(cut, {"allow_cut": True}) is None
    async with PluginManager() as manager:
        await manager.load(REDACTOR, policy=Policy(hooks={"output": "transform"}))
        dispatch = await manager.dispatch(cut)
        assert (dispatch.allowed, dispatch.records[0].outcome) == (False, "failed:ValueError")
        await manager.load(REDACTOR, policy=Policy(hooks={"output": "transform open"}))
        assert (await manager.dispatch(cut)).message is cut


async def test_the_guard_takes_patterns_and_exceptions() -> None:
    """A pattern of one's own is a kind; what is allowed is no secret, if all of it is."""
    config = {"patterns": {"a badge number": r"B-\d{6}"}, "allow": [r"B-000000", r"gh.*"]}
    assert await denial(text_message("B-123456"), config) == "it carries a badge number"
    assert await denial(text_message("B-000000"), config) is None
    assert await denial(text_message(SECRETS["a GitHub token"]()), config) is None
    with pytest.raises(re.error):
        await guard({"allow": ["("]})


async def test_the_guard_in_a_chain_passes_data_on_or_raises() -> None:
    """What it can't look into doesn't pass: a guard that hasn't seen it can't say that it may."""
    plugin = await guard()
    data = {"a": ["b", b"c", None, 1.5, ("d",)]}
    assert await plugin.process(data) is data
    for carrying in (SECRETS["a GitHub token"](), [{b"x": SECRETS["a GitHub token"]().encode()}]):
        with pytest.raises(ValueError, match=r"^the data carry a GitHub token$"):
            await plugin.process(carrying)
    with pytest.raises(TypeError, match="a ndarray can't be looked into"):
        await plugin.process([numpy.arange(3)])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        await plugin.process(loop)


# ---------------------------------------------------------------------- pii_redactor


def card(prefix: str, length: int) -> str:
    """A number that Luhn accepts."""
    body = prefix + "".join(_random.choice(string.digits) for _ in range(length - len(prefix) - 1))
    digits = [int(d) for d in reversed(body)]
    total = sum(digits[1::2]) + sum(d * 2 - 9 * (d > 4) for d in digits[::2])
    return body + str(-total % 10)


def iban(country: str, account: str) -> str:
    """An account with the check digits of its country."""
    number = int("".join(str(int(c, 36)) for c in account + country + "00"))
    return f"{country}{98 - number % 97:02}{account}"


def spaced(text: str) -> str:
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


async def redacted(value: Any, config: dict[str, Any] | None = None) -> Any:
    plugin = PiiRedactorPlugin()
    await plugin.initialize(config or {})
    return await plugin.process(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ada.lovelace+x@mail.example.org.", "Write to [email]."),
        ("<ö@exämple.org>,o'hara@example.co.uk;", "<[email]>,[email];"),
        ("+49 30 12345678 20 or (555) 123-4567, 555.123.4567", "[phone] or [phone], [phone]"),
        ("0171 1234567; 06 12 34 56 78; (030) 1234567; +15551234567", "[phone]; [phone]; [phone]; [phone]"),
        ("0049 30 1234567 or 020 7946 0958", "[phone] or [phone]"),
        ("from 10.1.2.3:80, 192.168.1.20.", "from [ipv4]:80, [ipv4]."),
    ],
)
async def test_the_redactor_takes_out_what_it_knows(text: str, expected: str) -> None:
    """And nothing around it."""
    assert await redacted(text) == expected


async def test_the_redactor_computes_checksums() -> None:
    """A card or an IBAN in any of its spellings goes; with one digit changed it is no card, and stays."""
    for number in (card("4", 16), card("51", 16), card("2221", 16), card("6011", 16), card("4", 19)):
        for spelling in (number, spaced(number), spaced(number).replace(" ", "-")):
            assert await redacted(f"card {spelling}, 12/27") == "card [credit_card], 12/27"
        wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
        assert await redacted(wrong) == wrong
    amex = card("37", 15)
    assert await redacted(f"{amex[:4]} {amex[4:10]} {amex[10:]}") == "[credit_card]"
    for account in (iban("DE", "370400440532013000"), iban("GB", "WEST12345698765432"), iban("NO", "86011117947")):
        for spelling in (account, spaced(account), account.lower()):
            assert await redacted(f"to {spelling} with thanks") == "to [iban] with thanks"
        wrong = account[:2] + f"{(int(account[2:4]) + 1) % 100:02}" + account[4:]
        assert await redacted(wrong) == wrong


async def test_the_redactor_finds_one_number_right_after_another() -> None:
    """What follows isn't taken for a part of it."""
    two = f"{spaced(card('4', 16))} {spaced(card('55', 16))}"
    assert await redacted(two) == "[credit_card] [credit_card]"
    assert await redacted(f"{spaced(iban('BE', '539007547034'))} with more words") == "[iban] with more words"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22 09:05:17, 01-02-2024 10:15, 22/11/2026",
        "1700000000000 and 1700000000000000000 and 20261122000017",
        "react@18.2.0, user@host, @name, a @ b.c",
        "1.2.3, v1.2.3.4, 1.2.3.4.5, 300.1.1.1, 127.0.0.1, 0.0.0.0, 255.255.255.255",
        "3.14159265358979 and 555-1234 and 123-45-6789",
        "item 0800 - 12 pieces, MA 02110-1301, 0000 0010 0000, 001234567890",
        "\ud7ff\U0010ffff",
    ],
)
async def test_the_redactor_leaves_alone_what_only_looks_like_it(text: str) -> None:
    """Dates, times, versions, identifiers, local addresses."""
    assert await redacted(text) == text


async def test_the_redactor_changes_texts_arguments_and_results_and_nothing_else() -> None:
    """In its worker: the parts keep their order and their other members, and a line counts what went."""
    mail, number = "ada@example.org", card("4", 16)
    blob = base64.b64encode(mail.encode()).decode()
    parts = [
        {"type": "text", "content": f"I am {mail}", "role": "user"},
        {"type": "reasoning", "content": mail},
        {"type": "tool_call", "id": mail, "name": mail, "arguments": {"to": [mail, {"card": int(number)}], "n": 3}},
        {"type": "tool_call", "id": "2", "name": "f", "arguments": json.dumps({"to": mail, "card": int(number)})},
        {"type": "tool_call_response", "id": "3", "response": {mail: 1, "b@example.org": 2, "x": None}},
        {"type": "generic", "anything": mail},
        {"type": "blob", "modality": "text", "content": blob},
        {"type": "uri", "modality": "text", "uri": f"mailto:{mail}"},
    ]
    async with PluginManager() as manager:
        plugin = await manager.load(REDACTOR, policy=Policy(hooks={"pre_model_call": "transform"}))
        before = AgentMessage(id="m", point="pre_model_call", parts=parts)
        dispatch = await manager.dispatch(before)
        assert dispatch.allowed
        assert dispatch.message.parts == [
            {"type": "text", "content": "I am [email]", "role": "user"},
            {"type": "reasoning", "content": "[email]"},
            {**parts[2], "arguments": {"to": ["[email]", {"card": "[credit_card]"}], "n": 3}},
            {**parts[3], "arguments": '{"to": "[email]", "card": "[credit_card]"}'},
            {**parts[4], "response": {"[email]": 1, "[email] 2": 2, "x": None}},
            {"type": "generic", "anything": "[email]"},
            *parts[6:],
        ]
        changed = ", ".join(f"parts[{i}]" for i in range(6))
        assert dispatch.message.redactions == [f"{changed}: changed by pii_redactor"]
        told = json.loads(plugin.runs[-1].stdout)
        assert told == {"message": "m", "point": "pre_model_call", "redacted": {"email": 7, "credit_card": 2}}
        clean = text_message("hello", "pre_model_call")
        assert (await manager.dispatch(clean)).message is clean
        assert plugin.runs[-1].stdout == ""


async def test_the_redactor_takes_kinds_and_patterns() -> None:
    """Some of its kinds, and patterns of one's own, also one that matches nothing at all."""
    config = {"kinds": ["ipv4"], "patterns": {"badge": r"B-\d+", "nothing": "x*?"}}
    assert await redacted("a@example.org B-17 10.0.0.1", config) == "a@example.org [badge] [ipv4]"
    for kinds in (["emial"], "email"):
        with pytest.raises(ValueError, match="write a list of email, iban, credit_card, ipv4, phone"):
            await redacted("", {"kinds": kinds})


async def test_the_redactor_refuses_what_it_cannot_look_into() -> None:
    """Rather than to pass it on."""
    with pytest.raises(TypeError, match="a ndarray can't be looked into"):
        await redacted(numpy.arange(3))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        await redacted(loop)
    deep = "[" * 100_000
    assert await redacted(deep + " a@example.org") == deep + " [email]"


# ---------------------------------------------------------------------- hostile texts


def repeats(pattern: Any) -> list[tuple[Any, int]]:
    """All repeats in a parsed pattern: of which sort, and how often at most."""
    found = []
    for code, argument in pattern:
        if code in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            found.append((code, argument[1]))
        for inner in _inside(argument):
            found += repeats(inner)
    return found


def _inside(argument: Any) -> list[Any]:
    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, (tuple, list)):
        return [inner for item in argument for inner in _inside(item)]
    return []


async def _patterns() -> list[re.Pattern[str]]:
    logger, guarding, redactor = MessageLoggerPlugin(), SecretGuardPlugin(), PiiRedactorPlugin()
    for plugin in (logger, guarding, redactor):
        await plugin.initialize({})
    kinds = [kind.shape for kind in redactor._kinds.values()]
    return [logger._key, *logger._secrets, *guarding._shapes.values(), *kinds]


async def test_no_pattern_can_backtrack_without_bound() -> None:
    """A repeat without an upper bound gives nothing back; one that does is bounded."""
    for pattern in await _patterns():
        for code, most in repeats(_parser.parse(pattern.pattern)):
            if code is not _constants.POSSESSIVE_REPEAT:
                assert most <= 400, pattern.pattern


LONGEST = 250_000
HOSTILE = [
    "a", "1", "-", "a.", "a@", "a@b.", "eyJaaaaaaaa.", "-sk-", "token= ", 'password="', '\\"', "a://b:", "+1 ",
    "DE11 ", "-----BEGIN A ", PEM.format(""), "0171 1", "4444 ", "4-", "(555) ", "xoxb-123456-", "[",
    "\u0661", "secret_",
]  # fmt: skip


async def test_hostile_texts_cost_no_more_than_a_call_may() -> None:
    """Beginnings of patterns, repeated and never ended, as long as an adapter lets a message be: a search that grew
    with the square of the length would take minutes, and the policy has ten seconds of CPU time for a call.
    """
    policy = Policy(cpu_s=10, wall_s=300)
    async with PluginManager() as manager:
        plugins = [await manager.load(spec, policy=policy) for spec in (LOGGER, GUARD, REDACTOR)]
        for unit in HOSTILE:
            text = (unit * LONGEST)[:LONGEST]
            for plugin in plugins:
                assert str((await plugin.run(text)).verdict) in ("completed", "failed:ValueError"), unit  # or found
