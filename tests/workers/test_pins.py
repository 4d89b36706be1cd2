"""What is pinned is what runs: each attack is first shown to fool a plain import, then refused by the lock."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import wait_for
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.errors import PinMismatch, PluginError, PluginNotFound, SpecError
from agentplug.manager.manager import PluginManager
from agentplug.manager.pins.lockfile import read_lock
from agentplug.manager.pins.pin import sha256
from agentplug.manager.pins.taking import take
from agentplug.manager.pins.verify import check, propose, verified
from agentplug.manager.pins.writing import update_lock

CONFINED = pytest.mark.need("landlock", "seccomp")
pytestmark = CONFINED

GREETER = """
class GreeterPlugin:
    name, version = "greeter", "1.0"
    async def initialize(self, config): ...
    async def process(self, given): return "good"
"""
EVIL = GREETER.replace('"good"', '"evil"')


def pin(folder: Path, spec: object, specifier: str = "", **rights: object) -> str:
    """Pin what `spec` names in the lock of `folder`, and return its key."""
    lock = read_lock(folder, missing_ok=True)
    proposal = wait_for(propose(spec, lock, rights, specifier))
    update_lock(lock.path, lambda held: held.update({proposal.pin.key: proposal.pin}))
    return proposal.pin.key


async def answer(folder: Path, spec: object, policy: Policy | None = None) -> object:
    """What the pinned plugin answers. Raises where the lock refuses it."""
    async with PluginManager(policy, lock=folder, locked=True) as manager:
        plugin = await manager.load(spec)
        return await plugin.process(None)


def imported(*paths: Path, module: str = "greeter", cwd: Path | None = None) -> str:
    """What a plain import of `module` answers, with these folders first on the path."""
    code = f"import sys; sys.path[:0] = {[str(p) for p in paths]!r}; import asyncio, {module} as m\n"
    code += "print(asyncio.run(m.GreeterPlugin().process(None)))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=cwd
    )
    return done.stdout.strip()


# ---------------------------------------------------------------------- one file


async def test_what_is_pinned_runs(tmp_path: Path) -> None:
    """A pinned file loads by any spelling of its path, and its digest is the lock's."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file)

    async with PluginManager(lock=tmp_path, locked=True) as manager:
        plugin = await manager.load(f"{tmp_path}/../{tmp_path.name}/greeter.py")
        run = await plugin.run(None)

    held = read_lock(tmp_path).pins["greeter"]
    assert run.value == "good"
    assert run.source.digest == held.digest
    assert held.files == {"greeter.py": sha256(GREETER.encode())}
    assert (held.name, held.version, held.kind, held.spec) == ("greeter", "1.0", "file", "./greeter.py")


