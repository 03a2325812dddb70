"""The figures of a report: one version of a store, asked for each period once.

Everything is counted by the public functions of `analysis` on lazy scans; here they are only put
side by side. Rows without a time belong to no period: they are counted, once, for the whole store.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.bounds.implied import label_free as label_free_bounds
from verifyanalytics.analysis.operations.service import latency, volume
from verifyanalytics.analysis.scores.distributions import histogram as score_histogram
from verifyanalytics.analysis.scores.distributions import match_rates, regimes, vendor_thresholds
from verifyanalytics.analysis.tags.associations import lift as tag_lift
from verifyanalytics.analysis.tags.frequencies import rates as tag_rates
from verifyanalytics.analysis.verdicts.changes import change_explained, minimal_change
from verifyanalytics.analysis.verdicts.decisions import (
    acceptance_rate,
    contradictions,
    funnel,
    reject_reasons,
    result_rule,
)
from verifyanalytics.errors import UsageError
from verifyanalytics.reporting.changes import MIN_GROUP, Change, Count
from verifyanalytics.reporting.periods import Covered, Period, checked_zone, chosen, outside
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.store.store import Store

TREND = 12
"""So many earlier periods stand on the charts over time."""


_QUARTER = 15 * 60 * 1_000_000
"""A quarter of an hour in µs: local days of every time zone begin at one."""

GROUPING = ("req_key", "action")
"""Columns besides the caller's own that make groups."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is asked for; see `reporting.report`."""

    period: str = "week"
    compare: str = "previous"
    by: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    tz: str = "Asia/Shanghai"
    as_of: int | None = None
    min_group: int = MIN_GROUP


