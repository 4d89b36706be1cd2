"""Words on pictures (host): text that no font or math parser trips over, and event labels that don't overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from agentplug.contract.events import Event
from agentplug.contract.text import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SMALL = 9
_EVENT_SIZE = 8
_SAME_MOMENT = 0.03
"""Events closer than this share of the time axis share a label."""
_TOLD = {"limit": "by", "error": "type", "stop": "by", "exit": "status", "dropped": "what", "unserializable": "type"}
_WORDS = {"error": "raised", "exit": "exit:"}


class _Moment(NamedTuple):
    """Where a label points to, on the time axis, and what it says."""

    x: float
    words: str


def plot_text(text: str, most: int = 48) -> str:
    """`text` as a picture can show it: on one line of `most` characters, without those that the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    text = printable(text)
    if len(text) > most:
        text = f"{text[: max(1, most - 1)]}…"
    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else "�" for c in text)


def width_pt(ax: Axes) -> float:
    """The width of `ax` in points, as far as it is known before the figure's layout."""
    return float(ax.get_window_extent().width * 72 / ax.figure.dpi)


def halo(ax: Axes, artist: Artist) -> None:
    """Give a text or line an outline in the background's colour, so that it stands out from what it crosses."""
    from matplotlib.patheffects import withStroke

    artist.set_path_effects([withStroke(linewidth=4, foreground=ax.get_facecolor())])


def mark_events(ax: Axes, events: Iterable[Event], scale: float, *, labelled: bool = True) -> None:
    """A thin line at each event after the start, and words for them at the top. `scale` turns seconds into x.

    Events of one moment share a label; a label that would run into the one before moves a line down.
    """
    events = [event for event in events if event.kind != "start"]
    for x in sorted({event.t_s * scale for event in events}):
        ax.axvline(x, color="0.5", lw=0.8, ls=(0, (1, 2)), zorder=1)
    if not labelled:
        return
    low, high = ax.get_xlim()
    free_from = [low, low]
    for moment in _moments(events, scale, (high - low) * _SAME_MOMENT):
        width = _width(ax, moment.words)
        on_left = moment.x - low > width
        begins, ends = (moment.x - width, moment.x) if on_left else (moment.x, moment.x + width)
        lane = next((n for n, free in enumerate(free_from) if begins >= free), len(free_from) - 1)
        free_from[lane] = ends
        label = ax.annotate(
            moment.words,
            (moment.x, 1),
            (-3 if on_left else 3, -3 - lane * (_EVENT_SIZE + 3)),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if on_left else "left",
            va="top",
            fontsize=_EVENT_SIZE,
            alpha=0.85,
            parse_math=False,
        )
        halo(ax, label)


def _moments(events: list[Event], scale: float, apart: float) -> list[_Moment]:
    moments: list[_Moment] = []
    for event in sorted(events, key=lambda event: event.t_s):
        x, words = event.t_s * scale, _event_words(event)
        if moments and x - moments[-1].x < apart:
            moments[-1] = _Moment(x, f"{moments[-1].words} · {words}")
        else:
            moments.append(_Moment(x, words))
    return [_Moment(moment.x, plot_text(moment.words, 70)) for moment in moments]


def _event_words(event: Event) -> str:
    told = event.detail.get(_TOLD.get(event.kind, ""), "")
    word = _WORDS.get(event.kind, event.kind)
    return f"{word} {str(told)[:30]}".strip()


def _width(ax: Axes, words: str) -> float:
    """About how wide `words` are on the time axis: a character is 0.58 of its size wide."""
    low, high = ax.get_xlim()
    return (len(words) * _EVENT_SIZE * 0.58 + 6) / width_pt(ax) * (high - low)
