"""Plugins that attack the display of their names, output and errors, or flood it (worker side)."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from agentplug.zoo._base import MIB, ZooPlugin, as_int

_STEERING = "\x1b]0;owned\x07\x1b[2J\x1b[H<script>alert(1)</script>"


class Impostor(ZooPlugin):
    """Has a name that would run a script in a notebook, and recolour a terminal.

    Stopped by escaping, wherever a plugin's text is displayed. The call itself is harmless: `completed`.
    """

    name = "<svg onload=x>\x1b[32m"
    version = "<script>alert(1)</script>"

    async def process(self, input_data: Any) -> Any:
        """Print a terminal's escape codes, and return a page's script."""
        print(_STEERING)
        return "<script>alert(1)</script>"


class Mirror(ZooPlugin):
    """Reverses text and hides letters in it, so that a reader sees another word.

    Stopped by escaping: direction marks and characters of no width become visible. The call is harmless: `completed`.
    """

    name = "safe\u202egulp\u2066-\u200bin"

    async def process(self, input_data: Any) -> Any:
        """Print an approval that reads the other way round."""
        print("verdict: \u202edetcejer\u202c \u200b\u200d\ufeffapproved\u2028", file=sys.stderr)
        return "\u202edetcejer"


class Masquerader(ZooPlugin):
    """Raises an exception whose type is named like a verdict, with terminal commands in its text.

    Stopped by escaping, for a type's name is text too: `failed:\\x1b[2Jcompleted\\n<b>`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise the exception."""
        raise type("\x1b[2Jcompleted\n<b>", (Exception,), {})(_STEERING)


class GiantError(ZooPlugin):
    """Raises an exception with a text of 3 MB, to fill a log and a page.

    Stopped in the worker, which cuts the text, and by the host's bound on frames: `failed:ValueError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise the exception."""
        raise ValueError("<b>" * MIB)


class EndlessError(ZooPlugin):
    """Raises an exception whose `__str__` never returns.

    Stopped by the watchdog, because the text is made within the call: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise the exception."""
        raise _EndlessTextError


class _EndlessTextError(Exception):
    def __str__(self) -> str:  # noqa: PLE0307
        while True:
            pass


class SilentError(ZooPlugin):
    """Raises an exception whose `__str__` raises another.

    Nothing needs to stop it: the error is reported without a text: `failed:_SilentTextError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise the exception."""
        raise _SilentTextError


class _SilentTextError(Exception):
    def __str__(self) -> str:
        raise ValueError("no comment")


class DeadlyError(ZooPlugin):
    """Raises an exception whose `__str__` raises SystemExit.

    Nothing needs to stop it: a note takes the place of the text: `failed:_DeadlyTextError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise the exception."""
        raise _DeadlyTextError


class _DeadlyTextError(Exception):
    def __str__(self) -> str:
        raise SystemExit("no comment") from None


class LyingError(ZooPlugin):
    """Raises an exception named like that of a limit, with a traceback through files that don't exist.

    Nothing needs to stop it: only the host decides about limits: `failed:LimitExceeded`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it from code compiled under the host's name."""
        code = "class LimitExceeded(RuntimeError): pass\nraise LimitExceeded('Plugin host exceeded memory limit')"
        exec(compile(code, "/usr/lib/host/kernel.py", "exec"), {})


class ChainedError(ZooPlugin):
    """Raises an exception with a chain of 10,000 causes.

    Stopped in the worker, which sends as much of the chain as fits into a frame: `failed:KeyError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Build the chain, and raise its last exception."""
        last: BaseException = ValueError("the first")
        for serial in range(10_000):
            following = KeyError(serial)
            following.__cause__ = last
            last = following
        raise last


class Flooder(ZooPlugin):
    """Prints more than the host wants to store.

    Stopped by the limit on output; the rest is counted and dropped: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write `input_data` MiB, 64 unless a number is given, to both streams in turn."""
        for serial in range(as_int(input_data, 64) * 16):
            os.write(1 + serial % 2, b"\x1b[5m<blink>" * 5957)
        return "flooded"


class Grumbler(ZooPlugin):
    """Warns and logs thousands of times with different texts, so that no filter drops repetitions.

    Stopped by the limit on output; the host's own logging never sees it: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Warn and log 2,000 times with 4 KB each."""
        warnings.simplefilter("always")
        for serial in range(2000):
            logging.getLogger("host").critical("%d%s", serial, "!" * 4000)
            warnings.warn(f"{serial}{'?' * 100}", stacklevel=1)
        return "said"
