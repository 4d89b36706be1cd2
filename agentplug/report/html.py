"""The small pieces of HTML that cards are made of (host).

All style is inline CSS, without scripts or ids, so a saved notebook looks as it did. Colours come from JupyterLab's
theme, or else are half transparent, so light and dark both work. All text must go through `esc`, which makes control
characters visible and escapes HTML.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from agentplug.contract.text import printable
from agentplug.report.marks import LIMIT_COLOR, Mark

TAIL_CHARACTERS = 4_000
"""The most characters of a stream or traceback that a card shows."""

_SHORT = 32
_LINE = "1px solid var(--jp-border-color2,rgba(128,128,128,.35))"
_SOFT = "rgba(128,128,128,.14)"
_MONO = "font-family:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);font-size:12px"
QUIET = "opacity:.78"


def esc(text: object, most: int = 2_000, *, lines: bool = False) -> str:
    """Escape text for HTML and cut it to `most` characters; `lines` keeps line breaks."""
    return html.escape(printable(str(text), most, lines=lines)).replace("$", "&#36;")


def card(color: str, *parts: str) -> str:
    """Make a bordered box with a coloured edge. MathJax ignores it, since a plugin's text may hold dollar signs."""
    style = (
        "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;"
        "color:var(--jp-content-font-color1,inherit);overflow-wrap:break-word;max-width:780px;margin:4px 0;"
        f"padding:10px 14px;border:{_LINE};border-left:4px solid {color};border-radius:6px"
    )
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{style}">{"".join(parts)}</div>'


def line(content: str, style: str = "") -> str:
    """Make a paragraph of a card."""
    return f'<div style="margin:2px 0;{style}">{content}</div>'


def pill(mark: Mark, word: str) -> str:
    """Make a coloured pill with an icon and a word."""
    style = (
        f"display:inline-block;padding:0 9px;border:1px solid {mark.color};border-radius:999px;"
        f"background:{mark.color}24;font-weight:600{';white-space:nowrap' if len(word) <= _SHORT else ''}"
    )
    return f'<span style="{style}"><span style="color:{mark.color}">{mark.icon}</span> {esc(word, 100)}</span>'


def code(text: object, most: int = 300) -> str:
    """Make inline text in the code font."""
    return f'<code style="{_MONO};background:none;padding:0;color:inherit">{esc(text, most)}</code>'


def bars(rows: Iterable[tuple[str, float, float, str, str]]) -> str:
    """Make bars against their limits; a row is (label, used, limit, text, colour)."""
    cells = []
    for label, used, limit, text, color in rows:
        over = used > limit
        share = min(1.0, used / limit) if limit else float(used > 0)
        fill = f"height:100%;width:{share:.1%};background:{LIMIT_COLOR if over else color};border-radius:4px"
        words = f"<b>{esc(text)} – over</b>" if over else esc(text)
        cells.append(
            f'<div style="{QUIET}">{esc(label)}</div>'
            f'<div style="height:8px;background:{_SOFT};border-radius:4px"><div style="{fill}"></div></div>'
            f'<div style="font-variant-numeric:tabular-nums">{words}</div>'
        )
    # A narrow card takes the room from the bars, never from the words.
    columns = "max-content minmax(24px,1fr) minmax(min-content,max-content)"
    grid = f"display:grid;grid-template-columns:{columns};gap:2px 12px;align-items:center;max-width:600px"
    return f'<div style="{grid};margin:8px 0">{"".join(cells)}</div>'


def details(summary: str, content: str, *, opened: bool = False) -> str:
    """Make a part that folds."""
    head = f'<summary style="cursor:pointer;{QUIET}">{esc(summary)}</summary>'
    return f'<details{" open" if opened else ""} style="margin:4px 0">{head}{content}</details>'


def tail(name: str, text: str) -> str:
    """Make a folded part with the end of a stream or traceback; empty for empty text."""
    if not text:
        return ""
    if len(text) > TAIL_CHARACTERS:
        name = f"{name} (the last {TAIL_CHARACTERS:,} of {len(text):,} characters)"
    content = esc(text[-TAIL_CHARACTERS:], TAIL_CHARACTERS, lines=True)
    style = f"{_MONO};white-space:pre-wrap;max-height:320px;overflow:auto;margin:4px 0;padding:6px 8px"
    return details(name, f'<pre style="{style};background:{_SOFT};color:inherit;border-radius:4px">{content}</pre>')


def figure(text: object) -> str:
    """Make text that stays on one line, for a number with its unit."""
    return f'<span style="white-space:nowrap;font-variant-numeric:tabular-nums">{esc(text, 100)}</span>'


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table; headers are text, cells are HTML. Texts break between words, and the rest scrolls."""
    cell = (
        "text-align:left;vertical-align:top;white-space:normal;overflow-wrap:break-word;max-width:28em;"
        f"padding:3px 14px 3px 0;border:0;border-bottom:{_LINE};background:none"
    )
    head = "".join(f'<th style="{cell};font-weight:600">{esc(header)}</th>' for header in headers)
    body = "".join("<tr>" + "".join(f'<td style="{cell}">{c}</td>' for c in row) + "</tr>" for row in rows)
    style = "border-collapse:collapse;font-size:13px;color:inherit;margin:4px 0"
    return (
        f'<div class="tex2jax_ignore mathjax_ignore" style="overflow-x:auto"><table style="{style}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
