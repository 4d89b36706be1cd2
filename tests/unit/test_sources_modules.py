"""A dotted module: found without an import, sent with what the worker needs of its package."""

from __future__ import annotations

import os
import py_compile
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from agentplug.core.sources import tree
from agentplug.core.sources.digest import tree_digest
from agentplug.core.sources.resolve import resolve
from agentplug.core.sources.source import Module, Source
from agentplug.errors import PluginNotFound, SpecError
from tests.installed_site import use_site
from tests.sources_project import BOMB, names, project_at, write


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with project_at(tmp_path, monkeypatch) as root:
        yield root


def test_plain_module_comes_alone(project: Path) -> None:
    """A module at the top is sent by itself, under its own name."""
    write(project, {"greeter.py": BOMB, "other.py": BOMB})
    source = resolve("greeter:Greeter")
    module = Module("greeter", str(project / "greeter.py"), BOMB.encode())
    assert source == Source("greeter:Greeter", "module", tree_digest([module]), "greeter", "Greeter", (module,))


def test_package_brings_all_its_modules(project: Path) -> None:
    """A package that isn't installed goes whole and in stable order, without what no import could name."""
    write(project, {"pkg/__init__.py": "0", "pkg/mod.py": "1", "pkg/sub/__init__.py": "2", "pkg/sub/deep.py": "3"})
    write(project, {"pkg/data/table.py": "4", "pkg/__pycache__/mod.py": "", "pkg/.hidden/x.py": "", "pkg/a-b.py": ""})
    write(project, {"pkg/notes.txt": "", "pkg/sub.py": "shadowed by the package", "outside.py": ""})
    write(project, {"pkg/mod/x.py": "shadowed by the module"})

    source = resolve("pkg.mod")

    assert [(m.name, m.code, m.is_package) for m in source.modules] == [
        ("pkg", b"0", True),
        ("pkg.data", b"", True),
        ("pkg.data.table", b"4", False),
        ("pkg.mod", b"1", False),
        ("pkg.sub", b"2", True),
        ("pkg.sub.deep", b"3", False),
    ]
    assert source.entry == "pkg.mod"
    assert resolve("pkg").entry == "pkg"
    assert resolve("pkg.sub.deep").digest == source.digest


def test_digest_is_of_the_whole_package(project: Path) -> None:
    """A change in any module of the package changes the digest; where the package lies doesn't."""
    write(project, {"pkg/__init__.py": "", "pkg/mod.py": "", "pkg/helper.py": "1"})
    before = resolve("pkg.mod").digest
    write(project, {"pkg/helper.py": "2"})
    assert resolve("pkg.mod").digest != before
    write(project, {"pkg/helper.py": "1"})
    os.mkdir("moved")
    os.rename("pkg", "moved/pkg")
    sys.path.insert(0, str(project / "moved"))
    assert resolve("pkg.mod").digest == before


def test_namespace_package_is_joined_from_its_portions(project: Path) -> None:
    """Packages without `__init__.py` work, at the top and below, in several directories, parents included."""
    write(project, {"ns/one/a.py": "1", "other/ns/two.py": "2", "other/ns/one/b.py": "3"})
    sys.path.append(str(project / "other"))

    source = resolve("ns.one.a")

    assert names(source) == ["ns", "ns.one", "ns.one.a", "ns.one.b", "ns.two"]
    assert [m.code for m in source.modules if m.is_package] == [b"", b""]
    assert resolve("ns.two").digest == source.digest
    with pytest.raises(PluginNotFound, match=r"has no code; name a module in it: 'ns.one.a', 'ns.one.b'"):
        resolve("ns.one")


def test_links_stay_in_the_package(project: Path) -> None:
    """A link to a file in the package is followed; one that leads out, to a directory or nowhere isn't."""
    write(project, {"pkg/__init__.py": "", "pkg/real.py": "in", "secret.py": "out", "away/mod.py": "out"})
    for name, target in (("same.py", "real.py"), ("leak.py", "../secret.py"), ("away", "../away"), ("no.py", "none")):
        os.symlink(target, f"pkg/{name}")
    os.mkfifo("pkg/fifo.py")

    assert [(m.name, m.code) for m in resolve("pkg.real").modules] == [
        ("pkg", b""),
        ("pkg.real", b"in"),
        ("pkg.same", b"in"),
    ]
    assert ("pkg.leak", b"out") in [(m.name, m.code) for m in resolve("pkg.leak").modules], (
        "named outright: as an import"
    )


