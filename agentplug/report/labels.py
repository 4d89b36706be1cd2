"""Words on plots (host): text that is safe for fonts and the math parser, and event labels that don't overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from agentplug.contract.events import OBSERVATIONS, Event
from agentplug.contract.record import DECIDING
from agentplug.contract.text import printable
from agentplug.report.sentences import format_seconds

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SMALL = 9
_EVENT_SIZE = 8
_SAME_MOMENT = 0.03
"""Events closer than this share of the time axis share a label."""
_LANES = 2
_MOST_WORDS = 200
_WORTH_A_NAME = 0.09
"""A phase gets its name if it takes at least this share of the time axis."""
_DETAIL = {
    "limit": "by",
    "error": "type",
    "stop": "by",
    "exit": "status",
    "dropped": "what",
    "unserializable": "type",
    "tried": "syscall",
    "opened": "path",
    "connected": "address",
    "bound": "address",
    "ran": "program",
}
_WORDS = {"error": "raised", "exit": "exit:"}


class _Moment(NamedTuple):
    """An event label: its place on the time axis, its words, and True if it must be drawn."""

    x: float
    words: str
    decides: bool


def plot_text(text: str, most: int = 48, tail: int = 0) -> str:
    """Return `text` for a plot: one line, without characters that the font lacks.

    Longer text is cut to `most` characters, before its last `tail` ones.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    text = printable(text)
    if len(text) > most:
        text = f"{text[: max(1, most - 1 - tail)]}…{text[len(text) - tail :]}"
    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else "�" for c in text)


def short_names(names: Iterable[str], most: int) -> dict[str, str]:
    """Map each name to a different text of at most `most` characters.

    Names are cut in the middle, since they often differ at their end, and numbered if that isn't enough.
    """
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}  # the last number used for each text
    for name in dict.fromkeys(names):
        short = words = plot_text(name, most, most // 3)
        while words in numbers:
            numbers[short] += 1
            room = most - len(number := f" ({numbers[short]})")
            words = plot_text(name, room, most // 3) + number
        numbers[words] = 1
        texts[name] = words
    return texts


def width_pt(ax: Axes) -> float:
    """Return the width of `ax` in points, which the figure's layout may still change."""
    return float(ax.get_window_extent().width * 72 / ax.figure.dpi)


def ink(ax: Axes) -> Any:
    """Return the colour in which `ax` is labelled, so that whatever is added can be read wherever its labels can."""
    return ax.xaxis.label.get_color()


def halo(ax: Axes, artist: Artist) -> None:
    """Give a text or line an outline in the background's colour, so that it stands out, if there is a background."""
    from matplotlib.colors import to_rgba
    from matplotlib.patheffects import withStroke

    if to_rgba(ax.get_facecolor())[3] > 0:
        artist.set_path_effects([withStroke(linewidth=4, foreground=ax.get_facecolor())])


def note(ax: Axes, words: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write words at a point of `ax`, `offset` points away from it, with an outline. Dollar signs are no math."""
    usual: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "parse_math": False, "color": ink(ax)}
    halo(ax, ax.annotate(words, at, offset, **usual | style))


def mark_phases(ax: Axes, events: Iterable[Event], scale: float, end_s: float, *, labelled: bool = True) -> None:
    """Hatch the time from the event that decided the verdict to the last event, while the worker was being ended.

    A call that ended by itself has no such phase. `scale` turns seconds into x.
    """
    events = list(events)
    decided_s = next((event.t_s for event in events if event.kind in DECIDING), end_s)
    last_s = max((event.t_s for event in events), default=0.0)
    if last_s <= decided_s:
        return
    ax.axvspan(
        decided_s * scale, last_s * scale, facecolor="#80808022", edgecolor="#80808080", hatch="//", lw=0, zorder=0
    )
    if labelled and last_s - decided_s >= _WORTH_A_NAME * end_s:
        middle = (decided_s + last_s) / 2 * scale
        style = {"xycoords": ax.get_xaxis_transform(), "fontsize": _EVENT_SIZE}
        note(ax, "being ended", (middle, 0), (0, 3), ha="center", **style)


def mark_events(ax: Axes, events: Iterable[Event], scale: float, *, labelled: bool = True) -> None:
    """Draw a thin line at each event after the start, with words at the top. `scale` turns seconds into x.

    Observations (refused calls, say) get a short tick on the upper edge instead. Events of one moment share a label.
    A label that would run into another moves a line down; labels of observations are left out if there is no room.
    """
    events = sorted((event for event in events if event.kind != "start"), key=lambda event: event.t_s)
    decisive = {event.t_s * scale for event in events if event.kind not in OBSERVATIONS}
    for x in sorted(decisive):
        ax.axvline(x, color="0.5", lw=0.8, ls=(0, (1, 2)), zorder=1)
    ticks = sorted({event.t_s * scale for event in events} - decisive)
    if ticks:
        ax.vlines(ticks, 1.0, 1.03, transform=ax.get_xaxis_transform(), color=ink(ax), lw=1.0, clip_on=False)
    if not labelled:
        return
    low, high = ax.get_xlim()
    lanes: list[list[tuple[float, float]]] = [[] for _ in range(_LANES)]
    moments = _moments(events, scale, (high - low) * _SAME_MOMENT)
    for moment in sorted(moments, key=lambda moment: not moment.decides):
        width = _width(ax, moment.words)
        on_left = moment.x - low > width
        begins, ends = (moment.x - width, moment.x) if on_left else (moment.x, moment.x + width)
        free = [n for n, taken in enumerate(lanes) if all(ends <= a or begins >= b for a, b in taken)]
        if not free and not moment.decides:
            continue
        lane = free[0] if free else _LANES - 1
        lanes[lane].append((begins, ends))
        offset, side = (-3 if on_left else 3, -3 - lane * (_EVENT_SIZE + 3)), "right" if on_left else "left"
        style = {"xycoords": ax.get_xaxis_transform(), "fontsize": _EVENT_SIZE}
        note(ax, moment.words, (moment.x, 1), offset, ha=side, va="top", alpha=0.85, **style)


def _moments(events: list[Event], scale: float, apart: float) -> list[_Moment]:
    moments: list[_Moment] = []
    for event in events:
        x, words, decides = event.t_s * scale, _event_words(event), event.kind not in OBSERVATIONS
        if moments and x - moments[-1].x < apart and decides == moments[-1].decides:
            x = x if decides else moments[-1].x  # many observations mustn't drift along the axis as one moment
            moments[-1] = _Moment(x, f"{moments[-1].words} · {words}"[:_MOST_WORDS], decides)
        else:
            moments.append(_Moment(x, words, decides))
    return [moment._replace(words=plot_text(moment.words, 70)) for moment in moments]


def _event_words(event: Event) -> str:
    detail = event.detail
    if event.kind == "loaded":
        took = detail.get("wall_s")
        return f"before: loaded in {format_seconds(took)}" if isinstance(took, (int, float)) else "before: loaded"
    value = str(detail.get(_DETAIL.get(event.kind, ""), ""))[:30]
    count = detail.get("count")
    times = f"×{count}" if event.kind in OBSERVATIONS and isinstance(count, int) and count > 1 else ""
    during = f"during {detail['during']}" if "during" in detail else ""
    return " ".join(word for word in (_WORDS.get(event.kind, event.kind), value, times, during) if word)


def _width(ax: Axes, words: str) -> float:
    """Estimate the width of `words` on the time axis: a character is 0.58 of its size wide."""
    low, high = ax.get_xlim()
    return (len(words) * _EVENT_SIZE * 0.58 + 6) / width_pt(ax) * (high - low)
