"""The stage: the targets of the attacks, each of which shows any damage (host).

A victim process, secrets in memory, environments and files, services, a sibling plugin with a note, an open file to
be inherited, and the settings of this process and its zygote. Nothing on it has any value: an attack that gets
through harms the stage, and only the stage.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from agentplug.contract.policy import Policy
from agentplug.core.host.conversation import our_loop
from agentplug.core.host.launcher import zygote_for
from agentplug.core.run import Run
from agentplug.core.sandboxed import SandboxedPlugin
from agentplug.doctor.battery.catalogue import Attack
from agentplug.doctor.battery.services import Services
from agentplug.doctor.battery.victim import Victim, differences, settings

_SIBLING = "agentplug.doctor.battery.sibling:SiblingPlugin"
_BAIT_FD = 40  # within the descriptors that a policy grants by default
_GET_FLAGS = 0x80086601  # ioctl_iflags(2)
_PUBLIC = ("/dev/shm", "/tmp", "/var/tmp")
_MOST_TEXT = 1 << 20
_METADATA = attrgetter("st_mode", "st_uid", "st_gid", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns")
_BASE = Policy()


class Stage:
    """The targets, as an async context manager. `bait` has the values for the templates of the catalogue.

    `base` is the policy of the sibling; its zygote starts the sibling.
    """

    def __init__(self, base: Policy = _BASE) -> None:
        self._base = base
        self.mark = f"agentplug-mark-{secrets.token_hex(8)}"
        self._tokens = {
            what: f"stage-{what}-{secrets.token_hex(12)}"
            for what in ("file", "key", "note", "attribute", "victim", "environment", "host", "descriptor", "locked")
        }
        # Keys of many lengths: which part of a freed text stays in a heap depends on its length.
        self._keys = [f"stage-env-{secrets.token_hex(6 + 3 * serial)}" for serial in range(60)]
        self._memory = ctypes.create_string_buffer(self._tokens["host"].encode())
        self._open = contextlib.AsyncExitStack()
        self.bait: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            folder = Path(tempfile.mkdtemp(prefix="agentplug-stage-"))
            opened.callback(_remove, folder)
            self._folder = folder
            self._lay_out(folder)
            self._services = Services(folder)
            opened.callback(self._services.close)
            self._victim = Victim(self._tokens["victim"], self._tokens["environment"])
            opened.callback(self._victim.close)
            descriptor = self._open_bait(folder)
            opened.callback(os.close, descriptor)
            environment = {f"KEY_{serial}": key for serial, key in enumerate(self._keys)}
            policy = self._base.replace(disk="1M", env=environment)
            self._sibling = SandboxedPlugin(_SIBLING, policy, config={"note": self._tokens["note"]})
            opened.push_async_callback(self._sibling.close)
            await self._sibling.process(bytes(1 << 17))  # a large reply starts the thread that decodes those
            our_loop()  # a picture starts it
            self.sibling_pid = self._sibling.pid or 0
            self._watched = {
                "this process": os.getpid(),
                "the zygote": zygote_for(self._base.preload).pid,
                "the sibling": self.sibling_pid,
            }
            self._settings = {name: settings(pid) for name, pid in self._watched.items()}
            self.accept_files()
            self.bait = self._baits(folder, descriptor)
            self._grant = Policy(read=self.bait["library"])  # attacks that are granted it share its descriptor
            self._open = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        del self._grant
        await self._open.aclose()

    @property
    def sibling_barriers(self) -> list[dict[str, Any]]:
        """The sibling's own report of its barriers: rows of `SandboxedPlugin.barriers` and more."""
        return self._sibling._inside.barrier_rows()

    def accept_files(self) -> None:
        """Take the present files of the stage as undamaged."""
        self._files = dict(_contents(self._folder))

    def _lay_out(self, folder: Path) -> None:
        tokens = self._tokens
        for name in ("home/.ssh", "project", "library"):
            (folder / name).mkdir(parents=True)
        (folder / "home/.ssh/id_stage").write_text(tokens["key"])
        (folder / "project/secret.txt").write_text(tokens["file"])
        (folder / "project/inherited.txt").write_text(tokens["descriptor"])
        (folder / "library/module.py").write_text("ANSWER = 42\n")
        (folder / "library/locked.txt").write_text(tokens["locked"])
        (folder / "library/locked.txt").chmod(0)
        with contextlib.suppress(OSError):  # the file system may have no attributes
            os.setxattr(folder / "project/secret.txt", "user.note", tokens["attribute"].encode())

    def _open_bait(self, folder: Path) -> int:
        """Open a file that any child of this process would inherit."""
        fd = os.open(folder / "project/inherited.txt", os.O_RDONLY)
        bait = fcntl.fcntl(fd, fcntl.F_DUPFD, _BAIT_FD)
        os.close(fd)
        os.set_inheritable(bait, True)
        return bait

    def _baits(self, folder: Path, descriptor: int) -> dict[str, Any]:
        victim, services = self._victim, self._services
        return {
            # The victim first: an attack that works on it goes no further.
            "pids": [victim.pid, *self._watched.values()],
            "places": [[victim.pid, victim.address], [os.getpid(), ctypes.addressof(self._memory)]],
            "home": str(folder / "home"),
            "secret": str(folder / "project/secret.txt"),
            "project": str(folder / "project"),
            "library": str(folder / "library"),
            "module": str(folder / "library/module.py"),
            "locked": str(folder / "library/locked.txt"),
            "descriptor": descriptor,
            **{kind: getattr(services, kind) for kind in ("tcp", "udp", "path", "abstract", "datagram")},
            "sibling": os.readlink(f"/proc/{self.sibling_pid}/cwd"),
            "keys": "stage[-]env[-][0-9a-f]{12,}",
            "mark": self.mark,
        }

    def fill(self, template: Any, *, freely: bool = False) -> Any:
        """Replace each `$name` in the template by that bait. `freely`: leave out all processes but the victim, so
        that the attack can run without barriers."""
        if isinstance(template, str) and template.startswith("$"):
            bait = self.bait[template[1:]]
            return bait[:1] if freely and template in ("$pids", "$places") else bait
        if isinstance(template, list):
            return [self.fill(item, freely=freely) for item in template]
        return template

    def policy(self, attack: Attack) -> Policy:
        """Return the attack's policy, with its grants filled in for this stage."""
        granted = {name: tuple(self.fill(list(templates))) for name, templates in attack.granted}
        return attack.policy.replace(**granted) if granted else attack.policy

    async def damage(self) -> list[str]:
        """List all changes on the stage and all contacts of its services."""
        harm = self._victim.damage() + self._services.contacts()
        for name, pid in self._watched.items():
            harm += [f"{name}'s {what} changed" for what in differences(self._settings[name], settings(pid))]
        if self._memory.value != self._tokens["host"].encode():
            harm.append("this process's memory was written to")
        now = dict(_contents(self._folder))
        changed = {
            path
            for path, content in [*self._files.items(), *now.items()]
            if (self._files.get(path), now.get(path)) != (content, content)
        }
        harm += [f"{path.relative_to(self._folder)} was changed" for path in sorted(changed)]
        for folder in _PUBLIC:
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if self.mark in name:
                        harm.append(f"{folder}/{name} was made")
                        os.unlink(os.path.join(folder, name))
        return harm + await self._damage_to_sibling()

    async def _damage_to_sibling(self) -> list[str]:
        note = self._tokens["note"]
        if self._sibling.pid != self.sibling_pid:
            return ["the sibling's worker was ended"]
        run = await self._sibling.run("still there?")
        whole = {"memory": note, "file": note, "files": ["note.txt"], "echo": "still there?"}
        if run.verdict.kind != "completed":
            return [f"the sibling can't be called: {run.verdict}"]
        return [] if run.value == whole else ["the sibling's note was changed"]

    def leaks(self, run: Run) -> list[str]:
        """List the secrets of this stage that the run's texts contain."""
        texts = [run.stdout, run.stderr, *_texts(run.value), *_texts([display.data for display in run.displays])]
        if run.error is not None:
            texts += [run.error.type, run.error.message, run.error.traceback]
        return self.secrets_in("\n".join(text[:_MOST_TEXT] for text in texts))

    def secrets_in(self, whole: str) -> list[str]:
        """List the secrets of this stage that `whole` contains."""
        leaks = [f"the secret {what} was read" for what, token in self._tokens.items() if token in whole]
        seen = sum(key in whole for key in self._keys)
        if seen:
            leaks.append(f"{seen} keys of the sibling's environment were read")
        if any(name[1:] in whole for name in (self._services.abstract, self._services.datagram)):
            leaks.append("the names of this machine's sockets were read")
        return leaks


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value of plain data."""
    queue = [value]
    while queue:
        item = queue.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, bytes):
            yield item[:_MOST_TEXT].decode("latin-1")
        elif isinstance(item, (list, tuple)):
            queue += item
        elif isinstance(item, dict):
            queue += [*item.keys(), *item.values()]


def _contents(folder: Path) -> Iterator[tuple[Path, tuple[object, ...]]]:
    """Yield each path in a folder with its content and metadata, except the time of the last access."""
    for path in sorted(folder.rglob("*")):
        seen = path.lstat()
        yield path, (*_METADATA(seen), *_inside(path, seen.st_mode))


def _inside(path: Path, mode: int) -> Iterator[object]:
    """Yield a file's content, and the flags of a file or folder as in lsattr(1); nothing if it can't be opened."""
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        if stat.S_ISREG(mode):
            yield os.read(fd, _MOST_TEXT)
        yield fcntl.ioctl(fd, _GET_FLAGS, bytes(8))
    except OSError:
        return  # a file system without flags
    finally:
        os.close(fd)


def _remove(folder: Path) -> None:
    """Remove a folder, whatever file modes an attack has set in it."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