class Slice:
    """One period's rows and what is counted on them; each frame is made when first needed."""

    def __init__(self, v: Any, tz: str) -> None:
        self.v, self._tz = v, tz

    @cached_property
    def acceptance(self) -> pd.Series:
        """The one row of `va.verdicts.acceptance_rate`."""
        return acceptance_rate(self.v).iloc[0]

    @cached_property
    def n_rows(self) -> int:
        """Answers and faults together."""
        return int(self.acceptance["n_rows"])

    @cached_property
    def smallest(self) -> pd.DataFrame:
        """As of `va.verdicts.minimal_change`."""
        return minimal_change(self.v)

    @cached_property
    def deff(self) -> float:
        """Design effect of the acceptance rate."""
        whole = self.smallest[self.smallest["regime"] == "all"]
        return float(whole["deff"].iloc[0]) if len(whole) else 1.0

    @cached_property
    def persons(self) -> int | None:
        """Persons among the rows; None when not one of them is known."""
        known = self.v.query("t", "SELECT count(subject), count(DISTINCT subject) FROM t")
        n_known, n_persons = known.fetchall()[0]
        return int(n_persons) if n_known else None

    @cached_property
    def funnels(self) -> pd.DataFrame:
        """As of `va.verdicts.funnel`, by regime."""
        return funnel(self.v, by="regime")

    @cached_property
    def funnel(self) -> pd.DataFrame:
        """The counts of `va.verdicts.funnel` over all regimes."""
        counts = ["n_rows", "n_withheld", "n_risk_not_asked"]
        together = self.funnels.groupby(["first_gate", "result"], dropna=False, sort=False)
        return together[counts].sum().reset_index()

    @cached_property
    def reasons(self) -> pd.DataFrame:
        """As of `va.verdicts.reject_reasons`."""
        return reject_reasons(self.v)

    @cached_property
    def days(self) -> pd.DataFrame:
        """As of `va.operations.volume`, a row a day."""
        return volume(self.v, every="day", tz=self._tz)

    @cached_property
    def latency(self) -> pd.Series:
        """The one row of `va.operations.latency`."""
        return latency(self.v, every=None).iloc[0]

    @cached_property
    def regimes(self) -> pd.DataFrame:
        """As of `va.scores.regimes`."""
        return regimes(self.v)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of request that were called, whatever came back."""
        query = "SELECT DISTINCT coalesce(req_key, 'unknown') FROM t"
        return frozenset(str(key) for (key,) in self.v.query("t", query).fetchall())

    @cached_property
    def tags(self) -> pd.DataFrame:
        """As of `va.tags.rates`."""
        return tag_rates(self.v)

    @cached_property
    def lifts(self) -> pd.DataFrame:
        """As of `va.tags.lift`: against non-matches, an association."""
        return tag_lift(self.v)

    @cached_property
    def contradictions(self) -> pd.DataFrame:
        """As of `va.verdicts.contradictions`."""
        return contradictions(self.v)

    @cached_property
    def rules(self) -> pd.DataFrame:
        """The simplest best rule of each regime, from `va.verdicts.result_rule`."""
        return result_rule(self.v).drop_duplicates("regime", ignore_index=True)

    @cached_property
    def issues(self) -> pd.DataFrame:
        """What was coerced or wrongly typed: `issue`, `n_rows`, most frequent first."""
        query = (
            "SELECT issue, count(*) AS n_rows FROM (SELECT unnest(list_distinct(issues)) AS issue "
            "FROM t) GROUP BY issue ORDER BY n_rows DESC, issue"
        )
        return _frame(self.v.query("t", query))

    @cached_property
    def n_with_issues(self) -> int:
        """Rows with any issue."""
        return int(
            self.v.query("t", "SELECT count(*) FROM t WHERE len(issues) > 0").fetchall()[0][0]
        )

    @cached_property
    def histogram(self) -> pd.DataFrame:
        """As of `va.scores.histogram`."""
        return score_histogram(self.v)

    @cached_property
    def matched(self) -> pd.DataFrame:
        """As of `va.scores.match_rates`, at the vendor's own thresholds."""
        return match_rates(self.v)

    @cached_property
    def bounds(self) -> pd.DataFrame:
        """As of `va.bounds.label_free`, from the vendor's first point to its last."""
        claims: list[float] = np.logspace(-3, -6, 25).clip(1e-6, 1e-3).tolist()
        return label_free_bounds(self.v, nominal_fmr=claims)

    # ------------------------------------------------------------------ counts to compare

    @property
    def accepted(self) -> Count:
        """Accepted of those with a verdict."""
        row = self.acceptance
        return Count(int(row["n_accepted"]), int(row["n_decided"]), self.deff)

    @property
    def matches(self) -> Count:
        """Scores at or above their own 1e-4 threshold, of those compared."""
        row = self.acceptance
        return Count(int(row["n_matched"]), int(row["n_compared"]), self.deff)

    @property
    def faults(self) -> Count:
        """Calls that were not answered, of all."""
        return Count(int(self.days["n_faults"].sum()), self.n_rows, self.deff)

    def turned_away(self, gate: str) -> Count:
        """Rows with a verdict of no whose first failing gate is this one, of those with any."""
        table = self.funnel
        rejected = table["result"].notna() & ~table["result"].fillna(value=True).astype(bool)
        n = int(table.loc[rejected & (table["first_gate"] == gate), "n_rows"].sum())
        return Count(n, self.accepted.n, self.deff)

    def with_tag(self, tag: str) -> Count:
        """Rows with a tag, of those with a risk result."""
        if self.tags.empty:
            return Count(0, 0)
        n = int(self.tags["n"].iloc[0])
        return Count(int(self.tags.loc[self.tags["tag"] == tag, "n_tag"].sum()), n, self.deff)


@dataclass(frozen=True)
class Figures:
    """Everything a report says.

    Attributes
    ----------
    asked : Asked
    version : int
        The store's version.
    period : Period
    partial : bool
        The data do not cover the period whole.
    covered : Covered
        The local days that the data cover.
    first_at, last_at : Timestamp
        UTC; of the first and the last answer of the store.
    now : Slice
    before : Slice or None
        The period compared with; None when there is no comparison, for the reason `alone`.
    compared : Period or None
    alone : str
        `` , `asked`, `partial`, `partial_before`, `nothing_before`, `undecided`.
    by : tuple of str
        Columns that make groups.
    trend : DataFrame
        `va.verdicts.acceptance_rate` of up to 13 periods, limits on effective sample sizes.
    thresholds : DataFrame
        `va.scores.vendor_thresholds` of the same periods.
    n_undated, n_stored : int
        Answers of the whole store without a time, and all of them.
    rejects : DataFrame
        `reason`, `n_rows` of the whole store, and the number of responses read.
    n_read : int
    """

    asked: Asked
    version: int
    period: Period
    partial: bool
    covered: Covered
    first_at: pd.Timestamp
    last_at: pd.Timestamp
    now: Slice
    before: Slice | None
    compared: Period | None
    alone: str
    by: tuple[str, ...]
    trend: pd.DataFrame
    thresholds: pd.DataFrame
    n_undated: int
    n_stored: int
    rejects: pd.DataFrame
    n_read: int

    def change(self, what: str, *arguments: str) -> Change:
        """Hold a count of `Slice` against the same one of the period before."""
        now, before = (
            None if part is None else _counted(part, what, arguments)
            for part in (self.now, self.before)
        )
        return Change(now or Count(0, 0), before)

    @cached_property
    def explained(self) -> pd.DataFrame | None:
        """As of `va.verdicts.change_explained`; None without a comparison."""
        if self.before is None:
            return None
        return change_explained(self.before.v, self.now.v, self.groups)

    @property
    def groups(self) -> list[str]:
        """The columns that mix is told from rate by."""
        return list(self.by) or ["req_key"]


