"""Installed distributions: their files, their closure, the worker's imports out of sealed memory."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from agentplug.contract.policy import Policy
from agentplug.errors import PinMismatch, PluginError, SpecError
from agentplug.manager.manager import PluginManager
from agentplug.manager.pins import closures
from agentplug.manager.pins.lockfile import read_lock
from agentplug.manager.pins.pin import sha256
from agentplug.manager.pins.taking import take
from agentplug.manager.pins.verify import verified
from tests.installed_site import install, pip_install, use_site, write_record
from tests.workers.test_pins import GREETER, answer, imported, pin, stale_pyc

pytestmark = pytest.mark.need("landlock", "seccomp")

PLUGIN = GREETER.replace('return "good"', "return words.word()").replace("class", "import words\nclass", 1)
WORDS = 'def word(): return "good"\n'
EVIL = WORDS.replace("good", "evil")
POINT = "[agentplug.plugins]\ngreeter = greet.core:GreeterPlugin\n"


def install_both(site: Path, words: str = WORDS, version: str = "2.0") -> None:
    """A plugin's distribution, and the one that it depends on."""
    files = {"greet/__init__.py": "", "greet/core.py": PLUGIN, "greet_plugin-1.5.dist-info/entry_points.txt": POINT}
    install(site, "greet-plugin", "1.5", files, "Requires-Dist: words>=1", "Requires-Dist: never; extra == 'x'")
    install(site, "words", version, {"words/__init__.py": words})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both installed, the plugin pinned by its entry point, in the folder above."""
    site = use_site(tmp_path / "site", monkeypatch)
    install_both(site)
    pin(tmp_path, "greeter")
    return site


async def test_a_distribution_runs_from_sealed_memory(site: Path) -> None:
    """The lock has its files and its closure; the worker can't read the directory, and needs not to."""
    held = read_lock(site.parent).pins["greeter"]

    assert await answer(site.parent, "greeter") == "good"
    assert (held.kind, held.entry, held.distribution) == (
        "distribution",
        "greet.core:GreeterPlugin",
        "greet-plugin 1.5",
    )
    assert held.files["greet/core.py"] == sha256(PLUGIN.encode())
    assert list(held.closure) == ["words"]
    assert held.closure["words"].startswith("2.0 sha256:")
    assert held.platform == sysconfig.get_platform().replace("-", "_").replace(".", "_")


def edit_file(site: Path) -> None:
    """The dependency's code alone."""
    (site / "words/__init__.py").write_text(EVIL)


def edit_record_too(site: Path) -> None:
    """And its RECORD, so that it looks as installed."""
    edit_file(site)
    info = site / "words-2.0.dist-info"
    write_record(site, info, ["words/__init__.py", f"{info.name}/METADATA", f"{info.name}/WHEEL"])


def change_version(site: Path) -> None:
    """Another release in its place."""
    subprocess.run(["rm", "-r", site / "words-2.0.dist-info", site / "words"], check=True)
    install(site, "words", "3.0", {"words/__init__.py": EVIL})


def add_dependency(site: Path) -> None:
    """The plugin's own metadata asks for one more, which takes the place of the module of another."""
    install(site, "evil-words", "1.0", {"words.py": EVIL})
    info = site / "greet_plugin-1.5.dist-info"
    with open(info / "METADATA", "a") as file:
        file.write("Requires-Dist: evil-words\n")
    write_record(
        site,
        info,
        [
            "greet/__init__.py",
            "greet/core.py",
            *(f"{info.name}/{n}" for n in ("METADATA", "WHEEL", "entry_points.txt")),
        ],
    )
    edit_file(site)
    info = site / "words-2.0.dist-info"
    write_record(site, info, ["words/__init__.py", f"{info.name}/METADATA", f"{info.name}/WHEEL"])


