"""Displays of plugins: typed frames in bounds, forms that do nothing in a page, and the order with output."""

from __future__ import annotations

import html
import os
import re
from concurrent.futures import Future
from typing import Any

import pandas as pd
import pytest

from agentplug.contract.display import (
    HTML,
    JPEG,
    JSON,
    MAX_DISPLAY_FRAMES,
    MAX_DISPLAYS,
    MAX_HTML_BYTES,
    PNG,
    TABLE,
    TEXT,
    Described,
)
from agentplug.core.boundary import codec as values
from agentplug.core.boundary import frames as wire
from agentplug.core.boundary.channel import Violation
from agentplug.core.boundary.frames import Frame
from agentplug.core.display import Display
from agentplug.core.displays import decode_display, table_of
from agentplug.core.host.displays import CallDisplays, Displays, RawDisplay
from agentplug.core.host.output import Output
from agentplug.core.pictures import BadPicture, Picture
from agentplug.report.displays import bundle, displays_part, frame


class Relay:
    """A relay that notes what it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.dropped = 0
        self.finished: Future[dict[int, CallDisplays]] = Future()

    def __call__(self, name: str, text: str) -> None:
        self.got.append(text)

    def show(self, raw: RawDisplay) -> None:
        self.got.append(raw.id)

    def drop(self, at: int, count: int) -> None:
        self.dropped += count

    def finish(self) -> None:
        self.finished.set_result({})


def sent(body: wire.DisplayBody, blobs: bytes = b"") -> Frame:
    return Frame(wire.DISPLAY, 0, 7, wire.encode_body(body), blobs)


def decoded(mime: str, body: bytes = b"", blobs: bytes = b"", *, error: Exception | None = None) -> Display:
    def picture(mime: str, data: bytes) -> Picture:
        if error is not None:
            raise error
        return Picture(data, (2, 3))

    return decode_display(RawDisplay(0, mime, "#1", False, body, blobs), table_of, picture)


# ---------------------------------------------------------------------- frames


def test_a_display_is_taken_with_the_output_before_it() -> None:
    """The raw display and the byte counts come back as they were sent."""
    raw, written = Displays(Relay()).take(sent(wire.DisplayBody(TEXT, (3, 4), "#1", body=b"pear")), 0)

    assert (raw, written) == (RawDisplay(0, TEXT, "#1", False, b"pear", b""), (3, 4))


def test_an_update_of_an_unknown_display_is_a_new_one() -> None:
    """Ids are those of one call."""
    displays = Displays(Relay())

    updates = [displays.take(sent(wire.DisplayBody(TEXT, (0, 0), "=a", True, body=b"x")), at)[0] for at in (0, 0, 1)]

    assert [raw.update for raw in updates if raw is not None] == [False, True, False]


@pytest.mark.parametrize(
    "body",
    [
        wire.DisplayBody(TEXT, (0, 0), "#1", body=b"x" * ((1 << 16) + 1)),
        wire.DisplayBody(HTML, (0, 0), "#1", body=b"x" * (MAX_HTML_BYTES + 1)),
        wire.DisplayBody(PNG, (0, 0), "#1", body=b"x"),
    ],
    ids=["text", "html", "picture"],
)
def test_a_display_in_another_form_than_its_kind_has_ends_the_call(body: wire.DisplayBody) -> None:
    """Each kind has its place and its bound."""
    with pytest.raises(Violation):
        Displays(Relay()).take(sent(body), 0)


def test_text_with_blobs_ends_the_call() -> None:
    """Only tables and pictures have blobs."""
    with pytest.raises(Violation):
        Displays(Relay()).take(sent(wire.DisplayBody(TEXT, (0, 0), "#1"), b"x"), 0)


@pytest.mark.parametrize(
    ("mime", "update", "most"),
    [(TEXT, False, MAX_DISPLAYS), (TEXT, True, MAX_DISPLAY_FRAMES)],
    ids=["new", "updates"],
)
def test_more_displays_than_a_call_may_have_end_it(mime: str, update: bool, most: int) -> None:
    """The worker counts too, so a frame beyond the bound was forged."""
    displays = Displays(Relay())
    for number in range(most):
        displays.take(sent(wire.DisplayBody(mime, (0, 0), "=a" if update else f"#{number}", update)), 0)

    with pytest.raises(Violation):
        displays.take(sent(wire.DisplayBody(mime, (0, 0), "=a" if update else "#more", update)), 0)


def test_displays_after_the_count_of_the_others_end_the_call() -> None:
    """The count is the last frame of a call's displays."""
    relay = Relay()
    displays = Displays(relay)
    displays.take(sent(wire.DisplayBody("", (0, 0), dropped=17)), 0)

    assert relay.dropped == 17
    with pytest.raises(Violation):
        displays.take(sent(wire.DisplayBody(TEXT, (0, 0), "#1")), 0)


