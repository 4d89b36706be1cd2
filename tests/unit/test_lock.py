"""The lock as a file: its order, its comments, who may write it, and what a spoiled one says."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agentplug.errors import PinMismatch, SpecError
from agentplug.manager.pins import lockfile, writing
from agentplug.manager.pins.lockfile import Lock, LockError, line_of, parse_lock, read_lock
from agentplug.manager.pins.pin import Pin, allows, exceeding, is_older, split_specifier
from agentplug.manager.pins.pylock import origins
from agentplug.manager.pins.toml_shape import check_shape
from agentplug.manager.pins.writing import rendered, update_lock

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"


def a_pin(name: str = "greeter", **changes: object) -> Pin:
    """A file's pin."""
    pin = Pin(name, f"./{name}.py", "file", f"plugin_{name}", DIGEST, version="1.0", files={f"{name}.py": DIGEST})
    return replace(pin, **changes)  # type: ignore[arg-type]


def pins(*wanted: Pin) -> dict[str, Pin]:
    """Pins by key."""
    return {pin.key: pin for pin in wanted}


def test_a_lock_reads_as_it_was_written() -> None:
    """Every field survives, whatever characters are in it."""
    strange = a_pin(
        "Grüße_Bot 2",
        specifier="<2,>=1",
        kind="distribution",
        distribution="greeter 1.0",
        record=DIGEST,
        python="cp311",
        platform="linux_x86_64",
        hooks={"input": "veto"},
        asks={"network": [443], "read": ['./a "quoted" \\ path']},
        rights={"network": True, "processes": 2, "hooks": {"input": "veto"}, "env": ["A"]},
        files={"a b.py": DIGEST, 'q"\\.py': DIGEST, "": DIGEST},
        closure={"requests": f"2.31.0 {OTHER}"},
        origin={"requests wheel": OTHER},
    )

    text = rendered(pins(strange, a_pin()))

    assert parse_lock(text, "x") == pins(strange, a_pin())
    assert list(parse_lock(text, "x")) == ["greeter", "grüße-bot-2"]


def test_the_order_is_that_of_names() -> None:
    """The same pins are the same text, in whatever order they came: version control sees only changes."""
    one, two = a_pin("a", files={"b.py": DIGEST, "a.py": DIGEST}), a_pin("b")

    assert rendered(pins(one, two)) == rendered(pins(two, one))
    assert (
        rendered(pins(one)).splitlines()
        == rendered(pins(one, two)).splitlines()[: len(rendered(pins(one)).splitlines())]
    )


def test_comments_stay_with_what_they_stand_on() -> None:
    """Above an entry, behind one, above a table, at the end: after a new pin all of them are where they were."""
    text = rendered(pins(a_pin("m")))
    text = text.replace("[plugins.m]", "# reviewed by hand\n[plugins.m] # twice")
    text = text.replace('version = "1.0"', '# not 1.1\nversion = "1.0" # stable') + "# the end\n"

    after = rendered(pins(a_pin("a"), a_pin("m", version="1.2")), text)

    lines = after.splitlines()
    assert lines[lines.index("# reviewed by hand") + 1] == "[plugins.m] # twice"
    assert lines[lines.index("# not 1.1") + 1] == 'version = "1.2" # stable'
    assert lines[-1] == "# the end"
    assert rendered(parse_lock(after, "x"), after) == after


def test_comments_inside_of_a_value_go_above_it() -> None:
    """A list written over several lines by hand becomes one line, its comments above; no `#` in a text is one."""
    text = rendered(pins(a_pin("m", rights={"network": [80, 443], "read": ["/a#b", "/it's"]})))
    text = text.replace("[80, 443]", '[\n  80, # it\'s "old"\n  # secure\n  443,\n] # ports')

    lines = rendered(parse_lock(text, "x"), text).splitlines()

    at = lines.index("network = [80, 443] # ports")
    assert lines[at - 2 : at] == ['# it\'s "old"', "# secure"]
    assert lines[at + 1] == 'read = ["/a#b", "/it\'s"]'


