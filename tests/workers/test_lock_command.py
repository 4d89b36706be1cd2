"""`agentplug lock` and `agentplug list`: what they show and ask, what they write, their exit status."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from rich.console import Console
from typer.testing import CliRunner

from agentplug.cli import lock as lock_command
from agentplug.cli.app import app
from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import wait_for
from agentplug.errors import PinMismatch
from agentplug.jupyter.available import AvailableList, consent
from agentplug.manager.pins.available import available
from agentplug.manager.pins.lockfile import read_lock
from agentplug.report.consent import Consent
from tests.installed_site import install, use_site
from tests.workers.test_pins import GREETER, pin

pytestmark = pytest.mark.need("landlock", "seccomp")

ASKING = GREETER + '    asks = {"network": [443]}\n    why = {"network": "to ask \\x1b[2Jthe weather"}\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plugin, the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "greeter.py").write_text(GREETER)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and all that was printed."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return done.exit_code, done.output


def test_a_plugin_is_pinned_checked_and_changed(here: Path) -> None:
    """The whole way: pinned, unchanged, changed (status 1 and a diff), not pinned anew unless told to, upgraded."""
    assert run("lock", "./greeter.py")[0] == 0
    assert run("lock", "--check") == (0, "1 pinned in agentplug.lock, all unchanged\n")
    assert run("lock", "./greeter.py")[0] == 0

    (here / "greeter.py").write_text(GREETER.replace("1.0", "1.1"))
    status, told = run("lock", "--check")
    assert status == 1
    assert (
        "--- greeter as agentplug.lock pins it\n+++ greeter as it is here\n- version: 1.0\n+ version: 1.1\n" in told
    )
    before = (here / "agentplug.lock").read_text()
    status, told = run("lock", "./greeter.py")
    assert status == 1
    assert "to agree to this: agentplug lock --upgrade greeter" in told
    assert (here / "agentplug.lock").read_text() == before

    assert run("lock", "--upgrade", "Greeter")[0] == 0
    assert read_lock(here).pins["greeter"].version == "1.1"
    assert run("lock", "--check")[0] == 0


def test_what_is_pinned_is_what_a_shell_runs(here: Path) -> None:
    """`run --locked` runs the pinned bytes with no more rights than pinned, and nothing else."""
    status, told = run("run", "./greeter.py", "--locked")
    assert status == 2
    assert "there is no lock" in told
    run("lock", "./greeter.py")

    assert run("run", "./greeter.py", "--locked")[0] == 0
    status, told = run("run", "./greeter.py", "--locked", "--network", "443")
    assert (status, "\n+ may be granted network: [443]\n" in told) == (2, True)
    (here / "greeter.py").write_text(GREETER.replace("good", "evil"))
    status, told = run("run", "./greeter.py", "--locked")
    assert (status, "evil" not in told, "\n+ file greeter.py: sha256:" in told) == (2, True, True)
    assert '"evil"' in run("run", "./greeter.py")[1]


def test_a_change_of_rights_asks_again(here: Path) -> None:
    """Without a terminal to ask on, nothing is written unless --yes says so; a plain new version is."""
    run("lock", "./greeter.py")
    (here / "greeter.py").write_text(ASKING)

    status, told = run("lock", "--upgrade", "greeter")
    assert status == 1
    assert "+ asks for network: [443]" in told
    assert "its rights changed; to agree: agentplug lock --upgrade greeter --yes" in told
    assert read_lock(here).pins["greeter"].asks == {}
    assert run("lock", "--upgrade", "greeter", "--network", "443", "--hook", "input=veto", "--yes")[0] == 0
    held = read_lock(here).pins["greeter"]
    assert (held.asks, held.rights) == ({"network": [443]}, {"network": [443], "hooks": {"input": "veto"}})


@pytest.mark.parametrize(("answer", "pinned"), [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_somebody_is_asked(
    here: Path, monkeypatch: pytest.MonkeyPatch, answer: str, pinned: bool
) -> None:
    """The card first, then the question; only a yes writes."""
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "input", lambda question: answer)
    (here / "greeter.py").write_text(ASKING)

    status = lock_command.lock_plugins(console, "agentplug.lock", ["./greeter.py"], [], None, yes=False)

    assert status == (0 if pinned else 1)
    assert (here / "agentplug.lock").exists() is pinned
    assert "asks    network 443: to ask \\x1b[2Jthe weather  (not granted)" in shown.getvalue()


def test_mistakes_are_told_in_a_line(here: Path) -> None:
    """Status 2, and what to write instead."""
    assert run("lock")[0] == 2
    assert run("lock", "--check", "./greeter.py")[0] == 2
    run("lock", "./greeter.py")
    status, told = run("lock", "--upgrade", "greter")
    assert status == 2
    assert "did you mean 'greeter'?" in told
    (here / "agentplug.lock").write_text("version = 9\n")
    status, told = run("lock", "--check")
    assert (status, "line 1: its schema is 9" in told) == (2, True)


def test_a_specifier_on_the_command_line_is_kept(here: Path) -> None:
    """And holds at the next upgrade."""
    assert run("lock", "./greeter.py>=1,<2")[0] == 0
    assert read_lock(here).pins["greeter"].specifier == "<2,>=1"
    (here / "greeter.py").write_text(GREETER.replace("1.0", "2.0"))

    status, told = run("lock", "--upgrade", "greeter", "--yes")

    assert (status, "isn't <2,>=1" in told) == (2, True)


# ---------------------------------------------------------------------- what is announced


BOMB = "raise SystemExit('the host ran the plugin')\n"
TABLE = """
[tool.agentplug]
version = "3.0"
[tool.agentplug.greeter]
name = "greeter"
hooks = {input = "veto"}
asks = {read = ["/data"]}
why = {read = "to read <b>notes</b>"}
"""


@pytest.fixture
def site(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three announced plugins: one with a table in its metadata, one with a class, one that can't be read."""
    site = use_site(here / "site", monkeypatch)
    table = BOMB + "class GreeterPlugin:\n    name = compute()\n"
    points = "[agentplug.plugins]\ngreeter = greet:GreeterPlugin\nplain = plain\nbroken = nothere.at_all\n"
    install(
        site,
        "greet",
        "1.5",
        {
            "greet/__init__.py": table.replace("name = compute()", "pass"),
            "greet/agentplug.toml": TABLE,
            "plain.py": BOMB + GREETER.replace('"greeter"', '"plain"'),
            "greet-1.5.dist-info/entry_points.txt": points,
        },
    )
    return site


