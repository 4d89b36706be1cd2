"""The output of a plugin as a terminal or a notebook's cell shows it: carriage returns and colours pass (host).

Everything else that steers a display is made visible. What passes ends with the call: colours are reset, and a line
that a carriage return would let others overwrite is ended.
"""

from __future__ import annotations

import re

from agentplug.contract.text import printable

_COLOURS = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_CUT = re.compile(r"\x1b(\[[0-9;:]{0,64})?\Z")
_RESET = "\x1b[0m"


def cut_off(visible: str, most: int) -> str:
    """Return the first `most` characters of text that may be shown, without half a code, and its colours reset."""
    first = _CUT.sub("", visible[:most])
    return f"{first}{_RESET}" if "\x1b" in first else first


class StreamText:
    """The text of one stream of one call, in pieces as they come."""

    def __init__(self) -> None:
        self._rest = ""
        self._coloured = False
        self._line_is_empty = True
        self._returned = False

    def add(self, text: str) -> str:
        """Return what may be shown of `text`. The beginning of a colour code waits for its end."""
        text = self._rest + text
        self._rest = cut[0] if (cut := _CUT.search(text)) else ""
        text = text.removesuffix(self._rest)
        parts: list[str] = []
        at = 0
        for code in _COLOURS.finditer(text):
            parts += [self._plain(text[at : code.start()]), code[0]]
            self._coloured = code[0] not in ("\x1b[m", _RESET)
            at = code.end()
        return "".join([*parts, self._plain(text[at:])])

    def end(self) -> str:
        """Return what ends the stream."""
        rest, self._rest = printable(self._rest, len(self._rest)), ""
        reset, self._coloured = (_RESET if self._coloured else ""), False
        ending = "\n" if self._returned and not rest else ""
        self._passed(rest + ending)
        return rest + reset + ending

    def _plain(self, text: str) -> str:
        """Escape what isn't text, line breaks, tabs or carriage returns; these only where a line has begun."""
        lines = text.replace("\r\n", "\n").split("\n")
        return "\n".join(self._line(line, ended=number < len(lines) - 1) for number, line in enumerate(lines))

    def _line(self, line: str, ended: bool) -> str:
        pieces = line.split("\r")
        while self._line_is_empty and pieces and not pieces[0]:
            del pieces[0]  # what stands on this line is somebody else's
        visible = "\r".join(p if p.isprintable() else printable(p, len(p), lines=True) for p in pieces)
        self._passed(f"{visible}\n" if ended else visible)
        return visible

    def _passed(self, text: str) -> None:
        if not text:
            return
        self._returned = text[-1] == "\r"
        self._line_is_empty = text[-1] == "\n"