def change_entry_point(site: Path) -> None:
    """The same name leads to another module of the same distribution."""
    (site / "words/__init__.py").write_text(WORDS)
    info = site / "greet_plugin-1.5.dist-info"
    (site / "greet/core.py").write_text(PLUGIN)
    (site / "greet/evil.py").write_text(PLUGIN.replace("words.word()", '"evil"'))
    (info / "entry_points.txt").write_text(POINT.replace("greet.core", "greet.evil"))
    files = ["greet/__init__.py", "greet/core.py", "greet/evil.py"]
    write_record(site, info, [*files, *(f"{info.name}/{n}" for n in ("METADATA", "WHEEL", "entry_points.txt"))])


ATTACKS = {
    edit_file: ("greet.core", "'words-2.0' was edited since it was installed:\n- file words/__init__.py"),
    edit_record_too: ("greet.core", "- dependency words: 2.0 sha256:"),
    change_version: ("greet.core", "+ dependency words: 3.0 sha256:"),
    add_dependency: ("greet.core", "+ dependency evil-words: 1.0"),
    change_entry_point: ("greet.evil", "+ entry: greet.evil:GreeterPlugin"),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_an_attack_on_what_is_installed_is_named(site: Path, attack: object) -> None:
    """Each fools a plain import; the lock says which file, which dependency, which entry."""
    module, told = ATTACKS[attack]
    assert imported(site, module="greet.core") == "good"
    assert await answer(site.parent, "greeter") == "good"
    attack(site)  # type: ignore[operator]

    assert imported(site, module=module) == "evil"
    with pytest.raises(PinMismatch) as caught:
        await answer(site.parent, "greeter")

    assert told in str(caught.value)
    assert "Remedy: " in str(caught.value)


async def test_stale_bytecode_of_a_dependency_is_never_read(site: Path) -> None:
    """Same size, same time: a plain import runs it, and RECORD lists no digest of bytecode."""
    stale_pyc(site / "words/__init__.py", WORDS, EVIL)
    info = site / "words-2.0.dist-info"
    with open(info / "RECORD", "a") as file:
        file.write("words/__pycache__/__init__.cpython-311.pyc,,\n")

    assert imported(site, module="greet.core") == "evil"
    assert await answer(site.parent, "greeter") == "good"


async def test_a_shadowing_module_on_the_path_is_not_seen(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `words.py` that comes first on the path, and a directory of it: an import takes that."""
    first = use_site(site.parent / "first", monkeypatch)
    (first / "words.py").write_text(EVIL)

    assert imported(first, site, module="greet.core") == "evil"
    assert await answer(site.parent, "greeter") == "good"


async def test_a_pinned_module_cannot_be_preloaded(site: Path) -> None:
    """A zygote would import it from its directory, as it lies there: also a module within a pinned package."""
    pin(site.parent, "greeter", preload=["words.deep"])
    with pytest.raises(PinMismatch, match=r"'words\.deep'"):
        await verified(site.parent, "greeter", Policy(preload=("words.deep",)))


async def test_what_lies_beside_pinned_files_isn_t_there(site: Path) -> None:
    """A package that nobody listed takes the place of a module in an import; the worker doesn't see it."""
    install(site, "words", "2.0", {"words/__init__.py": "from words.inner import word\n", "words/inner.py": WORDS})
    pin(site.parent, "greeter")
    (site / "words/inner").mkdir()
    (site / "words/inner/__init__.py").write_text(EVIL)

    assert imported(site, module="greet.core") == "evil"
    assert await answer(site.parent, "greeter") == "good"


async def test_a_package_in_the_place_of_the_plugin_s_own_module_is_refused(site: Path) -> None:
    """Also by a manager that would take what isn't pinned: this spec is."""
    (site / "greet/core").mkdir()
    (site / "greet/core/__init__.py").write_text(PLUGIN.replace("words.word()", '"evil"'))

    assert imported(site, module="greet.core") == "evil"
    with pytest.raises(SpecError, match="no distribution's RECORD lists it"):
        await answer(site.parent, "greeter")
    async with PluginManager(lock=site.parent) as manager:
        with pytest.raises(SpecError, match="no distribution's RECORD lists it"):
            await manager.load("greeter")


async def test_an_undeclared_dependency_is_as_if_not_installed(site: Path) -> None:
    """What isn't in the closure can't be imported, the host's own packages aside; the message says what to do."""
    install(site, "stray", "1.0", {"stray.py": "x = 1\n"})
    text = PLUGIN.replace('"greeter"', '"picky"').replace("words.word()", '__import__("stray").x')
    install(site, "picky", "1.0", {"picky.py": text}, "Requires-Dist: words")
    pin(site.parent, "picky")

    with pytest.raises(PluginError, match=r"No module named 'stray' in what is pinned.*declare it as a dependency"):
        await answer(site.parent, "picky")


async def test_the_worker_s_codec_works_beside_a_closure(site: Path) -> None:
    """Arrays come and go through numpy, which isn't in the closure and is what workers are made of."""
    import numpy as np

    text = PLUGIN.replace('"greeter"', '"echo"').replace("words.word()", "given")
    install(site, "echo", "1.0", {"echo.py": text}, "Requires-Dist: words")
    pin(site.parent, "echo")
    async with PluginManager(lock=site.parent, locked=True) as manager:
        value = await (await manager.load("echo")).process(np.arange(3))

    assert value.tolist() == [0, 1, 2]


async def test_resources_come_from_memory_too(site: Path) -> None:
    """importlib.resources and pkgutil read what was verified, also when the disk says otherwise by then."""
    text = (
        "import importlib.resources as r, pkgutil\n"
        "class RPlugin:\n    name, version = 'r', '1.0'\n    def initialize(self, config): ...\n"
        "    def process(self, given):\n"
        "        top = r.files('res')\n"
        "        return [(top / 'data/a.txt').read_text(), pkgutil.get_data('res', 'data/a.txt').decode(),\n"
        "                sorted(p.name for p in top.iterdir()), (top / 'data').is_dir(), (top / 'no').is_file()]\n"
    )
    install(site, "res", "1.0", {"res/__init__.py": text, "res/data/a.txt": "hello", "res/empty.txt": ""})
    pin(site.parent, "res")

    assert await answer(site.parent, "res") == ["hello", "hello", ["__init__.py", "data", "empty.txt"], True, False]


C_SOURCE = """
#include <Python.h>
static PyObject *word(PyObject *self, PyObject *args) { return PyUnicode_FromString(WORD); }
static PyMethodDef methods[] = {{"word", word, METH_NOARGS, ""}, {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "words._c", "", 0, methods};
PyMODINIT_FUNC PyInit__c(void) { return PyModuleDef_Init(&definition); }
"""


async def test_an_extension_module_comes_from_sealed_memory(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared object swapped between the look and the load is what a plain import runs."""
    include = sysconfig.get_path("include")
    objects = {}
    for word in ("good", "evil"):
        source, target = site.parent / f"{word}.c", site.parent / f"{word}.so"
        source.write_text(C_SOURCE)
        command = ["cc", "-shared", "-fPIC", f'-DWORD="{word}"', f"-I{include}", str(source), "-o", str(target)]
        try:
            subprocess.run(command, check=True, timeout=60, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no C compiler with Python's headers: {error}")
        objects[word] = target.read_bytes()
    name = f"words/_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    install(site, "words", "2.0", {"words/__init__.py": "from words._c import word\n", name: objects["good"]})
    pin(site.parent, "greeter")
    source = await verified(site.parent, "greeter", Policy())
    (site / name).write_bytes(objects["evil"])

    assert imported(site, module="greet.core") == "evil"
    async with PluginManager() as manager:
        assert await (await manager.load(source)).process(None) == "good"
    with pytest.raises(PinMismatch, match="file words/_c"):
        await answer(site.parent, "greeter")


async def test_sealed_memory_can_t_be_written(site: Path) -> None:
    """Not by the host, nor by a plugin that has its descriptor."""
    source = await verified(site.parent, "greeter", Policy())
    assert source is not None
    assert source.closure is not None

    for descriptor in source.closure.descriptors:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"evil", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)


async def test_nothing_is_read_again_while_nothing_changed(site: Path) -> None:
    """The second verification finds the sealed memory of the first; any file that was touched is looked at anew."""
    first = await verified(site.parent, "greeter", Policy())
    second = await verified(site.parent, "greeter", Policy())
    assert first is not None
    assert second is not None
    assert first.closure is second.closure

    os.utime(site / "words/__init__.py", (1, 1))
    third = await verified(site.parent, "greeter", Policy())
    assert third is not None
    assert third.closure is not second.closure
    assert third.digest == second.digest


async def test_an_edit_with_size_and_time_put_back_is_seen(site: Path) -> None:
    """The time of change can't be set: the file is read again."""
    file = site / "words/__init__.py"
    await answer(site.parent, "greeter")
    before = file.stat()
    file.write_text(EVIL)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)

    with pytest.raises(PinMismatch, match="words"):
        await answer(site.parent, "greeter")


# ---------------------------------------------------------------------- what can't be pinned


def test_code_without_a_digest_is_refused(site: Path) -> None:
    """A RECORD that lists it without one would let anything pass."""
    record = site / "words-2.0.dist-info/RECORD"
    record.write_text(record.read_text() + "words/new.py,,\n")
    (site / "words/new.py").write_text("")

    with pytest.raises(SpecError, match=r"'words/new\.py' without a digest"):
        take("greeter", str(site))


def test_a_missing_dependency_is_named(site: Path) -> None:
    """With the command that installs it."""
    subprocess.run(["rm", "-r", site / "words-2.0.dist-info"], check=True)

    with pytest.raises(SpecError, match=r"depends on 'words', which isn't installed here .* pip install 'words>=1'"):
        take("greeter", str(site))


def test_a_listed_file_that_is_gone_is_named(site: Path) -> None:
    """RECORD lists it."""
    (site / "words/__init__.py").unlink()

    with pytest.raises(PinMismatch, match=r"words/__init__\.py' is listed in its RECORD and isn't there"):
        take("greeter", str(site))


def test_a_distribution_that_takes_the_standard_library_s_place_is_refused(site: Path) -> None:
    """Its `json` would be what the worker imports."""
    install(site, "words", "2.0", {"json/__init__.py": "", "words/__init__.py": WORDS})

    with pytest.raises(SpecError, match="'json', which would take the place of the standard library's"):
        take("greeter", str(site))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("words/../../x.py,sha256=aa,1", "strange row"),
        ("words/__init__.py,sha256=aa,1", "strange row"),
        ("words/x.py,md5=aa,1", "no SHA-2 digest"),
    ],
)
def test_a_strange_record_is_refused(site: Path, row: str, told: str) -> None:
    """Paths that lead away, two digests for one file, digests that anybody can match."""
    record = site / "words-2.0.dist-info/RECORD"
    record.write_text(record.read_text() + row + "\n")

    with pytest.raises(SpecError, match=told):
        take("greeter", str(site))