async def test_an_edited_file_is_refused_with_a_diff(tmp_path: Path) -> None:
    """A plain import takes whatever lies there; a lock names the file and both digests, and what to do."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file)
    file.write_text(EVIL.replace("1.0", "1.1"))

    assert imported(tmp_path) == "evil"
    with pytest.raises(PinMismatch) as caught:
        await answer(tmp_path, file)

    assert str(caught.value).splitlines()[1:] == [
        "- version: 1.0",
        "+ version: 1.1",
        f"- file greeter.py: {sha256(GREETER.encode())}",
        f"+ file greeter.py: {sha256(file.read_bytes())}",
        "Remedy: restore it, or look at the change and agree to it: agentplug lock --upgrade greeter",
    ]


async def test_a_racing_writer_never_gets_its_bytes_run(tmp_path: Path) -> None:
    """Hash a path and then import it, and swapped code runs now and then; here what was hashed is what runs."""
    file, fresh = tmp_path / "greeter.py", tmp_path / "fresh"
    file.write_text(GREETER)
    pin(tmp_path, file)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for text in (EVIL, GREETER):
                fresh.write_text(text)
                fresh.replace(file)

    good = sha256(GREETER.encode())
    writer = threading.Thread(target=swap)
    writer.start()
    try:
        fooled = any(sha256(file.read_bytes()) == good and file.read_text() == EVIL for _ in range(20_000))
        assert fooled, "check and use of a path are two readings, and the writer came between no two of them"
        ran = refused = 0
        lock = read_lock(tmp_path)
        for _ in range(300):
            taken = take(file, lock.home)
            if taken.pin.files == lock.pins["greeter"].files:
                ran += 1
                assert taken.source.modules[0].code == GREETER.encode()
            else:
                refused += 1
    finally:
        stop.set()
        writer.join()
    assert ran
    assert refused


async def test_a_swapped_link_is_refused(tmp_path: Path) -> None:
    """A link that led to one file and now leads to another."""
    (tmp_path / "good").write_text(GREETER)
    (tmp_path / "evil").write_text(EVIL)
    link = tmp_path / "greeter.py"
    link.symlink_to("good")
    pin(tmp_path, link)
    assert await answer(tmp_path, link) == "good"
    link.unlink()
    link.symlink_to("evil")

    assert imported(tmp_path) == "evil"
    with pytest.raises(PinMismatch, match=r"file greeter\.py"):
        await answer(tmp_path, link)


def stale_pyc(file: Path, text: str, evil: str) -> None:
    """Leave bytecode of `evil` beside `file`, which holds `text`, of the same size and time."""
    assert len(text) == len(evil)
    file.write_text(evil)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    subprocess.run([sys.executable, "-m", "py_compile", str(file)], check=True, timeout=60)
    file.write_text(text)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert Path(importlib.util.cache_from_source(str(file))).exists()


async def test_stale_bytecode_is_never_read(tmp_path: Path) -> None:
    """Bytecode of other code, with the size and the time of the source, is what a plain import runs."""
    file = tmp_path / "greeter.py"
    stale_pyc(file, GREETER, EVIL)
    pin(tmp_path, file)

    assert imported(tmp_path) == "evil"
    assert await answer(tmp_path, file) == "good"


async def test_a_changed_version_alone_is_named(tmp_path: Path) -> None:
    """One character in the version, and the diff begins with it."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file)
    file.write_text(GREETER.replace("1.0", "0.9"))

    assert imported(tmp_path) == "good"
    with pytest.raises(PinMismatch, match=r"- version: 1\.0\n\+ version: 0\.9"):
        await answer(tmp_path, file)


async def test_other_line_ends_are_other_bytes(tmp_path: Path) -> None:
    """A checkout with Windows line ends is refused, and the diff says that this is all there is to it."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file)
    file.write_bytes(GREETER.replace("\n", "\r\n").encode())

    with pytest.raises(PinMismatch, match="only its line ends differ"):
        await answer(tmp_path, file)


async def test_a_plugin_that_says_other_things_once_it_runs_is_refused(tmp_path: Path) -> None:
    """The class reads as one plugin and turns into another when it is made: its worker is ended."""
    file = tmp_path / "greeter.py"
    file.write_text(
        GREETER + '    hooks, asks = {"input": "observe"}, {"network": [443], "processes": 2}\n'
        "    def __init__(self):\n"
        '        self.name, self.hooks = "admin", {"pre_tool_call": "veto"}\n'
        '        self.asks = {"network": True, "processes": 2}\n'
    )
    pin(tmp_path, file)

    async with SandboxedPlugin(file) as plain:
        assert (plain.name, plain.hooks) == ("admin", {"pre_tool_call": "veto"})
    with pytest.raises(PinMismatch) as caught:
        await answer(tmp_path, file)

    assert str(caught.value).splitlines()[1:] == [
        "- name: greeter",
        "+ name: admin",
        "- asks for hook input: observe",
        "+ asks for hook pre_tool_call: veto",
        "- asks for network: [443]",
        "+ asks for network: true",
    ]


@pytest.mark.parametrize("value", ["10**25", "-(10**5000)", "[10**30, 443]", "float('nan')", "object()", "[[1], {}]"])
async def test_what_no_right_can_be_is_no_reason_to_fail(value: str, tmp_path: Path) -> None:
    """An asked right is a claim for whoever pins it; unpinned, the plugin runs, whatever stands there."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER + f"    asks = {{'network': {value}}}\n")

    async with SandboxedPlugin(file) as plain:
        assert await plain.process(None) == "good"


