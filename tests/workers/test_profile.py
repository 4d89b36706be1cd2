"""A profile says where a call's memory or CPU time went: a claim of the plugin's process, bounded, typed, and shown
as such. Where the policy asks for none, or for another one, no such frame is taken.
"""

# ruff: noqa: F811  fixtures that another module has
from __future__ import annotations

from typing import Any

import msgspec
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from agentplug.contract.record import Verdict
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.bounds import PROFILER_DISK_BYTES
from agentplug.core.host.claims import claimed_profile
from agentplug.core.host.output import stream_to
from agentplug.core.run import Run
from tests.unit.test_profile import GOOD, confined, frame, plugin  # noqa: F401

MIB = 1 << 20


def outermost(run: Run) -> set[str]:
    assert run.profile is not None
    return {stack.places[0].function.rpartition(".")[2] for stack in run.profile.stacks}


def weight_of(run: Run, function: str) -> int:
    """What all stacks with this function on them took."""
    assert run.profile is not None
    stacks = run.profile.stacks
    return sum(s.weight for s in stacks if any(place.function.endswith(function) for place in s.places))


# ---------------------------------------------------------------------- memory


@confined
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_memory_is_told_by_line_with_the_plugins_call_first(plugin: Any, kind: str) -> None:
    """Coroutine or function, the first call or a later one: stacks begin at `process`, and none of ours shows."""
    body = f"{kind} process(self, n):\n    kept = table(n)\n    big = bytearray(3 * MIB)\n    return len(kept)"
    profiled = plugin(body, profile="memory")
    for _ in range(2):
        run = profiled.run_sync(5)
        assert (run.value, run.stderr) == (5, "")
        assert run.profile.kind == "memory"
        assert run.profile.missing == ""
        assert outermost(run) == {"process"}
        first, second = run.profile.stacks[:2]
        assert [place.function for place in first.places][:2] == ["process", "table"]
        assert first.weight == pytest.approx(5 * MIB, abs=1_000)
        assert first.times == 5
        assert [place.function for place in second.places] == ["process"]
        assert second.weight == pytest.approx(3 * MIB, abs=1_000)
        assert second.places[-1].file.endswith("profiled.py")


@confined
def test_memory_is_that_of_the_peak_and_of_every_thread(plugin: Any) -> None:
    """What was freed before the peak isn't in it; what a thread holds is."""
    body = """
def process(self, n):
    table(n)
    held = []
    thread = threading.Thread(target=self.hold, args=(held, n))
    thread.start()
    thread.join()
    more = bytearray(MIB)
    return len(held)
def hold(self, held, n):
    held.append(bytearray(2 * n * MIB))
"""
    run = plugin(body, profile="memory").run_sync(4)
    assert weight_of(run, "hold") == pytest.approx(8 * MIB, abs=10_000)
    assert weight_of(run, "table") == 0
    assert run.profile.total == pytest.approx(9 * MIB, abs=100_000)


@confined
def test_the_profilers_file_is_gone_after_each_call(plugin: Any) -> None:
    """The scratch directory has room for it whatever the policy's disk is, and is as empty afterwards as before."""
    profiled = plugin("def process(self, n):\n    return os.listdir('.')", profile="memory", disk=0, threads=1)
    first, second = (profiled.run_sync(0) for _ in range(2))
    assert (first.profile.missing, second.profile.missing) == ("", "")
    assert len(first.value) == len(second.value) == 1
    assert first.value != second.value


@confined
def test_the_disk_limit_still_holds(plugin: Any) -> None:
    """The profiler's room is bounded too."""
    body = f"""
def process(self, n):
    with open("big", "wb") as file:
        for _ in range({2 * PROFILER_DISK_BYTES // MIB}):
            file.write(bytes(MIB))
"""
    assert plugin(body, profile="memory", disk="1M").run_sync(0).verdict == Verdict("limited", "disk")


@confined
@pytest.mark.parametrize("kind", ["memory", "cpu"])
def test_the_memory_limit_does_not_pay_for_the_profiler(plugin: Any, kind: str) -> None:
    """Its import isn't counted: a small plugin runs where few megabytes are granted."""
    run = plugin("def process(self, n):\n    return len(table(4))", profile=kind, memory="24M", cpu_s=0.5).run_sync(0)
    assert run.verdict == Verdict("completed")


# ---------------------------------------------------------------------- CPU


