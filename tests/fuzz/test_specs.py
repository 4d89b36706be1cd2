"""Whatever a user names a plugin by, the answer is a source or an error of ours; and nothing is run to find it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentplug.core.sources.cell import cell_source
from agentplug.core.sources.resolve import resolve
from agentplug.core.sources.source import Source
from agentplug.errors import AgentplugError

PLUGIN = """
raise RuntimeError("the host ran a plugin's module")
class GoodPlugin: ...
"""
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

_PIECES = """
    . .. : :: / // ~ ~/ ~nobody/ ~\ud800/ - _ @ # ? % * [ ] { } $HOME \\ | & ; ' " ` , \ud800 \udcff \u202e é pkg
    pkg.mod plugin Plugin GoodPlugin good.py bad.py folder folder/good.py link.py loop.py fifo.py socket.py dir.py
    locked.py empty.py package package.inner json os sys __main__ __init__ builtins agentplug agentplug.zoo numpy.core
    agentplug.plugins word_count file:// http://example.org/x.py .py .pyc .zip archive.zip archive.zip/x None 0 1 42
    /dev/null /dev/zero /dev/stdin /proc/self/mem /proc/self/fd/0 /etc/passwd / /nowhere con nul aux
""".split()
_PIECES += ["", " ", "\t", "\n", "\r", "\0", "\u2028", "a" * 300, "a/" * 300, "a." * 300, "x" * 5000]
ANSWERS = (Source, AgentplugError)
pieces = st.sampled_from(_PIECES)
specs = st.one_of(
    st.lists(pieces, max_size=6).map("".join),
    st.text(st.characters(exclude_categories=()), max_size=40),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plugins, and of files that are none."""
    folder = tmp_path_factory.mktemp("specs")
    (folder / "folder").mkdir()
    (folder / "package").mkdir()
    (folder / "dir.py").mkdir()
    for name in ("good.py", "folder/good.py", "plugin.py", "package/__init__.py", "package/inner.py"):
        (folder / name).write_text(PLUGIN)
    (folder / "bad.py").write_bytes(b"\xff\xfe\0(((")
    (folder / "empty.py").write_bytes(b"")
    (folder / "archive.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "locked.py").write_text(PLUGIN)
    (folder / "locked.py").chmod(0)
    (folder / "link.py").symlink_to("folder/good.py")
    (folder / "loop.py").symlink_to("loop.py")
    os.mkfifo(folder / "fifo.py")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)
        server.bind("socket.py")
        os.chdir(here)
    Path(os.fsencode(folder).decode() + "/odd\udcff.py").write_text(PLUGIN)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory is that folder, and `sys.path` leads there."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    return place


def shown(error: AgentplugError) -> None:
    """Its text can be written anywhere, and steers no display."""
    text = str(error)
    text.encode()
    assert text
    assert len(text) < 5_000
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2028" for c in text), ascii(text)


def answer(spec: Any, **options: Any) -> object:
    """What `spec` is resolved to; or the error of ours that refuses it, with a text that can be shown."""
    before = set(sys.modules)
    found: object
    try:
        found = source = resolve(spec, **options)
    except AgentplugError as error:
        shown(error)
        found = error
    else:
        source.spec.encode()
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] in ("good", "plugin", "package")}
    return found


@settings(patient, max_examples=250)
@given(spec=specs)
def test_any_text_is_resolved_or_refused(here: Path, spec: str) -> None:
    """Paths, names, addresses, surrogates, NUL: no other exception, no control character in a message, no import."""
    assert isinstance(answer(spec), ANSWERS)


@settings(patient, max_examples=100)
@given(spec=specs, base=st.one_of(st.none(), st.sampled_from(["", "/", ".", "folder", "/nowhere", "good.py"])))
def test_any_path_is_resolved_or_refused(here: Path, spec: str, base: str | None) -> None:
    """As a `Path`, and counted from any directory, or from what is none."""
    assert isinstance(answer(Path(spec), base=base), ANSWERS)
    assert isinstance(answer(f"{spec}.py", base=base), ANSWERS)
    assert isinstance(answer(f"./{spec}"), ANSWERS)
    assert isinstance(answer(f"{spec}:{spec}"), ANSWERS)


@settings(patient, max_examples=100)
@given(
    spec=st.one_of(
        st.none(), st.integers(), st.binary(max_size=9), st.floats(), st.lists(st.text(max_size=3)),
        st.dictionaries(st.text(max_size=3), st.none()), st.sampled_from([int, object, Path, print, sys, len, ...]),
        st.builds(object), st.builds(type, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
                                                   max_size=5), st.just(()), st.just({})),
    )
)  # fmt: skip
def test_any_object_is_resolved_or_refused(spec: Any) -> None:
    """What is neither text nor path nor plugin is refused by what it is."""
    assert isinstance(answer(spec), ANSWERS)


@settings(patient, max_examples=200)
@given(
    text=st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=80), st.lists(pieces, max_size=8).map("".join)
    ),
    name=specs,
)
def test_any_cell_is_a_source_or_refused(text: str, name: str) -> None:
    """A cell isn't parsed here: it becomes bytes, whatever it holds, unless no file could hold it."""
    try:
        source = cell_source(text, name)
    except AgentplugError as error:
        shown(error)
    else:
        assert source.modules[0].code == text.encode()
        assert source.entry.isidentifier()