def test_announced_plugins_are_listed_and_not_imported(site: Path) -> None:
    """Where from, which version, what they ask for, pinned or not; one that can't be read hides none."""
    rows = {plugin.entry_point: plugin.row() for plugin in wait_for(available(read_lock(".", missing_ok=True)))}

    assert rows["greeter"] == {
        "name": "greeter",
        "version": "3.0",
        "from": "greet 1.5",
        "entry": "greet:GreeterPlugin",
        "asks for": "read /data; veto at input",
        "pinned": "no",
    }
    assert rows["plain"]["asks for"] == "nothing"
    assert (rows["broken"]["pinned"], "no module" in rows["broken"]["asks for"]) == ("unknown", True)
    assert not any(name in sys.modules for name in ("greet", "plain"))


def test_the_list_says_what_is_pinned(site: Path) -> None:
    """And status 1 once one of them has changed."""
    pin(site.parent, "plain")

    status, told = run("list")
    assert status == 0
    assert [line.split()[-1] for line in told.splitlines() if line.startswith(("plain", "greeter"))] == ["no", "yes"]

    (site / "plain.py").write_text(GREETER)
    status, told = run("list")
    assert status == 1
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("plain")] == ["changed"]


def test_plugins_available_in_a_notebook(site: Path, ip: InteractiveShell) -> None:
    """The same rows as text and as HTML."""
    shown = ip.run_line_magic("plugins", "--available")

    assert isinstance(shown, AvailableList)
    assert [row["name"] for row in shown.rows if row["from"] == "greet 1.5"] == ["broken", "greeter", "plain"]
    assert "veto at input" in repr(shown)
    assert "veto at input" in shown._repr_html_()


def test_a_notebook_shows_the_card_of_what_changed(
    here: Path, ip: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--locked` refuses, and above the error stands what somebody would agree to."""
    (here / "greeter.py").write_text(ASKING)

    pin(here, "./greeter.py")
    (here / "greeter.py").write_text(ASKING.replace("443", "80"))
    with pytest.raises(PinMismatch, match=r"- asks for network: \[443\]\n\+ asks for network: \[80\]"):
        ip.run_line_magic("load_plugin", "./greeter.py --locked")

    told = capsys.readouterr().out
    assert "asks    network 80: to ask" in told
    assert "pinned  changed since then" in told


def test_a_notebook_shows_the_card_of_more_rights(
    here: Path, ip: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing changed but what it is to be granted: the card has that. Where nobody could agree, there is no card."""
    (here / "greeter.py").write_text(ASKING)
    pin(here, "./greeter.py")

    card = consent("./greeter.py", Policy(network=(443,)))

    assert "asks    network 443: to ask" in repr(card)
    assert "(not granted)" not in repr(card)
    assert "+ may be granted network: [443]" in repr(card)
    assert "may be granted network: [443]" in card._repr_html_()  # type: ignore[union-attr]
    assert consent("./greeter.py", Policy()) is None

    (here / "greeter.py").write_text(ASKING + '    def __init__(self): self.name = "admin"\n')
    pin(here, "./greeter.py")
    with pytest.raises(PinMismatch, match=r"\+ name: admin"):
        ip.run_line_magic("load_plugin", "./greeter.py --locked")
    assert capsys.readouterr().out == ""


def test_a_card_escapes_what_a_plugin_says() -> None:
    """Names, reasons, values: HTML in the one, control characters in the other."""
    values = {
        "name": "<script>",
        "version": "\x1b[2J",
        "origin": "x",
        "asks": {"network": True, "hooks": {"input": "<veto>"}},
        "why": {"network": "<img onerror=x>"},
        "granted": {"network": True},
        "changes": ["- <b>", "+ \x1b[31m"],
        "pinned": True,
    }

    card = Consent(**values)  # type: ignore[arg-type]
    page, text = card._repr_html_(), repr(card)

    assert not any(part in page for part in ("<script", "<img", "<veto>", "<b>\x1b", "\x1b"))
    assert "\x1b" not in text
    assert "network: <img onerror=x>\n" in text
    assert "<veto> at input: it gives no reason  (not granted)" in text
