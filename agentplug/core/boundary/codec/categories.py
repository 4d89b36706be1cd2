"""Categories on the wire (host and worker): checked without a hash table of pandas, whose hashes anyone can foresee.

32,000 whole numbers that collide in it took half a second. Numbers and times are sorted instead, and texts go into a
set of Python's, which salts their hashes; of other objects there may be few.
"""

from __future__ import annotations

from typing import Any

from agentplug.core.boundary.codec.layout import DecodeError

_MOST, _MOST_OBJECTS = 32_768, 1_000


def most_categories(labels: Any) -> int:
    """Return the most categories of the kind of `labels`, an index."""
    if len(labels) > _MOST or _numbers(labels) is not None or _are_texts(labels):
        return _MOST
    return _MOST_OBJECTS


def check_categories(labels: Any) -> None:
    """Raise `DecodeError` for too many categories, missing ones or equal ones."""
    if len(labels) > most_categories(labels):
        raise DecodeError("too many categories")
    if labels.hasnans or not _are_unique(labels):
        raise DecodeError("a category that is missing, or there twice")


def _are_unique(labels: Any) -> bool:
    import numpy as np

    if (numbers := _numbers(labels)) is not None:
        order = np.lexsort(numbers)
        equal = np.ones(max(len(labels) - 1, 0), bool)
        for column in numbers:
            ordered = column[order]
            equal &= ordered[1:] == ordered[:-1]
        return not equal.any()
    if _are_texts(labels):
        return len(set(labels)) == len(labels)
    return bool(labels.is_unique)


def _numbers(labels: Any) -> list[Any] | None:
    """Return numpy arrays of numbers that are equal where the labels are, or None."""
    import numpy as np
    import pandas as pd

    dtype = labels.dtype
    if isinstance(dtype, pd.IntervalDtype):
        left, right = _numbers(labels.left), _numbers(labels.right)
        return None if left is None or right is None else left + right
    if isinstance(dtype, (pd.DatetimeTZDtype, pd.PeriodDtype)):
        return [labels.asi8]
    if isinstance(labels.array, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        return [labels.array.to_numpy(dtype.numpy_dtype, na_value=0)]
    return [labels.to_numpy()] if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM" else None


def _are_texts(labels: Any) -> bool:
    return {str}.issuperset(map(type, labels))
