"""Running the battery: one attack after another, each in its own worker, and checks after each (host)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterable

from agentplug.core.progress import Progress
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.doctor.battery.catalogue import CATALOGUE, Attack
from agentplug.doctor.battery.matrix import REFUSED, Matrix, Row
from agentplug.doctor.battery.pulse import Pulse, beating
from agentplug.doctor.battery.stage import Stage
from agentplug.doctor.battery.stock import Stock, left_since
from agentplug.doctor.battery.victim import forget_peak, own_memory_kb
from agentplug.errors import AgentplugError, BarrierUnavailable
from agentplug.report.displays import bundle

HARD_S = 20.0
LONGEST_GAP_S = 0.100
MOST_GROWTH_KB = 64 << 10
MOST_EVENTS = 2_000
_TRIES = 3
# Characters and tags that must never reach a terminal or a page.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_MARKUP = re.compile(r"<(script|svg|blink|img|iframe)", re.IGNORECASE)
# What a display may be in a page: a frame without rights, a picture without an address.
_FRAMES = re.compile(
    r'<iframe sandbox="" [^<>]*></iframe>|<img alt="image/\w+" [^<>"]*"[^<>"]*" src="data:image/[^<>"]*">'
)


async def run_battery(attacks: Iterable[Attack] = CATALOGUE, progress: Callable[[Row], None] | None = None) -> Matrix:
    """Run `attacks` on a stage and judge each by its effects.

    `progress` gets each row as it comes; without it a progress bar is shown.

    An attack is contained if its verdict is an accepted one, the stage is unharmed, nothing of it is left, and this
    loop was never delayed by over 100 ms. Only such a delay may be the fault of a busy machine: then the attack runs
    again, up to three times in all. An attack whose policy this machine can't enforce never ran, so it is contained.

    Raises `BarrierUnavailable` if no worker can be confined at all. Nothing else should run in this process
    meanwhile: whatever it starts looks like something left behind.
    """
    rows: list[Row] = []
    attacks = list(attacks)
    with Progress("attacks", len(attacks)) as bar:
        async with contextlib.AsyncExitStack() as stages, beating() as pulse:
            stage = await stages.enter_async_context(Stage())
            for attack in attacks:
                for _ in range(_TRIES):
                    row, harmed = await _once(attack, stage, pulse)
                    if harmed or row.host_gap_ms <= LONGEST_GAP_S * 1000:
                        break
                if harmed:
                    await stages.aclose()
                    stage = await stages.enter_async_context(Stage())
                rows.append(row)
                if progress is not None:
                    progress(row)
                else:
                    bar.step()
    return Matrix(tuple(rows))


async def _once(attack: Attack, stage: Stage, pulse: Pulse) -> tuple[Row, bool]:
    """Run one attack and check its effects. Return its row, and True if the stage was harmed."""
    before = Stock.take()
    forget_peak()
    resident_kb = own_memory_kb("VmRSS")
    pulse.begin()
    began_s = time.monotonic()
    run, refusal = await let_loose(attack, stage)
    wall_s, gap_s = time.monotonic() - began_s, pulse.longest_s
    grown_kb = own_memory_kb("VmHWM") - resident_kb
    harm = await stage.damage() + await left_since(before)
    if run is not None:
        harm += stage.leaks(run) + _steering(run)
    if run is not None and len(run.events) > MOST_EVENTS:
        harm.append(f"{len(run.events)} events were kept")
    if grown_kb > MOST_GROWTH_KB:
        harm.append(f"this process grew by {grown_kb >> 10} MiB")
    verdict = str(run.verdict) if run is not None else refusal
    flaws = list(harm)
    if run is None and not refusal.startswith(REFUSED):
        flaws.append("it didn't end by itself")
    if run is not None and verdict not in attack.contained:
        flaws.append(f"the verdict is none of {', '.join(attack.contained)}")
    if gap_s > LONGEST_GAP_S:
        flaws.append(f"this process's loop was held up for {gap_s * 1000:.0f} ms")
    row = Row(
        attack.name,
        attack.family,
        attack.target,
        " or ".join(attack.contained),
        verdict,
        not flaws,
        "; ".join(flaws) or ("nothing ran" if run is None else "the stage is unharmed, nothing is left"),
        wall_s,
        gap_s * 1000,
    )
    return row, bool(harm)


async def let_loose(attack: Attack, stage: Stage, *, freely: bool = False) -> tuple[Run | None, str]:
    """Run the attack. Return its last run and "", or None and the reason. `freely`: as in `Stage.fill`."""
    plugin = SandboxedPlugin(attack.spec, stage.policy(attack))
    run = None
    try:
        async with asyncio.timeout(HARD_S):
            for _ in range(attack.calls):
                run = await plugin.run(stage.fill(attack.argument, freely=freely))
                if run.value is not None or run.verdict.kind != "completed":
                    break
                await asyncio.sleep(0)  # an immediate reply would give no other task a turn
        return run, ""
    except TimeoutError:
        return None, f"still running after {HARD_S:g} s"
    except BarrierUnavailable:
        return None, REFUSED
    except AgentplugError as error:
        return None, f"{type(error).__name__}: {error}"
    finally:
        await plugin.close()


def _steering(run: Run) -> list[str]:
    """List the displays of a run that have characters or tags which steer a terminal or a page."""
    flaws = []
    for text in (repr(run), run.explain().replace("\n", " ")):
        if _STEERING.search(text):
            flaws.append("its text steers a terminal")
    for display in run.displays:
        flaws += ["a display steers a page" for text in bundle(display).values() if _STEERING.search(_one_line(text))]
    for page in (run._repr_html_(), *(bundle(display).get("text/html", "") for display in run.displays)):
        page = _FRAMES.sub("", page)
        if _MARKUP.search(page) or _STEERING.search(_one_line(page)):
            flaws.append("its text steers a page")
    return flaws


def _one_line(text: object) -> str:
    return str(text).replace("\n", " ").replace("\t", " ")
