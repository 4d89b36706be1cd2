"""Plugins that attack whoever looks at them, or drown them in words (worker side)."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from agentplug.zoo._beast import MIB, Beast, number

_STEERING = "\x1b]0;owned\x07\x1b[2J\x1b[H<script>alert(1)</script>"


class Impostor(Beast):
    """Bears a name that would run a script in a notebook, and recolour a terminal.

    Stopped wherever text from a plugin is shown: it is escaped, and shows as what it is. The call itself is harmless:
    `completed`.
    """

    name = "<svg onload=x>\x1b[32m"
    version = "<script>alert(1)</script>"

    async def process(self, input_data: Any) -> Any:
        """Print what steers a terminal, and return what steers a page."""
        print(_STEERING)
        return "<script>alert(1)</script>"


class Mirror(Beast):
    """Turns text around and hides letters in it, so that a reader sees another word than is there.

    Stopped wherever it is shown: directions and characters of no width become visible. Harmless itself: `completed`.
    """

    name = "safe\u202egulp\u2066-\u200bin"

    async def process(self, input_data: Any) -> Any:
        """Print an approval that reads the other way round."""
        print("verdict: \u202edetcejer\u202c \u200b\u200d\ufeffapproved\u2028", file=sys.stderr)
        return "\u202edetcejer"


class Masquerader(Beast):
    """Raises an exception whose type is called like a verdict, with commands to a terminal in its text.

    Stopped wherever it is shown: a type's name is text. `failed:\\x1b[2Jcompleted\\n<b>`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it."""
        raise type("\x1b[2Jcompleted\n<b>", (Exception,), {})(_STEERING)


class GiantError(Beast):
    """Raises an exception with a text of 3 MB, for a log to hold and a page to show.

    Stopped in the worker, which cuts it, and by the bound on what the host takes: `failed:ValueError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it."""
        raise ValueError("<b>" * MIB)


class EndlessError(Beast):
    """Raises an exception whose text takes for ever: whoever asks what happened, never hears.

    Stopped by the watchdog, for it is asked within the call: `limited:cpu`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it."""
        raise _EndlessTextError


class _EndlessTextError(Exception):
    def __str__(self) -> str:  # noqa: PLE0307
        while True:
            pass


class SilentError(Beast):
    """Raises an exception that raises another when it is asked for its text.

    Nothing needs to stop it: it is told without one: `failed:_SilentTextError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it."""
        raise _SilentTextError


class _SilentTextError(Exception):
    def __str__(self) -> str:
        raise ValueError("no comment")


class DeadlyError(Beast):
    """Raises an exception that exits when it is asked for its text.

    Nothing needs to stop it: that its text can't be made is told in the text's place: `failed:_DeadlyTextError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it."""
        raise _DeadlyTextError


class _DeadlyTextError(Exception):
    def __str__(self) -> str:
        raise SystemExit("no comment") from None


class LyingError(Beast):
    """Raises an exception that passes itself off as a limit's, with a traceback through files that aren't there.

    Nothing needs to stop it: whose limit it was is the host's to say: `failed:LimitExceeded`.
    """

    async def process(self, input_data: Any) -> Any:
        """Raise it from code compiled under the host's name."""
        code = "class LimitExceeded(RuntimeError): pass\nraise LimitExceeded('Plugin host exceeded memory limit')"
        exec(compile(code, "/usr/lib/host/kernel.py", "exec"), {})


class ChainedError(Beast):
    """Raises an exception with 10,000 others behind it, each the cause of the next.

    Stopped in the worker, which tells of it what fits into a frame: `failed:KeyError`.
    """

    async def process(self, input_data: Any) -> Any:
        """Chain them, and raise the last."""
        last: BaseException = ValueError("the first")
        for serial in range(10_000):
            following = KeyError(serial)
            following.__cause__ = last
            last = following
        raise last


class Flooder(Beast):
    """Prints without end, for the host to store and a notebook to show.

    Stopped by a bound on what is kept; the rest is counted and dropped: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Write `input_data` MiB, 64 unless a number is given, to both streams in turn."""
        for serial in range(number(input_data, 64) * 16):
            os.write(1 + serial % 2, b"\x1b[5m<blink>" * 5957)
        return "flooded"


class Grumbler(Beast):
    """Warns and logs without end, each time with another text, so that no filter takes two for one.

    Stopped by the bound on its output, and by nothing of the host's, which never sees its logging: `completed`.
    """

    async def process(self, input_data: Any) -> Any:
        """Warn and log 2,000 times with 4 KB each."""
        warnings.simplefilter("always")
        for serial in range(2000):
            logging.getLogger("host").critical("%d%s", serial, "!" * 4000)
            warnings.warn(f"{serial}{'?' * 100}", stacklevel=1)
        return "said"