@confined
def test_cpu_time_is_told_for_every_thread_and_waiting_costs_nothing(plugin: Any) -> None:
    """The shares are those of the work, in the coroutine, in its tasks and in its threads."""
    body = """
async def process(self, n):
    await asyncio.sleep(0.05)
    thread = threading.Thread(target=self.beside)
    thread.start()
    await asyncio.create_task(self.task())
    self.once()
    thread.join()
def once(self):
    burn(0.04)
async def task(self):
    burn(0.12)
def beside(self):
    burn(0.3)
"""
    run = plugin(body, profile="cpu").run_sync(0)
    assert run.verdict == Verdict("completed")
    once, task, beside = (weight_of(run, name) / 1e9 for name in ("once", "task", "beside"))
    assert 0 < once < task < beside  # a busy machine lets the sampler wait: a boundary may be a little off
    assert 0.3 < once + task + beside <= run.profile.total / 1e9 <= run.usage.cpu_s
    assert {"process", "task", "beside"} <= outermost(run)
    frame = run.profile.to_frame()
    assert list(frame.columns) == ["function", "file", "line", "self_s", "total_s", "share"]
    assert frame.share.sum() == pytest.approx(1)


@confined
@pytest.mark.parametrize("kind", ["memory", "cpu"])
def test_deep_stacks_are_cut_in_the_middle(plugin: Any, kind: str) -> None:
    """Where they begin and where they end is told, and a recursion of any depth takes little room."""
    body = """
def process(self, n):
    self.dive(700)
def dive(self, n):
    if n:
        self.dive(n - 1)
    else:
        self.held = table(4)
        burn(0.1)
"""
    run = plugin(body, profile=kind).run_sync(0)
    heaviest = [place.function.rpartition(".")[2] for place in run.profile.stacks[0].places]
    assert len(heaviest) == wire.MAX_DEPTH
    assert heaviest[:2] == ["process", "dive"]
    assert heaviest.count("… more calls …") == 1
    assert "table" in heaviest or "burn" in heaviest


@confined
def test_one_thread_is_enough(plugin: Any) -> None:
    """The sampler's own thread isn't counted against the plugin."""
    run = plugin("def process(self, n):\n    burn(0.1)", profile="cpu", threads=1).run_sync(0)
    assert run.verdict == Verdict("completed")
    assert weight_of(run, "burn") > 0


@confined
def test_the_interpreter_is_left_as_it_was(plugin: Any) -> None:
    """No thread of ours stays, and the switch interval is the old one; `initialize` isn't profiled."""
    body = """
def process(self, n):
    found = sys.getswitchinterval()
    if n:
        threading.Thread(target=burn, args=(0.01,)).start()
        raise ValueError("n")
    return found, threading.active_count()
"""
    profiled = plugin(body, profile="cpu")
    first = profiled.run_sync(0)
    failed = profiled.run_sync(1)
    assert first.value[1] == 1
    assert failed.verdict == Verdict("failed", "ValueError")
    assert failed.profile is not None
    assert profiled.run_sync(0).value[0] == first.value[0]


# ---------------------------------------------------------------------- each call


@confined
@pytest.mark.parametrize("kind", ["memory", "cpu"])
async def test_each_call_of_a_window_has_its_own(plugin: Any, kind: str) -> None:
    """They share one measurement, and no profile."""
    body = "async def process(self, n):\n    kept = table(n)\n    burn(0.02 * n)\n    return n"
    profiled = plugin(body, profile=kind)
    runs = [run async for run in profiled.map([1, 4, 8], window=3)]
    assert [run.value for run in runs] == [1, 4, 8]
    weights = [weight_of(run, "table" if kind == "memory" else "burn") for run in runs]
    assert weights == sorted(weights)
    assert weights[2] > 4 * weights[0] > 0


@confined
def test_a_profiler_that_fails_says_why_and_the_call_goes_on(plugin: Any) -> None:
    """Here the plugin has taken the profiler away."""
    body = """
async def initialize(self, config):
    sys.modules["memray"].Tracker = None
async def process(self, n):
    return n
"""
    run = plugin(body, profile="memory").run_sync(1)
    assert run.value == 1
    assert run.profile.missing.startswith("TypeError: ")
    assert run.profile.to_frame().empty
    assert "wasn't profiled: TypeError" in str(run.profile)
    assert "wasn&#x27;t profiled" in run._repr_html_()


@confined
def test_a_sampler_that_fails_says_why_too(plugin: Any) -> None:
    """Its thread ends quietly: stderr is the plugin's."""
    body = """
async def initialize(self, config):
    sys.modules["agentplug.core.worker.profiling"]._threads = lambda: [(1, {})]
async def process(self, n):
    burn(0.1)
    return n
"""
    run = plugin(body, profile="cpu").run_sync(1)
    assert (run.value, run.stderr) == (1, "")
    assert run.profile.missing.startswith("TypeError: ")


@confined
def test_a_plugin_that_ends_takes_its_profile_along(plugin: Any) -> None:
    """Nothing was said, so there is nothing to show."""
    run = plugin("def process(self, n):\n    os._exit(3)", profile="memory").run_sync(0)
    assert run.verdict == Verdict("died", "exit 3")
    assert run.profile is None
    assert "profile" not in run._repr_html_()