def test_a_call_has_its_own_bounds_within_an_exchange() -> None:
    """A window of calls may have more in all."""
    relay = Relay()
    displays = Displays(relay)
    for at in range(3):
        for number in range(MAX_DISPLAYS):
            displays.take(sent(wire.DisplayBody(TEXT, (0, 0), f"#{number}")), at)

    assert relay.dropped == 0
    with pytest.raises(Violation):
        displays.take(sent(wire.DisplayBody(TEXT, (0, 0), "#more")), 2)


# ---------------------------------------------------------------------- order


def test_output_and_displays_keep_their_order() -> None:
    """All was written before any of it was read, and still comes in the order in which it was written."""
    out, written = os.pipe2(os.O_NONBLOCK)
    err, errors = os.pipe2(os.O_NONBLOCK)
    output, relay = Output(out, err, 1 << 20), Relay()
    output.begin(lambda name, text: None)
    output.pass_on_to(lambda sink: relay)
    os.write(written, b"one two three four")
    try:
        output.place(RawDisplay(0, TEXT, "first", False, b"", b""), (4, 0))
        output.place(RawDisplay(0, TEXT, "second", False, b"", b""), (14, 0))
        stdout, *_ = output.take()
    finally:
        for fd in (written, errors):
            os.close(fd)
        output.close()

    assert (relay.got, stdout) == (["one ", "first", "two three ", "second", "four", "", ""], "one two three four")


def test_a_display_that_lies_about_the_output_before_it_loses_none() -> None:
    """Counts beyond what was read put the display at the end."""
    out, written = os.pipe2(os.O_NONBLOCK)
    err, errors = os.pipe2(os.O_NONBLOCK)
    output, relay = Output(out, err, 1 << 20), Relay()
    output.begin(lambda name, text: None)
    output.pass_on_to(lambda sink: relay)
    os.write(written, b"pear")
    try:
        output.place(RawDisplay(0, TEXT, "far", False, b"", b""), (1 << 50, 1 << 50))
        output.take()
    finally:
        for fd in (written, errors):
            os.close(fd)
        output.close()

    assert relay.got == ["pear", "far", "", ""]


# ---------------------------------------------------------------------- decoding


def test_each_kind_is_decoded_into_its_type() -> None:
    """Text and HTML into str, JSON into plain values, tables through the codec, pictures by their decoder."""
    packed = values.encode(pd.DataFrame({"fruit": ["pear"], "price": [2.5]}))

    text, page = decoded(TEXT, "é".encode()), decoded(HTML, b"<b>x</b>")
    plain = decoded(JSON, b'{"a": [1, null]}')
    table = decoded(TABLE, bytes(packed.structure), b"".join(packed.blobs))
    picture = decoded(JPEG, blobs=b"jpeg")

    assert (text.data, page.data, plain.data) == ("é", "<b>x</b>", {"a": [1, None]})
    pd.testing.assert_frame_equal(table.data, pd.DataFrame({"fruit": ["pear"], "price": [2.5]}))
    assert (picture.data, picture.pixels) == (b"jpeg", (2, 3))


@pytest.mark.parametrize(
    ("mime", "body", "words"),
    [
        (TEXT, b"\xff", "[text/plain of 1 bytes is not shown: it can't be decoded (UnicodeDecodeError)]"),
        (JSON, b"{", "[application/json of 1 bytes is not shown: it can't be decoded (JSONDecodeError)]"),
        (JSON, b"NaN", "[application/json of 3 bytes is not shown: it can't be decoded (ValueError)]"),
        (
            JSON,
            b"[" * 200_000,
            "[application/json of 200,000 bytes is not shown: it can't be decoded (RecursionError)]",
        ),
        (TABLE, b"\xa3abc", "[application/vnd.dataframe of 4 bytes is not shown: it can't be decoded (DecodeError)]"),
    ],
    ids=["text", "json", "nan", "deep", "table"],
)
def test_a_display_that_cannot_be_decoded_is_a_line_of_text(mime: str, body: bytes, words: str) -> None:
    """The line says its kind, its size and the reason."""
    display = decoded(mime, body)

    assert (display.mime, display.data) == (TEXT, words)


def test_a_bad_picture_is_a_line_of_text() -> None:
    """The decoder's reason is in it."""
    display = decoded(PNG, blobs=b"junk", error=BadPicture("it has 9 × 9 pixels, and 4 may be shown"))

    assert display.data == "[image/png of 4 bytes is not shown: it has 9 × 9 pixels, and 4 may be shown]"


# ---------------------------------------------------------------------- in a page


