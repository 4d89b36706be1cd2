"""Specs: what a user may name a plugin by, what is refused, entry points, cells and digests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentplug.contract.text import printable
from agentplug.core.sources.cell import cell_source
from agentplug.core.sources.digest import digest_of, text_digest
from agentplug.core.sources.resolve import resolve
from agentplug.core.sources.source import Module, Source
from agentplug.errors import PluginNotFound, SpecError
from tests.sources_project import BOMB, announce, project_at, write


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with project_at(tmp_path, monkeypatch) as root:
        yield root


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"./greeter.py"


class BrokenPath:
    def __fspath__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("", SpecError, "spec is empty; write 'pkg.mod'"),
        (" \t\n", SpecError, "spec is empty"),
        ("a\0b", SpecError, r"'a\\x00b' holds a NUL"),
        ("./a\0b.py", SpecError, "holds a NUL"),
        ("x" * 4_097, SpecError, "spec has 4,097 characters, the most is 4,096"),
        ("x." * 1_000_000, SpecError, "the most is 4,096"),
        ("a..b", SpecError, "empty name between or after its dots"),
        ("a.b.", SpecError, "empty name between or after its dots"),
        (".", SpecError, "is relative"),
        (".mod", SpecError, "is relative"),
        ("..pkg.mod:Class", SpecError, "is relative"),
        (":Class", SpecError, "names no module before its colon"),
        ("mod:", SpecError, "names no class after its colon"),
        ("./greeter.py:", SpecError, "names no class after its colon"),
        ("mod:not an identifier", SpecError, "'not an identifier' can't be a class's name"),
        ("./greeter.py:1st", SpecError, "'1st' can't be a class's name"),
        ("mod:A:B", SpecError, "'A:B' can't be a class's name"),
        ("mod:Outer.Inner", SpecError, "'Outer.Inner' can't be a class's name"),
        ("a b.c", SpecError, "'a b' can't be a module's name"),
        (" greeter:Greeter", SpecError, "' greeter' can't be a module's name"),
        ("not-a-module", PluginNotFound, "no entry point, and can't be a module's name"),
        ("\ud800", PluginNotFound, r"'\\ud800' is no entry point"),
        ("./\ud800.py", SpecError, "can't be a file's name here"),
        ("\x1b[31mred\x1b[0m", PluginNotFound, r"'\\x1b\[31mred"),
        ("./\u202egnp.py", PluginNotFound, r"\\u202egnp.py"),
        ("__main__:Greeter", SpecError, "pass the class or the instance"),
        ("https://example.org/greeter.py", SpecError, "plugins aren't downloaded; save the file"),
        ("./no/such/dir/greeter.py", PluginNotFound, "there is no file"),
        ("./greeter.py/x.py", PluginNotFound, "there is no file"),
        ("./" + "n" * 300 + ".py", SpecError, "File name too long"),
        ("./loop.py", SpecError, "Too many levels of symbolic links"),
        ("./notes.txt", SpecError, "isn't Python source; a plugin's file ends in .py"),
        ("./greeter.pyc", SpecError, "isn't Python source"),
        ("/dev/null", SpecError, "is a device; a plugin is a .py file"),
        (BytesPath(), SpecError, "os.fsdecode"),
        (BrokenPath(), SpecError, "the path has no text"),
        (None, SpecError, "of type NoneType; name the plugin by a spec"),
        (0, SpecError, "of type int"),
        (True, SpecError, "of type bool"),
        (2.5, SpecError, "of type float"),
        (b"pkg.mod", SpecError, "of type bytes"),
        (["pkg.mod"], SpecError, "of type list"),
        ({"spec": "pkg.mod"}, SpecError, "of type dict"),
        (json, SpecError, "a module object can't be sent to a worker; pass its name, 'json'"),
        (resolve, SpecError, "a function is no plugin; write a class around it"),
        (len, SpecError, "a builtin_function_or_method is no plugin"),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_bad_spec_says_what_is_wrong_and_what_to_write(
    project: Path, spec: object, error: type[SpecError], words: str
) -> None:
    """Every spec that makes no sense has an error of its kind, with the fact and the remedy, short and escaped."""
    write(project, {"greeter.py": BOMB, "notes.txt": "", "greeter.pyc": ""})
    (project / "loop.py").symlink_to("loop.py")

    with pytest.raises(SpecError, match=words) as caught:
        resolve(spec)

    assert type(caught.value) is error
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=30), st.text("./:~ab\0\ud800é", max_size=12), st.binary(max_size=9)))
def test_any_text_is_a_source_or_a_spec_error(spec: object) -> None:
    """No text whatever makes `resolve` raise anything but a SpecError, and that is escaped."""
    try:
        said = resolve(spec).spec
    except SpecError as error:
        said = str(error)
    assert said == printable(said) or said == spec


def test_source_is_given_back() -> None:
    """A source that was resolved and verified before isn't read again."""
    source = cell_source("x", "a")
    assert resolve(source) is source


def test_entry_point_names_a_plugin(project: Path) -> None:
    """A bare name is the entry point that an installed package announces; its package isn't imported."""
    announce(project, "greetings", "hello-world = pkg.mod:Greeter\nwhole = pkg.mod [extra]")
    write(project, {"pkg/__init__.py": BOMB, "pkg/mod.py": BOMB})

    source = resolve("hello-world")

    assert (source.spec, source.kind, source.entry, source.attribute) == (
        "hello-world",
        "module",
        "pkg.mod",
        "Greeter",
    )
    assert source.modules == resolve("pkg.mod").modules
    assert resolve("whole").attribute == ""


