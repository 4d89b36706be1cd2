"""A profile says where a call's memory or CPU time went: a claim of the plugin's process, bounded, typed, and shown
as such. Where the policy asks for none, or for another one, no such frame is taken.
"""

from __future__ import annotations

import html
import html.parser
import importlib.util
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentplug.contract.options import policy_from_options
from agentplug.contract.policy import Policy
from agentplug.contract.profile import CLAIM, Place, Stack
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import Violation
from agentplug.core.boundary.frames import Frame, Plan
from agentplug.core.host.claims import claimed_profile
from agentplug.core.profile import Profile
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.worker import profiling
from agentplug.errors import PolicyError

confined = pytest.mark.need("landlock", "seccomp")

BASE = """
import asyncio, os, sys, threading, time

def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1_000))

def table(n):
    return [bytearray(MIB) for _ in range(n)]

MIB = 1 << 20

class Base:
    name, version = "base", "1"
    async def initialize(self, config): pass
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Callable[..., SandboxedPlugin]]:
    """A plugin made of the body of a class, under a policy."""
    with ExitStack() as after:

        def made(body: str, **policy: Any) -> SandboxedPlugin:
            path = tmp_path / "profiled.py"
            lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
            path.write_text(f"{BASE}\nclass Plugin(Base):\n{lines}\n")
            found = SandboxedPlugin(f"{path}:Plugin", Policy(**policy))
            after.callback(found.close_sync)
            return found

        yield made


@confined
def test_what_is_missing_is_said_before_anything_starts(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fact and the remedy; the host looks for the package, and imports nothing."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "memray" else found(name, *a))
    with pytest.raises(PolicyError, match=re.escape("pip install 'agentplug[profile]'")):
        plugin("def process(self, n): pass", profile="memory").run_sync(0)


@pytest.mark.parametrize("value", ["Memory", "wall", True, None, 1])
def test_a_policy_knows_two_kinds(value: Any) -> None:
    """Others are refused by name."""
    with pytest.raises(PolicyError, match=r"^profile="):
        Policy(profile=value)


def test_it_does_not_go_with_observing() -> None:
    """What the profiler writes would be learned as the plugin's need."""
    with pytest.raises(PolicyError, match="one at a time"):
        Policy(profile="memory", observe="files")


def test_it_is_an_option_too() -> None:
    """`--profile cpu`, for the magics and the command line."""
    assert policy_from_options({"profile": "cpu"}) == Policy(profile="cpu")
    with pytest.raises(PolicyError, match="--profile='x'"):
        policy_from_options({"profile": "x"})


# ---------------------------------------------------------------------- the frame

SITES = [["process", "p.py", 3], ["leaf", "p.py", 9]]
GOOD = {"kind": "cpu", "sites": SITES, "stacks": [[5, 1, [0]], [7, 2, [0, 1]]], "dropped": 2}


def frame(body: Any, blobs: bytes = b"") -> Frame:
    structure = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
    return Frame(wire.PROFILE, 0, 1, structure, blobs)


def test_a_good_frame_is_a_profile() -> None:
    """Heaviest first; indices are places."""
    top, leaf = (Place(*site) for site in SITES)
    told = claimed_profile(frame(GOOD), "cpu")
    assert told == Profile("cpu", (Stack(7, 2, (top, leaf)), Stack(5, 1, (top,))), 2)
    assert told.total == 14
    assert pickle.loads(pickle.dumps(told)) == told


BAD: dict[str, Any] = {
    "another kind": GOOD | {"kind": "memory"},
    "no kind": GOOD | {"kind": "wall"},
    "no such site": GOOD | {"stacks": [[1, 1, [2]]]},
    "site below zero": GOOD | {"stacks": [[1, 1, [-1]]]},
    "an empty stack": GOOD | {"stacks": [[1, 1, []]]},
    "a deep stack": GOOD | {"stacks": [[1, 1, [0] * (wire.MAX_DEPTH + 1)]]},
    "too many stacks": GOOD | {"stacks": [[1, 1, [0]]] * (wire.MAX_STACKS + 1)},
    "too many sites": GOOD | {"sites": [["", "", 0]] * (wire.MAX_SITES + 1)},
    "a negative weight": GOOD | {"stacks": [[-1, 1, [0]]]},
    "a huge weight": GOOD | {"stacks": [[1 << 51, 1, [0]]]},
    "no whole weight": GOOD | {"stacks": [[0.5, 1, [0]]]},
    "a long name": GOOD | {"sites": [["x" * (wire.MAX_FUNCTION + 1), "", 1]]},
    "a long file": GOOD | {"sites": [["x", "x" * (wire.MAX_FILE + 1), 1]]},
    "a line below zero": GOOD | {"sites": [["x", "x", -1]]},
    "a negative rest": GOOD | {"dropped": -1},
    "a long excuse": GOOD | {"missing": "x" * (wire.MAX_MISSING + 1)},
    "no map": [1, 2],
    "no MessagePack": b"\xc1",
    "no UTF-8": msgspec.msgpack.encode(GOOD).replace(b"leaf", b"le\xffe"),
    "nothing": b"",
    "too large": b"\x90" * (wire.MAX_PROFILE_BYTES + 1),
}


