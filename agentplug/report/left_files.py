"""Contents of the files that a call left in its scratch directory (host)."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Sequence

from agentplug.contract.policy import format_size
from agentplug.contract.record import LeftFile
from agentplug.contract.text import printable


def content_of(files: Sequence[LeftFile], path: object) -> bytes:
    """Return a file's content. Raises `FileNotFoundError` for a file that isn't there, or wasn't kept."""
    name = str(path)
    names = {shown_path(file): file for file in files} | {file.path: file for file in files}
    file = names.get(name)
    if file is not None and file.content is not None:
        return file.content
    text = printable(repr(name), 300)
    if file is not None:
        fact = (
            f"{text} ({format_size(file.size_bytes)}) wasn't kept: a run keeps 4 MiB of what it left. Grant a folder "
            "with Policy(write=…), and let the plugin write there"
        )
    elif not files:
        fact = f"the call left no file {text}, and no other"
    else:
        near = difflib.get_close_matches(name, names, 1)
        some = near or [shown_path(file) for file in files[:5]]
        fact = f"the call left no file {text}; it left {', '.join(some)}{', …' if len(files) > len(some) else ''}"
    raise FileNotFoundError(errno.ENOENT, fact)


def shown_path(file: LeftFile) -> str:
    """Return the path of a file, safe to show."""
    return printable(file.path, 300)
