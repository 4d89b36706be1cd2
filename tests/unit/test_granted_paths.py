"""Granted paths: what a policy holds, what it refuses, and what it takes for granted when it is read back."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import resource
import tempfile
from pathlib import Path

import cloudpickle
import pytest

from agentplug.contract import granted_path
from agentplug.contract.granted_path import GrantedPath, check
from agentplug.contract.options import policy_from_options
from agentplug.contract.policy import Policy
from agentplug.contract.scratch_place import scratch_place
from agentplug.errors import PolicyError


def only(policy: Policy) -> GrantedPath:
    """The one path that a policy grants to read."""
    (path,) = policy.read
    assert isinstance(path, GrantedPath)
    return path


def again(path: Path) -> None:
    """Remove a folder and make another one of that name."""
    path.rename(path.with_name("old"))
    path.mkdir()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to grant."""
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


# ---------------------------------------------------------------------- held


def test_a_policy_holds_what_it_grants(folder: Path) -> None:
    """A link that leads there is followed once; the text is the path to which it led."""
    (folder.parent / "link").symlink_to(folder)
    path = only(Policy(read=folder.parent / "link"))
    status = folder.stat()

    assert (str(path), path.identity) == (str(folder), (status.st_dev, status.st_ino))
    assert os.path.samestat(os.fstat(path.descriptor), status)


def test_a_derived_policy_keeps_the_earlier_identity(folder: Path) -> None:
    """What was granted is granted, whatever else is changed later, and whatever stands there then."""
    policy = Policy(read=folder)
    earlier = only(policy)
    again(folder)

    assert only(policy.replace(memory="64M")) is earlier
    assert only(Policy(read=policy.read)) is earlier
    assert only(policy_from_options({"memory": "64M"}, policy)) is earlier
    assert only(copy.deepcopy(policy)) is earlier
    assert policy.hold() is policy
    assert only(Policy(read=folder)).identity != earlier.identity


def test_policies_that_grant_the_same_share_a_descriptor(folder: Path) -> None:
    """A notebook's runs keep the policies of every cell that was run. One that was closed isn't shared."""
    before = len(os.listdir("/proc/self/fd"))
    policies = [Policy(read=folder, write=str(folder), memory=f"{number}M") for number in range(1, 100)]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert only(policies[0]) is only(policies[-1])

    elsewhere = os.open("/", os.O_PATH)
    os.dup2(elsewhere, only(policies[0]).descriptor)
    check("read", only(Policy(read=folder)))
    again(folder)
    assert only(Policy(read=folder)).identity != only(policies[0]).identity
    os.close(elsewhere)


def test_a_path_is_its_text(folder: Path) -> None:
    """In comparisons, tables, files and messages."""
    policy = Policy(read=folder)

    assert policy.read == (str(folder),)
    assert hash(only(policy)) == hash(str(folder))
    assert repr(policy) == f"Policy(read=({str(folder)!r},))"
    assert policy == Policy(read=str(folder))
    assert json.loads(json.dumps(policy.to_dict()))["read"] == [str(folder)]
    assert type(policy.to_dict()["read"][0]) is str
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


def test_the_descriptor_goes_with_the_last_policy(folder: Path) -> None:
    """And not before."""
    policy = Policy(read=folder)
    descriptor = only(policy).descriptor
    derived = policy.replace(memory="64M")
    del policy
    gc.collect()
    assert os.path.samestat(os.fstat(descriptor), folder.stat())
    del derived
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


# ---------------------------------------------------------------------- something else is there


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda path: path.rmdir(), "it was removed or renamed"),
        (lambda path: path.rename(path.with_name("old")), "it was removed or renamed"),
        (again, "another folder is in its place"),
        (lambda path: (path.rmdir(), path.mkdir()), "another folder is in its place"),
        (lambda path: (path.rmdir(), path.touch()), "another file is in its place"),
        (lambda path: (path.rmdir(), path.symlink_to("/etc")), "a link to '/etc' is in its place"),
        (
            lambda path: (path.rename(path.with_name("old")), path.symlink_to("old")),
            "a link to 'old' is in its place",
        ),
    ],
)
def test_what_differs_is_named(folder: Path, change, fact: str) -> None:
    """The error has field, path, fact and remedy. An inode that is held isn't used again."""
    policy = Policy(write=folder)
    (path,) = policy.write
    check("write", path)  # type: ignore[arg-type]
    change(folder)

    with pytest.raises(PolicyError) as caught:
        check("write", path)  # type: ignore[arg-type]

    end = "If that is to be granted, make the policy again"
    assert str(caught.value) == f"write: '{folder}' is no longer what was granted: {fact}. {end}"


