"""A dashboard as HTML (host): a table with a small curve against each limit, and the latest events.

Rows have one height, so that the buttons beside a live table stay in line with them. `still` draws a
view for saved notebooks: its curves are images, since some readers strip SVG.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from agentplug.contract.policy import format_size
from agentplug.jupyter.dashboard.watch import BoardEvent, Row
from agentplug.report.event_text import event_words
from agentplug.report.html import QUIET, esc, pill
from agentplug.report.marks import CPU_COLOR, LIMIT_COLOR, MEMORY_COLOR, Mark, state_mark, verdict_mark
from agentplug.report.sentences import format_seconds
from agentplug.report.units import measured_size

HEAD_PX = 28
ROW_PX = 60
_WIDTH, _HEIGHT, _TOP = 120, 28, 3
_COLUMNS_PX = (136, 134, 134, 126)
_LINE = "1px solid var(--jp-border-color2,rgba(128,128,128,.3))"
_FONT = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.35;"
    "color:var(--jp-content-font-color1,inherit)"
)
_FRAME = "border-radius:6px;margin:4px 0;padding:4px 14px 8px;max-width:980px;box-sizing:border-box"
_SMALL = f"font-size:11px;font-variant-numeric:tabular-nums;white-space:nowrap;{QUIET}"
_CELL = (
    "box-sizing:border-box;padding:0 14px 0 0;text-align:left;vertical-align:middle;border:0;"
    f"border-bottom:{_LINE};white-space:nowrap;background:none;max-width:none"
)
_MONO = "font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px"


def table(rows: Sequence[Row], *, load: str = "%load_plugin SPEC", still: bool = False) -> str:
    """Draw the table of plugins. While it is empty, it says that `load` loads one."""
    if not rows:
        return _box(f"<div style='padding:6px 0'>No plugin is loaded; <code>{esc(load)}</code> loads one.</div>")
    titles = ("plugin", "added memory", "CPU of this call", "calls · last verdict")
    heads = [_head(title, width) for title, width in zip(titles, _COLUMNS_PX, strict=True)]
    body = "".join(f'<tr style="background:none">{"".join(_row(row, still))}</tr>' for row in rows)
    style = "border-collapse:separate;border-spacing:0;border:0;margin:0;table-layout:auto;font-size:13px"
    return _box(
        f'<table style="{style}"><thead><tr style="background:none">{"".join(heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def events(latest: Iterable[BoardEvent], note: str = "") -> str:
    """Draw the latest events, newest first, and a note below them."""
    lines = "".join(_event(event) for event in latest)
    head = f'<div style="{_SMALL};padding:8px 0 2px">events, newest first</div>' if lines else ""
    foot = f'<div style="padding:4px 0;{QUIET}">{esc(note, 300)}</div>' if note else ""
    return _box(f'{head}<div role="log" aria-label="events">{lines}</div>{foot}')


def _box(content: str) -> str:
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{_FONT};overflow-x:auto">{content}</div>'


def _row(row: Row, still: bool) -> list[str]:
    clip = "font-weight:600;max-width:150px;overflow:hidden;text-overflow:ellipsis;margin-bottom:3px"
    name = (
        f'<div style="{clip}" title="{esc(row.name, 200)}">'
        f'{esc(row.name, 60)} <span style="font-weight:400;{QUIET}">{esc(row.version, 20)}</span></div>'
    )
    state = pill(state_mark(row.state), row.state) if row.state else ""
    calls = f'<div style="{_SMALL};margin-bottom:3px">{row.calls:,} call{"" if row.calls == 1 else "s"}</div>'
    last = pill(verdict_mark(row.verdict.partition(":")[0]), row.verdict) if row.verdict else ""
    if row.policy is None:
        note = f'<div style="{_SMALL};white-space:normal">trusted: in the host, unconfined</div>'
        return [_cell(name + state), _cell(note), _cell(""), _cell("")]
    memory, cpu = float(row.policy.memory), row.policy.cpu_s
    busy = row.state == "busy"
    size = f"{'' if busy else 'peak '}{measured_size(row.memory_bytes)} of {format_size(memory)}"
    used = f"{format_seconds(row.cpu_s)} of {cpu:g} s"
    if busy and row.cpu_percent is not None:
        used += f" · {row.cpu_percent:.0f} %"
    added, spent = [point.memory_bytes for point in row.points], [point.cpu_s for point in row.points]
    curves = (
        _figure(added, memory, MEMORY_COLOR, f"added memory {size}", size, still),
        _figure(spent, cpu, CPU_COLOR, f"CPU {used}", used, still),
    )
    return [_cell(name + state), *map(_cell, curves), _cell(calls + last)]


def _cell(content: str) -> str:
    return f'<td style="{_CELL};height:{ROW_PX}px">{content}</td>'


def _head(title: str, width_px: int) -> str:
    style = f"{_CELL};height:{HEAD_PX}px;min-width:{width_px}px;font-weight:600;font-size:12px;{QUIET}"
    return f'<th scope="col" style="{style}">{esc(title)}</th>'


def _figure(values: Sequence[float], limit: float, color: str, label: str, text: str, still: bool) -> str:
    drawn = curve(values, limit, color, label, still=still)
    return f'{drawn}<div style="{_SMALL};margin-top:3px">{esc(text)}</div>'


def curve(values: Sequence[float], limit: float, color: str, label: str, *, still: bool = False) -> str:
    """Draw values as a small filled curve; the dashed line at the top is their limit."""
    bottom = _HEIGHT - 1
    shares = [min(1.0, value / limit) if limit else float(value > 0) for value in values] or [0.0]
    step = _WIDTH / max(20, len(shares) - 1) if len(shares) > 1 else 0.0
    ys = [bottom - share * (bottom - _TOP) for share in shares]
    xs = [round(i * step, 1) for i in range(len(ys))]
    path = " ".join(f"{x:g},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    end = LIMIT_COLOR if shares[-1] >= 1.0 else color
    drawn = (
        f'<path d="M0 {_TOP}H{_WIDTH}" stroke="{LIMIT_COLOR}" stroke-dasharray="3 3"/>'
        f'<path d="M0 {bottom}H{_WIDTH}" stroke="#8C8C8C" opacity=".35"/>'
        f'<polygon points="0,{bottom} {path} {xs[-1]:g},{bottom}" fill="{color}" opacity=".2"/>'
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6" stroke-linejoin="round"/>'
        f'<circle cx="{min(xs[-1], _WIDTH - 2):g}" cy="{ys[-1]:.1f}" r="2.2" fill="{end}"/>'
    )
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    if still:
        image = quote(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view}>{drawn}</svg>', safe="<>/=: ',.")
        return f'<img {size} alt="{esc(label)}" style="display:block;margin:0" src="data:image/svg+xml,{image}">'
    return f'<svg {size} {view} role="img" aria-label="{esc(label)}" style="display:block">{drawn}</svg>'


def _event(event: BoardEvent) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(event.at_s))
    mark, name = _mark(event.kind), event.plugin
    name = esc(name if len(name) <= 28 else f"{name[:27]}…")
    count = f" ×{event.times}" if event.times > 1 else ""
    return (
        f'<div style="{_MONO};white-space:nowrap;line-height:1.5"><span style="{QUIET}">{when}</span> '
        f'<span style="color:{mark.color}">{mark.icon}</span> <b>{name}</b> {esc(event.kind, 30)}'
        f' <span style="{QUIET}">{esc(event_words(event.kind, event.detail), 120)}{count}</span></div>'
    )


def _mark(kind: str) -> Mark:
    verdict = {"reply": "completed", "error": "failed", "limit": "limited", "exit": "died", "protocol": "broken"}
    return verdict_mark(verdict.get(kind, "stopped"))


def state(rows: Sequence[Row], latest: Iterable[BoardEvent], note: str = "", load: str = "") -> str:
    """Draw table and events as they are, for a saved notebook."""
    return table(rows, load=load, still=True) + events(latest, note)


def still(content: str, at_s: float | None = None) -> str:
    """Put a saved state in a box, with its time if that isn't the run's own."""
    when = "" if at_s is None else time.strftime("as of %Y-%m-%d %H:%M:%S %Z", time.localtime(at_s))
    foot = f'<div style="{_FONT};{_SMALL};padding-top:4px">{esc(when)}</div>' if when else ""
    return f'<div style="border:{_LINE};border-left:4px solid {MEMORY_COLOR};{_FRAME}">{content}{foot}</div>'


def saved(name: str, html: str) -> str:
    """Wrap a still view for a saved notebook, with a CSS rule that hides the dead live view above it.

    The rule hides the output above only while it has no element, as where Lab has just a line on missing widgets.
    The live widget of another cell stays visible.
    """
    place = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}-still)>.jp-OutputArea-output"
    gone = f"{place}:is(.jupyter-widgets,.lm-Panel):not(:has(*))"
    return f'<div class="{name}-still"><style>{gone}{{display:none}}</style>{html}</div>'


def styles(name: str) -> str:
    """Return the CSS rules of the live view `name`; one hides its still view while the live one exists."""
    edge, mine = "var(--jp-border-color2,rgba(128,128,128,.3))", f".{name}-live"
    return (
        f"<style>.{name}-still{{display:none}}.jp-OutputArea-child:has(.{name}-still){{display:none}}"
        f"{mine}{{border:1px solid {edge};border-left:4px solid {MEMORY_COLOR};{_FRAME}}}"
        f"{mine} .widget-html-content{{line-height:1.35}}"
        f"{mine} .agentplug-actions{{border-bottom:1px solid {edge};box-sizing:border-box}}"
        f"{mine} .jupyter-button{{border:1px solid {edge};border-radius:4px;background:transparent;"
        "color:var(--jp-content-font-color1,inherit);line-height:1}"
        f"{mine} .jupyter-button:hover{{background:rgba(128,128,128,.16)}}"
        f"{mine} .jupyter-button.agentplug-kill:hover{{background:{LIMIT_COLOR}33;border-color:{LIMIT_COLOR}}}"
        f"{mine} .jupyter-button:focus-visible{{outline:2px solid {MEMORY_COLOR};outline-offset:1px}}"
        "</style>"
    )
