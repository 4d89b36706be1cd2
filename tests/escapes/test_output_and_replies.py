"""Attacks through what a plugin sends: floods, giants, things that can't be decoded, and forged frames."""

from __future__ import annotations

from pathlib import Path

import pytest
from arena import MIB, until

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict

FLOOD = """
import os

def attack(megabytes):
    for _ in range(megabytes * 16):
        os.write(1, b"x" * 65536)
    return megabytes
"""

BOTH_STREAMS = """
import os, threading

def attack(megabytes):
    def flood(fd):
        for _ in range(megabytes * 16):
            os.write(fd, b"x" * 65536)
    threads = [threading.Thread(target=flood, args=(fd,)) for fd in (1, 2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return megabytes
"""

GIANT = """
def attack(megabytes):
    return "x" * (megabytes << 20)
"""

GIANT_BYTES = """
def attack(megabytes):
    return bytes(megabytes << 20)
"""

GIANT_LIST = """
def attack(megabytes):
    return [[]] * (megabytes << 15)
"""

GIFT = """
import os, pickle

class Gift:
    def __reduce__(self):
        return os.system, ("echo this ran in the host",)

def attack(unpickle):
    gift = {"answer": 42, "list": [1, Gift()]}
    if unpickle:
        pickle.loads(pickle.dumps(gift))  # what a host does that takes replies by pickle
        return "delivered"
    return gift
"""

FORGED = """
import os, struct, sys, time

HEADER = struct.Struct("<BBHIII")
HELLO, LOADED, REPLY, ERROR, UNSERIALIZABLE, SETTLED = 16, 17, 18, 19, 20, 21

def number():
    # This call's number stands in a frame of the stack, where the worker keeps the request.
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if hasattr(value, "structure") and hasattr(value, "call"):
                return value.call
        frame = frame.f_back
    return 0

def reply(kind=REPLY, call=None, body=b"\\xa6forged", announced=None):
    call = number() if call is None else call & 0xFFFFFFFF
    return HEADER.pack(0xA6, kind, 0, call, len(body) if announced is None else announced, 0) + body

def send(data):
    while data:
        data = data[os.write(3, data):]

def attack(given):
    exec(given, globals())
    return "honest"
"""

STEERING = """
def attack(given):
    raise type("\\x1b[2JCleared\\n<b>", (Exception,), {})("\\x1b]0;title\\x07")
"""

DEAF = """
import socket

def attack(given):
    channel = socket.socket(fileno=3)
    channel.shutdown(socket.SHUT_RD)
    channel.detach()
    return "deaf"
"""

# What a host believes that reads a child's answer and its exit status, and asks no more.
NAIVE = """
import json, os, sys

def attack(given):
    os.write(int(sys.argv[1]), json.dumps("forged").encode())
    os._exit(0)
"""

DRIP = """
import os, sys, time

def attack(given):
    for byte in b'"drop"' * 100:
        os.write(int(sys.argv[1]), bytes([byte]))
        time.sleep(0.05)
"""

LATE = """
import os, threading, time

def attack(given):
    def later():
        time.sleep(0.05)
        os.write(3, given.encode("latin-1"))
    threading.Thread(target=later, daemon=True).start()
    return "innocent"
"""

PROTOCOL = Verdict("broken", "protocol")


@pytest.fixture
def host_growth():
    """`host_growth()`: by how many bytes this process has been larger than when the test began, at its largest."""

    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS:")
    return lambda: status("VmHWM:") - before


@pytest.mark.parametrize("code", [FLOOD, BOTH_STREAMS], ids=["stdout", "both"])
def test_a_flood_of_output_is_counted_and_dropped(unconfined, confined, host_growth, code):
    """It neither blocks the plugin nor grows the host; what is kept has a bound, what is dropped is counted."""
    assert unconfined(code, 16).stdout_bytes == 16 * MIB

    run = confined(code, 256)

    assert run.verdict == Verdict("completed")
    assert len(run.stdout) + len(run.stderr) == MIB
    assert run.usage.output_bytes == 256 * MIB * (2 if code is BOTH_STREAMS else 1)
    assert host_growth() < 16 * MIB


@pytest.mark.parametrize("code", [GIANT, GIANT_BYTES, GIANT_LIST], ids=["text", "bytes", "list"])
def test_a_giant_reply_is_dropped_as_it_comes(unconfined, confined, host_growth, code):
    """The host stores nothing of it, and refuses it once more than the limit has come."""
    as_json = code.replace("bytes(", "'x' * (")
    assert len(unconfined(as_json, 8).value) == 8 << (15 if code is GIANT_LIST else 20)
    grown = host_growth()

    run = confined(code, 64, policy=Policy(memory="1G"))

    assert run.verdict == Verdict("limited", "reply")
    assert host_growth() - grown < 16 * MIB


def test_a_large_reply_is_taken_in_turns(confined):
    """Not an attack: what the policy allows comes through, and the host's loop goes on meanwhile (`unharmed`)."""
    assert len(confined(GIANT_BYTES, 15).value) == 15 * MIB


def test_names_and_messages_cannot_steer_a_display(unconfined, confined):
    """What a plugin calls its exception is text in a verdict, not a command to a terminal."""
    assert "\x1b[2J" in unconfined(STEERING).stderr

    run = confined(STEERING)

    assert run.verdict == Verdict("failed", "\\x1b[2JCleared\\n<b>")
    assert not {"\x1b", "\x07"} & set(f"{run.verdict}{run!r}{run.explain()}")


