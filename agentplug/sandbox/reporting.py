"""An exception as bounded text, and the limit it may stand for (worker side).

Runs the plugin's own `__str__`, which may raise, lie or hang: all inside the call, under its limits.
"""

from __future__ import annotations

import asyncio
import errno
import traceback

from agentplug.contract.wire import MAX_ERROR_MESSAGE, MAX_ERROR_TYPE, MAX_TRACEBACK, Failure

_LIMIT_OF_ERRNO = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "files",
    errno.ENOSPC: "disk",
    errno.EFBIG: "disk",
    errno.EDQUOT: "disk",
    errno.EAGAIN: "processes",
}


def failure(error: BaseException) -> Failure:
    """What the host gets to see of `error`."""
    return Failure(
        _clip(type(error).__name__, MAX_ERROR_TYPE),
        _clip(_message(error), MAX_ERROR_MESSAGE),
        _clip(_traceback(error), MAX_TRACEBACK),
        "raised",
        limit_of(error),
    )


def limit_of(error: BaseException) -> str:
    """The policy field whose kernel limit refuses with this error, or nothing."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError):
        return _LIMIT_OF_ERRNO.get(error.errno or 0, "")
    if type(error) is RuntimeError and error.args == ("can't start new thread",):
        return "threads"
    return ""


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as inner:
        return f"(its text can't be had: {type(inner).__name__})"


def _traceback(error: BaseException) -> str:
    """The traceback from the plugin's first frame on."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    try:
        lines = traceback.TracebackException(type(error), error, trace, limit=30).format()
        return "".join(lines)
    except Exception:
        return ""


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS)


# Frames of the worker, of the loop it runs a coroutine in, and of a notebook cell's runner, up to the plugin's first.
_OURS = (__file__.rpartition("/")[0], asyncio.__path__[0], "<agentplug ")


def _clip(text: str, most: int) -> str:
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= most else text[: most - 1] + "…"