@confined
@pytest.mark.parametrize("kind", ["memory", "cpu"])
def test_what_comes_after_the_plugin_is_not_its_own(plugin: Any, kind: str) -> None:
    """A profile of a call that raised ends where it raised: to write the traceback down is the worker's work."""
    run = plugin(
        "def process(self, n):\n    held = table(4)\n    burn(0.1)\n    raise KeyError", profile=kind
    ).run_sync(0)
    assert run.verdict == Verdict("failed", "KeyError")
    assert outermost(run) == {"process"}


@confined
def test_an_interrupted_call_has_a_profile_and_so_has_the_next(plugin: Any) -> None:
    """The profiler ends with the call, however that ends."""
    body = """
async def process(self, n):
    held = table(4)
    print("begun", flush=True)
    await asyncio.sleep(n)
"""
    profiled = plugin(body, profile="memory")
    stream_to(lambda: lambda name, text: profiled._inside.stop("interrupt"))
    try:
        run = profiled.run_sync(60)
    finally:
        stream_to(None)
    assert run.verdict == Verdict("stopped", "interrupt")
    assert weight_of(run, "table") == pytest.approx(4 * MIB, abs=1_000)
    assert weight_of(profiled.run_sync(0), "table") == pytest.approx(4 * MIB, abs=1_000)


@confined
def test_without_the_wish_there_is_none(plugin: Any) -> None:
    """The default policy measures from outside alone."""
    run = plugin("def process(self, n):\n    return 'memray' in sys.modules").run_sync(0)
    assert (run.value, run.profile) == (False, None)


FORGE = """
def process(self, given):
    from agentplug.core.boundary.frames import HEADER, MAGIC
    from agentplug.core.worker.profiling import Profiling
    honest, call, bodies = given
    if not honest:
        Profiling.take = lambda self: None
    caller = sys._getframe()
    while caller.f_code.co_name != "_call":
        caller = caller.f_back
    for body in bodies:
        number = call or caller.f_locals["frame"].call
        os.write(3, HEADER.pack(MAGIC, 24, 0, number, len(body), 0) + body)
    return "forged"
"""
BODY = msgspec.msgpack.encode(GOOD)


OUT_OF_PLACE: dict[str, tuple[str, list[Any]]] = {
    "none was asked for": ("", [False, 0, [BODY]]),
    "beside the honest one": ("cpu", [True, 0, [BODY]]),
    "twice": ("cpu", [False, 0, [BODY, BODY]]),
    "of another call": ("cpu", [False, 7, [BODY]]),
    "of another kind": ("memory", [False, 0, [BODY]]),
    "too large": ("cpu", [False, 0, [b"\x90" * (wire.MAX_PROFILE_BYTES + 1)]]),
    "undecodable": ("cpu", [False, 0, [b"\xc1"]]),
}


@confined
@pytest.mark.parametrize("name", OUT_OF_PLACE)
def test_a_profile_out_of_place_breaks_the_protocol(plugin: Any, name: str) -> None:
    """Nobody asked for it, or not for this."""
    profile, given = OUT_OF_PLACE[name]
    run = plugin(FORGE, profile=profile).run_sync(given)
    assert run.verdict == Verdict("broken", "protocol")
    assert (run.value, run.profile) == (None, None) or name in ("beside the honest one", "twice")


@confined
def test_initialize_has_no_profile(plugin: Any) -> None:
    """Only calls of `process` are measured, and one that comes with another answer breaks the protocol."""
    body = FORGE.replace("def process(self, given):", "def initialize(self, given):\n    given = given['given']")
    given = [False, 0, [BODY]]
    made = plugin(body + "\ndef process(self, n):\n    return n", profile="cpu")
    made._inside.life.config = {"given": given}
    assert made.run_sync(1).verdict == Verdict("broken", "protocol")


@confined
def test_a_forged_one_in_its_place_is_a_claim(plugin: Any) -> None:
    """It decides nothing."""
    run = plugin(FORGE, profile="cpu").run_sync([False, 0, [BODY]])
    assert run.value == "forged"
    assert run.profile == claimed_profile(frame(GOOD), "cpu")


@confined
def test_a_cell_shows_its_profile(ip: InteractiveShell) -> None:
    """`%%sandbox --profile` shows the value and the graph, in which the cell's own lines stand."""
    with capture_output() as shown:
        ip.run_cell("%%sandbox --profile memory\nkept = bytearray(3 << 20)\nlen(kept)").raise_error()
    (profile,) = [output for output in shown.outputs if "text/html" in output.data]
    assert "Memory at its peak" in profile.data["text/html"]
    assert "line 2 · 3 MiB" in profile.data["text/html"]
    assert ip.user_ns["_run"].profile.kind == "memory"