def test_a_worker_that_stops_listening_has_died(confined):
    """Its reply came, but a worker that can't be told of another call isn't back in its own loop."""
    assert confined(DEAF).verdict == Verdict("died", "exit 0")


def test_a_reply_that_is_no_plain_data_is_refused_by_name(unconfined, confined):
    """Nothing that comes back is unpickled; the verdict tells which type stood where."""
    free = unconfined(GIFT, True)
    assert (free.value, free.stdout_bytes) == ("delivered", len("this ran in the host\n"))

    run = confined(GIFT, False)

    assert run.verdict == Verdict("broken", "unserializable")
    detail = run.events[-1].detail
    assert "Gift" in detail["type"]
    assert "list" in detail["where"]
    assert "[1]" in detail["where"]


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        pytest.param("send(reply()); os._exit(0)", Verdict("died", "exit 0"), id="reply_and_exit"),
        pytest.param("send(reply()[:-3]); os._exit(0)", Verdict("died", "exit 0"), id="truncated_and_exit"),
        pytest.param("send(reply()[:9]); os._exit(0)", Verdict("died", "exit 0"), id="half_a_header_and_exit"),
        pytest.param("send(reply()); os.kill(os.getpid(), 9)", Verdict("died", "SIGKILL"), id="reply_and_kill"),
        pytest.param("send(reply())\nwhile True: pass", Verdict("limited", "wall"), id="reply_and_spin"),
        pytest.param("send(reply()); time.sleep(1e6)", Verdict("limited", "wall"), id="reply_and_sleep"),
        pytest.param("send(reply() + reply(SETTLED)); time.sleep(1e6)", PROTOCOL, id="reply_and_guess"),
        pytest.param("send(b'Traceback (most recent call last)')", PROTOCOL, id="text"),
        pytest.param("send(bytes(1 << 20))", PROTOCOL, id="zeros"),
        pytest.param("send(os.urandom(1 << 16))", PROTOCOL, id="noise"),
        pytest.param("send(b'\\xa6')", PROTOCOL, id="one_byte"),
        pytest.param("send(reply()[:-3])", PROTOCOL, id="truncated"),
        pytest.param("send(reply()[:-3]); time.sleep(1e6)", PROTOCOL, id="truncated_and_sleep"),
        pytest.param("send(reply())", PROTOCOL, id="duplicate"),
        pytest.param("send(reply() * 1000)", PROTOCOL, id="thousands"),
        pytest.param("send(reply(call=number() + 1))", PROTOCOL, id="next_call"),
        pytest.param("send(reply(call=0))", PROTOCOL, id="call_zero"),
        pytest.param("send(reply(HELLO))", PROTOCOL, id="hello"),
        pytest.param("send(reply(LOADED))", PROTOCOL, id="loaded"),
        pytest.param("send(reply(SETTLED))", PROTOCOL, id="settled_before_its_reply"),
        pytest.param("send(reply() + reply(SETTLED))", PROTOCOL, id="settled_by_guess"),
        pytest.param("send(reply(1))", PROTOCOL, id="a_hosts_frame"),
        pytest.param("send(reply(255))", PROTOCOL, id="no_kind"),
        pytest.param("send(reply(announced=0xFFFFFFFF))", PROTOCOL, id="announced_4G"),
        pytest.param("send(reply(announced=20 << 20)); time.sleep(1e6)", PROTOCOL, id="announced_20M"),
        pytest.param("send(reply(ERROR, body=b'\\xc1')); os.read(3, 1)", PROTOCOL, id="error_undecodable"),
        pytest.param("send(reply(body=b'\\xc1' * 9)); os.read(3, 1)", PROTOCOL, id="reply_undecodable"),
        pytest.param("for byte in reply(): send(bytes([byte])); time.sleep(0.002)", PROTOCOL, id="drip"),
        pytest.param(
            "for byte in reply(body=b'x' * 80): send(bytes([byte])); time.sleep(0.002)", PROTOCOL, id="long_drip"
        ),
        pytest.param("os.close(3); time.sleep(1e6)", PROTOCOL, id="hung_up"),
        pytest.param("os.dup2(0, 3)", Verdict("died", "exit 125"), id="replaced"),
    ],
)
def test_forged_frames_end_the_worker_and_nothing_else(unconfined, confined, script, verdict):
    """A frame counts if it is whole, expected and from a worker that is back in its own loop."""
    assert unconfined(NAIVE).value == "forged"

    run = confined(FORGED, script, policy=Policy(wall_s=2.5))

    assert run.verdict == verdict
    assert run.value is None


def test_a_reply_in_drops_keeps_nobody_waiting(unconfined, confined):
    """A frame that has begun must come to its end in its time, however long the plugin may work on its answer."""
    assert unconfined(DRIP, seconds=0.5).status is None

    run = confined(FORGED, "for byte in reply(body=b'x' * 60): send(bytes([byte])); time.sleep(0.2)")

    assert run.verdict == PROTOCOL
    assert run.usage.wall_s < 2


@pytest.mark.parametrize("data", ["\xa6\x12\0\0\1\0\0\0\1\0\0\0\0\0\0\0\xc0", "garbage", "\xa6"])
def test_a_frame_between_calls_ends_the_worker(arena, data):
    """A worker that nobody asked has nothing to say; the next call gets a fresh one."""

    async def wait_for_the_end():
        async with arena.plugin(LATE) as plugin:
            first = await plugin.run(data)
            await until(lambda: plugin.state != "ready")
            return first.verdict, plugin.state, plugin._inside.events[0].kind, await plugin.process("x")

    assert arena.watched(wait_for_the_end) == (Verdict("completed"), "failed", "protocol", "innocent")