def _counted(part: Slice, what: str, arguments: Sequence[str]) -> Count:
    found = getattr(part, what)
    count: Count = found(*arguments) if arguments else found
    return count


# ------------------------------------------------------------------ reading


def figures(store: Store, asked: Asked) -> Figures:
    """Read what a report needs, all from one version of the store.

    Raises
    ------
    NoStoreError, StorageError
    UsageError
        A parameter that cannot be; no dated answers; no answers in the period.
    """
    reader = _Reader(store, asked)
    covered, ends, n_undated, n_stored = reader.span()
    period = chosen(asked.period, covered)
    now = reader.slice(period)
    if not now.n_rows:
        raise UsageError(_nothing(period, covered, asked))
    compared, before, alone = _comparison(reader, period, now, covered)
    trend, thresholds = reader.over_time(period, now.deff, covered)
    rejects, n_read = reader.rejects()
    return Figures(
        asked=asked, version=reader.version, period=period, partial=not covered.whole(period),
        covered=covered, first_at=ends[0], last_at=ends[1], now=now, before=before,
        compared=compared, alone=alone, by=reader.by, trend=trend, thresholds=thresholds,
        n_undated=n_undated,
        n_stored=n_stored, rejects=rejects, n_read=n_read,
    )  # fmt: skip


def _nothing(period: Period, covered: Covered, asked: Asked) -> str:
    if not asked.regimes:
        return outside(period, covered)
    names = ", ".join(repr(name[:60]) for name in asked.regimes)
    return f"no answers of the regime {names} in {period.name}; without it there may be some"


def _comparison(
    reader: _Reader, period: Period, now: Slice, covered: Covered
) -> tuple[Period | None, Slice | None, str]:
    """Find the period to compare with; or why there is none."""
    name = reader.asked.compare
    if name == "none":
        return None, None, "asked"
    other = period.before if name == "previous" else Period.named(name)
    if other.every != period.every or other == period:
        raise UsageError(f"{period.name} is not compared with {other.name}: give another "
                         f"{period.every}, previous, or none")  # fmt: skip
    if name != "previous" and covered.lacks(other):
        raise UsageError(outside(other, covered))
    if not covered.whole(period):
        return other, None, "partial"
    if covered.lacks(other):
        return other, None, "nothing_before"
    if not covered.whole(other):
        return other, None, "partial_before"
    before = reader.slice(other)
    if not before.n_rows:
        return other, None, "nothing_before"
    if not before.accepted.n or not now.accepted.n:
        return other, None, "undecided"
    return other, before, ""


