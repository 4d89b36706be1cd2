"""Displays in real workers: what calls and cells show, in which order, within which bounds, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from agentplug.contract.display import HTML, JPEG, JSON, MAX_DISPLAYS, PNG, TABLE, TEXT, Described
from agentplug.contract.policy import Policy
from agentplug.core.host.output import stream_to
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.core.session import Sandbox

pytestmark = pytest.mark.need("landlock", "seccomp")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A session for code as text."""
    session = Sandbox(Policy(cpu_s=20.0))
    yield session
    session.close_sync()


def kinds(run: Run) -> list[str]:
    assert str(run.verdict) == "completed", run.error
    return [display.mime for display in run.displays]


def test_display_is_there_and_takes_what_notebooks_take(sandbox: Sandbox) -> None:
    """Each object in the first form that it has."""
    run = sandbox.run_sync("""
import pandas as pd
class Page:
    def _repr_html_(self): return "<b>pear</b>"
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None): return {"text/plain": "p", "application/json": [1]}, {}
display("words", pd.DataFrame({"a": [1]}), Page(), Bundle())
""")

    assert kinds(run) == [TEXT, TABLE, HTML, JSON]
    assert [d.data for d in run.displays if d.mime != TABLE] == ["'words'", "<b>pear</b>", [1]]
    pd.testing.assert_frame_equal(run.displays[1].data, pd.DataFrame({"a": [1]}))


def test_ipythons_own_functions_display_too(sandbox: Sandbox) -> None:
    """`display`, `update_display` and handles; no script has a form."""
    run = sandbox.run_sync("""
from IPython.display import HTML, Javascript, Markdown, clear_output, display, update_display
display(HTML("<i>x</i>"))
display(Javascript("top.x = 1"))
handle = display(Markdown("*one*"), display_id=True)
handle.update(Markdown("*two*"))
display("a", display_id="mine")
update_display("b", display_id="mine")
""")

    assert kinds(run) == [HTML, TEXT, TEXT, TEXT]
    assert [display.data for display in run.displays] == [
        "<i>x</i>",
        "<IPython.core.display.Javascript object>\n[no script of a sandbox runs in the page]",
        "*two*",
        "'b'",
    ]


def test_clear_output_lets_the_next_displays_take_the_places(sandbox: Sandbox) -> None:
    """As in a loop that shows its latest state: nothing else of a page is cleared."""
    run = sandbox.run_sync("""
from IPython.display import clear_output
display("a"); display("b")
clear_output(wait=True)
display("c")
""")

    assert [display.data for display in run.displays] == ["'c'", ""]


def test_figures_are_shown_when_asked_for_and_at_the_end(sandbox: Sandbox) -> None:
    """And closed, without a word on stderr and without a refused call; a figure as last value is shown once."""
    first = sandbox.run_sync(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show(); plt.figure(); plt.plot([3])"
    )
    second = sandbox.run_sync("plt.get_fignums()")
    third = sandbox.run_sync("figure, axes = plt.subplots()\naxes.plot([1])\nfigure")

    assert (kinds(first), first.stderr) == ([PNG, PNG], "")
    assert [event for event in first.events if event.kind == "tried"] == []
    assert second.value == []
    assert kinds(third) == [PNG]
    assert isinstance(third.value, Described)
    assert third.value.is_displayed


def test_a_figure_is_shown_when_the_call_fails_too(sandbox: Sandbox) -> None:
    """What was drawn before the error helps to find it."""
    run = sandbox.run_sync("import matplotlib.pyplot as plt\nplt.plot([1, 2])\n1 / 0")

    assert (str(run.verdict), [display.mime for display in run.displays]) == ("failed:ZeroDivisionError", [PNG])


def test_a_plugin_displays_as_a_cell_does() -> None:
    """In `process`, of any plugin."""

    class ShowingPlugin:
        name, version = "showing", "1"

        async def initialize(self, config: Any) -> None:
            display("too early")  # type: ignore[name-defined]  # noqa: F821

        async def process(self, input_data: Any) -> Any:
            display(input_data)  # type: ignore[name-defined]  # noqa: F821

    plugin = SandboxedPlugin(ShowingPlugin())
    try:
        runs = [plugin.run_sync(number) for number in (1, 2)]
    finally:
        plugin.close_sync()

    assert [[display.data for display in run.displays] for run in runs] == [["1"], ["2"]]


def test_each_call_of_a_window_has_its_displays() -> None:
    """Though they are measured together."""

    class ShowingPlugin:
        name, version = "showing", "1"

        async def initialize(self, config: Any) -> None: ...

        async def process(self, input_data: Any) -> Any:
            display(input_data)  # type: ignore[name-defined]  # noqa: F821

    async def displayed() -> list[list[Any]]:
        async with SandboxedPlugin(ShowingPlugin()) as plugin:
            return [[d.data for d in run.displays] async for run in plugin.map(range(3), window=3)]

    import asyncio

    assert asyncio.run(displayed()) == [["0"], ["1"], ["2"]]