def test_a_closed_descriptor_holds_nothing(folder: Path) -> None:
    """Who closes all descriptors of the process closes these too."""
    path = only(Policy(read=folder))
    elsewhere = os.open("/", os.O_PATH)
    os.dup2(elsewhere, path.descriptor)
    os.close(elsewhere)

    with pytest.raises(PolicyError, match="its descriptor was closed"):
        check("read", path)


# ---------------------------------------------------------------------- impossible grants


def test_what_can_t_be_granted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With field, path, reason and remedy; and no descriptor stays open."""
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    reader, writer = os.pipe()
    monkeypatch.chdir(tmp_path)
    before = os.listdir("/proc/self/fd")
    for path, message in (
        (tmp_path / "missing", f"read: '{tmp_path}/missing' isn't there; check the path, or make it first"),
        ("missing", f"read: 'missing' (in '{tmp_path}') isn't there; check the path, or make it first"),
        ("~nobody-of-this-name/x", "isn't there"),
        (
            tmp_path / "dangling",
            f"read: '{tmp_path}/dangling' is a link to 'nowhere', which isn't there; grant a path",
        ),
        (tmp_path / "circle", "can't be reached: its links lead in a circle; grant the file or folder itself"),
        (tmp_path / "file" / "x", "can't be there: a part of it is a file; check the path"),
        ("x" * 5_000, "is too long for a path"),
        (f"/proc/self/fd/{reader}", "is no file or folder with a name, and nothing else can be granted"),
    ):
        with pytest.raises(PolicyError) as caught:
            Policy(read=path)
        assert message in str(caught.value)
        assert len(str(caught.value)) < 700
        with pytest.raises(PolicyError, match=r"^--write"):
            policy_from_options({"write": [str(path)]})
        with pytest.raises(PolicyError, match=r"^write: "):
            Policy.from_dict({"write": [str(path)]})
    assert os.listdir("/proc/self/fd") == before
    os.close(reader)
    os.close(writer)


def test_a_file_that_was_removed_while_it_was_open_can_t_be_granted(tmp_path: Path) -> None:
    """It has no name by which a worker could open it."""
    (tmp_path / "file").touch()
    with open(tmp_path / "file") as file:
        (tmp_path / "file").unlink()
        with pytest.raises(PolicyError, match=r"file \(deleted\)', which isn't there"):
            Policy(read=f"/proc/self/fd/{file.fileno()}")


def test_a_path_out_of_reach_is_refused(tmp_path: Path) -> None:
    """This user can't grant what it can't reach."""
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # who may enter any folder
            os.seteuid(65_534)
        with pytest.raises(PolicyError, match="can't be reached: this user may not enter a folder on the way"):
            Policy(read=tmp_path / "closed" / "inner")
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o700)


def test_each_path_takes_a_descriptor_and_that_is_said(tmp_path: Path) -> None:
    """Where none is left, the remedy stands beside; those that were opened for the policy are closed."""
    folders = [tmp_path / str(number) for number in range(200)]
    for folder in folders:
        folder.mkdir()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, most[1]))
    try:
        with pytest.raises(PolicyError, match=r"no descriptor left, and each granted path takes one; .*ulimit -n"):
            Policy(read=folders)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    gc.collect()
    assert len(Policy(read=folders).read) == 200


# ---------------------------------------------------------------------- scratch directories


def test_scratch_directories_can_t_be_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a folder around them, whatever it is called, nor by one in them."""
    temporary, alias = tmp_path / "temporary", tmp_path / "alias"
    temporary.mkdir()
    alias.symlink_to(temporary)
    monkeypatch.setattr(tempfile, "tempdir", str(alias))
    place = Path(scratch_place())
    assert place == temporary / f"agentplug-{os.geteuid()}"
    around = (
        f"holds '{place}', where all plugins have their scratch directories; grant the folders in it that are need"
    )

    for path in ("/", tmp_path, temporary, alias, f"{alias}/../temporary/"):
        for field in ("read", "write"):
            with pytest.raises(PolicyError, match=f"^{field}: .*{around}"):
                Policy(**{field: path})
    (temporary / "beside").mkdir()
    assert Policy(read=alias / "beside").read == (f"{temporary}/beside",)

    (place / "root" / "1").mkdir(parents=True)
    for inner in (place, place / "root", place / "root" / "1"):
        with pytest.raises(PolicyError, match=r"^read: .*where (all )?plugins have their scratch directories"):
            Policy(read=inner)