def test_a_comment_on_what_is_gone_isn_t_lost() -> None:
    """It goes to the end of the lock."""
    text = rendered(pins(a_pin("a"), a_pin("m"))).replace("[plugins.m]", "# why m\n[plugins.m]")

    assert rendered(pins(a_pin("a")), text).endswith("# why m\n")


GOOD = rendered(pins(a_pin("one"), a_pin("two", rights={"network": [443]})))
BAD = {
    "truncated": (GOOD[: GOOD.index(DIGEST) + 20], 11, "cut off", "version control"),
    "empty": ("\n", None, "is empty", "version control"),
    "duplicated": (GOOD + GOOD.partition("version = 1\n")[2], 28, "twice", "two plugins have one name"),
    "an entry twice": (GOOD.replace('kind = "file"\n', 'kind = "file"\nkind = "tree"\n', 1), 10, "twice", "restore"),
    "a schema of many digits": (f"version = {'9' * 5_000}\n", 1, "digits", "version control"),
    "a newer schema and syntax": (
        "# by 9.0\n\nversion = 7 # yes\nx = {a = 1,\n b = 2,}\n",
        3,
        "schema is 7",
        "upgrade",
    ),
    "a byte order mark": ("\ufeff" + GOOD, 1, "byte order mark", "without one"),
    "newer schema": (GOOD.replace("version = 1\n", "version = 7\n", 1), 3, "schema is 7", "upgrade agentplug"),
    "no schema": (GOOD.replace("version = 1\n", "", 1), 1, "no schema", "version control"),
    "schema 0": (GOOD.replace("version = 1\n", "version = 0\n", 1), 3, "no schema 0", "version control"),
    "unknown entry": (GOOD.replace("digest = ", "digset = ", 1), 11, "did you mean 'digest'?", "by hand"),
    "a stranger at the top": (GOOD.replace("version = 1\n", "version = 1\nplugin = 1\n"), 4, "'plugins'?", "by hand"),
    "no kind": (GOOD.replace('kind = "file"', 'kind = "fil"', 1), 9, "kind 'fil'", "--upgrade one"),
    "no entry": (GOOD.replace('entry = "plugin_one"\n', "", 1), 5, "needs 'entry'", "--upgrade one"),
    "no files": (GOOD.replace(f'"two.py" = "{DIGEST}"', ""), 16, "needs 'files'", "--upgrade two"),
    "a digest cut": (GOOD.replace(f'"one.py" = "{DIGEST}"', '"one.py" = "sha256:aa"'), 14, "is no digest", "undo"),
    "a digest of another kind": (
        GOOD.replace(f'digest = "{DIGEST}"', 'digest = "md5:aa"', 1),
        11,
        "no digest",
        "undo",
    ),
    "unknown right": (GOOD.replace("network = ", "netwrok = "), 24, "did you mean 'network'?", "--upgrade two"),
    "wrong type": (GOOD.replace('name = "one"', "name = 1"), 6, "name is no text", "quotes"),
    "wrong right": (GOOD.replace("[443]", '"all"'), 24, "no right has", "--upgrade two"),
    "no port": (GOOD.replace("[443]", "[443, true]"), 24, "True isn't a TCP port", "--upgrade two"),
    "any path at all": (GOOD.replace("network = [443]", "read = true"), 24, "no right has", "--upgrade two"),
    "any hook at all": (GOOD.replace("network = [443]", "hooks = true"), 24, "no right has", "--upgrade two"),
    "a command for a name": (
        GOOD.replace(".two]", '."two;reboot\\u001b"]', 1),
        16,
        "needs 'files'",
        r"'two;reboot\x1b'",
    ),
    "one plugin under two names": (GOOD.replace("./two.py", "./one.py"), 16, "as 'one' and as 'two'", "--check"),
    "under another name": (GOOD.replace('name = "one"', 'name = "uno"'), 5, "belongs under 'uno'", "--upgrade one"),
    "specifier": (GOOD.replace('version = "1.0"', 'specifier = "1"', 1), 7, "no version specifier", ">=1.2"),
    "a merge's other marks": (GOOD.replace("[plugins.two]", "=======\n[plugins.two]"), 16, "a merge", "--check"),
    "a merge": (GOOD.replace("[plugins.two]", "<<<<<<< HEAD\n[plugins.two]"), 16, "merge wasn't finished", "--check"),
    "no table": ("version = 1\nplugins = 3\n", 2, "plugins is no table", "[plugins.NAME]"),
    "a plugin that is none": ("version = 1\n[plugins]\nx = 3\n", 3, "'x' is no table", "[plugins.x]"),
    "nested too deep": (f"version = 1\nx = {'[' * 5_000}\n", None, "line", "version control"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_spoiled_lock_says_line_fact_and_remedy(case: str, tmp_path: Path) -> None:
    """Damaged, truncated, duplicated, newer, edited by hand: nothing counts as pinned, and the message helps."""
    text, line, fact, remedy = BAD[case]
    (tmp_path / "agentplug.lock").write_text(text)

    with pytest.raises(LockError) as caught:
        read_lock(tmp_path)

    told = str(caught.value)
    assert fact in told
    assert remedy in told
    assert str(tmp_path / "agentplug.lock") in told
    if line is not None:
        assert f", line {line}:" in told
    assert isinstance(caught.value, PinMismatch)


def test_a_lock_cut_anywhere_never_lets_more_pass() -> None:
    """At each byte: it can't be read, or what is left of it pins the same bytes and grants no more."""
    whole = parse_lock(GOOD, "x")
    for end in range(len(GOOD)):
        try:
            left = parse_lock(GOOD[:end], "x")
        except LockError:
            continue
        for key, pin in left.items():
            assert (pin.digest, pin.entry, pin.kind) == (whole[key].digest, whole[key].entry, whole[key].kind)
            assert exceeding(pin.rights, whole[key].rights) == []


def test_a_lock_that_is_no_text_or_not_there_says_so(tmp_path: Path) -> None:
    """Bytes that aren't UTF-8, a directory in its place, nothing at all."""
    place = tmp_path / "agentplug.lock"
    with pytest.raises(LockError, match=r"there is no lock .*agentplug lock SPEC"):
        read_lock(place)
    place.write_bytes(b"version = 1\n# \xff\n")
    with pytest.raises(LockError, match="line 2: it isn't UTF-8"):
        read_lock(place)
    with pytest.raises(SpecError, match="write the path"):
        read_lock(3)


def test_a_lock_that_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    """A plugin that may write to its folder can put a link to a pipe or a terminal in its place."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "agentplug.lock").symlink_to("pipe")

    with pytest.raises(
        LockError, match=r"pipe' can't be read \(it is no regular file\); check it is a file of yours"
    ):
        read_lock(tmp_path)
    with pytest.raises(SpecError, match=r"can't be read \(it is no regular file\)"):
        origins(str(tmp_path / "agentplug.lock"), {}, {})


def test_windows_line_endings_make_no_difference(tmp_path: Path) -> None:
    """A checkout that turned them all is the same lock."""
    (tmp_path / "agentplug.lock").write_bytes(GOOD.replace("\n", "\r\n").encode())

    assert read_lock(tmp_path).pins == parse_lock(GOOD, "x")


def test_the_line_of_an_entry_is_found_under_any_header() -> None:
    """Also where keys are quoted, or the entry isn't there at all: then the table's."""
    text = 'version = 1\n[plugins."a b"]\nname = "x"\n[plugins."a b".files]\n"q.py" = "y"\n'

    assert line_of(text, ("plugins", "a b", "files", "q.py")) == 5
    assert line_of(text, ("plugins", "a b", "kind")) == 2
    assert line_of(text, ("nothing",)) == 1


# ---------------------------------------------------------------------- writers


def _pin_one(folder: str, name: str) -> None:
    update_lock(folder, lambda held: held.update(pins(a_pin(name))))


def test_a_folder_that_stays_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that may read the folder can hold a lock on it that is shared, and never let go."""
    monkeypatch.setattr(writing, "_PATIENCE_S", 0.05)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_SH)
    try:
        with pytest.raises(LockError, match=r"has been locked by another process for 0\.05 s; let it end, or close"):
            _pin_one(str(tmp_path), "late")
    finally:
        os.close(holder)

    _pin_one(str(tmp_path), "late")
    assert list(read_lock(tmp_path).pins) == ["late"]


def test_a_full_disk_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what failed; the lock and its folder are as before."""
    _pin_one(str(tmp_path), "early")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(LockError, match="No space left"):
        _pin_one(str(tmp_path), "late")

    assert list(read_lock(tmp_path).pins) == ["early"]
    assert os.listdir(tmp_path) == ["agentplug.lock"]


def test_a_spoiled_lock_isn_t_written_over(tmp_path: Path) -> None:
    """To pin one more into a lock that can't be read would lose all others."""
    (tmp_path / "agentplug.lock").write_text(GOOD[:-40])

    with pytest.raises(LockError):
        _pin_one(str(tmp_path), "late")

    assert (tmp_path / "agentplug.lock").read_text() == GOOD[:-40]


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    """The same pin again leaves the file untouched, its own format included."""
    place = tmp_path / "agentplug.lock"
    place.write_text(GOOD.replace("version = 1\n", "version   =   1\n", 1))
    before = place.stat()

    update_lock(tmp_path, lambda held: held.update(pins(a_pin("one"))))

    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_no_lock_is_made_through_a_link(tmp_path: Path) -> None:
    """A plugin that may write to the folder could have any file made that its user can make."""
    (tmp_path / "agentplug.lock").symlink_to(tmp_path / "elsewhere")

    for path in (tmp_path, tmp_path / "agentplug.lock"):
        with pytest.raises(
            LockError, match=r"is a link to .*elsewhere', which isn't there; remove the link, or make"
        ):
            _pin_one(str(path), "late")

    assert os.listdir(tmp_path) == ["agentplug.lock"]


def test_a_link_and_the_mode_are_kept(tmp_path: Path) -> None:
    """A lock that is a link stays one, and what it leads to keeps its mode."""
    (tmp_path / "real").mkdir()
    place = tmp_path / "real" / "agentplug.lock"
    place.write_text(GOOD)
    place.chmod(0o640)
    (tmp_path / "agentplug.lock").symlink_to(place)

    lock = update_lock(tmp_path, lambda held: held.update(pins(a_pin("three"))))

    assert isinstance(lock, Lock)
    assert (tmp_path / "agentplug.lock").is_symlink()
    assert "three" in read_lock(place).pins
    assert place.stat().st_mode & 0o777 == 0o640


# ---------------------------------------------------------------------- words


def test_a_specifier_may_follow_a_spec() -> None:
    """Version specifiers as packaging has them, in their normal form."""
    assert split_specifier("greeter>=1,<2") == ("greeter", "<2,>=1")
    assert split_specifier("./a.py:B ~= 1.4") == ("./a.py:B", "~=1.4")
    assert split_specifier("./plain.py") == ("./plain.py", "")
    with pytest.raises(SpecError, match="no version specifier"):
        split_specifier("greeter==one two")
    assert allows("", "anything")
    assert allows(">=1", "1.5rc1")
    assert not allows(">=2", "1.5")
    assert not allows(">=2", "no version")
    assert is_older("1.9", "1.10")
    assert not is_older("x", "1")


def test_less_than_was_pinned_may_always_be_granted() -> None:
    """A right exceeds its pin when there is any in it that the pin hasn't."""
    pinned = {"network": [80, 443], "read": ["./a"], "processes": 2, "hooks": {"input": "veto"}, "env": ["A"]}

    assert exceeding({"network": [443], "processes": 1, "hooks": {"input": "veto"}}, pinned) == []
    assert exceeding({"network": True, "read": ["./b"], "processes": 3}, pinned) == ["network", "read", "processes"]
    assert exceeding({"hooks": {"input": "transform"}, "write": ["./a"]}, pinned) == ["hooks", "write"]
    assert exceeding({"network": [1]}, {"network": True}) == []
    assert exceeding({"best_effort": True}, {}) == ["best_effort"]


ODD_SHAPES = {
    "a key of many parts": (
        ".".join(["a"] * 100_000) + " = 1",
        "line 1: it has a key of 100,000 parts, and at most 8",
    ),
    "a header of many parts": (f"x = 1\n[{' . '.join(['a'] * 100_000)}]", "line 2: it has a key of 100,000 parts"),
    "quoted parts": (".".join(['"a"'] * 100_000) + " = 1", "it has a key of 100,000 parts"),
    "an inline table's key": (f"x = {{{'.'.join(['a'] * 100_000)} = 1}}", "it has a key of 100,000 parts"),
    "dotted keys": ("\n".join(f"a.b.c{n} = {n}" for n in range(160)), "line 1: it has a key with a dot"),
    "an inline dotted key": ("x = {a.b = 1}", "it has a key with a dot"),
    "deep arrays": (f"x = {'[' * 100_000}", "nested more than 16 deep"),
    "deep tables": (f"x = {'{a = ' * 100_000}", "nested more than 16 deep"),
    "closed before it opens": (f"x = {']' * 100}{'[' * 100_000}", "nested more than 16 deep"),
    "many entries": ("x = 1, " * 200_000, "it has more than 100,000 entries"),
    "many tables": ("\n".join(f"[a{n}]" for n in range(200_000)), "it has more than 100,000 entries"),
    "many lines": ("x = 1\n" + "\n#" * 1_000_000, "it has 1,000,001 lines, and at most 400,000"),
    "a long text": (f'x = "{"y" * 1_000_000}"', "it has a text of 1,000,002 characters, and at most 65,536"),
    "a long comment": (f"#{'y' * 1_000_000}", "it has a text of 1,000,001 characters"),
}


@pytest.mark.parametrize("name", ODD_SHAPES)
def test_a_lock_that_a_parser_would_take_long_for_is_refused_by_its_shape(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No parser sees it: their time grows with the square of a key's parts."""
    text, fact = ODD_SHAPES[name]
    monkeypatch.setattr(lockfile.tomllib, "loads", lambda text: pytest.fail("a parser saw it"))

    with pytest.raises(LockError) as failure:
        parse_lock(text, "agentplug.lock")

    assert fact in str(failure.value)
    assert "restore it from version control" in str(failure.value)


def test_the_texts_of_a_lock_may_look_like_any_of_that() -> None:
    """Brackets, dots, quotes and hashes in strings are no shape."""
    words = [".".join("abcdefghijkl"), "[" * 40, "{" * 40, "'", '"', '"""', "'''", "#", "a = 1", "\\", '\\"']
    odd = pins(a_pin(files=dict.fromkeys(words, DIGEST), origin={word: word for word in words}))

    assert parse_lock(rendered(odd), "x") == odd
    for text in ('"""a.b.c.d.e.f.g.h.i" ""."""', "'''[[[[[[[[[[[[[[[[[[[ ' '''", '"""[[[[[[[[[[[[[[[[[[[\\""" """'):
        check_shape(f"a = {text}\n", 10, dotted=False)


@pytest.mark.parametrize("opening", ['"""', "'''", '"', "'"])
def test_a_text_without_an_end_takes_no_longer_than_its_length(opening: str) -> None:
    """A second opening in it is no reason to read on to the end once more."""
    check_shape(f"a = {opening}" + f"\\{opening}" * 1_000_000, 10)