async def test_a_plugin_that_no_longer_asks_once_it_runs_is_refused(tmp_path: Path) -> None:
    """What it asked for was read by whoever pinned it: that it is gone is a difference."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER + '    asks = {"network": [443]}\ndel GreeterPlugin.asks\n')
    pin(tmp_path, file)

    with pytest.raises(PinMismatch, match=r"- asks for network: \[443\]"):
        await answer(tmp_path, file)


async def test_a_plugin_that_says_the_same_once_it_runs_is_loaded(tmp_path: Path) -> None:
    """Asked rights in each form that one may write, in any order, are those that its worker reports."""
    file = tmp_path / "greeter.py"
    asks = {"network": (443, 80), "env": {"TOKEN": "", "A": ""}, "read": ["/b", "/a"], "processes": 1}
    file.write_text(GREETER + f"    asks = {asks | {'best_effort': True}!r}\n")
    pin(tmp_path, file)

    assert await answer(tmp_path, file) == "good"


async def test_one_path_or_port_may_be_asked_for_without_a_list(tmp_path: Path) -> None:
    """As a policy takes it; the lock has a list."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER + "    asks = {'read': '/data', 'network': 443}\n")
    pin(tmp_path, file)

    assert read_lock(tmp_path).pins["greeter"].asks == {"read": ["/data"], "network": [443]}
    assert await answer(tmp_path, file) == "good"


async def test_a_name_is_no_command_in_a_remedy(tmp_path: Path) -> None:
    """What a plugin calls itself, and a file's name, are single words of the commands that a message proposes."""
    file = tmp_path / "my file.py"
    file.write_text(GREETER.replace('"greeter"', '"x;reboot"'))
    (tmp_path / "agentplug.lock").write_text("version = 1\n")
    with pytest.raises(PinMismatch, match=r"agentplug lock '\./my file\.py'$"):
        await answer(tmp_path, file)
    pin(tmp_path, file)
    file.write_text(EVIL)

    with pytest.raises(PinMismatch, match=r"--upgrade 'x;reboot'$"):
        await answer(tmp_path, file)


async def test_more_rights_than_were_pinned_are_refused(tmp_path: Path) -> None:
    """The policy may grant less than the lock says, never more; the diff names the right."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file, network=[80, 443])
    (tmp_path / "data").mkdir()

    assert await answer(tmp_path, file, Policy(network=443)) == "good"
    with pytest.raises(PinMismatch) as caught:
        await answer(tmp_path, file, Policy(network=(80, 8080), read=(str(tmp_path / "data"),)))

    assert str(caught.value).splitlines()[1:3] == [
        "- may be granted network: [80, 443]",
        "+ may be granted network: [80, 8080]",
    ]
    assert '+ may be granted read: ["./data"]' in str(caught.value)


async def test_a_lock_never_grants(tmp_path: Path) -> None:
    """It comes with the code that it pins, so it limits a policy and adds nothing to it."""
    file, secret = tmp_path / "greeter.py", tmp_path / "secret"
    secret.write_text("x")
    file.write_text(GREETER.replace('return "good"', f"return open({str(secret)!r}).read()"))
    pin(tmp_path, file, read=["./secret"])

    with pytest.raises(PluginError, match="PermissionError"):
        await answer(tmp_path, file)


async def test_what_isn_t_pinned_passes_only_where_it_may(tmp_path: Path) -> None:
    """`locked` refuses it; with a lock alone it loads, and what is pinned is still held to its pin."""
    one, two = tmp_path / "one.py", tmp_path / "greeter.py"
    one.write_text(GREETER)
    two.write_text(GREETER.replace('"greeter"', '"other"'))
    pin(tmp_path, one)
    two.write_text(EVIL.replace('"greeter"', '"other"'))

    with pytest.raises(PinMismatch, match=r"greeter\.py' isn't pinned .* pins '\./one\.py'"):
        await answer(tmp_path, two)
    async with PluginManager(lock=tmp_path) as manager:
        assert await (await manager.load(two)).process(None) == "evil"
        one.write_text(EVIL)
        with pytest.raises(PinMismatch):
            await manager.load(one)
        with pytest.raises(PinMismatch, match="isn't pinned"):
            await manager.load(two, "again", locked=True)


class Live:
    """A plugin of the session's own."""

    name, version = "live", "1.0"

    async def initialize(self, config: object) -> None: ...

    async def process(self, given: object) -> object:
        return given


