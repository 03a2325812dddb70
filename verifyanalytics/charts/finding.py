"""The chart of a frame: by the statistic it is marked with, else by its columns.

A statistic marks its frame (`attrs["statistic"]`, such as `scores.match_rates`). pandas drops the
mark in a merge, and a file does not carry it; then the columns decide, which each chart declares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from verifyanalytics import charts
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import THRESHOLD_LEVELS

_TEXTS = ("failing_gates", "gateway_code", "limit", "meaning", "meaning_zh", "name_en", "name_zh",
          "note", "reason")  # fmt: skip
"""Columns of text that are empty, never missing."""


def draw(frame: pd.DataFrame, **options: Any) -> Any:
    """Draw the frame of a statistic: find its chart, and call it.

    Parameters
    ----------
    frame : DataFrame
        From a statistic that has a chart. A selection of its rows will do, and so does a frame
        read back from a CSV file.
    **options
        Of the chart: `ax`, `lang` ("en", "zh", "both"), and with some charts `top`, `column` or
        `events`.

    Returns
    -------
    Axes or ndarray of Axes
        As the chart returns them.

    Raises
    ------
    UsageError
        The statistic has no chart, or the columns are those of no chart or of several.
    MissingColumnError
        The frame is marked as one of a statistic and lacks a column that its chart needs.

    See Also
    --------
    charts : Each chart by its name.

    Examples
    --------
    >>> import verifyanalytics as va
    >>> v = va.simulator.simulate_responses(200, seed=1).verifications
    >>> va.draw(va.tags.rates(v), top=3).get_xlabel()
    'share of answers with a risk result'
    >>> va.draw(va.operations.volume(v))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    verifyanalytics.errors.UsageError: va.operations.volume has no chart; there are charts for: ...
    """
    if not isinstance(frame, pd.DataFrame):
        raise UsageError(f"draw takes the frame of a statistic; {type(frame).__name__} was given")
    drawn = _charts()
    if statistic := frame.attrs.get("statistic"):
        if statistic not in drawn:
            there = ", ".join(drawn)
            raise UsageError(f"va.{statistic} has no chart; there are charts for: {there}")
        return drawn[statistic](frame, **options)
    return drawn[_by_columns(frame, drawn)](_restored(frame), **options)


def _charts() -> dict[str, Any]:
    """Each chart by group and name."""
    return {
        f"{group}.{name}": getattr(module, name)
        for group in charts.GROUPS
        for module in [getattr(charts, group)]
        for name in module.__all__
    }


def _by_columns(frame: pd.DataFrame, drawn: dict[str, Any]) -> str:
    """Name the chart whose columns the frame has; one that asks for less than another gives way."""
    fits = {
        name: set(chart.columns) for name, chart in drawn.items() if {*chart.columns} <= {*frame}
    }
    fits = {n: own for n, own in fits.items() if not any(own < other for other in fits.values())}
    if len(fits) == 1:
        return next(iter(fits))
    columns = ", ".join(map(str, frame.columns)) or "none"
    if fits:
        calls = " or ".join(f"va.charts.{name}(frame)" for name in fits)
        raise UsageError(f"several charts draw such columns ({columns}): call {calls}")
    raise UsageError(
        f"no chart draws a frame with these columns: {columns}; give the frame of a statistic, or "
        f"call a chart by its name: {', '.join(f'va.charts.{name}' for name in drawn)}"
    )


def _restored(frame: pd.DataFrame) -> pd.DataFrame:
    """Give columns that went through a file the types that statistics give them."""
    own: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(_TEXTS, lambda column: column.astype("object").fillna("").astype("str")),
        **dict.fromkeys(("tag", "tag_a", "tag_b"), lambda column: column.astype("str")),
        **dict.fromkeys(("code", "sub_code"), lambda column: column.astype("Int64")),
        **dict.fromkeys(("first_at", "last_at", "period_start"), pd.to_datetime),
        "level": lambda column: column.astype("float").map({float(x): x for x in THRESHOLD_LEVELS}),
    }
    return frame.assign(**{name: own[name](frame[name]) for name in own if name in frame})
