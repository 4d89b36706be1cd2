"""A notebook cell as the source of a plugin (host)."""

from __future__ import annotations

import re

from agentplug.contract.policy import format_size
from agentplug.contract.text import printable
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.files import MAX_FILE_BYTES
from agentplug.core.sources.names import identifier_of, quoted
from agentplug.core.sources.source import Module, Source
from agentplug.errors import SpecError

_COOKIE = re.compile(r"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
_BLANK = re.compile(r"[ \t\f]*(#.*)?")


def cell_source(text: str, name: str, first_line: int = 1) -> Source:
    """Return the source of the plugin that the cell `text` defines, under `name`.

    Its module is `cell_` and the name as an identifier. Tracebacks show `<cell NAME>` and count lines from
    `first_line`, as the text stands in its notebook. The digest is over the text's UTF-8 bytes alone. Raises
    `SpecError` for no text, too much text, or text that isn't Unicode.
    """
    if not isinstance(text, str) or not isinstance(name, str):
        wrong = text if not isinstance(text, str) else name
        raise SpecError(f"a cell has a text and a name, both str, not {printable(type(wrong).__name__, 60)}")
    if not text.strip():
        raise SpecError(f"the cell {quoted(name)} is empty; write a class whose name ends in Plugin")
    if not name.strip():
        raise SpecError("a cell's plugin needs a name to be shown by; write one")
    try:
        code = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SpecError(
            f"the cell {quoted(name)} has a lone surrogate (character {error.start}), which no file could hold; "
            "remove it, or write it as an escape like '\\ud800'"
        ) from None
    if len(code) > MAX_FILE_BYTES:
        raise SpecError(
            f"the cell {quoted(name)} is {format_size(len(code))}, over the {format_size(MAX_FILE_BYTES)} that a "
            "plugin's source may hold; keep data in a file and grant it with Policy(read=…)"
        )
    _check_cookie(text, name)
    label = f"<cell {printable(name, 120)}>"
    module = Module(f"cell_{identifier_of(name)}", label, b"\n" * (first_line - 1) + code)
    return Source(label, "cell", text_digest(code), module.name, "", (module,))


def _check_cookie(text: str, name: str) -> None:
    """Refuse a line that declares another encoding than UTF-8: Python obeys such a line in bytes."""
    first, second, *_ = [*re.split(r"\r\n|\r|\n", text[:10_000], maxsplit=2), "", ""]
    match = _COOKIE.match(first) or (_COOKIE.match(second) if _BLANK.fullmatch(first) else None)
    if match and match[1].lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise SpecError(f"the cell {quoted(name)} declares the encoding {quoted(match[1])}; a cell is UTF-8, drop it")