@pytest.mark.parametrize("name", BAD)
def test_a_frame_out_of_bounds_is_a_violation(name: str) -> None:
    """Each part is typed and bounded."""
    with pytest.raises(Violation):
        claimed_profile(frame(BAD[name]), "cpu")


def test_blobs_have_no_place_in_it() -> None:
    """It is structure alone."""
    with pytest.raises(Violation):
        claimed_profile(frame(GOOD, b"x"), "cpu")


# ---------------------------------------------------------------------- the worker's bounds


def told_of(stacks: list[tuple[int, int, list[tuple[str, str, int]]]], dropped: int = 0) -> Profile:
    """What the host takes of these stacks, as the worker cuts them."""
    return claimed_profile(frame(wire.encode_body(profiling._bounded("memory", stacks, dropped))), "memory")


def test_more_than_is_taken_is_summed() -> None:
    """The heaviest stacks are told, all others in one figure: nothing is lost from the whole."""
    stacks = [(weight, 1, [("f", "p.py", weight)]) for weight in range(1, 2_001)]
    told = told_of(stacks, 7)
    assert [stack.weight for stack in told.stacks] == list(range(2_000, 1_500, -1))
    assert told.total == sum(range(2_001)) + 7


@pytest.mark.parametrize("name", ["x", "é", "\U0001f600", "\udc80"])
def test_the_largest_that_a_worker_sends_is_taken(name: str) -> None:
    """However long and odd the names are, and however deep the stacks."""
    stacks = [
        (1_000 - n, 1, [(name * 500 + str(d), f"/{n}/" + name * 500, d) for d in range(200)]) for n in range(600)
    ]
    told = told_of(stacks)
    assert told.total == sum(weight for weight, _, _ in stacks)
    assert told.stacks
    assert {len(stack.places) for stack in told.stacks} == {wire.MAX_DEPTH}
    gaps = [place.function for place in told.stacks[0].places if not place.file]
    assert gaps == ["… more calls …"]


def test_frames_of_the_worker_and_of_threads_are_cut() -> None:
    """Who reads it sees the plugin first."""
    library = str(Path(importlib.__file__ or "").parent.parent)
    places = [
        ("leaf", "/plugin.py", 1),
        ("_find", "<frozen importlib._bootstrap>", 5),
        ("process", "/plugin.py", 2),
        ("_run", f"{library}/asyncio/events.py", 3),
        ("_call", str(Path(profiling.__file__).parent / "worker.py"), 4),
        ("main", "/zygote.py", 5),
    ]
    assert profiling._visible(places) == [("process", "/plugin.py", 2), ("leaf", "/plugin.py", 1)]


def test_nothing_is_told_twice() -> None:
    """What was found is taken once; a call that wasn't measured has no profile."""
    plan = Plan(1, 1.0, 0, 1, 16, 0, 64, False, [], [], 0, profile="cpu")
    taken = profiling.Profiling(plan)
    assert taken.take() is None
    taken.start()
    taken.stop()
    taken.stop()
    assert taken.take() == wire.Profile("cpu")
    assert taken.take() is None


# ---------------------------------------------------------------------- how it looks

HOSTILE = '<script>alert("1")</script>\x1b[31m\u202e\'"&'
HIDDEN = set("\x1b\u202e")


def hostile(kind: str = "memory") -> Profile:
    top = Place(HOSTILE, f'/tmp/{HOSTILE}" onload="x', 3)
    return Profile(kind, (Stack(3_000_000, 4, (top, Place("leaf", "/x/site-packages/lib/a.py", 9))),), 1_000_000)