# ---------------------------------------------------------------------- order and ends


class Page:
    """A sink that notes output and displays as a notebook's page shows them."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, name: str, text: str) -> None:
        self.text += text

    def show(self, display: Any, key: str, update: bool) -> None:
        self.text += f"<{display.data}>"

    def note(self, text: str) -> None:
        self.text += f"({text})"


@pytest.fixture
def page() -> Iterator[Page]:
    """The page of every call in a test."""
    page = Page()
    stream_to(lambda: page)
    yield page
    stream_to(None)


def test_displays_come_in_order_with_the_output(sandbox: Sandbox, page: Page) -> None:
    """Also where many follow each other faster than anybody reads."""
    sandbox.run_sync("for n in range(90):\n    print(n)\n    display(n)\nprint('end')")

    assert page.text == "".join(f"{n}\n<{n}>" for n in range(90)) + "end\n"


def test_displays_beyond_the_bound_are_counted(sandbox: Sandbox, page: Page) -> None:
    """The call completes; a line says how many are missing, and an event."""
    run = sandbox.run_sync("for n in range(5_000): display(n)")

    assert len(run.displays) == MAX_DISPLAYS
    assert page.text.endswith("(4,900 more displays not shown)")
    assert [event.detail for event in run.events if event.kind == "dropped"] == [{"what": "displays", "count": 4900}]


def test_a_display_of_60_megabytes_is_cut(sandbox: Sandbox) -> None:
    """And says how much is missing."""
    run = sandbox.run_sync("display('x' * 60_000_000)")

    assert len(run.displays[0].data) < 1 << 16
    assert run.displays[0].data.endswith("characters more)")


def test_displays_of_an_ended_call_go_to_no_other(sandbox: Sandbox) -> None:
    """Those of its thread and its task, in the next call and between the two."""
    sandbox.run_sync("""
import asyncio, threading
go, done = threading.Event(), threading.Event()
def late():
    go.wait(); display("from an earlier thread"); done.set()
threading.Thread(target=late, daemon=True).start()
""")
    run = sandbox.run_sync("""
go.set(); done.wait()
def now(): display("from this call's thread")
thread = threading.Thread(target=now); thread.start(); thread.join()
""")

    assert [display.data for display in run.displays] == ['"from this call\'s thread"']


def test_a_finalizer_that_displays_does_no_harm(sandbox: Sandbox) -> None:
    """In a call, within another display, or after the call."""
    run = sandbox.run_sync("""
class Late:
    def __del__(self): display("late")
class Nested:
    def __repr__(self):
        Late()
        return "nested"
display(Nested())
kept = [Late()]
None
""")
    after = sandbox.run_sync("del kept\n1")

    assert sorted(display.data for display in run.displays) == ["'late'", "nested"]
    assert (after.value, [display.data for display in after.displays]) == (1, ["'late'"])


# ---------------------------------------------------------------------- pictures

_ODD = """
class Odd:
    def __init__(self, mime, data): self.mime, self.data = mime, data
    def _repr_mimebundle_(self, include=None, exclude=None): return {self.mime: self.data}
