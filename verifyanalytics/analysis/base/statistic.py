"""The mark of a statistic: each result frame names the public function that made it.

`frame.attrs["statistic"]` is `group.function`, such as `scores.match_rates`: `va.draw` reads it to
choose the chart. pandas keeps it through selections and copies, and drops it in a merge.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import pandas as pd

P = ParamSpec("P")


def statistic(name: str) -> Callable[[Callable[P, pd.DataFrame]], Callable[P, pd.DataFrame]]:
    """Set `attrs["statistic"]` on the frame that a function returns.

    Parameters
    ----------
    name : str
        Group and function, as the caller reads them after `va.`.

    Examples
    --------
    >>> @statistic("scores.nothing")
    ... def nothing() -> pd.DataFrame:
    ...     return pd.DataFrame()
    >>> nothing().attrs
    {'statistic': 'scores.nothing'}
    """

    def decorate(function: Callable[P, pd.DataFrame]) -> Callable[P, pd.DataFrame]:
        @wraps(function)
        def marked(*args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
            table = function(*args, **kwargs)
            table.attrs["statistic"] = name
            return table

        return marked

    return decorate
