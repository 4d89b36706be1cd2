"""Displays of plugins for a notebook's page (host): nothing of them acts in it.

HTML is shown in a frame of its own: sandboxed, so that no script runs and nothing reaches the page; under a content
policy, so that nothing is loaded from elsewhere; without links, so that nothing leads anywhere. All other text is
escaped.
"""

from __future__ import annotations

import base64
import html
import json
import re
import reprlib
from collections.abc import Sequence
from typing import Any

from agentplug.contract.display import HTML, JSON, PICTURES, TABLE, DisplayRecord
from agentplug.contract.text import printable
from agentplug.report.html import QUIET, details, esc, line

_MOST_TEXT = 70_000
_ROWS, _COLUMNS = 60, 20
_IN_A_CARD, _CARD_BYTES = 10, 2 << 20
_LEAST_PX, _MOST_PX, _LINE_PX = 60, 420, 24
_CONTENT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:"
_HEAD = (
    f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_CONTENT}">'
    '<meta http-equiv="x-dns-prefetch-control" content="off">'
    "<style>html{background:#fff;color:#111;font:13px/1.5 system-ui,sans-serif}"
    "table{border-collapse:collapse}th,td{padding:3px 10px;text-align:right}pre{white-space:pre-wrap}</style>"
)
_RENAMED = re.compile(
    r"<(/?)(?=(?:link|meta|base|iframe|frame|frameset|object|embed|portal|form|a|area)(?:[\s/>]|$))", re.IGNORECASE
)
_SCRIPTS = re.compile(r"<(/?)script(?=[\s/>]|$)", re.IGNORECASE)
_BREAKS = re.compile(r"<(?:tr|br|p|div|li|h[1-6]|hr)\b|\n", re.IGNORECASE)
_DRAWINGS = re.compile(r"<(?:svg|video|canvas)\b|data:image/", re.IGNORECASE)
_HEIGHTS = re.compile(r"\bheight\s*[=:]\s*[\"']?(\d{1,4})\b", re.IGNORECASE)

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60


def brief(data: object) -> str:
    """Return a short text for the data of a display."""
    return printable(_brief.repr(data), 200)


def bundle(display: DisplayRecord) -> dict[str, Any]:
    """Return a display as a notebook publishes it, by MIME type; with text for pages that show nothing else."""
    mime, data = display.mime, display.data
    if mime in PICTURES:
        return {mime: base64.b64encode(data).decode("ascii"), "text/plain": f"<{mime}>"}
    if mime == TABLE:
        return {"text/html": table(data), "text/plain": _table_text(data)}
    if mime == HTML:
        return {"text/html": frame(data), "text/plain": f"<{mime}>"}
    if mime == JSON:
        clean = _printable_json(data)
        text = printable(json.dumps(data, indent=2), _MOST_TEXT, lines=True)
        return {mime: clean, "text/plain": text} if isinstance(clean, (dict, list)) else {"text/plain": text}
    return {"text/plain": printable(data, _MOST_TEXT, lines=True)}


def frame(page: str) -> str:
    """Make the frame in which HTML of a plugin is shown."""
    harmless = _RENAMED.sub(r"<\1x-", _SCRIPTS.sub(r"<\1template", page))  # elements that do nothing
    height = min(_MOST_PX, max(_LEAST_PX, _height_px(page)))
    style = f"width:100%;height:{height}px;border:0;background:#fff;color-scheme:light;resize:vertical"
    source = html.escape(_HEAD + printable(harmless, len(harmless), lines=True))
    return (
        f'<iframe sandbox="" referrerpolicy="no-referrer" loading="lazy" style="{style}" srcdoc="{source}"></iframe>'
    )


def _height_px(page: str) -> int:
    """Guess the height of a page: nothing in it may run to measure it."""
    height = _LEAST_PX + _LINE_PX * len(_BREAKS.findall(page))
    if _DRAWINGS.search(page):
        height += max(map(int, _HEIGHTS.findall(page)), default=_MOST_PX)
    return height


def table(data: Any) -> str:
    """Make a table of a plugin's DataFrame: its first and last rows, its text escaped."""
    import pandas as pd

    rows = {"max_rows": _ROWS, "max_cols": _COLUMNS, "show_dimensions": len(data) > _ROWS}
    try:
        with pd.option_context("display.html.use_mathjax", False):
            text = data.to_html(notebook=True, **rows)
    except Exception as error:  # pandas can hold tables that it can't show
        return esc(_unreadable(error))
    return printable(text, len(text), lines=True).replace("$", "&#36;")


def _table_text(data: Any) -> str:
    try:
        text = data.to_string(max_rows=_ROWS, max_cols=_COLUMNS, show_dimensions=len(data) > _ROWS)
    except Exception as error:
        return _unreadable(error)
    return printable(text, _MOST_TEXT, lines=True)


def _unreadable(error: Exception) -> str:
    return f"[a table that pandas can't show: {type(error).__name__}]"


def _printable_json(data: Any) -> Any:
    """Return JSON values with every text made printable."""
    if isinstance(data, str):
        return printable(data, len(data))
    if isinstance(data, list):
        return [_printable_json(item) for item in data]
    if isinstance(data, dict):
        return {printable(key, len(key)): _printable_json(item) for key, item in data.items()}
    return data


def displays_part(displays: Sequence[DisplayRecord], dropped: int) -> str:
    """Make the part of a card with what a call displayed: the first ones, and the number of the others."""
    parts, size = [], 0
    for display in displays[:_IN_A_CARD]:
        size += display.size_bytes()
        if size > _CARD_BYTES:
            break
        parts.append(card_part(display))
    more = [] if len(parts) == len(displays) else [f"{len(displays) - len(parts):,} more in run.displays"]
    more += [f"{dropped:,} were not sent"] if dropped else []
    note = line(esc("; ".join(more)), QUIET) if more else ""
    return details(f"displays ({len(displays):,})", "".join(parts) + note, opened=True)


def card_part(display: DisplayRecord) -> str:
    """Make the part of a card that shows a display."""
    mime, data = display.mime, display.data
    if mime in PICTURES:
        source = f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
        return f'<img alt="{esc(mime)}" style="max-width:100%;background:#fff" src="{source}">'
    if mime == TABLE:
        return f'<div style="overflow:auto">{table(data)}</div>'
    if mime == HTML:
        return frame(data)
    text = data if isinstance(data, str) else json.dumps(data, indent=2)
    return f'<pre style="white-space:pre-wrap;margin:4px 0">{esc(text, _MOST_TEXT, lines=True)}</pre>'