"""


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_pictures_are_decoded_and_encoded_anew(sandbox: Sandbox) -> None:
    """Their pixels are measured, and their metadata gone."""
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "<script>1</script>")
    png, jpeg = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(png, "PNG", pnginfo=info)
    Image.new("RGB", (30, 40), "red").save(jpeg, "JPEG", comment=b"<script>1</script>")
    pictures = {"png": png.getvalue(), "jpeg": jpeg.getvalue()}

    code = f"{_ODD}\ndisplay(Odd('image/png', png), Odd('image/jpeg', jpeg))"
    run = sandbox.run_sync(code, pictures)

    assert kinds(run) == [PNG, JPEG]
    assert [display.pixels for display in run.displays] == [(20, 10), (30, 40)]
    assert all(b"script" not in display.data for display in run.displays)
    with Image.open(io.BytesIO(run.displays[0].data)) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("mime", "data", "words"),
    [
        (PNG, b"\x89PNG\r\n\x1a\n" + b"garbage" * 50, "it can't be decoded as PNG"),
        (PNG, b"<svg onload=x>", "it doesn't begin as one"),
        (PNG, b"\xff\xd8\xff\xe0 jpeg", "it doesn't begin as one"),
        (JPEG, b"\xff\xd8\xff\xe0 cut", "it can't be decoded as JPEG"),
        (PNG, _png(30_000, 30_000, b""), "it has 30,000 × 30,000 pixels, and 25,000,000 may be shown"),
        (PNG, _png(1 << 31, 1, b""), "it"),
    ],
    ids=["broken", "svg", "other", "cut", "large", "wide"],
)
def test_a_false_picture_is_not_shown_as_one(sandbox: Sandbox, mime: str, data: bytes, words: str) -> None:
    """A line of text says why; the call completes."""
    run = sandbox.run_sync(f"{_ODD}\ndisplay(Odd(mime, data))", {"mime": mime, "data": data})

    assert kinds(run) == [TEXT]
    assert run.displays[0].data.startswith(f"[{mime} of {len(data):,} bytes is not shown: {words}")


# ---------------------------------------------------------------------- last values


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("range(3)", "range(0, 3)  [range, as the sandbox describes it]"),
        ("from collections import Counter; Counter('aab')", "Counter({'a': 2, 'b': 1})  [collections.Counter, "),
        ("type('Big', (), {'__repr__': lambda self: 'x' * 20_000_000})()", "x" * 2_000 + "…"),
        ("type('Odd', (), {'__repr__': lambda self: 1 / 0})()", "<Odd whose repr raises ZeroDivisionError>"),
    ],
    ids=["range", "counter", "big", "odd"],
)
def test_a_last_value_without_a_plain_form_is_described(sandbox: Sandbox, code: str, words: str) -> None:
    """By its bounded repr, marked; and what was to be brought back is there."""
    run = sandbox.run_sync(f"total = 3\n{code}", out=["total"])

    assert (str(run.verdict), run.out) == ("completed", {"total": 3})
    assert repr(run.value).startswith(words)


def test_a_last_value_with_a_rich_form_is_displayed(sandbox: Sandbox) -> None:
    """Once, in that form."""
    run = sandbox.run_sync("from PIL import Image\nImage.new('RGB', (20, 10), 'red')")

    assert kinds(run) == [PNG]
    assert run.value.is_displayed


def test_wanted_variables_that_cannot_leave_are_named(sandbox: Sandbox) -> None:
    """The others are there, and the value."""
    run = sandbox.run_sync("a, b = 1, lambda: 1\n7", out=["a", "b"])

    assert (str(run.verdict), run.value, run.out) == ("broken:unserializable", 7, {"a": 1})
    assert "function in the variable 'b'" in run.explain()


# ---------------------------------------------------------------------- streams


def test_rich_colours_what_it_prints_and_moves_no_cursor(sandbox: Sandbox) -> None:
    """As in a cell; a file of the plugin's own gets no colours."""
    run = sandbox.run_sync("""
import io, rich
from rich.console import Console
from rich.progress import track
rich.print("[red]pear[/]")
for _ in track(range(3)): pass
page = io.StringIO()
Console(file=page).print("[red]pear[/]")
page.getvalue()
""")

    assert run.stdout.startswith("\x1b[31mpear\x1b[0m\n")
    assert "\x1b[?" not in run.stdout
    assert run.value == "pear\n"


@pytest.mark.parametrize("module", ["tqdm", "tqdm.auto", "tqdm.notebook"])
def test_bars_are_text(sandbox: Sandbox, module: str) -> None:
    """Also those that would be widgets in a notebook."""
    run = sandbox.run_sync(f"from {module} import tqdm\nfor _ in tqdm(range(3)): pass")

    assert run.stderr.startswith("\r  0%|")
    assert "100%|██████████| 3/3" in run.stderr
    assert run.displays == ()


def test_an_interrupt_leaves_output_and_displays_whole(sandbox: Sandbox) -> None:
    """It may come in the middle of a frame or a line: nothing is doubled, and the protocol holds."""
    import threading

    plugin = sandbox._plugin
    sandbox.run_sync("display(1)")
    for wait_s in (0.01, 0.02, 0.03, 0.04, 0.05):
        timer = threading.Timer(wait_s, lambda: plugin._inside.stop("interrupt"))
        timer.start()
        run = sandbox.run_sync("""
n = 0
try:
    while True:
        print(n)
        display("x" * 9_000, display_id="a", update=True)
        n += 1
except KeyboardInterrupt:
    pass
""")
        timer.join()
        numbers = [int(line) for line in run.stdout.split()]
        assert (str(run.verdict), numbers) == ("stopped:interrupt", list(range(len(numbers))))


def test_preloaded_libraries_work_alike() -> None:
    """Though their zygote imported them before there was a worker."""
    with_preload = Sandbox(Policy(cpu_s=20.0), preload=["matplotlib.pyplot"])
    try:
        run = with_preload.run_sync("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nNone")
    finally:
        with_preload.close_sync()

    assert (kinds(run), run.stderr) == ([PNG], "")
