"""Any policy is accepted, and then can be enforced, shown and sent; or refused by the name of its field."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentplug.contract.grants import HOOK_KINDS
from agentplug.contract.limits import FIELDS
from agentplug.contract.options import policy_from_options
from agentplug.contract.plugin import HOOK_POINTS
from agentplug.contract.policy import Policy
from agentplug.contract.record import SourceInfo
from agentplug.core.boundary.frames import SpawnRequest
from agentplug.core.host.plans import plan_for
from agentplug.errors import PolicyError
from agentplug.report.cards import plugin_card

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class BytesPath(os.PathLike):
    """A path that is bytes."""

    def __fspath__(self) -> bytes:
        return b"/tmp/\xff"


texts = st.text(st.characters(exclude_categories=()), max_size=12)
sizes = st.one_of(
    st.builds("{}{}{}".format, st.one_of(st.integers(-1, 1 << 70), st.floats()), st.sampled_from("KMGTx "),
              st.sampled_from(["", "B", "iB"])),
    st.sampled_from(["9" * 5000, "1e999", "٣M", "1.5 GiB", "", " 4 k ", "0x10"]),
)  # fmt: skip
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from(
        [10**400, -(10**400), 10**5000, 1 << 50, 1 << 63, 1 << 64, 0, 1, True, Decimal("NaN"), Fraction(1, 3), 1j]
    ),
)
ports = st.one_of(st.integers(-5, 70_000), numbers, texts)
paths = st.one_of(
    texts,
    texts.map(Path),
    st.sampled_from(
        ["~", "~/x", "~nobody/x", "/", "/proc/self", "a/" * 3000, "\0", "", b"/tmp", BytesPath(), "~\ud800"]
    ),
)
names = st.one_of(texts, st.sampled_from(["A", "PATH", "json", "a.b", "a..b", "1a", "", "=", "A=B", "\0"]))
anything = st.one_of(
    st.none(), st.booleans(), numbers, sizes, texts, st.binary(max_size=5), paths, st.builds(object),
    st.lists(st.one_of(ports, texts, paths, st.lists(ports, max_size=2)), max_size=3),
    st.lists(st.one_of(ports, paths), max_size=3).map(tuple),
    st.sets(st.integers(1, 70_000), max_size=3), st.dictionaries(names, st.one_of(texts, numbers), max_size=3),
    st.dictionaries(st.sampled_from(HOOK_POINTS), st.sampled_from([*HOOK_KINDS, "x"]), max_size=2),
)  # fmt: skip
_FITTING: dict[str, st.SearchStrategy[Any]] = {
    "memory": sizes, "disk": sizes, "output": sizes, "reply": sizes, "cpu_s": numbers, "wall_s": numbers,
    "network": st.one_of(st.booleans(), st.lists(st.integers(1, 65_535), max_size=4).map(tuple)),
    "read": st.lists(paths, max_size=3).map(tuple), "write": paths, "env": st.dictionaries(names, texts, max_size=3),
    "preload": st.lists(names, max_size=3).map(tuple),
}  # fmt: skip
_FIELDS = [field.name for field in fields(Policy)]
policies = st.one_of(
    st.fixed_dictionaries({}, optional={name: st.one_of(_FITTING.get(name, anything), anything) for name in _FIELDS}),
    st.sampled_from(_FIELDS).flatmap(lambda name: st.fixed_dictionaries({name: _FITTING.get(name, anything)})),
    st.dictionaries(texts, anything, max_size=2),
)


def works(policy: Policy) -> bool:
    """What was accepted can be written down, compared, shown, and sent to a zygote."""
    assert Policy(**{field.name: getattr(policy, field.name) for field in fields(Policy)}) == policy
    assert policy.replace() == policy
    hash(policy)
    assert Policy.from_dict(policy.to_dict()) == policy
    plugin_card(SourceInfo("", "file", "", "n"), policy=policy).encode()
    message = msgspec.msgpack.encode(SpawnRequest(1, plan_for(policy)))
    return msgspec.msgpack.decode(message, type=SpawnRequest).plan.memory_bytes == policy.memory


def names_one(error: PolicyError, names: Iterable[str]) -> bool:
    """The message holds one of `names`, and is no book."""
    return any(repr(name)[1:-1] in str(error) for name in names) and len(str(error)) < 100_000


@settings(patient, max_examples=1_000)
@given(policies)
def test_any_policy_works_or_is_refused(given_fields: dict[str, Any]) -> None:
    """Numbers beyond all bounds, text that is no size, paths that are none, wrong types: `PolicyError` alone."""
    try:
        policy = Policy(**given_fields)
    except PolicyError as error:
        assert names_one(error, given_fields), error  # noqa: PT017
    else:
        assert works(policy)


_TYPED = st.one_of(
    texts, sizes, st.lists(st.integers(-1, 70_000), max_size=3).map(lambda found: ",".join(map(str, found))),
    st.sampled_from(["yes", "NO", "", "all", "1e3", "inf", "nan", "-1", "9" * 5000, "1_000", "٣"]),
    st.sampled_from(["A=B", "=", "A=\0", "PATH", "input=veto", "json,a.b", ",", "files"]),
)  # fmt: skip


@settings(patient, max_examples=500)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            row.key: st.lists(_TYPED, max_size=2) if row.kind.many else st.booleans() if row.is_switch else _TYPED
            for row in FIELDS.values()
        },
    )
)
def test_any_options_work_or_are_refused(given_options: dict[str, Any]) -> None:
    """As text from a command line: the message names the option that was typed."""
    try:
        policy = policy_from_options(given_options)
    except PolicyError as error:
        assert names_one(error, [f"--{row.option}" for row in FIELDS.values()]), error  # noqa: PT017
    else:
        assert works(policy)


def test_a_variable_that_no_environment_can_hold_is_a_policy_error() -> None:
    """A lone surrogate has no UTF-8 form, and so can't be looked up."""
    with pytest.raises(PolicyError, match="isn't set here"):
        policy_from_options({"env": ["\ud800"]})
