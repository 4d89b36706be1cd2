"""What a peer runs: one attack of the zoo, and what came of it (in the peer's worker)."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import Any

MOST_TEXT = 1 << 20


def attack(spec: str, given: Any, folder: str = "") -> Any:
    """The attack's value; in `folder`, if one is named."""
    if folder:
        os.chdir(folder)
    module, _, name = spec.partition(":")
    plugin = getattr(importlib.import_module(module), name)()

    async def called() -> Any:
        await plugin.initialize({})
        return await plugin.process(given)

    return asyncio.run(called())


def main() -> None:
    """The same for peers that run programs: arguments as JSON, the outcome as a last line of JSON."""
    spec, given = json.loads(sys.argv[1])
    try:
        outcome, text = "completed", repr(attack(spec, given))
    except BaseException as error:
        outcome, text = f"failed:{type(error).__name__}", str(error)
    print(f"\n{json.dumps([outcome, text[:MOST_TEXT]])}", flush=True)


if __name__ == "__main__":
    main()