def test_bare_name_is_the_entry_point_and_with_a_class_the_module(project: Path) -> None:
    """An entry point goes before a module of its name; a colon always means the module."""
    announce(project, "greetings", "greeter = pkg.mod:Greeter")
    write(project, {"greeter.py": BOMB, "pkg/mod.py": BOMB})
    assert resolve("greeter").entry == "pkg.mod"
    assert resolve("greeter:Greeter").entry == "greeter"


def test_entry_point_announced_twice(project: Path) -> None:
    """Two packages that announce different plugins by one name leave the choice to the user; the same one is fine."""
    announce(project, "first", "hello = one:Plugin\nsame = one:Plugin")
    announce(project, "second", "hello = two:Plugin\nsame = one:Plugin")
    write(project, {"one.py": BOMB})
    with pytest.raises(PluginNotFound, match="more than once: 'one:Plugin' of 'first', 'two:Plugin' of 'second'"):
        resolve("hello")
    assert resolve("same").entry == "one"


def test_broken_metadata_hides_nothing(project: Path) -> None:
    """A package whose entry points can't be read or make no sense doesn't get in the way of the others."""
    write(project, {"broken-1.0.dist-info/entry_points.txt": "[agentplug.plugins]\nno equals sign"})
    write(project, {"nameless-1.0.dist-info/entry_points.txt": "[agentplug.plugins]\nnameless = one"})
    announce(project, "sound", "hello = one:Plugin\nodd = one:two:three\nworse = not a module\nnested = one:A.B")
    write(project, {"one.py": BOMB})
    assert [resolve("hello").entry, resolve("nameless").entry] == ["one", "one"]
    for name in ("odd", "worse", "nested"):
        with pytest.raises(SpecError, match=f"entry point '{name}' of 'sound' has the value .* is no MODULE:Class"):
            resolve(name)


def test_missing_name_suggests_an_entry_point(project: Path) -> None:
    """A misspelt entry point is answered with the nearest one."""
    announce(project, "greetings", "hello-world = one\nsalutation = one")
    with pytest.raises(PluginNotFound, match="did you mean 'hello-world'"):
        resolve("hello-wrld")
    with pytest.raises(PluginNotFound, match="no module or entry point 'salutatoin'; did you mean 'salutation'"):
        resolve("salutatoin")


def test_cell_is_one_module() -> None:
    """A cell's text goes as UTF-8 under a name of its own, and tracebacks show the cell."""
    source = cell_source("x = 'é'\n", "my cell-1")
    code = "x = 'é'\n".encode()
    module = Module("cell_my_cell_1", "<cell my cell-1>", code)
    assert source == Source("<cell my cell-1>", "cell", text_digest(code), "cell_my_cell_1", "", (module,))


def test_cell_has_the_digest_of_its_text(project: Path) -> None:
    """The same text has the same digest as a cell of any name and as a file, so a pin outlives the move to a file."""
    write(project, {"saved.py": "x = 1"})
    digests = {cell_source("x = 1", "a").digest, cell_source("x = 1", "b").digest, resolve("./saved.py").digest}
    assert len(digests) == 1
    assert cell_source("x = 2", "a").digest not in digests


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "a", "cell 'a' is empty"),
        (" \n", "a", "cell 'a' is empty"),
        ("x", " ", "needs a name"),
        (None, "a", "both str, not NoneType"),
        (b"x", "a", "both str, not bytes"),
        ("x", 3, "both str, not int"),
        ("x = '\ud800'", "a", r"lone surrogate \(character 5\)"),
        ("#" * (8 << 20) + "#", "a", "over the 8 MiB"),
        ("# -*- coding: latin-1 -*-\nx", "a", "declares the encoding 'latin-1'"),
        ("\r\n# vim: set fileencoding=koi8-r :\r\nx", "a\x1b[0m", "declares the encoding 'koi8-r'"),
    ],
    ids=lambda value: ascii(value)[:30] if isinstance(value, str) else type(value).__name__,
)
def test_bad_cell_says_so(text: str, name: str, words: str) -> None:
    """A cell that can't be sent as it was meant is refused with the reason, escaped."""
    with pytest.raises(SpecError, match=words) as caught:
        cell_source(text, name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["# coding: utf-8\nx", "x\n# coding: latin-1", "#\n\n# coding: latin-1"])
def test_cell_may_talk_about_encodings(text: str) -> None:
    """Only a declaration that Python would obey is refused: not UTF-8's own, nor one further down."""
    assert cell_source(text, "a").modules[0].code == text.encode()


def test_digest_frames_its_parts() -> None:
    """No two lists of parts have one digest: names, contents, their order and their borders all count."""
    lists = [[], [("", b"")], [("a", b"bc")], [("ab", b"c")], [("a", b"b"), ("c", b"")], [("c", b""), ("a", b"b")]]
    digests = [digest_of(parts) for parts in lists]
    assert len(set(digests)) == len(lists)
    assert digests == [digest_of(iter(parts)) for parts in lists]


def test_digest_stays_the_same_from_version_to_version() -> None:
    """Pins outlive an upgrade: the digest of given parts never changes."""
    assert digest_of([("a", b"bc")]) == "sha256:38e67f91dd056e2ee2e8d44e08dc1471147adf63d7a7c2378cae1bc46f970686"
