"""A plugin's file: which bytes are read, once, and the name they go to the worker under."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentplug.core.sources import files
from agentplug.core.sources.digest import text_digest
from agentplug.core.sources.resolve import resolve
from agentplug.core.sources.source import Module, Source
from agentplug.errors import PluginNotFound, SpecError
from tests.sources_project import BOMB, names, project_at, write


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with project_at(tmp_path, monkeypatch) as root:
        yield root


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
    """The host parses and decodes nothing: broken, binary and hostile source is the worker's to refuse."""
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
    with pytest.raises(PluginNotFound, match=r"did you mean 'greeter\.py'"):
        resolve("./greter.py")
    with pytest.raises(PluginNotFound, match=r"did you mean '.*/greeter.py'"):
        resolve("./greeter")


def test_directories_are_not_plugins(project: Path) -> None:
    """A directory is refused with what to write instead: the dotted name of a package, or a file that is in it."""
    write(project, {"pkg/__init__.py": "", "plain/one.py": ""})
    (project / "empty").mkdir()
    with pytest.raises(
        SpecError, match="is the directory of a package; write the dotted name of its module, like 'pkg'"
    ):
        resolve("./pkg/")
    with pytest.raises(SpecError, match=r"name a file in it: 'one\.py'"):
        resolve(Path("plain"))
    with pytest.raises(SpecError, match=r"without \.py files"):
        resolve("./empty")


def test_current_directory_that_is_gone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a current directory, relative paths say so; absolute paths and modules are still found."""
    write(project, {"mod.py": "x"})
    (project / "gone").mkdir()
    monkeypatch.chdir("gone")
    os.rmdir(project / "gone")
    with pytest.raises(SpecError, match="current directory, which is gone"):
        resolve("./x.py")
    assert resolve(project / "mod.py").modules[0].code == b"x"
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert names(resolve("mod")) == ["mod"]
    monkeypatch.chdir(project)
