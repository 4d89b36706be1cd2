"""Published faults of other sandboxes, agents and notebooks, each re-enacted without harm: docs/published-faults.md.

An attack is the way in which that fault did its damage, against baits of the test's own: a secret file, a secret in
the host's environment, a folder that mustn't change, a service here. Where nothing stops it, it has to come away
with the secret, leave a mark or reach the service; confined, it has to do none of these. Its input names the
baits; `scratch` is a folder to work in where it runs free, and None where it has a directory of its own.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from arena import MIB, Arena, Seen, run_unconfined

from agentplug.contract.policy import Policy
from agentplug.contract.record import Verdict
from agentplug.core.host.launcher import zygote_for
from agentplug.core.run import Run
from agentplug.doctor.battery.catalogue import CATALOGUE

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "published-faults.md"
SUMMARY = HERE.parents[1] / "SECURITY.md"
SECRET = "a secret of the host's"
LATE = ("colorsys",)  # preloaded, so that its zygote starts when the secret is in the environment already

COMPLETED = Verdict("completed")
REFUSED = Verdict("failed", "PermissionError")
NO_CHILD = Verdict("limited", "processes")
FEW = Policy(processes=4)


class Fault(NamedTuple):
    """How a fault did its damage: the body of `attack(given)`, and the verdict that it gets here."""

    body: str
    verdict: Verdict
    policy: Policy = Policy()
    grants: str = ""  # "read" or "write": a right to the folder `granted`


FAULTS = {
    # Code that a model wrote, run in the agent's own process.
    "CVE-2023-36258": Fault("""
    exec("import os; os.system(command)", {"command": f"cp {given['secret']} {given['outside']}"})
    """, COMPLETED),
    "CVE-2023-44467": Fault("""
    __import__("subprocess").run(["cp", given["secret"], given["outside"]], check=True)
    """, NO_CHILD),
    "CVE-2023-36281": Fault("""
    import subprocess
    classes = "".__class__.__mro__[1].__subclasses__()
    popen = next(one for one in classes if one.__name__ == "Popen")
    return popen(["cat", given["secret"]], stdout=-1, text=True).communicate()[0]
    """, NO_CHILD),
    "CVE-2023-39662": Fault("""
    import pandas
    return eval("pd.io.common.os.popen(command).read()", {"pd": pandas, "command": f"cat {given['secret']}"})
    """, NO_CHILD),
    "CVE-2024-23750": Fault("""
    import subprocess
    return subprocess.run(f"true; cat {given['secret']}", shell=True, capture_output=True, text=True).stdout
    """, COMPLETED, FEW),
    "CVE-2025-3248": Fault("""
    source = f"def checked(then=open({given['outside']!r} + '/mark', 'w')): pass"
    exec(compile(source, "checked", "exec"))
    """, REFUSED),
    # Sandboxes made of Python: lists of what code may name.
    "CVE-2023-37271": Fault("""
    def walk():
        frame = steps.gi_frame
        while frame.f_back is not None:
            frame = frame.f_back
        yield frame.f_builtins["__import__"]("os").environ.get("AGENT_TOKEN")
    steps = walk()
    return next(steps)
    """, COMPLETED, Policy(preload=LATE)),
    "CVE-2023-41039": Fault("""
    import random
    return "{0.__globals__[_os].environ}".format(random.Random.seed)
    """, COMPLETED, Policy(preload=LATE)),
    "CVE-2025-5120": Fault("""
    import random
    return random._os.popen(f"cat {given['secret']}").read()
    """, NO_CHILD),
    "CVE-2026-0863": Fault("""
    try:
        "{0.nothing}".format(open)
    except AttributeError as error:
        return error.obj(given["secret"]).read()
    """, REFUSED),
    "CVE-2026-2275": Fault("""
    import ctypes
    libc = ctypes.CDLL(None)
    text = ctypes.create_string_buffer(100)
    libc.read(libc.open(given["secret"].encode(), 0), text, 99)
    return text.value.decode()
    """, COMPLETED),
    "CVE-2026-37008": Fault("""
    importer = next(one for one in object.__subclasses__() if one.__name__ == "BuiltinImporter")
    posix = importer.load_module("posix")
    return posix.read(posix.open(given["secret"], 0), 99).decode()
    """, REFUSED),
    "CVE-2026-47392": Fault("""
    return print.__self__.__import__("io").open(given["secret"]).read()
    """, REFUSED),
    "CVE-2026-39888": Fault("""
    try:
        raise KeyError
    except KeyError as error:
        frame = error.__traceback__.tb_frame
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_builtins["open"](given["secret"]).read()
    """, REFUSED),
    "CVE-2026-34938": Fault("""
    class Name(str):
        def startswith(self, *_):
            return False
    return open(Name(given["secret"])).read()
    """, REFUSED),
    "CVE-2026-34955": Fault("""
    import subprocess
    command = f"c''at {given['secret']}"
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
    """, COMPLETED, FEW),
    "CVE-2024-28397": Fault("""
    import subprocess
    def classes(one):
        return [one, *(more for each in type.__subclasses__(one) for more in classes(each))]
    popen = next(each for each in classes(object) if each.__name__ == "Popen")
    return popen(["cat", given["secret"]], stdout=-1, text=True).communicate()[0]
    """, NO_CHILD),
    # What comes out of a sandbox, and is believed.
    "CVE-2025-14931": Fault("""
    class Value:
        def __reduce__(self):
            return open, (given["outside"] + "/mark", "w")
    if given["scratch"]:  # the part of an agent that unpickles what its sandbox returns
        import pickle
        pickle.loads(pickle.dumps(Value()))
    else:
        return Value()
    """, Verdict("broken", "unserializable")),
    "CVE-2024-28185": Fault("""
    os.symlink(given["outside"] + "/mark", "run_script")
    if given["scratch"]:  # the part of a judge that writes into the sandbox's folder
        open("run_script", "w").close()
    """, COMPLETED),
    "CVE-2024-28189": Fault("""
    os.symlink(given["outside"], "submission")
    if given["scratch"]:  # the part of a judge that makes the folder its own
        open("submission/mark", "w").close()
        os.chmod("submission", 0o700)
    """, COMPLETED),
    "CVE-2022-21699": Fault("""
    os.makedirs("profile_default/startup")
    mark = f"open({given['outside']!r} + '/mark', 'w')"
    for name in ("profile_default/startup/hello.py", "jupyter_config.py", "sitecustomize.py", "base64.py"):
        open(name, "w").write(mark)
    if given["scratch"]:  # the part of a program that is started in this folder
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "import base64"])
    """, COMPLETED),
    # Paths.
    "CVE-2023-37274": Fault("""
    open("../" * 40 + given["outside"] + "/mark", "w").write("print('hello')")
    """, REFUSED),
    "CVE-2023-37273": Fault("""
    open(given["granted"] + "/docker-compose.yml").read()
    open(given["granted"] + "/docker-compose.yml", "w").write("privileged: true")
    """, REFUSED, grants="read"),
    "CVE-2025-53109": Fault("""
    os.symlink(given["secret"], given["granted"] + "/link")
    return open(given["granted"] + "/link").read()
    """, REFUSED, grants="write"),
    "CVE-2025-53110": Fault("""
    return open(given["granted"] + "_of_others/secret").read()
    """, REFUSED, grants="read"),
    "CVE-2022-29241": Fault("""
    import glob
    return [open(name).read() for name in glob.glob(os.path.dirname(given["secret"]) + "/jpserver-*.json")]
    """, COMPLETED),
    "CVE-2007-4559": Fault("""
    import io, tarfile
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../" * 40 + given["outside"] + "/mark"))
    data.seek(0)
    with tarfile.open(fileobj=data) as archive:
        archive.extraction_filter = staticmethod(lambda member, path: member)
        archive.extractall(".")
    """, REFUSED),
    "CVE-2023-49793": Fault("""
    import io, zipfile
    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        archive.writestr("../" * 40 + given["outside"] + "/mark", "")
        for name in archive.namelist():
            open(os.path.join(".", name), "wb").write(archive.read(name))
    """, REFUSED),
    # Files that are code.
    "CVE-2025-32434": Fault("""
    import pickle
    class Weights:
        def __reduce__(self):
            return open, (given["outside"] + "/mark", "w")
    pickle.loads(pickle.dumps(Weights()))
    """, REFUSED),
    "CVE-2025-71342": Fault("""
    import code, pickle
    class Model:
        def __reduce__(self):
            return code.InteractiveInterpreter().runsource, (f"open({given['outside']!r} + '/mark', 'w')",)
    pickle.loads(pickle.dumps(Model()))
    """, COMPLETED),
    # The network around the host.
    "CVE-2026-2654": Fault("""
    import urllib.request
    return urllib.request.urlopen(f"http://127.0.0.1:{given['port']}/latest/meta-data/").read().decode()
    """, Verdict("failed", "URLError")),
    # Exhaustion.
    "CVE-2019-9674": Fault("""
    import io, zipfile
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(32 << 20))
    zipfile.ZipFile(data).extract("bomb", given["scratch"] and given["outside"])
    """, Verdict("limited", "disk"), Policy(disk="1M")),
}  # fmt: skip

pytestmark = pytest.mark.need("landlock", "seccomp")


class Baits:
    """What an attack may go for, and whether it got there."""

    def __init__(self, folder: Path) -> None:
        self.secret, self.outside, self.granted = folder / "home" / "secret", folder / "outside", folder / "granted"
        others = folder / "granted_of_others"
        for path in (self.secret.parent, self.outside, self.granted, others):
            path.mkdir()
        for path in (self.secret, others / "secret", self.secret.parent / "jpserver-4711.json"):
            path.write_text(SECRET)
        (self.granted / "docker-compose.yml").write_text("privileged: false")
        self.calls = 0
        baits = self

        class Service(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                baits.calls += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(SECRET.encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.service = HTTPServer(("127.0.0.1", 0), Service)

    def given(self, scratch: Path | None) -> dict[str, Any]:
        """What the attack is told."""
        paths = {"secret": self.secret, "outside": self.outside, "granted": self.granted, "scratch": scratch}
        return {name: path and str(path) for name, path in paths.items()} | {"port": self.service.server_port}

    def damage(self, said: str) -> list[str]:
        """What was harmed, and what came out."""
        found = [f"{name} was left" for name in sorted(os.listdir(self.outside))]
        found += ["a configuration was changed"] * ("true" in (self.granted / "docker-compose.yml").read_text())
        found += ["the service was called"] * (self.calls > 0)
        return found + ["the secret came out"] * (SECRET in said)


@pytest.fixture(scope="module", autouse=True)
def _late_zygote() -> Iterator[None]:
    """A zygote that was started with the secret in the host's environment."""
    with patch.dict(os.environ, AGENT_TOKEN=SECRET):
        zygote_for(LATE)
        yield
    zygote_for(LATE).close()


