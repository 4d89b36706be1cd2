"""Matplotlib's lists of fonts, read once by a zygote for all its workers (worker side).

To make one takes a quarter of a second, a program and a file. A worker has neither program nor file, so it gets the
lists that Matplotlib keeps for this user, without the fonts that no worker may read.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
from typing import Any

_PLACES = ("/usr/share/fonts/", "/usr/local/share/fonts/")
_MOST_BYTES = 4 << 20
_lists: dict[str, str] = {}


def read_lists() -> None:
    """Read the user's lists, in the zygote."""
    for path in glob.glob(os.path.expanduser("~/.cache/matplotlib/fontlist-v*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            with open(path, encoding="utf-8") as file:
                fonts = json.loads(file.read(_MOST_BYTES))
            for name in ("afmlist", "ttflist"):
                fonts[name] = [font for font in fonts[name] if _is_readable(font["fname"])]
            _lists[os.path.basename(path)] = json.dumps(fonts)


def _is_readable(path: str) -> bool:
    return path.startswith(_PLACES) or not path.startswith("/")  # the latter are Matplotlib's own


def open_list(path: Any, mode: str = "r", **options: Any) -> io.StringIO:
    """Open a list as `open` would. Raises `FileNotFoundError` if there is none, and for one that is to be written."""
    text = _lists.get(os.path.basename(path)) if mode.startswith("r") else None
    if text is None:
        raise FileNotFoundError(path)
    return io.StringIO(text)
