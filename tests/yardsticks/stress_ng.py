"""One stressor of stress-ng in a plugin, and what came of it (host).

stress-ng is a program, so the plugin may have children. A run is bounded by its policy, and by the guard of `machine`
should that fail.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentplug import Policy, SandboxedPlugin
from agentplug.core.run import Run
from agentplug.doctor.battery.stock import Stock, left_since
from tests.yardsticks.machine import MIB, feeling, things

POLICY = Policy(memory="256M", disk="32M", processes=16, threads=64, open_files=256, cpu_s=10, wall_s=6, output="64K")
WORKERS = 2
IDLE = "(nothing)"
MOST_LAG_S = 0.100
MOST_UNTOLD_BYTES = int(POLICY.memory) // 4

PLUGIN = """
import subprocess

def process(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return [done.returncode, (done.stdout + done.stderr)[-20000:]]

class StressorPlugin:
    name, version = "stressor", "1"

    async def initialize(self, config):
        pass

    def process(self, command):
        return process(command)
"""


@dataclass(frozen=True)
class Row:
    """What came of one stressor. `told_bytes` is the peak that the run tells; `pages_bytes` and `kernel_bytes` are
    what the kernel's account rose by, `kept_bytes` what of that stayed; `left` are the things that did."""

    stressor: str
    outcome: str
    why: str
    wall_s: float
    told_bytes: int
    pages_bytes: int
    kernel_bytes: int
    kept_bytes: int
    lag_s: float
    left: tuple[str, ...]
    guarded: str
    tries: int = 1

    @property
    def faults(self) -> list[str]:
        """List what a stressor must not come to."""
        found = list(self.left) + [self.guarded] * bool(self.guarded)
        if self.lag_s > MOST_LAG_S:
            found.append(f"the loop stood still for {self.lag_s * 1000:.0f} ms")
        if (untold := self.pages_bytes + self.kernel_bytes - self.told_bytes) > MOST_UNTOLD_BYTES:
            found.append(f"{untold // MIB} MiB more than the run tells")
        if self.kept_bytes > MOST_UNTOLD_BYTES:
            found.append(f"{self.kept_bytes // MIB} MiB stayed")
        return found


def version() -> str:
    """Return the version of stress-ng. Raises `SystemExit` if it isn't installed."""
    if shutil.which("stress-ng") is None:
        raise SystemExit("stress-ng isn't installed: apt-get install stress-ng")
    said = subprocess.run(["stress-ng", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


def stressors() -> list[str]:
    """Return the names of all stressors that this stress-ng was built with."""
    return subprocess.run(["stress-ng", "--stressors"], capture_output=True, text=True, check=True).stdout.split()


def command(stressor: str, seconds: int, more: Sequence[str] = ()) -> list[str]:
    """Return the command that runs one stressor in the current directory, with `more` options; of `IDLE` a sleep."""
    if stressor == IDLE:
        return ["sleep", str(seconds)]
    # It begins with as much shared memory as the cache of this level has: the last one's may be more than a plugin's.
    options = f"-t {seconds} --temp-path . --oomable --cache-level 2".split()
    return [str(shutil.which("stress-ng")), f"--{stressor}", str(WORKERS), *options, *more]


async def run_stressor(stressor: str, seconds: int, account: Path | None, more: Sequence[str] = ()) -> Row:
    """Run one stressor in a fresh plugin, and look round afterwards."""
    before, stock = things(), Stock.take()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stressor.py")
        path.write_text(PLUGIN)
        async with feeling(account) as felt:
            began_s = time.monotonic()
            async with SandboxedPlugin(path, POLICY) as plugin:
                run = await plugin.run(command(stressor, seconds, more))
            wall_s = time.monotonic() - began_s
    left = (*await left_since(stock), *sorted(things() - before))
    figures = (max(0, run.usage.peak_memory_bytes), felt.pages_bytes, felt.kernel_bytes, felt.look(), felt.lag_s)
    return Row(stressor, *came_of(run), wall_s, *figures, left, felt.guarded)


def came_of(run: Run) -> tuple[str, str]:
    """Say in a word what came of a run, and why, in stress-ng's own first words of complaint."""
    if run.verdict.kind != "completed":
        return str(run.verdict), ""
    status, said = run.value
    if not said:
        return "ran", ""
    why = _complaint(said)
    if "dispatching" not in said or status in (3, 4) or "skipping" in why:
        return "didn't start", why
    if status:
        return "refused" if "errno" in why or "exit status" in why else "failed", why
    return ("ran, not all of it", why) if why else ("ran", "")


def _complaint(said: str) -> str:
    lines: list[str] = re.findall(r"^stress-ng: (?:fail|warn|error|info): +\[\d+\] (.*)$", said, re.MULTILINE)
    words = re.compile(r"errno|fail|skipp|disabled|not |cannot|need|require|unable|prematurely", re.IGNORECASE)
    complaint = next((line for line in lines if words.search(line)), "")
    return re.sub(r"\b\d{3,}\b|0x[0-9a-f]+", "…", complaint)