@pytest.fixture
def baits(tmp_path: Path) -> Iterator[Baits]:
    """Baits, with their service running."""
    found = Baits(tmp_path)
    thread = threading.Thread(target=found.service.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.service.shutdown()
    thread.join()
    found.service.server_close()


def text_of(fault: Fault) -> str:
    """The text of the attack."""
    start = "import os\n\ndef attack(given):\n    if given['scratch']:\n        os.chdir(given['scratch'])\n"
    return start + fault.body.rstrip(" ")


@pytest.mark.parametrize("number", FAULTS)
def test_the_fault_does_its_damage_where_nothing_stops_it(number: str, baits: Baits, tmp_path: Path) -> None:
    """So what stops it are the barriers, and not a mistake in the re-enactment."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    seen: Seen = run_unconfined(text_of(FAULTS[number]), baits.given(scratch), seconds=20)

    assert baits.damage(f"{seen.value}") != [], seen


@pytest.mark.parametrize("number", FAULTS)
def test_the_fault_does_no_damage_in_a_plugin(number: str, baits: Baits, arena: Arena) -> None:
    """Its verdict is as stated, nothing is harmed and nothing comes out, neither as a value nor as output."""
    fault = FAULTS[number]
    policy = fault.policy.replace(**{fault.grants: (str(baits.granted),)}) if fault.grants else fault.policy

    run: Run = arena.confined(text_of(fault), baits.given(None), policy=policy)

    said = f"{run.value} {run.stdout} {run.stderr} {run.error}"
    assert (run.verdict, baits.damage(said)) == (fault.verdict, []), said
    assert run.usage.peak_memory_bytes < 512 * MIB


def test_the_page_and_this_table_have_the_same_rows() -> None:
    """Each fault of docs/published-faults.md that is said to be re-enacted is so here, and each here is on the page.

    Other tests that it names are there, and only what isn't stopped has none. Its sums are right, in SECURITY.md too.
    """
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[([\w-]+)\]\(https://\S+\) (.*) \|$", page, re.MULTILINE)
    cells = {number: [cell.strip() for cell in rest.split(" | ")] for number, rest in rows}
    tests = {number: row[-1] for number, row in cells.items()}
    answers = [row[-3].partition(",")[0] for row in cells.values()]
    zoo = {f"`{attack.spec.removeprefix('agentplug.')}`" for attack in CATALOGUE}
    files = {path.name: path.read_text() for path in HERE.glob("test_*.py")}

    assert [number for number, test in tests.items() if test == "re-enacted"] == list(FAULTS)
    for number, test in tests.items():
        if test.startswith("`zoo."):
            assert test in zoo, number
        elif test.startswith("`test_"):
            name, _, function = test.strip("`").partition("::")
            assert f"def {function}(" in files[name], number
        else:
            assert test in ("re-enacted", "–"), number
        assert (test == "–") == cells[number][-3].startswith("no"), number
    yes, partly, no = (answers.count(word) for word in ("yes", "partly", "no"))
    assert yes + partly + no == len(rows) == len(cells)
    assert f"Of {len(rows)}: {yes} stopped, {partly} in part, {no} not." in page
    summary = SUMMARY.read_text(encoding="utf-8").replace("\n", " ")
    for sum_ in (f"asks of {len(rows)} published", f" {yes} yes,", f" {no} no.", f" {len(FAULTS)} are re-enacted"):
        assert sum_ in summary
