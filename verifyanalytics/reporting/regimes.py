"""The threshold regimes of a report: which are named, and how those of two periods differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.reporting.data import Figures, Slice


@dataclass(frozen=True, slots=True)
class Move:
    """A regime that is in one of two periods only.

    Attributes
    ----------
    kind : str
        `new`: other thresholds of a request kind that was called before; `first`: its first ones,
        before it had none; `key_new`: a kind of request that was not called before. `gone`: other
        thresholds took its place, or none; `key_gone`: this kind was not called any more.
    row : mapping
        Its row of `va.scores.regimes`, of the period that it is in.
    """

    kind: str
    row: Any

    @property
    def name(self) -> str:
        """The regime."""
        return str(self.row["regime"])

    @property
    def new(self) -> bool:
        """It is in this period, not in that before."""
        return self.kind in ("new", "first", "key_new")


def complete(part: Slice) -> pd.DataFrame:
    """Return the rows of `va.scores.regimes` with four rising thresholds."""
    return part.regimes[part.regimes["regime"] != INCOMPLETE]


def small(f: Figures) -> frozenset[str]:
    """Return the regimes that have too few rows in a period to be named."""
    return frozenset().union(*(too_few(complete(part), f) for part in parts(f)))


def too_few(regimes: pd.DataFrame, f: Figures, size: str = "n_rows") -> frozenset[str]:
    """Return the regimes of a frame whose largest size is below the smallest group shown."""
    sizes = regimes.groupby("regime")[size].max()
    return frozenset(sizes[(sizes > 0) & (sizes < f.asked.min_group)].index)


def named(f: Figures, part: Slice) -> pd.DataFrame:
    """Return the rows of `va.scores.regimes` with four rising thresholds that may be named."""
    held = complete(part)
    return held[~held["regime"].isin(small(f))]


def parts(f: Figures) -> list[Slice]:
    """Return this period and, if there is one, that compared with."""
    return [part for part in (f.now, f.before) if part is not None]


def one_sided(part: Slice) -> frozenset[str]:
    """Return the regimes whose scored rows have one verdict only, which any rule can follow."""
    table = part.funnels[~part.funnels["first_gate"].isin(["answered", "scored"])]
    verdicts = table[table["n_rows"] > 0].groupby("regime")["result"].nunique()
    return frozenset(verdicts[verdicts < 2].index)


def moves(f: Figures) -> list[Move]:
    """Return the named regimes that are in one of the two periods only, the new ones first."""
    if f.before is None:
        return []
    now, before = named(f, f.now), named(f, f.before)
    new = _only(now, before)
    gone = _only(before, now)
    return [
        *(Move(_arrival(row, f.before), row) for row in new),
        *(Move(_departure(row, f.now), row) for row in gone),
    ]


def _only(mine: pd.DataFrame, other: pd.DataFrame) -> Iterable[Any]:
    found: list[Any] = mine[~mine["regime"].isin(other["regime"])].to_dict("records")
    return found


def _arrival(row: Any, before: Slice) -> str:
    if row["req_key"] in set(complete(before)["req_key"]):
        return "new"
    return "first" if row["req_key"] in before.kinds else "key_new"


def _departure(row: Any, now: Slice) -> str:
    return "gone" if row["req_key"] in now.kinds else "key_gone"
