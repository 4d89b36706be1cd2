"""What a live dashboard costs the kernel that it watches from."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.kernels import Notebook

PLUGINS = 5
_CALL_S = 30
_MEASURED_S = 6.0
_WATCHED = f'''
%load_ext agentplug
import asyncio, time
from agentplug import PluginManager, Policy, dashboard

class BreathingPlugin:
    """Its memory and CPU time go up and down, so that there is something to see."""
    name, version = "breathing", "1"

    def initialize(self, config): ...

    def process(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            held = bytearray(8 << 20)
            time.sleep(0.2)
            del held
            time.sleep(0.2)

async def share():
    await asyncio.sleep(2)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.sleep({_MEASURED_S})
    return (time.process_time() - cpu_s) / (time.perf_counter() - began_s)

plugins = PluginManager(Policy(wall_s=120))
for number in range({PLUGINS}):
    await plugins.load(BreathingPlugin, f"breathing {{number}}")
calls = asyncio.gather(*(plugin.run({_CALL_S}) for plugin in plugins.plugins.values()))
'''


def watching() -> tuple[float, float]:
    """The share of a core that a kernel takes in which five plugins run: unwatched, and with a dashboard shown."""
    with TemporaryDirectory() as folder, Notebook(Path(folder)) as notebook:
        notebook.run(_WATCHED).check()
        unwatched = float(notebook.run("print(await share())").check().stream())
        notebook.run("shown = dashboard(plugins)\nshown").check()
        return unwatched, float(notebook.run("print(await share())").check().stream())