def test_an_editable_dependency_is_refused_with_a_reason(site: Path) -> None:
    """No RECORD lists its code."""
    info = site / "words-2.0.dist-info"
    (info / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}')

    closures.forget()
    with pytest.raises(SpecError, match=r"'words-2\.0' is an editable install, whose code no RECORD lists"):
        take("greeter", str(site))


def test_an_editable_plugin_is_pinned_as_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry point leads into a project's directory, and that is what is pinned."""
    site, project = use_site(tmp_path / "site", monkeypatch), tmp_path / "project"
    (project / "greet").mkdir(parents=True)
    (project / "greet/core.py").write_text(GREETER)
    install(
        site,
        "greet-plugin",
        "1.5",
        {"greet.pth": f"{project}\n", "greet_plugin-1.5.dist-info/entry_points.txt": POINT},
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])  # as site.py does for the .pth

    pin(tmp_path, "greeter")

    held = read_lock(tmp_path).pins["greeter"]
    assert (held.kind, list(held.files)) == ("tree", ["greet/core.py"])


def test_an_editable_install_by_an_import_hook_is_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As setuptools makes them: where the code lies only a finder knows, and it would have to be run to say so."""
    site = use_site(tmp_path / "site", monkeypatch)
    finder = f"MAPPING: dict[str, str] = {{'greet': '{tmp_path}/project/greet'}}\n"
    files = {"__editable___greet_1_5_finder.py": finder, "greet_plugin-1.5.dist-info/entry_points.txt": POINT}
    install(site, "greet-plugin", "1.5", files)

    with pytest.raises(SpecError, match="by an import hook, which would be code to run; install it with"):
        pin(tmp_path, "greeter")


def test_a_record_is_the_same_wherever_a_wheel_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts and installers' own notes differ from place to place, and don't count."""
    digests = []
    for folder in ("one", "two"):
        site = use_site(tmp_path / folder, monkeypatch)
        install_both(site)
        info = site / "words-2.0.dist-info"
        with open(info / "RECORD", "a") as file:
            file.write(f"../../../bin/words,sha256={folder},9\n")
        (info / "INSTALLER").write_text(folder)
        digests.append(take("greeter", str(tmp_path)).pin.closure)

    assert digests[0] == digests[1]


