"""What sandboxed cells display, in a real page: it is there, and it does nothing to the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import Server, artefact, opened

pytestmark = pytest.mark.need("chromium", "landlock", "seccomp")

CELLS = [
    "%load_ext agentplug",
    "%%sandbox\nimport matplotlib.pyplot as plt\nplt.figure(figsize=(4, 2))\nplt.plot([1, 3, 2])\nplt.show()",
    "%%sandbox\nimport pandas as pd\ndisplay(pd.DataFrame({'fruit': ['pear'], 'price': [2.5]}))",
    """%%sandbox
from IPython.display import HTML, display
display(HTML('''<h3>Bold words</h3><script>top.owned = document.title = 'owned'</script>
<img src="http://127.0.0.1:9/?secret" onerror="top.owned = 1"><a href="http://127.0.0.1:9/">more</a>
<link rel=stylesheet href="http://127.0.0.1:9/style"><meta http-equiv=refresh content="0;url=http://127.0.0.1:9/">'''))
style = "position:fixed;inset:0;width:100vw;height:100vh;z-index:2147483647;background:red"
display(HTML(f"<style>html,body{{{style}}}</style><div style='{style}'>cover</div>"))""",
    """%%sandbox
from tqdm.auto import tqdm
for _ in tqdm(range(4)): pass
print('\\033[1;32mgreen\\033[0m plain')""",
    "_run",
]


def test_displays_are_seen_and_do_nothing_to_the_page(lab: Server, browser: Any, tmp_path: Path) -> None:
    """On light and dark pages: a figure, a table, HTML in frames that end at their edges, a bar, colours."""
    with opened(browser, f"{lab.address}/lab/tree/{lab.write('displays.ipynb', CELLS)}", height=1800) as book:
        asked: list[str] = []
        book.page.on("request", lambda request: asked.append(request.url))
        for cell in range(len(CELLS)):
            book.finish(cell)

        assert book.outputs(1).locator("img").count() == 1
        assert "pear" in book.text(2)
        frames = book.outputs(3).locator("iframe")
        assert frames.count() == 2
        content = frames.first.content_frame
        assert content.get_by_role("heading", name="Bold words").is_visible()
        assert content.get_by_role("link").count() == 0
        assert frames.last.bounding_box()["height"] <= 420
        assert "4/4" in book.text(4)
        assert "green plain" in book.text(4)
        assert "owned" not in book.page.title()
        assert book.page.evaluate("window.owned") is None
        assert [url for url in asked if "127.0.0.1:9/" in url] == []
        book.page.screenshot(path=artefact("displays-light.png", tmp_path))
        book.dark()
        book.page.screenshot(path=artefact("displays-dark.png", tmp_path))
