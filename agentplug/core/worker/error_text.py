"""An exception as bounded text, and the limit it may stand for (worker side).

Runs the plugin's own `__str__`, which may raise, lie or hang: all inside the call, under its limits.
"""

from __future__ import annotations

import asyncio
import traceback
from opcode import opmap

from agentplug.contract.limits import REFUSALS
from agentplug.core.boundary.frames import MAX_ERROR_MESSAGE, MAX_ERROR_TYPE, MAX_TRACEBACK, Failure

_LIMIT_OF_ERRNO = {number: row.by for row in REFUSALS.values() for number in row.errnos}
_LIMIT_OF_TEXT = {(row.error,): row.by for row in REFUSALS.values() if row.error}


def failure(error: BaseException) -> Failure:
    """What the host gets to see of `error`."""
    return Failure(
        _clip(_name(error), MAX_ERROR_TYPE),
        _clip(_message(error), MAX_ERROR_MESSAGE),
        _clip(_traceback(error), MAX_TRACEBACK),
        "raised",
        limit_of(error),
        _number(error),
        _by_hand(error),
    )


def limit_of(error: BaseException) -> str:
    """Name the limit for which the kernel refuses with such an error, as verdicts do, or nothing."""
    if isinstance(error, MemoryError):
        return "memory"
    try:
        if type(error) is RuntimeError:
            return _LIMIT_OF_TEXT.get(error.args, "")
    except BaseException:  # arguments of its own making
        return ""
    return _LIMIT_OF_ERRNO.get(_number(error), "")


def _number(error: BaseException) -> int:
    try:
        number = error.errno if isinstance(error, OSError) else 0
    except BaseException:
        return 0
    return number if type(number) is int and 0 < number < 4096 else 0


def _by_hand(error: BaseException) -> bool:
    """The traceback ends at a raise statement, and not at a call that failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_code[trace.tb_lasti] == opmap["RAISE_VARARGS"]


def _name(error: BaseException) -> str:
    name: str = _name_of(type(error))
    return name


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as inner:  # SystemExit too: what the plugin raised is known, and worth a verdict
        return f"(its text can't be made: {_name(inner)})"


def _traceback(error: BaseException) -> str:
    """The traceback from the plugin's first frame on."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    try:
        lines = traceback.TracebackException(type(error), error, trace, limit=30).format()
        return "".join(lines)
    except BaseException:
        return ""


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS)


# Frames of the worker, of the loop it runs a coroutine in, and of a notebook cell's runner, up to the plugin's first.
_OURS = (__file__.rpartition("/worker/")[0], asyncio.__path__[0], "<agentplug ")


_name_of = type.__dict__["__name__"].__get__  # a metaclass may answer for its classes, and raise


def _clip(text: str, most: int) -> str:
    text = str.encode(text, "utf-8", "backslashreplace").decode("utf-8")  # not by a subclass's own way
    return text if len(text) <= most else text[: most - 1] + "…"