# ---------------------------------------------------------------------- real ones


@pytest.mark.need("index")
async def test_real_distributions_from_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that needs numpy and requests: extension modules, bundled libraries, data files, all from memory."""
    site = use_site(tmp_path / "site", monkeypatch)
    pip_install(site, "numpy", "requests")
    plugin = (
        "import numpy, requests, certifi\n"
        "class RealPlugin:\n    name, version = 'real', '1.0'\n    def initialize(self, config): ...\n"
        "    def process(self, given):\n"
        "        total = float(numpy.linalg.inv(numpy.eye(2) * 2).sum())\n"
        "        whole = len(certifi.contents()) > 1000\n"
        "        return [total, requests.__name__, whole, numpy.linalg._umath_linalg.__file__]\n"
    )
    install(site, "real", "1.0", {"real.py": plugin}, "Requires-Dist: numpy", "Requires-Dist: requests")
    pin(tmp_path, "real")

    held = read_lock(tmp_path).pins["real"]
    value = await answer(tmp_path, "real", Policy(cpu_s=60, wall_s=120, disk="1M"))

    assert set(held.closure) >= {"numpy", "requests", "urllib3", "idna", "certifi"}
    assert value[:3] == [1.0, "requests", True]  # type: ignore[index]
    assert value[3].startswith(f"{site}/numpy/linalg/")  # type: ignore[index]
    (site / "urllib3/util/url.py").write_text("raise SystemExit('edited')\n")
    with pytest.raises(PinMismatch, match=r"'urllib3-[\d.]+' was edited .*\n- file urllib3/util/url\.py"):
        await answer(tmp_path, "real")


def test_every_distribution_of_this_environment_can_be_read() -> None:
    """Whatever installers and build tools there are: all that have a RECORD are as it says, or say why not."""
    read, refused = 0, []
    for name, info in closures._infos().items():
        try:
            found = closures.read_distribution(info)
        except SpecError as error:
            refused.append(str(error))
        else:
            read += 1
            assert found.version == importlib.metadata.version(name)

    assert read > 20
    assert all("editable" in reason for reason in refused), refused


PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "greet-plugin"
version = "1.5"
dependencies = ["idna>=3"]
[project.scripts]
greet = "greet.core:main"
[project.entry-points."agentplug.plugins"]
greeter = "greet.core:GreeterPlugin"
[tool.hatch.build.targets.wheel]
packages = ["greet"]
"""
MANIFEST = '[tool.agentplug]\nname = "greeter"\nversion = "1.0"\nhooks = {}\nasks = {network = [443]}\n'