def _inside(shown: str) -> str:
    """The page within a frame, and that it is nothing but one frame."""
    match = re.fullmatch(r'<iframe sandbox="" [^<>]*srcdoc="([^"<>]*)"></iframe>', shown, re.DOTALL)
    assert match is not None
    return html.unescape(match[1])


@pytest.mark.parametrize(
    "page",
    [
        "<script>top.x = 1</script>",
        '"></iframe><script>alert(1)</script>',
        "'><img src=x onerror=alert(1)>",
        "<meta http-equiv=refresh content='0;url=https://example.org'>",
        "<base href=https://example.org><link rel=dns-prefetch href=//secret.example.org>",
        "<iframe srcdoc='<script>1</script>'></iframe><object data=x></object><embed src=x>",
        "<form action=https://example.org><input autofocus></form>",
        "<LINK\nrel=stylesheet href=//x><SCRIPT/x>1</SCRIPT>",
        "\x1b[2J\u202e\u2066&quot;&lt;/iframe&gt;",
    ],
)
def test_html_stays_within_its_frame_and_runs_and_loads_nothing(page: str) -> None:
    """The frame has no rights, its page a content policy first, and no tag that could get around it."""
    content = _inside(frame(page))

    head, _, body = content.partition("</style>")
    assert head.startswith(
        '<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="'
    )
    assert "default-src 'none'" in head
    assert not re.search(r"(?i)<(script|meta|base|link|i?frame|object|embed|form|a)\b", body)
    assert not re.search(r"[\x1b\u202e\u2066]", content)


def test_links_in_html_lead_nowhere() -> None:
    """Their text is there; the element is another one."""
    content = _inside(frame('<a href="https://example.org/?secret">more</a> <abbr>a</abbr>'))

    assert content.endswith('<x-a href="https://example.org/?secret">more</x-a> <abbr>a</abbr>')


def test_the_height_of_a_frame_is_bounded() -> None:
    """However long its page is."""
    pages = ("x", "<br>" * 5, "<br>" * 90_000, "<svg height='99'>", "<svg>", "<svg height=999999>")

    heights = [int(re.findall(r"height:(\d+)px", frame(page))[0]) for page in pages]

    assert heights == [60, 180, 420, 159, 420, 420]


def test_scripts_in_html_are_not_even_text() -> None:
    """They stand in an element that is never shown."""
    content = _inside(frame("a<script type=x>1 < 2</script>b"))

    assert content.endswith("a<template type=x>1 < 2</template>b")


def test_a_table_is_escaped_and_has_no_formulas() -> None:
    """Markup, control characters and dollar signs of its cells are text."""
    shown = bundle(Display(TABLE, pd.DataFrame({"<b>": ["$x$", "\u202e<img src=x>"]})))

    assert "<b>" not in shown["text/html"]
    assert "<img" not in shown["text/html"]
    assert "$" not in shown["text/html"]
    assert "\u202e" not in shown["text/html"] + shown["text/plain"]


def test_json_keeps_its_form_and_loses_its_power() -> None:
    """Text within it is made printable; a lone text is shown as text."""
    assert bundle(Display(JSON, {"a\x1b": ["\u202e", 1]}))["application/json"] == {"a\\x1b": ["\\u202e", 1]}
    assert bundle(Display(JSON, "x")) == {"text/plain": '"x"'}


def test_a_picture_has_text_for_pages_without_pictures() -> None:
    """And its repr says what was measured."""
    picture = Display(PNG, b"\x89PNG", (640, 480))

    assert bundle(picture) == {"image/png": "iVBORw==", "text/plain": "<image/png>"}
    assert repr(picture) == "Display('image/png', 640 × 480 pixels)"


def test_a_described_value_says_whose_words_it_has() -> None:
    """Bounded, escaped, and marked."""
    described = Described("module.Type", "\x1b[2J" + "x" * 9_000)

    assert repr(described).startswith("\\x1b[2Jxxx")
    assert repr(described).endswith("[module.Type, as the sandbox describes it]")
    assert len(repr(described)) < 2_200


def test_a_card_shows_the_first_displays_and_counts_the_others() -> None:
    """Open, as what a call was made for."""
    part = displays_part([Display(TEXT, f"pear {n}") for n in range(13)], 4)

    assert part.startswith("<details open")
    assert [n for n in range(13) if f"pear {n}<" in part] == list(range(10))
    assert "3 more in run.displays; 4 were not sent" in part


def test_a_card_holds_few_bytes_of_displays() -> None:
    """It is saved with the notebook."""
    part = displays_part([Display(PNG, bytes(1 << 20), (9, 9))] * 5, 0)

    assert part.count("<img ") == 2
    assert "3 more in run.displays" in part