# ---------------------------------------------------------------------- recorded


def test_a_record_touches_no_file_system(folder: Path) -> None:
    """Its paths may be of another time or machine. They are looked up once the policy is to be enforced."""
    record = Policy.from_dict({"read": ["/no/such/place", "~/x", "/"], "write": str(folder)}, is_record=True)

    assert (record.read, record.write) == (("/no/such/place", "~/x", "/"), (str(folder),))
    assert record.replace(memory="64M").read == record.read
    assert Policy.from_dict(record.to_dict(), is_record=True) == record
    with pytest.raises(PolicyError, match="read: '/no/such/place' isn't there"):
        record.hold()
    good = record.replace(read=()).hold()
    assert good == record.replace(read=())
    check("write", good.write[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [None, 5, "read", [("read", "/")], {5: 1}, {"read": {"/": 1}}, {"read": [None]}])
def test_what_is_no_policy_is_a_policy_error(values: object) -> None:
    """Read from a file, it may be anything."""
    for is_record in (False, True):
        with pytest.raises(PolicyError):
            Policy.from_dict(values, is_record=is_record)  # type: ignore[arg-type]


def test_a_recorded_path_follows_no_link(folder: Path) -> None:
    """A plugin may have put one there since: what the user sees written is not what would be granted."""
    (folder / "in").mkdir()
    record = Policy.from_dict({"read": [f"{folder}/in"]}, is_record=True)
    (folder / "in").rename(folder / "old")
    (folder / "in").symlink_to("/etc")
    with pytest.raises(PolicyError, match="is no longer what was granted: a link to '/etc' is in its place"):
        record.hold()

    record = Policy.from_dict({"read": [f"{folder}/old"]}, is_record=True)
    folder.rename(folder.with_name("moved"))
    folder.symlink_to("moved")
    with pytest.raises(PolicyError, match="a folder on the way is a link now"):
        record.hold()


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_pickle_keeps_the_identity(folder: Path, pickler) -> None:
    """Reading it touches no file; used, it means what it meant. No descriptor travels along."""
    policy = Policy(read=folder)
    data = pickler.dumps(policy)
    copied = pickler.loads(data)

    assert copied == policy
    assert (only(copied).identity, only(copied).descriptor) == (only(policy).identity, -1)
    assert only(copied.hold()).identity == only(policy).identity
    again(folder)
    assert pickler.loads(data) == policy
    with pytest.raises(PolicyError, match="another folder is in its place"):
        copied.hold()


def test_a_pickle_from_another_machine_has_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and inodes mean nothing there."""
    data = pickle.dumps(Policy(read=folder))
    again(folder)
    monkeypatch.setattr(granted_path, "_boot", lambda: "another")

    assert only(pickle.loads(data).hold()).identity == only(Policy(read=folder)).identity


@pytest.mark.parametrize("path", ["/dev/zero", "/dev", "/dev/../dev/zero"])
def test_maps_of_dev_zero_cannot_be_granted(path: str) -> None:
    """A plugin parked 256 MiB there under memory="64M": such a map is shared memory, and no account has it."""
    with pytest.raises(PolicyError, match=r"^write: .* is or holds /dev/zero, whose writable maps are shared memory"):
        Policy(write=path)
    assert Policy(read=path).read


def test_other_devices_can_be_granted() -> None:
    """Only what would be memory is refused."""
    assert Policy(write="/dev/null").write == ("/dev/null",)
