"""Specs to bytes: which files are read, under which names they go to the worker, and what a bad spec says.

After every test, no module of the project it made may have been imported by the host.
"""

from __future__ import annotations

import os
import py_compile
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentplug.contract.source import Module, Source
from agentplug.errors import ContractError, PluginNotFound, SpecError
from agentplug.sources import files, tree
from agentplug.sources.cell import cell_source
from agentplug.sources.digest import digest_of, text_digest, tree_digest
from agentplug.sources.resolve import resolve

BOMB = "raise SystemExit('the host ran the plugin')\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that is the current one and first on `sys.path`; nothing in it may ever be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    imported = [name for name, m in list(sys.modules.items()) if str(tmp_path) in str(getattr(m, "__file__", ""))]
    assert imported == []


def write(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(source: Source) -> list[str]:
    return [module.name for module in source.modules]


def announce(root: Path, package: str, lines: str) -> None:
    """The metadata of an installed package with these entry points."""
    info = f"{package}-1.0.dist-info"
    write(root, {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"})
    write(root, {f"{info}/entry_points.txt": f"[agentplug.plugins]\n{lines}\n"})


# A file


@pytest.mark.parametrize("spec", ["./greeter.py", "greeter.py", "sub/../greeter.py", Path("greeter.py")])
def test_file_is_one_module_with_its_bytes(project: Path, spec: object) -> None:
    """A path gives the file's own bytes, a name of their own, the absolute path for tracebacks, and their digest."""
    write(project, {"greeter.py": BOMB, "sub/x.txt": ""})

    source = resolve(spec)

    code = BOMB.encode()
    module = Module("plugin_greeter", str(project / "greeter.py"), code)
    assert source == Source(str(spec), "file", text_digest(code), "plugin_greeter", "", (module,))


def test_file_with_class(project: Path) -> None:
    """What follows the colon of a path is the class."""
    write(project, {"a dir:x/greeter.py": BOMB})
    source = resolve("./a dir:x/greeter.py:Greeter")
    assert (source.entry, source.attribute) == ("plugin_greeter", "Greeter")


def test_home_and_base_are_where_a_path_counts_from(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home directory, and a relative path counts from `base` when there is one."""
    write(project, {"home/one.py": "1", "base/two.py": "2"})
    monkeypatch.setenv("HOME", str(project / "home"))
    found = [resolve("~/one.py"), resolve("./two.py", base=str(project / "base")), resolve("two.py", base="base")]
    assert [source.modules[0].code for source in found] == [b"1", b"2", b"2"]


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("json.py", "plugin_json"),
        ("my-plugin 2.py", "plugin_my_plugin_2"),
        ("3d.py", "plugin_3d"),
        ("class.py", "plugin_class"),
        ("größe.py", "plugin_größe"),
        ("x².py", "plugin_x2"),
        (".py", "plugin_"),
        ("b\udcff.py", "plugin_b_"),
        ("a\u202eb.py", "plugin_a_b"),
        ("n" * 200 + ".py", "plugin_" + "n" * 60),
    ],
)
def test_file_never_takes_the_name_of_another_module(project: Path, file: str, entry: str) -> None:
    """Any file name becomes an identifier of its own, so `json.py` can't replace `json` in the worker."""
    write(project, {file: BOMB})
    source = resolve(f"./{file}")
    assert source.entry == entry
    assert source.entry.isidentifier()
    assert source.modules[0].path.isprintable()
    source.spec.encode()


def test_file_is_read_once(project: Path) -> None:
    """What is written to the path after resolving has no part in the source: the verified bytes are the ones kept."""
    write(project, {"greeter.py": "good"})
    source = resolve("./greeter.py")

    write(project, {"evil.py": "evil"})
    os.replace("evil.py", "greeter.py")

    assert source.modules[0].code == b"good"
    assert source.digest == text_digest(b"good") != resolve("./greeter.py").digest


def test_bytes_of_any_kind_are_only_read(project: Path) -> None:
    """The host parses and decodes nothing: broken, binary and hostile source is bytes to it, the worker's to refuse."""
    for code in (b"\0\xff", b"def", b"# coding: no-such\n", b"f'" + b"{x}" * 400_000 + b"'", b"(" * 10_000, b""):
        (project / "odd.py").write_bytes(code)
        assert resolve("./odd.py").modules[0].code == code


def test_largest_file(project: Path) -> None:
    """8 MiB are read, one byte more is refused."""
    with open("big.py", "wb") as file:
        file.truncate(files.MAX_FILE_BYTES)
    assert len(resolve("./big.py").modules[0].code) == files.MAX_FILE_BYTES
    os.truncate("big.py", files.MAX_FILE_BYTES + 1)
    with pytest.raises(SpecError, match="over 8 MiB"):
        resolve("./big.py")


def test_special_files_are_refused_at_once(project: Path) -> None:
    """A FIFO without a writer, a socket and a device are refused, not waited for."""
    os.mkfifo("fifo.py")
    os.symlink("/dev/zero", "zero.py")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("sock.py")
        for name, kind in (("fifo", "a FIFO"), ("zero", "a device"), ("sock", "a socket")):
            with pytest.raises(SpecError, match=kind):
                resolve(f"./{name}.py")


def test_unreadable_file(project: Path) -> None:
    """A file without read permission says so."""
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    write(project, {"secret.py": ""})
    os.chmod("secret.py", 0)
    with pytest.raises(SpecError, match=r"Permission denied.*check its path and permissions"):
        resolve("./secret.py")


def test_missing_file_names_its_neighbour(project: Path) -> None:
    """A misspelt path is answered with the file that was probably meant."""
    write(project, {"greeter.py": ""})
    with pytest.raises(PluginNotFound, match="did you mean 'greeter.py'"):
        resolve("./greter.py")
    with pytest.raises(PluginNotFound, match=r"did you mean '.*/greeter.py'"):
        resolve("./greeter")


def test_directories_are_not_plugins(project: Path) -> None:
    """A directory is refused with what to write instead: the dotted name of a package, or a file that is in it."""
    write(project, {"pkg/__init__.py": "", "plain/one.py": ""})
    (project / "empty").mkdir()
    with pytest.raises(SpecError, match="directory of a package; write the dotted name of its module, like 'pkg'"):
        resolve("./pkg/")
    with pytest.raises(SpecError, match="name a file in it: 'one.py'"):
        resolve(Path("plain"))
    with pytest.raises(SpecError, match=r"without \.py files"):
        resolve("./empty")


def test_current_directory_that_is_gone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a current directory, relative paths say so and modules are still found."""
    write(project, {"mod.py": "x"})
    (project / "gone").mkdir()
    monkeypatch.chdir("gone")
    os.rmdir(project / "gone")
    with pytest.raises(SpecError, match="current directory, which is gone"):
        resolve("./x.py")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert names(resolve("mod")) == ["mod"]
    monkeypatch.chdir(project)


# A dotted module


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

    assert [(m.name, m.code) for m in resolve("pkg.real").modules] == [("pkg", b""), ("pkg.real", b"in"), ("pkg.same", b"in")]
    assert ("pkg.leak", b"out") in [(m.name, m.code) for m in resolve("pkg.leak").modules], "named outright: as an import"


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
    monkeypatch.setattr("site.getsitepackages", lambda: [str(project / "site")])
    sys.path.append(str(project / "site"))

    assert names(resolve("pkg.mod")) == ["pkg.mod"]
    assert names(resolve("hypothesis.strategies")) == ["hypothesis.strategies"]
    assert names(resolve("agentplug.sources.cell")) == ["agentplug.sources.cell"], "from a checkout too"
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
