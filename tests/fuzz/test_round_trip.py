"""Every value that the codec carries comes back as it was, however values are put together."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentplug.contract.limits import MAX_STRUCTURE_BYTES
from agentplug.core.boundary.codec import DecodeError, decode, encode
from tests.fuzz.strategies import arrays, indexes, keys, same, tables, values

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def carried(value: Any) -> Any:
    packed = encode(value)
    assert len(packed.structure) <= MAX_STRUCTURE_BYTES
    return decode(packed.structure, b"".join(packed.blobs))


@pytest.fixture(autouse=True, scope="module")
def _pandas_may_warn() -> Any:
    """Odd labels make pandas warn of its own comparisons; the codec's warnings are looked at in its unit tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@settings(patient, max_examples=300)
@given(values)
def test_any_value_comes_back_exactly(value: Any) -> None:
    """Type, value, order, sign of zero, nan, fold, dtype, shape, labels: nothing is lost at any nesting."""
    assert same(carried(value), value)


@settings(patient, max_examples=150)
@given(arrays())
def test_any_array_comes_back_exactly(array: Any) -> None:
    """Whatever its dtype, shape and strides; the copy is writable and owns its memory."""
    back = carried(array)
    assert same(back, array)
    assert back.flags.writeable
    assert back.flags.owndata


@settings(patient, max_examples=200)
@given(st.one_of(tables(), indexes()))
def test_any_table_comes_back_exactly(table: Any) -> None:
    """Each dtype as a column and as labels, alone and beside others, with no rows or no columns too."""
    assert same(carried(table), table)


@settings(patient, max_examples=150)
@given(st.dictionaries(keys, keys, max_size=6))
def test_any_hashable_value_is_a_key(value: dict[Any, Any]) -> None:
    """Keys keep their order and their types: 1, 1.0, True and Decimal(1) are one key, as in any dict."""
    assert same(carried(value), value)


@settings(patient, max_examples=150)
@given(values, st.integers(0, 1 << 30))
def test_no_part_of_a_value_is_taken_for_the_whole(value: Any, cut: int) -> None:
    """A reply that was cut off is refused wherever the cut falls, in the structure and in the blobs."""
    packed = encode(value)
    blobs = b"".join(packed.blobs)
    with pytest.raises(DecodeError):
        decode(packed.structure[: cut % len(packed.structure)], blobs)
    if blobs:
        with pytest.raises(DecodeError):
            decode(packed.structure, blobs[: cut % len(blobs)])