class Tags(html.parser.HTMLParser):
    """The tags and the attributes of some HTML; each must be closed where it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("kind", ["memory", "cpu"])
def test_hostile_names_are_shown_as_text(kind: str) -> None:
    """In the graph, in the table, in a terminal, in a frame: no markup, no escape, no override."""
    profile = hostile(kind)
    for text in (profile.flame(), profile._repr_html_()):
        tags = Tags(text)
        assert tags.found <= {"div", "span", "b", "code", "details", "summary"} | set(
            "table thead tbody tr th td".split()
        )
        assert tags.attributes <= {"style", "title", "role", "aria-label", "class", "open"}
        assert CLAIM in html.unescape(re.sub("<[^>]*>", "", text))
        assert not set(text) & HIDDEN
    frame = profile.to_frame()
    assert CLAIM in str(profile)
    for text in (str(profile), *frame.function, *frame.file):
        assert not set(text) & HIDDEN


def test_a_memory_frame_has_its_columns() -> None:
    """Sizes in bytes; what was told no more is in the attributes."""
    frame = hostile().to_frame()
    assert frame[["line", "size_bytes", "total_bytes", "allocations", "share"]].to_numpy().tolist() == [
        [9, 3_000_000, 3_000_000, 4, 0.75],
        [3, 0, 3_000_000, 0, 0.0],
    ]
    assert frame.attrs == {
        "frame": "profile",
        "kind": "memory",
        "total": 4_000_000,
        "dropped": 1_000_000,
        "missing": "",
        "claim": "as the plugin's own process says",
    }


def test_a_graph_of_any_size_stays_small() -> None:
    """Calls too small to see have no box, and the whole is bounded."""
    wide = tuple(Stack(1_000, 1, tuple(Place(f"f{n % 7}{d}", "p.py", n) for d in range(60))) for n in range(500))
    assert len(Profile("cpu", wide).flame()) < 400_000


def test_a_box_says_as_much_as_it_has_room_for() -> None:
    """Name and amount, the name alone, or nothing; the title has it all."""
    sizes = {"wide": 900, "narrow": 80, "slim": 20}
    stacks = [Stack(size, 1, (Place(name, "p.py", 0),)) for name, size in sizes.items()]
    shown = Profile("memory", tuple(stacks)).flame()
    assert "<b>wide · 900 B</b>" in shown
    assert "<b>narrow</b>" in shown
    assert "<b>slim" not in shown
    assert "slim · p.py · 20 B, 2% of all · 1 allocation" in shown


REST = {"memory": "without a Python stack, or lighter than those shown", "cpu": "in more stacks than are told"}


@pytest.mark.parametrize("kind", REST)
def test_what_is_not_told_by_line_has_lines_of_its_own(kind: str) -> None:
    """The heaviest lines and the rest together are the whole, in text, in the table and in the graph."""
    stacks = tuple(Stack(1_000 - n, 1, (Place(f"f{n}", "p.py", n + 1),)) for n in range(20))
    profile = Profile(kind, stacks, 80_000)
    *_, more, rest = str(profile).splitlines()
    assert more.endswith("12 more lines")
    assert "80%" in rest
    assert REST[kind] in rest
    shown = html.unescape(re.sub("<[^>]*>", " ", profile._repr_html_()))
    assert "5 more lines" in shown
    assert REST[kind] in shown
    assert f"80% of all · {REST[kind]}" in profile.flame()
    assert "more" not in str(Profile(kind, stacks[:3]))
    only = str(Profile(kind, (), 5)).splitlines()
    assert len(only) == 2
    assert REST[kind] in only[1]


def test_what_has_no_python_stack_is_not_called_light() -> None:
    """It may be the most of all, and is told as that."""
    profile = told_of([(9_000, 3, []), (1_000, 1, [("f", "p.py", 1)])])
    assert (len(profile.stacks), profile.dropped) == (1, 9_000)
    assert str(profile).splitlines()[-1].split() == ["8.789", "KiB", "90%", *REST["memory"].split()]


def test_an_empty_one_says_so() -> None:
    """A call may be too short for a sample."""
    profile = Profile("cpu")
    assert profile.flame() == ""
    assert str(profile).startswith("CPU time: nothing to show")
    assert profile.to_frame().empty
    assert repr(profile) == "<Profile of cpu: 0 stacks, as the plugin's own process says>"
    assert "nothing to show" in profile._repr_html_()
