"""Traces in files (host): parquet, feather and CSV, and back without loss.

Parquet and feather keep `attrs` by themselves. A CSV carries them, and the categories, in a first line of its own:
`# agentplug {…}`; other readers skip it (`pandas.read_csv(path, skiprows=1)`). Rows keep their labels, also when only
some of a trace are saved: feather and CSV have a column more for them then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentplug.contract.run import KINDS, USAGE_FIELDS
from agentplug.contract.text import printable
from agentplug.report.accessor import CALLS_COLUMNS, SAMPLES_COLUMNS, TraceAccessor, register

if TYPE_CHECKING:
    import pandas as pd

_HEAD = "# agentplug "
_SUFFIXES = (".parquet", ".feather", ".csv")
_CATEGORIES = ("plugin", "verdict", "by")
_LABELS = "row label"


def save_trace(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a calls frame or a samples frame; the suffix says how. Returns the path.

    A CSV keeps the columns of a trace and no others. Raises `ValueError` for a frame that is no trace, or more than
    the file can give back, and for a suffix that isn't known; `ImportError` where parquet or feather lack pyarrow;
    and `OSError`.
    """
    target = _known(path)
    try:
        TraceAccessor(frame)
    except AttributeError as error:
        raise ValueError(str(error)) from None
    if target.suffix == ".parquet":
        _with_arrow(lambda: frame.to_parquet(target))
    elif target.suffix == ".feather":  # which keeps no index but the default one
        _with_arrow(lambda: _plain(frame).to_feather(target))
    else:
        _write_csv(frame, target)
    return target


def read_trace(path: str | Path) -> pd.DataFrame:
    """The trace that `save_trace` wrote: same values, dtypes and `attrs`. Raises `ValueError` for any other file."""
    import pandas as pd

    register()
    source = _known(path)
    if source.suffix == ".csv":
        frame = _read_csv(source)
    else:
        read: Callable[[Path], pd.DataFrame] = pd.read_parquet if source.suffix == ".parquet" else pd.read_feather
        try:
            frame = _with_arrow(lambda: read(source))
        except (ValueError, TypeError) as error:  # pyarrow's errors are ValueErrors
            raise _not_ours(source, str(error)) from None
        if "t" in frame.columns:
            frame = frame.set_index("t")
        elif _LABELS in frame.columns:
            frame = frame.set_index(_LABELS).rename_axis(None)
        for name in _CATEGORIES:  # an empty set of texts comes back as one of objects
            if name in frame and frame[name].isna().all():
                words = KINDS if name == "verdict" else ()
                frame[name] = pd.Categorical([None] * len(frame), categories=pd.Index(list(words), dtype=str))
    try:
        TraceAccessor(frame)
    except AttributeError:
        raise _not_ours(source, "its columns are others") from None
    return frame


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its index as a column, unless rows are just counted. Raises `ValueError` for other indexes."""
    import pandas as pd

    labels = frame.index
    if labels.name == "t":
        plain = frame.reset_index()
    elif labels.equals(pd.RangeIndex(len(frame))):
        plain = frame.reset_index(drop=True)
    elif labels.nlevels == 1 and pd.api.types.is_integer_dtype(labels.dtype):
        plain = frame.rename_axis(_LABELS).reset_index()
    else:
        raise ValueError("feather and CSV keep a trace's rows by number: reset_index() first, or take .parquet")
    plain.attrs = frame.attrs
    return plain


def _write_csv(frame: pd.DataFrame, target: Path) -> None:
    plain = _plain(frame)
    others = [str(name) for name in plain if name not in {*CALLS_COLUMNS, *SAMPLES_COLUMNS, "t", _LABELS}]
    if others:
        raise ValueError(
            f"a .csv keeps a trace's own columns, not {printable(', '.join(others), 200)}: take .parquet or "
            ".feather, or drop them"
        )
    categories = {name: plain[name].cat.categories.tolist() for name in _CATEGORIES if name in plain}
    if "t" in plain:
        plain["t"] = plain["t"].astype("int64")
    head = json.dumps({"attrs": frame.attrs, "categories": categories})
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{_HEAD}{head}\n")
        plain.to_csv(file, index=False, lineterminator="\n")


def _read_csv(source: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        with source.open(encoding="utf-8", newline="") as file:
            first = file.readline()
            if not first.startswith(_HEAD):
                raise ValueError("it doesn't begin with '# agentplug'")
            head = json.loads(first.removeprefix(_HEAD))
            if not isinstance(head, dict) or not {"attrs", "categories"} <= head.keys():
                raise ValueError("its first line is incomplete")
            texts = pd.read_csv(file, dtype=str, keep_default_na=False, na_values={"by": [""]})
            frame = _typed(texts, head["categories"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _not_ours(source, str(error)) from None
    frame.attrs = head["attrs"]
    return frame


def _typed(frame: pd.DataFrame, categories: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    if "t" in frame.columns:
        numbers = {"rss_bytes": "int64", "cpu_s": "float64", "cpu_percent": "float64", "threads": "int64"}
        index = pd.TimedeltaIndex(frame["t"].astype("int64").to_numpy().view("timedelta64[ns]"), name="t")
        return frame[list(SAMPLES_COLUMNS)].astype(numbers).set_index(index)
    typed = frame[list(CALLS_COLUMNS)].astype(
        {name: "float64" if name.endswith("_s") else "int64" for name in ("run", *USAGE_FIELDS)}
    )
    for name in _CATEGORIES:
        typed[name] = pd.Categorical(frame[name], categories=pd.Index(categories[name], dtype=str))
    started = pd.to_datetime(frame["started_at"], utc=True, format="ISO8601")
    typed = typed.assign(started_at=pd.DatetimeIndex(started).as_unit("ns"))
    return typed.set_index(frame[_LABELS].astype("int64").to_numpy()) if _LABELS in frame else typed


def _known(path: str | Path) -> Path:
    known = Path(path)
    if known.suffix not in _SUFFIXES:
        raise ValueError(f"{printable(str(path), 200)}: a trace is kept in a file ending in {', '.join(_SUFFIXES)}")
    return known


def _with_arrow(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ImportError:
        raise ImportError(
            "parquet and feather need pyarrow: pip install 'agentplug[arrow]'; a .csv needs nothing"
        ) from None


def _not_ours(source: Path, why: str) -> ValueError:
    return ValueError(f"{printable(str(source), 200)} is no trace that agentplug saved: {printable(why, 200)}")
