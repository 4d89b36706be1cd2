"""What agentplug does where it can't confine anything: macOS and Windows, as far as they can be imitated."""

from __future__ import annotations

import subprocess
import sys

import pytest

_IMITATION = """
import asyncio, importlib, sys
import agentplug  # its lazy names have loaded nothing yet
import asyncio, concurrent.futures, socket, subprocess, tempfile, shutil, platform, site, sysconfig, pandas
import cloudpickle, msgspec
for name in {missing!r}:
    sys.modules[name] = None
sys.platform = {platform!r}
import agentplug
for name in agentplug.__all__:
    getattr(agentplug, name)

class Quiet:
    name, version = "quiet", "1"
    async def initialize(self, config): ...
    async def process(self, x): ...

report = agentplug.doctor()
assert not report.fit and "Linux" in report.summary(), report
for policy in (agentplug.Policy(), agentplug.Policy(best_effort=True)):
    try:
        asyncio.run(agentplug.SandboxedPlugin(Quiet, policy).start())
    except agentplug.BarrierUnavailable as error:
        print(error)
    else:
        raise SystemExit("it started")
"""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_package_imports_and_start_is_refused_off_linux(platform: str) -> None:
    """Off Linux every public name can be had, doctor() says what is missing, and a start is refused, not faked."""
    missing = ["landlockpy", "seccompy"] + (["resource", "fcntl"] if platform == "win32" else [])
    code = _IMITATION.format(missing=missing, platform=platform)

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"this is {platform}") == 2