def build_environment(folder: Path) -> Path:
    """A virtual environment and a project beside it; the environment's site-packages."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True, timeout=120)
    project = folder / "project"
    (project / "greet").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "greet/__init__.py").touch()
    (project / "greet/core.py").write_text(GREETER.replace("class", "import idna\nclass", 1))
    (project / "greet/agentplug.toml").write_text(MANIFEST)
    return next((folder / "env/lib").glob("python3*")) / "site-packages"


def environment_install(folder: Path, *arguments: str) -> None:
    """With the environment's own pip."""
    command = [
        str(folder / "env/bin/python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.need("index")
async def test_a_project_that_is_built_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pyproject.toml to a wheel, an environment, a lock: its metadata, its script, its dependency from an index;
    then the same project as an editable install, which is another kind."""
    site = build_environment(tmp_path)
    environment_install(tmp_path, str(tmp_path / "project"))
    use_site(site, monkeypatch)
    pin(tmp_path, "greeter")

    held = read_lock(tmp_path).pins["greeter"]
    assert (held.kind, held.distribution, list(held.closure)) == ("distribution", "greet-plugin 1.5", ["idna"])
    assert held.asks == {"network": [443]}
    assert "greet/agentplug.toml" in held.files
    assert not any("bin/" in name for name in held.files)
    assert await answer(tmp_path, "greeter") == "good"

    environment_install(tmp_path, "-e", str(tmp_path / "project"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "project")])  # as site.py does for the .pth
    with pytest.raises(PinMismatch, match=r"- kind: distribution\n\+ kind: tree"):
        await answer(tmp_path, "greeter")


async def test_another_kind_is_named_with_its_place(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project's folder before the installed package, on the path: nobody need search for it."""
    place = site.parent / "project/greet/core.py"
    place.parent.mkdir(parents=True)
    (place.parent / "__init__.py").touch()
    place.write_text(GREETER.replace("good", "evil"))
    monkeypatch.setattr(sys, "path", [str(place.parents[1]), *sys.path])

    assert imported(place.parents[1], site, module="greet.core") == "evil"
    with pytest.raises(PinMismatch) as caught:
        await answer(site.parent, "greeter")

    assert "- kind: distribution\n+ kind: tree\n" in str(caught.value)
    assert f"\n  what is here lies in '{place}'\nRemedy: " in str(caught.value)


async def test_two_distributions_share_a_namespace_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both portions are there, a third one that no closure has isn't."""
    site = use_site(tmp_path / "site", monkeypatch)
    text = GREETER.replace("class", "from ns import words\nclass", 1).replace('"good"', "words.word()")
    install(site, "ns-greet", "1.0", {"ns/greet.py": text}, "Requires-Dist: ns-words")
    install(site, "ns-words", "1.0", {"ns/words.py": WORDS})
    install(site, "ns-other", "1.0", {"ns/other.py": ""})
    pin(tmp_path, "ns.greet")
    text = text.replace("greeter", "other").replace("ns import words", "ns import words, other")
    install(site, "ns-bad", "1.0", {"ns/bad.py": text}, "Requires-Dist: ns-words")
    pin(tmp_path, "ns.bad")

    assert await answer(tmp_path, "ns.greet") == "good"
    with pytest.raises(PluginError, match="cannot import name 'other' from 'ns'"):
        await answer(tmp_path, "ns.bad")


async def test_a_preloaded_module_of_the_closure_is_refused(site: Path) -> None:
    """It would have been imported from the disk before anything was verified, also where preload was agreed to."""
    pin(site.parent, "greeter", preload=["words"])
    with pytest.raises(PinMismatch, match="'words' as it was pinned, and preload would have"):
        await verified(site.parent, "greeter", Policy(preload=("words",)))


async def test_another_python_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closure is made for one interpreter and one platform: others resolve other dependencies."""
    monkeypatch.setattr("agentplug.manager.pins.taking.python_tag", lambda: "cp399")

    with pytest.raises(PinMismatch, match=r"- python: cp3\d+\n\+ python: cp399"):
        await answer(site.parent, "greeter")
