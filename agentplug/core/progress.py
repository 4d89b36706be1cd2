"""Progress bars and batches of inputs (host).

Bars are tqdm's: a widget in a notebook, a line in a terminal, nothing where nobody looks. Work of less than a second
has none. `AGENTPLUG_PROGRESS=0` in the environment switches all bars off; in a kernel that nbval tests they are off
anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Self

from agentplug.errors import ContractError

_UNDER_TEST = "PYTEST_CURRENT_TEST"  # set by pytest, and inherited by the kernels that nbval starts
_DELAY_S = 1.0
_TICK_S = 0.25


def bars_are_visible() -> bool:
    """True if somebody would see a bar, and nothing switches bars off."""
    if os.environ.get("AGENTPLUG_PROGRESS", "").lower() in {"0", "off", "no", "false"}:
        return False
    if _UNDER_TEST in os.environ:
        return False
    return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", bool)())


class Progress:
    """A bar for `total` steps, as a context manager, which removes the bar at its end.

    The text `what` stands before the bar. Without a `total` it shows the elapsed time alone.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what = what
        self._total = total
        self._count = 0
        self._began_s = time.monotonic()
        self._due_s = self._began_s + _DELAY_S if bars_are_visible() else float("inf")
        self._bar: Any = None

    def step(self, count: int = 1) -> None:
        """Count `count` more steps; 0 updates the time alone."""
        self._count += count
        if self._bar is not None:
            self._bar.update(count)
            if not count:
                self._bar.refresh()
        elif time.monotonic() >= self._due_s:
            self._show()

    def _show(self) -> None:
        from tqdm.auto import tqdm

        quiet = type("Bar", (tqdm,), {"monitor_interval": 0})  # no thread of its own
        look = {} if self._total is not None else {"bar_format": "{desc} {elapsed}"}
        # The delay keeps tqdm from drawing before its clock, which would start only now, is set back.
        bar = self._bar = quiet(desc=self._what, total=self._total, leave=False, delay=1e-9, **look)
        if not bar.disable:  # by tqdm's own TQDM_DISABLE
            bar.start_t = bar.last_print_t = bar.start_t - (time.monotonic() - self._began_s)
            bar.update(self._count)
            bar.refresh()
            bar.delay = 0

    def close(self) -> None:
        """Remove the bar."""
        self._due_s = float("inf")
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.asynccontextmanager
async def waiting(what: str) -> AsyncIterator[None]:
    """Show the elapsed time of the block, once that is over a second."""
    if not bars_are_visible():
        yield
        return
    with Progress(what) as progress:
        ticking = asyncio.create_task(_tick(progress))
        try:
            yield
        finally:
            ticking.cancel()


async def _tick(progress: Progress) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        progress.step(0)


async def batches(inputs: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    """Yield `inputs` in lists of `size`, the last one perhaps shorter. Raises `ContractError`."""
    if isinstance(inputs, Iterable) and not isinstance(inputs, AsyncIterable):
        inputs = _each(inputs)
    elif not isinstance(inputs, AsyncIterable):
        raise ContractError(f"map() takes an iterable of inputs, not a {type(inputs).__name__}")
    batch: list[Any] = []
    async for item in inputs:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _each(inputs: Iterable[Any]) -> AsyncIterator[Any]:
    for item in inputs:
        yield item
