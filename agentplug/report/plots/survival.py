"""The contained attacks of a battery as a heat map (host)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from agentplug.contract.record import KINDS
from agentplug.report.labels import SMALL, ink, short_names
from agentplug.report.plots.canvas import canvas, say
from agentplug.report.plots.data import check_unique

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("family", "target", "verdict", "contained")
_MOST_COLUMNS = 40
_NONE, _MOST, _ALL = "#D55E00", "#F6CDB0", "#E5F5EF"


def plot_survival(matrix: Any, ax: Axes | None = None, by: Literal["verdict", "target"] = "verdict") -> Axes:
    """Draw how many attacks of each family were contained: rows are families, columns the verdicts or the targets.

    `matrix` is a battery's matrix or its frame, or a dict of them by environment, which then are the columns. A cell
    says `5` if all five attacks were contained. It is dark and hatched and says `3 of 5` if two weren't. Raises
    `ValueError` for anything else, or for another `by`.
    """
    import numpy as np
    import pandas as pd
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    if by not in ("verdict", "target"):
        raise ValueError(f"by={by!r}; the columns of a battery are drawn by 'verdict' or by 'target'")
    several = isinstance(matrix, Mapping)
    frame = pd.concat(
        [_rows(of, str(name)) for name, of in (matrix if several else {"": matrix}).items()]
        or [pd.DataFrame(columns=[*_NEEDED, "environment"])]
    )
    column = "environment" if several else by
    if by == "verdict" and not several:
        frame["verdict"] = [verdict.partition(":")[0] for verdict in frame["verdict"]]
    counted = frame.groupby(["family", column], sort=False)["contained"].agg(["sum", "count"])
    families = list(dict.fromkeys(frame["family"]))
    columns = _in_order(frame[column], by == "verdict" and not several)
    if len(columns) > _MOST_COLUMNS:
        raise ValueError(
            f"{len(columns)} columns are too many to read; {_MOST_COLUMNS} is the most, so choose some rows"
        )
    ax = canvas(ax, 1.9 + 0.85 * max(3, len(columns)), 1.6 + 0.4 * max(1, len(families)))
    ax.spines[:].set_visible(False)
    ax.set_ylabel("Family of attacks")
    ax.set_xlabel({"verdict": "Verdict", "target": "Aimed at", "environment": "Environment"}[column])
    if not families:
        ax.set_xticks([])
        ax.set_yticks([])
        say(ax, "no attack was run")
        return ax
    contained, total = (
        counted[name].unstack(fill_value=0).reindex(index=families, columns=columns, fill_value=0).to_numpy()
        for name in ("sum", "count")
    )
    share = np.divide(contained, total, out=np.full(contained.shape, np.nan), where=total > 0)
    some = LinearSegmentedColormap.from_list("some", [_NONE, _MOST])
    colors = some.with_extremes(over=_ALL)  # a step, so that one escape of a hundred shows
    ax.imshow(share, cmap=colors, vmin=0, vmax=1 - 1e-9, aspect="auto")
    for (row, place), count in np.ndenumerate(total):
        good = contained[row, place]
        if not count:
            continue
        if good < count:
            ax.add_patch(
                Rectangle((place - 0.5, row - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#00000055", lw=0)
            )
        ax.text(
            place,
            row,
            f"{count}" if good == count else f"{good} of {count}",
            ha="center",
            va="center",
            color="black",  # on light cells
            fontsize=SMALL,
            fontweight="normal" if good == count else "bold",
            bbox=None if good == count else {"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    _names(ax, families, columns)
    ax.set_title(
        f"{contained.sum()} of {total.sum()} attacks were contained", color=ink(ax), loc="left", fontsize=SMALL + 2
    )
    return ax


def _names(ax: Axes, families: list[str], columns: list[str]) -> None:
    """Name the rows and columns, and draw white lines between the cells."""
    ax.set_yticks(range(len(families)), list(short_names(families, 24).values()), parse_math=False)
    words = list(short_names(columns, 24).values())
    slanted = max(map(len, words)) > 9
    ax.set_xticks(
        range(len(columns)),
        words,
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else None,
        parse_math=False,
    )
    ax.tick_params(length=0, labelsize=SMALL)
    ax.set_xticks([place - 0.5 for place in range(1, len(columns))], minor=True)
    ax.set_yticks([row - 0.5 for row in range(1, len(families))], minor=True)
    ax.grid(which="minor", color="white", lw=2)
    ax.tick_params(which="minor", length=0)


def _rows(matrix: Any, environment: str) -> pd.DataFrame:
    """Return the needed columns, as text and bool. Raises `ValueError` if `matrix` is none."""
    import pandas as pd

    frame = matrix if isinstance(matrix, pd.DataFrame) else getattr(matrix, "to_frame", pd.DataFrame)()
    lacking = [name for name in _NEEDED if not isinstance(frame, pd.DataFrame) or name not in frame]
    if lacking:
        raise ValueError(
            f"this picture is drawn from a battery's matrix or its frame, and there is no {', '.join(lacking)} in it"
        )
    check_unique(frame, _NEEDED)
    rows = pd.DataFrame({name: frame[name].astype(str).to_numpy() for name in _NEEDED[:-1]})
    rows["contained"] = frame["contained"].fillna(False).astype(bool).to_numpy()
    rows["environment"] = environment
    return rows


def _in_order(words: Any, verdicts: bool) -> list[str]:
    """Return each word once: verdicts in the order of `KINDS`, others as they came."""
    unique = list(dict.fromkeys(words))
    if not verdicts:
        return unique
    return sorted(unique, key=lambda word: (KINDS.index(word) if word in KINDS else len(KINDS), word))