class _Reader:
    """A store at one version, with the caller's choice of regimes."""

    def __init__(self, store: Store, asked: Asked) -> None:
        self.store, self.asked = store, asked
        self.tz = checked_zone(asked.tz)
        versions = store.versions()
        self.version = int(versions["version"].iloc[-1]) if asked.as_of is None else asked.as_of
        self.columns = [str(c) for c in self._scan().columns]
        self.by = tuple(dict.fromkeys(self._column(name) for name in asked.by))
        self._where = self._chosen_regimes()

    def _scan(self, **options: Any) -> Any:
        return self.store.scan("verifications", as_of=self.version, **options)

    def _column(self, name: str) -> str:
        """Find a column that makes groups; `channel` means `ctx_channel`.

        Only what the caller sent along: a score makes no groups, an id or a person must not.
        """
        own = [*GROUPING, *(c for c in self.columns if c.startswith("ctx_"))]
        for column in (name, f"ctx_{name}".lower()):
            if column in own:
                return column
        there = ", ".join(c.removeprefix("ctx_") for c in own[:30])
        raise UsageError(f"nothing to split by is called {name[:40]!r}; there are: {there}")

    def _chosen_regimes(self) -> str | None:
        if not self.asked.regimes:
            return None
        known = regimes(self._scan())
        found = []
        for name in self.asked.regimes:
            fits = known[(known["regime"] == name) | (known["req_key"] == name)]
            if fits.empty:
                raise UsageError(
                    f"no regime {name[:60]!r}; there are: {', '.join(known['regime'].head(20))}"
                )
            found += [_condition(row) for row in fits.to_dict("records")]
        return " OR ".join(dict.fromkeys(found))

    def slice(self, period: Period) -> Slice:
        """Give the rows of a period."""
        since, until = period.utc(self.tz)
        return Slice(self._scan(since=since, until=until, where=self._where), self.tz)

    def span(self) -> tuple[Covered, list[pd.Timestamp], int, int]:
        """Return the days that the store covers, its first and last moment, undated and all rows.

        Of the whole store: that a regime was seldom called cuts no period off.
        """
        query = (
            "SELECT epoch_us(min(occurred_at)), epoch_us(max(occurred_at)), count(*) FROM t "
            f"GROUP BY epoch_us(occurred_at) // {_QUARTER}"
        )
        found = self._scan().query("t", query).fetchall()
        dated = [(low, high) for low, high, _ in found if low is not None]
        if not dated:
            raise UsageError("the store holds no answer with a known time; there is no period")
        undated = sum(n for low, _, n in found if low is None)
        ends = min(low for low, _ in dated), max(high for _, high in dated)
        moments = [pd.Timestamp(us, unit="us", tz="UTC") for us in ends]
        return Covered.by(_silences(dated, self.tz)), moments, undated, sum(n for *_, n in found)

    def over_time(
        self, period: Period, deff: float, covered: Covered
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Count the acceptance and the vendor's thresholds over the last periods."""
        periods = period.earlier(TREND)
        since, until = periods[0].utc(self.tz)[0], period.utc(self.tz)[1]
        v = self._scan(since=since, until=until, where=self._where)
        trend = acceptance_rate(v, every=period.every, tz=self.tz)
        whole = {p.name: covered.whole(p) for p in periods}
        trend["partial"] = [not whole[name] for name in trend["period"]]
        for rate, x, n in (
            ("acceptance_rate", "n_accepted", "n_decided"),
            ("match_rate", "n_matched", "n_compared"),
        ):
            limits = [Count(int(a), int(b), deff).limits for a, b in zip(trend[x], trend[n])]  # noqa: B905
            trend[[f"{rate}_low", f"{rate}_high"]] = limits
        return trend, vendor_thresholds(v, tz=self.tz)

    def rejects(self) -> tuple[pd.DataFrame, int]:
        """Count what could not be read, by reason; and all responses that were read."""
        table = self.store.sql(
            "SELECT reason, count(*) AS n_rows FROM rejects GROUP BY reason "
            "ORDER BY n_rows DESC, reason",
            as_of=self.version,
        )
        read = self.store.sql("SELECT coalesce(sum(n_read), 0)::BIGINT AS n FROM imports",
                              as_of=self.version)  # fmt: skip
        return table, int(read["n"][0])


def _silences(spans: Iterable[tuple[int, int]], tz: str) -> dict[dt.date, tuple[float, float]]:
    """For each local day the hours before its first answer and after its last one."""
    zone = ZoneInfo(tz)
    table = pd.DataFrame(spans, columns=["first", "last"])
    local = pd.to_datetime(table["first"], unit="us", utc=True).dt.tz_convert(zone)
    days = table.groupby(local.dt.date).agg({"first": "min", "last": "max"}) / 3_600_000_000
    found = {}
    for day, first, last in days.itertuples():
        ends = (dt.datetime.combine(d, dt.time(), zone) for d in (day, day + dt.timedelta(days=1)))
        begin, end = (moment.timestamp() / 3_600 for moment in ends)
        found[day] = (first - begin, end - last)
    return found


def _condition(regime: dict[str, Any]) -> str:
    """Write the rows of one regime as a condition of SQL."""
    low, own, high, top = THRESHOLD_COLUMNS
    rising = f"coalesce({low} < {own} AND {own} < {high} AND {high} < {top}, false)"
    if regime["regime"] == INCOMPLETE:
        return f"(NOT {rising})"
    key = str(regime["req_key"]).replace("'", "''")
    points = [f"{name} = {float(regime[name])!r}::DOUBLE" for name in THRESHOLD_COLUMNS]
    return f"(coalesce(req_key, 'unknown') = '{key}' AND {' AND '.join(points)})"


def _frame(relation: Any) -> pd.DataFrame:
    frame: pd.DataFrame = relation.to_arrow_table().to_pandas()
    return frame