async def test_a_live_object_can_t_be_pinned(tmp_path: Path) -> None:
    """Its bytes differ from session to session, so a manager that takes only pinned plugins takes none."""
    (tmp_path / "one.py").write_text(GREETER)
    pin(tmp_path, tmp_path / "one.py")
    async with PluginManager(lock=tmp_path, locked=True) as manager:
        with pytest.raises(SpecError, match="lives in this session alone"):
            await manager.load(Live)
        with pytest.raises(PinMismatch, match="wasn't loaded through"):
            manager.register(Live())
        with pytest.raises(PinMismatch, match="wasn't loaded through"):
            manager.register(SandboxedPlugin(tmp_path / "one.py"))


async def test_a_reload_is_held_to_the_lock_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file changed since: the new one is refused and the old one stays, also in a manager without a lock."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file)
    monkeypatch.chdir(tmp_path)
    async with PluginManager() as manager:
        plugin = await manager.load("./greeter.py", locked=True)
        file.write_text(EVIL)
        with pytest.raises(PinMismatch):
            await manager.reload("greeter")
        assert await plugin.process(None) == "good"


def test_upgrades_keep_to_the_specifier(tmp_path: Path) -> None:
    """A version that the specifier doesn't name isn't pinned, also when it is asked for."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file, ">=1,<2")
    file.write_text(GREETER.replace("1.0", "2.0"))

    with pytest.raises(PinMismatch, match=r"version 2\.0, which isn't <2,>=1"):
        pin(tmp_path, file)


def test_two_plugins_of_one_name_aren_t_pinned(tmp_path: Path) -> None:
    """The second would quietly take the first one's place."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(GREETER)
    pin(tmp_path, tmp_path / "a.py")

    with pytest.raises(PinMismatch, match=r"'greeter' is pinned already, from '\./a\.py'"):
        pin(tmp_path, tmp_path / "b.py")


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    """A lock is UTF-8, and has no way to write it."""
    path = os.fsencode(tmp_path) + b"/\xff.py"
    with open(path, "w") as file:
        file.write(GREETER)

    with pytest.raises(SpecError, match=r"no UTF-8, which a lock can't hold; rename it"):
        pin(tmp_path, os.fsdecode(path))


# ---------------------------------------------------------------------- manifests


def test_a_manifest_is_read_and_not_run(tmp_path: Path) -> None:
    """Literals, constants and bases of the same file; an import that would end the process stays unrun."""
    file = tmp_path / "x.py"
    file.write_text(
        "import os; os._exit(3)\nVERSION = '2.' + '0'\nNAME = 'x'\n"
        "class Base:\n    version = '1.5'\n    asks = {'network': [443], 'env': ['TOKEN']}\n"
        "class XPlugin(Base):\n    name: str = NAME\n    why = {'network': 'to ask'}\n"
        "    hooks = {'output': 'veto'}\n"
    )

    proposal = wait_for(propose(file, read_lock(tmp_path, missing_ok=True), {}))

    manifest = proposal.manifest
    assert (manifest.name, manifest.version, manifest.hooks) == ("x", "1.5", {"output": "veto"})
    assert manifest.asks == {"network": [443], "env": ["TOKEN"]}
    assert manifest.why == {"network": "to ask"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GREETER.replace('"1.0"', "str(1)"), "version of class GreeterPlugin is computed"),
        (GREETER.replace("name, version", "name, ver"), "has no version"),
        (GREETER + "    hooks = {'inptu': 'veto'}\n", "did you mean 'input'"),
        (GREETER + "    hooks = ['input']\n", "hooks is no dict"),
        (GREETER + "    asks = {'netwrok': True}\n", "did you mean 'network'"),
        (GREETER + "    asks = {'network': ['https']}\n", "isn't a TCP port"),
        (GREETER + "    asks = {'network': {443, 80}}\n", "a set has no order; write a list"),
        (GREETER + "    asks = {'env': [[]]}\n", "write a dict of names"),
        (GREETER + f"    asks = {{'read': {[f'/{n}' for n in range(300)]}}}\n", "more than 256 of them"),
        ("x = 1\n", "one class whose name ends in Plugin"),
        ("class (:\n", "can't be read without running it"),
        (GREETER + "    if 1:\n        version = '2'\n", "computed"),
        ("(" * 100_000, "can't be read without running it"),
    ],
)
def test_a_manifest_that_can_t_be_read_is_refused(text: str, told: str, tmp_path: Path) -> None:
    """What is computed, missing or misspelt isn't guessed, and a text that breaks a parser breaks none of ours."""
    (tmp_path / "x.py").write_text(text)

    with pytest.raises(SpecError, match=told):
        pin(tmp_path, tmp_path / "x.py")


