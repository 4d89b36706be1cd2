"""`python -m tests.benchmarks.size`: the modules and lines that one call loads on each side, and lines of each room.

The host's side is a new process that makes one call of a plugin file. The worker's side is what that plugin finds in
`sys.modules`, the zygote's imports included. Tables in Markdown, as ARCHITECTURE.md has them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "agentplug"
PLUGIN = """
import sys
class ListingPlugin:
    name, version = "listing", "1"
    async def initialize(self, config): pass
    async def process(self, input_data): return sorted(m for m in sys.modules if m.partition(".")[0] == "agentplug")
"""
CALL = """
import json, sys
from agentplug import SandboxedPlugin
plugin = SandboxedPlugin(sys.argv[1])
worker = plugin.run_sync(None).check()
host = sorted(m for m in sys.modules if m.partition(".")[0] == "agentplug")
plugin.close_sync()
print(json.dumps({"host": host, "worker": worker}))
"""


def modules_of_one_call() -> dict[str, list[str]]:
    """Names of our modules that one call loads, by side."""
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder, "listing.py")
        plugin.write_text(PLUGIN)
        done = subprocess.run(
            [sys.executable, "-c", CALL, str(plugin)], capture_output=True, text=True, timeout=120, check=True
        )
    sides: dict[str, list[str]] = json.loads(done.stdout)
    return sides


def lines(module: str) -> int:
    """Lines of a module of ours."""
    path = PACKAGE.parent / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return len(file.read_text().splitlines())


def rooms() -> Counter[str]:
    """Lines of each room: a top-level folder, and of `core` each folder within."""
    sizes: Counter[str] = Counter()
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).parts
        deep = 2 if parts[0] == "core" and len(parts) > 2 else 1
        sizes["/".join(parts[:deep]) if len(parts) > 1 else "(root)"] += len(file.read_text().splitlines())
    return sizes


def main() -> None:
    """Print both tables; with `--modules`, each module of a call too."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.size", description=main.__doc__)
    parser.add_argument("--modules", action="store_true", help="list the modules that one call loads")
    options = parser.parse_args()
    sides = modules_of_one_call()
    sides["both together"] = sorted({*sides["host"], *sides["worker"]})
    print("| one call loads | modules | lines |\n|---|---:|---:|")
    for side, names in sides.items():
        print(f"| {side} | {len(names)} | {sum(map(lines, names)):,} |")
    sizes = rooms()
    print("\n| room | lines |\n|---|---:|")
    for room in sorted(sizes):
        print(f"| {room} | {sizes[room]:,} |")
    print(f"| all | {sum(sizes.values()):,} |")
    if options.modules:
        for side in ("host", "worker"):
            print(f"\n{side}")
            for name in sorted(sides[side], key=lines, reverse=True):
                print(f"{lines(name):>6} {name}")


if __name__ == "__main__":
    main()
