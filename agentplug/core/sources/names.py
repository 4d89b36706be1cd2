"""Names in messages about specs (host): quotes, near matches, identifiers, names in directories."""

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
    """Return `text` in quotes, escaped and shortened, for a message."""
    return f"'{printable(text, 120)}'"


def quoted_path(path: str) -> str:
    """Return `path` in quotes, escaped; of a very long path its end, with the file's name."""
    return f"'{printable(path if len(path) <= 500 else '…' + path[-500:], 501)}'"


def shell_word(text: str) -> str:
    """Return `text` as one word of a command in a message: people copy a stranger's text into a shell."""
    return shlex.quote(printable(text, 500))


def near_match(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean 'PREFIX…'?` if one of `names` is close to `name`, else an empty text."""
    matches = difflib.get_close_matches(name[:200], sorted(set(names) - {name}), 1, cutoff=0.7)
    return f"; did you mean {quoted(prefix + matches[0])}?" if matches else ""


def identifier_of(text: str) -> str:
    """Return `text` as the tail of an identifier: in NFKC as Python's names, other characters as `_`, at most 60."""
    normal = unicodedata.normalize("NFKC", text[:60])[:60]
    return "".join(c if f"a{c}".isidentifier() else "_" for c in normal)


def check_class_name(name: str, spec: str) -> str:
    """Return `name`, from behind the colon of `spec`, if it can be a class's name. Raises `SpecError`."""
    if not name:
        raise SpecError(f"spec {quoted(spec)} names no class after its colon; write MODULE:Class, or drop the colon")
    if not name.isidentifier():
        raise SpecError(f"spec {quoted(spec)}: {quoted(name)} can't be a class's name; write MODULE:Class")
    return name


def python_files(directory: str) -> list[str]:
    """Return the names of the `.py` files in `directory`, sorted; none if it can't be listed."""
    return sorted(name for name, is_directory in _listed(directory) if name.endswith(".py") and not is_directory)


def modules_in(directories: Iterable[str]) -> set[str]:
    """Return names that an import could find in `directories`, by file names alone."""
    names = set()
    for directory in directories:
        for name, is_directory in _listed(directory or "."):
            if (is_directory or name.endswith(".py")) and name.removesuffix(".py").isidentifier():
                names.add(name.removesuffix(".py"))
    return names - {"__init__", "__pycache__", "__main__"}


def _listed(directory: str) -> list[tuple[str, bool]]:
    """Return each name in `directory`, with True for a directory; at most 5,000."""
    try:
        with os.scandir(directory) as entries:
            return [(entry.name, entry.is_dir()) for entry in islice(entries, _MOST_ENTRIES)]
    except OSError:
        return []