# ---------------------------------------------------------------------- cells


def notebook(path: Path, *cells: str) -> None:
    """A notebook with these code cells."""
    held = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": held}))


def test_a_cell_is_pinned_from_its_notebook(tmp_path: Path, ip: InteractiveShell) -> None:
    """The lock has the cell's source; in the notebook `--locked` runs that and nothing else."""
    notebook(tmp_path / "n.ipynb", "1 + 1", f"%%load_plugin greeter --locked\n{GREETER.rstrip()}")
    key = pin(tmp_path, f"{tmp_path}/n.ipynb#greeter")

    assert (key, read_lock(tmp_path).pins[key].spec) == ("greeter", "./n.ipynb#greeter")
    ip.run_cell_magic("load_plugin", "greeter --locked", GREETER)
    assert wait_for(ip.user_ns["greeter"].process(None)) == "good"
    with pytest.raises(PinMismatch, match="digest"):
        ip.run_cell_magic("load_plugin", "greeter --locked", EVIL)
    assert wait_for(check(read_lock(tmp_path))) == {}
    notebook(tmp_path / "n.ipynb", f"%%load_plugin greeter\n{EVIL}")
    assert list(wait_for(check(read_lock(tmp_path)))) == ["greeter"]


def test_a_notebook_without_that_cell_says_what_it_has(tmp_path: Path) -> None:
    """Also a file that is no notebook."""
    notebook(tmp_path / "n.ipynb", f"%%load_plugin greeter\n{GREETER}")
    with pytest.raises(PluginNotFound, match="did you mean 'greeter'"):
        pin(tmp_path, f"{tmp_path}/n.ipynb#greter")
    (tmp_path / "n.ipynb").write_text("{}")
    with pytest.raises(SpecError, match="is no notebook"):
        pin(tmp_path, f"{tmp_path}/n.ipynb#greeter")


def test_load_plugin_locked_refuses_a_changed_file(tmp_path: Path, ip: InteractiveShell) -> None:
    """In a notebook, and the variable isn't bound."""
    (tmp_path / "greeter.py").write_text(GREETER)
    pin(tmp_path, tmp_path / "greeter.py")
    (tmp_path / "greeter.py").write_text(EVIL)

    with pytest.raises(PinMismatch, match=r"\+ file greeter\.py"):
        ip.run_line_magic("load_plugin", "./greeter.py --locked")
    assert "greeter" not in ip.user_ns


async def test_the_lock_is_read_at_every_load(tmp_path: Path) -> None:
    """Pinned while a manager is open counts from the next load on; and what is verified is what is given back."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    pin(tmp_path, file)
    source = await verified(tmp_path, file, Policy())
    assert source is not None
    assert source.pinned == ("greeter", "1.0", {}, {})
    file.write_text(EVIL)
    with pytest.raises(PinMismatch):
        await verified(tmp_path, file, Policy())
