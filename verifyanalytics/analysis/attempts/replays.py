"""Replays: one and the same picture in several calls."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from verifyanalytics.analysis.base.frames import lazy_rows
from verifyanalytics.analysis.base.groups import plain_table
from verifyanalytics.analysis.base.periods import utc_times
from verifyanalytics.analysis.base.statistic import statistic
from verifyanalytics.errors import UsageError
from verifyanalytics.schema import IMAGES

_PRINTS = {"face": "image_best_print", "env": "image_env_print"}
_COUNTS = ["n_calls", "n_tokens", "n_persons", "n_accepted"]


@statistic("attempts.replayed_images")
def replayed_images(v: Any) -> pd.DataFrame:
    """Pictures that came under several tokens or for several persons.

    A live capture never gives the same bytes twice, so such a picture was stored and sent again:
    an injected or replayed one, a test, or a service that sends its own call anew. Prints are equal
    only for the same bytes; a picture that was encoded again is another one.

    Parameters
    ----------
    v : frame of verifications
        Imported with image prints: image_best_print, image_env_print; token, subject, occurred_at,
        result.

    Returns
    -------
    DataFrame
        One row a picture, those of most persons, then of most tokens first: `image` (face or env),
        `print`, `n_calls`, `n_tokens` and `n_persons` (unknown ones count as none), `n_accepted`,
        `first_at`, `last_at` (UTC; NaT when no time is known).

    Raises
    ------
    MissingColumnError
    UsageError
        No row has a print.

    See Also
    --------
    va.attempts.bursts, va.tags.tag_rates

    Examples
    --------
    >>> v = pd.DataFrame({
    ...     "image_best_print": ["p", "p", "q", None], "image_env_print": None,
    ...     "token": ["a", "b", "c", "d"], "subject": ["ann", "bob", "ann", "eve"],
    ...     "occurred_at": pd.to_datetime(["2024-05-01", "2024-05-02"] * 2, utc=True),
    ...     "result": [True, False, True, True]})
    >>> replayed_images(v)[["image", "print", "n_tokens", "n_persons", "n_accepted"]]
      image print  n_tokens  n_persons  n_accepted
    0  face     p         2          2           1
    """
    frame = lazy_rows(v, [*_PRINTS.values(), "token", "subject", "occurred_at", "result"])
    given = [nw.col(name).is_null().all().alias(name) for name in _PRINTS.values()]
    n_rows, *empty = (
        frame.select(nw.len().alias("n"), *given).collect(backend="pyarrow").to_native()
        .to_pylist()[0].values()
    )  # fmt: skip
    if n_rows and all(empty):
        raise UsageError("no row has an image print; import or collect with image prints")
    found = [_repeated(frame, image) for image in IMAGES]
    table = pd.concat(found, ignore_index=True)
    order = ["n_persons", "n_tokens", "n_calls", "image", "print"]
    return table.sort_values(order, ascending=[False] * 3 + [True] * 2, ignore_index=True)


def _repeated(frame: Any, image: str) -> pd.DataFrame:
    """Count the prints of one kind of image that have several tokens or persons."""
    name = _PRINTS[image]
    grouped = (
        frame.filter(~nw.col(name).is_null())
        .group_by(nw.col(name).alias("print"))
        .agg(
            n_calls=nw.len(),
            n_tokens=_distinct("token"),
            n_persons=_distinct("subject"),
            n_accepted=nw.col("result").cast(nw.Int64).sum(),
            first_us=nw.col("occurred_us").min(),
            last_us=nw.col("occurred_us").max(),
        )
        .filter((nw.col("n_tokens") > 1) | (nw.col("n_persons") > 1))
    )
    table = plain_table(grouped.collect(backend="pyarrow").to_native(), ["print"], _COUNTS)
    for end in ("first", "last"):
        table[f"{end}_at"] = utc_times(table.pop(f"{end}_us"))
    table.insert(0, "image", pd.Series(image, index=table.index, dtype="str"))
    return table


def _distinct(name: str) -> nw.Expr:
    """Count the different values of a column that are known."""
    return nw.col(name).n_unique() - nw.col(name).is_null().cast(nw.Int64).max()
