"""Names and spelling for messages about specs (host): quoting, near matches, identifiers made of anything."""

from __future__ import annotations

import difflib
import os
import shlex
import unicodedata
from collections.abc import Iterable
from itertools import islice

from agentplug.contract.text import printable
from agentplug.errors import SpecError

_MOST_ENTRIES = 5_000


def quoted(text: str) -> str:
    """`text` in quotes, escaped and cut, for a message."""
    return f"'{printable(text, 120)}'"


def quoted_path(path: str) -> str:
    """`path` in quotes, escaped; of a very long one the end, where the file's name is."""
    return f"'{printable(path if len(path) <= 500 else '…' + path[-500:], 501)}'"


def shell_word(text: str) -> str:
    """`text` as one word of a command in a message: what people copy into a shell is a stranger's text."""
    return shlex.quote(printable(text, 500))


def near_match(name: str, names: Iterable[str], prefix: str = "") -> str:
    """`; did you mean 'PREFIX…'?` when one of `names` is close to `name`, else nothing."""
    found = difflib.get_close_matches(name[:200], sorted(set(names) - {name}), 1, cutoff=0.7)
    return f"; did you mean {quoted(prefix + found[0])}?" if found else ""


def identifier_of(text: str) -> str:
    """`text` as the tail of an identifier: NFKC, as Python's own names, other characters as `_`, at most 60."""
    normal = unicodedata.normalize("NFKC", text[:60])[:60]
    return "".join(c if f"a{c}".isidentifier() else "_" for c in normal)


def check_class_name(name: str, spec: str) -> str:
    """`name` if it can be a class's name, as it stands behind the colon of `spec`."""
    if not name:
        raise SpecError(f"spec {quoted(spec)} names no class after its colon; write MODULE:Class, or drop the colon")
    if not name.isidentifier():
        raise SpecError(f"spec {quoted(spec)}: {quoted(name)} can't be a class's name; write MODULE:Class")
    return name


def python_files(directory: str) -> list[str]:
    """Names of the `.py` files in `directory`, sorted; none when it can't be listed."""
    return sorted(name for name, is_directory in _listed(directory) if name.endswith(".py") and not is_directory)


def modules_in(directories: Iterable[str]) -> set[str]:
    """Names that an import could find in `directories`, by file names alone."""
    names = set()
    for directory in directories:
        for name, is_directory in _listed(directory or "."):
            if (is_directory or name.endswith(".py")) and name.removesuffix(".py").isidentifier():
                names.add(name.removesuffix(".py"))
    return names - {"__init__", "__pycache__", "__main__"}


def _listed(directory: str) -> list[tuple[str, bool]]:
    """Names in `directory` and whether each is a directory; of a very big one the first 5,000."""
    try:
        with os.scandir(directory) as entries:
            return [(entry.name, entry.is_dir()) for entry in islice(entries, _MOST_ENTRIES)]
    except OSError:
        return []