def test_package_bounds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of over 2,000 files, over 32 MiB or over 100,000 entries is refused with what to do."""
    write(project, {"pkg/__init__.py": ""} | {f"pkg/m{number}.py": "" for number in range(1_999)})
    assert len(resolve("pkg").modules) == 2_000
    write(project, {"pkg/one_more.py": ""})
    with pytest.raises(SpecError, match=r"more than 2,000 \.py files.*move the plugin into a smaller package"):
        resolve("pkg")
    monkeypatch.setattr(tree, "MAX_ENTRIES", 1_000)
    with pytest.raises(SpecError, match="more than 1,000 files and directories"):
        resolve("pkg")

    write(project, {f"heavy/m{number}.py": "" for number in range(5)})
    for number in range(5):
        os.truncate(f"heavy/m{number}.py", 7 << 20)
    with pytest.raises(SpecError, match=r"more than 32 MiB of \.py files"):
        resolve("heavy.m0")


def test_installed_module_comes_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an installed package only the module itself is sent: the worker can import the rest of it."""
    write(project, {"site/pkg/__init__.py": "0", "site/pkg/mod.py": "1", "ns/mine.py": "2", "site/ns/theirs.py": "3"})
    use_site(project / "site", monkeypatch, first=False)

    assert names(resolve("pkg.mod")) == ["pkg.mod"]
    assert names(resolve("hypothesis.strategies")) == ["hypothesis.strategies"]
    assert names(resolve("agentplug.core.sources.cell")) == ["agentplug.core.sources.cell"], "from a checkout too"
    joined = resolve("ns.mine")
    assert names(joined) == ["ns", "ns.mine"]
    assert b"extend_path" in joined.modules[0].code, "or the installed portion would be out of sight"


def test_module_written_just_now_is_found(project: Path) -> None:
    """No cache of a directory hides a file that was made after the last look."""
    with pytest.raises(PluginNotFound):
        resolve("late")
    write(project, {"late.py": ""})
    assert names(resolve("late")) == ["late"]


def test_only_source_counts(project: Path) -> None:
    """Bytecode, extensions and zip archives are refused; a stale .pyc next to its source is never looked at."""
    write(project, {"cold.py": "1", "pkg/mod.py": "1"})
    py_compile.compile("cold.py", "cold.pyc")
    py_compile.compile("pkg/mod.py", "pkg/__init__.pyc")
    py_compile.compile("pkg/mod.py")
    assert resolve("cold").modules[0].code == b"1"
    os.remove("cold.py")
    (project / f"ext{EXTENSION_SUFFIXES[0]}").touch()
    with zipfile.ZipFile("lib.zip", "w") as archive:
        archive.writestr("zipped.py", "")
    sys.path.append(str(project / "lib.zip"))
    for name, what in (
        ("cold", "bytecode without its source"),
        ("pkg.mod", "'pkg' is compiled bytecode"),
        ("ext", "a compiled extension"),
        ("zipped", "in a zip archive"),
        ("sys", "built into the interpreter"),
        ("zipimport", "frozen into the interpreter"),
    ):
        with pytest.raises(SpecError, match=what):
            resolve(name)


def test_project_module_never_replaces_the_standard_library(project: Path) -> None:
    """A module that is called like one of the standard library is refused by name, and can be named by path."""
    write(project, {"queue.py": BOMB})
    with pytest.raises(
        SpecError, match=r"take the place of the standard library's 'queue'.*name the file by its path"
    ):
        resolve("queue")
    assert resolve("./queue.py").entry == "plugin_queue"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("greter", "no module 'greter' on sys.path; did you mean 'greeter'"),
        ("pkg.modd", "no module 'pkg.modd' in the package 'pkg'; did you mean 'pkg.mod'"),
        ("pkg.mod.Greeter", "'pkg.mod' is a module and no package.*did you mean 'pkg.mod:Greeter'"),
        ("pkg.mod.a.b", "'pkg.mod' is a module and no package, so there is no 'a.b' in it$"),
        ("away.deep", "no module 'away' on sys.path; to load that file, write './away/deep.py'"),
        ("zzzzqqqq", "check its spelling, or name its file by path"),
    ],
)
def test_missing_module_names_what_was_meant(
    project: Path, monkeypatch: pytest.MonkeyPatch, spec: str, words: str
) -> None:
    """A misspelt module is answered with the nearest one, the right form, or the path of the file."""
    write(project, {"greeter.py": BOMB, "pkg/__init__.py": BOMB, "pkg/mod.py": BOMB, "sub/away/deep.py": BOMB})
    monkeypatch.chdir("sub")
    with pytest.raises(PluginNotFound, match=words):
        resolve(spec)
