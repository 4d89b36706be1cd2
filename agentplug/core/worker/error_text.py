"""Describe an exception as bounded text, with the limit that may have caused it (worker side).

The plugin's own `__str__` runs here. It may raise, lie or hang, but it runs inside the call, under its limits.
"""

from __future__ import annotations

import asyncio
import traceback

from agentplug.contract.limits import REFUSALS
from agentplug.core.boundary.frames import MAX_ERROR_MESSAGE, MAX_ERROR_TYPE, MAX_TRACEBACK, Failure

_LIMIT_OF_ERRNO = {number: row.by for row in REFUSALS.values() for number in row.errnos}
_LIMIT_OF_TEXT = {(row.error,): row.by for row in REFUSALS.values() if row.error}


def failure(error: BaseException) -> Failure:
    """Describe `error` for the host."""
    return Failure(
        _clip(_name(error), MAX_ERROR_TYPE),
        _clip(_message(error), MAX_ERROR_MESSAGE),
        _clip(_traceback(error), MAX_TRACEBACK),
        "raised",
        limit_of(error),
    )


def limit_of(error: BaseException) -> str:
    """Return the limit that leads to such an error, named as in verdicts, or "". The host looks for evidence."""
    if isinstance(error, MemoryError):
        return "memory"
    try:
        if type(error) is RuntimeError:
            return _LIMIT_OF_TEXT.get(error.args, "")
    except BaseException:  # the plugin's own arguments may raise
        return ""
    return _LIMIT_OF_ERRNO.get(_number(error), "")


def _number(error: BaseException) -> int:
    try:
        number = error.errno if isinstance(error, OSError) else 0
    except BaseException:
        return 0
    return number if type(number) is int and 0 < number < 4096 else 0


def _name(error: BaseException) -> str:
    name: str = _name_of(type(error))
    return name


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as inner:  # SystemExit too: the verdict is about the first error
        return f"(its text can't be made: {_name(inner)})"


def _traceback(error: BaseException) -> str:
    """Return the traceback from the plugin's first stack frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    try:
        return "".join(traceback.TracebackException(type(error), error, trace, limit=30).format())
    except BaseException:
        return ""


# Stack frames above the plugin's first: of the worker, of its event loop.
_OURS = (__file__.rpartition("/worker/")[0], asyncio.__path__[0])


_name_of = type.__dict__["__name__"].__get__  # a metaclass may define `__name__`, and raise


def _clip(text: str, most: int) -> str:
    text = str.encode(text, "utf-8", "backslashreplace").decode("utf-8")  # a subclass may override it
    return text if len(text) <= most else text[: most - 1] + "…"
