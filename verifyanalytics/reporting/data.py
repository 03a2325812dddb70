"""What a report counts: one version of a store, asked for each period once.

Everything is counted by the public functions of `analysis` on lazy scans; here the counts of two
periods are put side by side. Rows without a time belong to no period: they are counted, once, for
the whole store.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from verifyanalytics.analysis import bounds, operations, scores, tags, verdicts
from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.arguments import zone
from verifyanalytics.errors import UsageError
from verifyanalytics.reporting.changes import MIN_GROUP, Change, Count
from verifyanalytics.reporting.periods import Covered, Period, chosen, outside
from verifyanalytics.schema import THRESHOLD_COLUMNS
from verifyanalytics.store.store import Store

TREND = 12
"""So many earlier periods stand on the charts over time."""

GROUPING = ("req_key", "action")
"""Columns besides the caller's own that make groups."""

_QUARTER = 15 * 60 * 1_000_000
"""A quarter of an hour in µs: local days of every time zone begin at one."""

_CLAIMS: list[float] = np.logspace(-3, -6, 25).clip(1e-6, 1e-3).tolist()
"""Where the bounds are drawn: from the vendor's first point to its last."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is asked for; see `va.report`."""

    period: str = "week"
    compare: str = "previous"
    by: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    tz: str = "Asia/Shanghai"
    as_of: int | None = None
    min_group: int = MIN_GROUP


def _frame_of(statistic: str, group: Any, **options: Any) -> cached_property[pd.DataFrame]:
    return cached_property(lambda part: getattr(group, statistic)(part.v, **options))


class Slice:
    """One period's rows and what is counted on them; each frame is made when first needed."""

    smallest = _frame_of("minimal_change", verdicts)
    funnels = _frame_of("funnel", verdicts, by="regime")
    reasons = _frame_of("reject_reasons", verdicts)
    regimes = _frame_of("regimes", scores)
    histogram = _frame_of("histogram", scores)
    matched = _frame_of("match_rates", scores)
    label_free = _frame_of("label_free", bounds, nominal_fmr=_CLAIMS)
    tag_rates = _frame_of("rates", tags)
    lifts = _frame_of("lift", tags)

    def __init__(self, v: Any, tz: str) -> None:
        self.v, self._tz = v, tz

    def _sql(self, query: str) -> list[Any]:
        rows: list[Any] = self.v.query("t", query).fetchall()
        return rows

    @cached_property
    def acceptance(self) -> pd.Series:
        """The one row of `va.verdicts.acceptance_rate`."""
        row: pd.Series = verdicts.acceptance_rate(self.v).iloc[0]
        return row

    @property
    def n_rows(self) -> int:
        """Answers and faults together."""
        return int(self.acceptance["n_rows"])

    @cached_property
    def deff(self) -> float:
        """Design effect of the acceptance rate."""
        whole = self.smallest[self.smallest["regime"] == "all"]
        return float(whole["deff"].iloc[0]) if len(whole) else 1.0

    @cached_property
    def persons(self) -> int | None:
        """Persons among the rows; None when not one of them is known."""
        ((known, persons),) = self._sql("SELECT count(subject), count(DISTINCT subject) FROM t")
        return int(persons) if known else None

    @cached_property
    def funnel(self) -> pd.DataFrame:
        """The counts of `va.verdicts.funnel` over all regimes."""
        counts = ["n_rows", "n_withheld", "n_risk_not_asked"]
        together = self.funnels.groupby(["first_gate", "result"], dropna=False, sort=False)
        return together[counts].sum().reset_index()

    @cached_property
    def days(self) -> pd.DataFrame:
        """As of `va.operations.volume`, a row a day."""
        days: pd.DataFrame = operations.volume(self.v, every="day", tz=self._tz)
        return days

    @cached_property
    def latency(self) -> pd.Series:
        """The one row of `va.operations.latency`."""
        row: pd.Series = operations.latency(self.v, every=None).iloc[0]
        return row

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of request that were called, whatever came back."""
        found = self._sql("SELECT DISTINCT coalesce(req_key, 'unknown') FROM t")
        return frozenset(str(key) for (key,) in found)

    @cached_property
    def rules(self) -> pd.DataFrame:
        """The simplest best rule of each regime, from `va.verdicts.result_rule`."""
        rules: pd.DataFrame = verdicts.result_rule(self.v)
        return rules.drop_duplicates("regime", ignore_index=True)

    @cached_property
    def issues(self) -> pd.DataFrame:
        """What was coerced or wrongly typed: `issue`, `n_rows`, most frequent first."""
        found = self._sql(
            "SELECT issue, count(*) AS n FROM (SELECT unnest(list_distinct(issues)) AS issue "
            "FROM t) GROUP BY issue ORDER BY n DESC, issue"
        )
        return pd.DataFrame(found, columns=["issue", "n_rows"])

    @cached_property
    def n_with_issues(self) -> int:
        """Rows with any issue."""
        return int(self._sql("SELECT count(*) FROM t WHERE len(issues) > 0")[0][0])

    # ------------------------------------------------------------------ counts to compare

    @property
    def accepted(self) -> Count:
        """Accepted of those with a verdict."""
        return self._count("n_accepted", "n_decided")

    @property
    def matches(self) -> Count:
        """Scores at or above their own 1e-4 threshold, of those compared."""
        return self._count("n_matched", "n_compared")

    def _count(self, x: str, n: str) -> Count:
        return Count(int(self.acceptance[x]), int(self.acceptance[n]), self.deff)

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
        if self.tag_rates.empty:
            return Count(0, 0)
        n = int(self.tag_rates["n"].iloc[0])
        x = self.tag_rates.loc[self.tag_rates["tag"] == tag, "n_tag"].sum()
        return Count(int(x), n, self.deff)


@dataclass(frozen=True)
class ReportData:
    """Everything a report says: the counts of two periods, and what concerns the whole store.

    `before` is None where nothing is compared, for the reason `alone` (`asked`, `partial`,
    `partial_before`, `nothing_before`, `undecided`; else empty).
    """

    asked: Asked
    version: int  # the store's
    period: Period
    partial: bool  # the data do not cover the period whole
    first_at: pd.Timestamp  # UTC; the first and the last answer of the store
    last_at: pd.Timestamp
    now: Slice
    before: Slice | None
    compared: Period | None
    alone: str
    by: tuple[str, ...]  # columns that make groups
    trend: pd.DataFrame  # acceptance of up to 13 periods, limits on effective sample sizes
    thresholds: pd.DataFrame  # the vendor's, of the same periods
    n_undated: int  # answers of the whole store without a time, and all of them
    n_stored: int
    rejects: pd.DataFrame  # `reason`, `n_rows` of the whole store
    n_read: int  # responses of the whole store

    def compare(self, count: Callable[[Slice], Count]) -> Change:
        """Hold a count of this period against that of the period before."""
        return Change(count(self.now), None if self.before is None else count(self.before))

    def change(self, what: str, *arguments: str) -> Change:
        """Hold a count of `Slice`, by its name, against that of the period before."""

        def count(part: Slice) -> Count:
            found = getattr(part, what)
            counted: Count = found(*arguments) if arguments else found
            return counted

        return self.compare(count)

    @cached_property
    def explained(self) -> pd.DataFrame | None:
        """As of `va.verdicts.change_explained`; None without a comparison."""
        if self.before is None:
            return None
        table: pd.DataFrame = verdicts.change_explained(self.before.v, self.now.v, self.groups)
        return table

    @property
    def groups(self) -> list[str]:
        """The columns that mix is told from rate by."""
        return list(self.by) or ["req_key"]


# ------------------------------------------------------------------ reading


def read_data(store: Store, asked: Asked) -> ReportData:
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
        if not asked.regimes:
            raise UsageError(outside(period, covered))
        names = ", ".join(repr(name[:60]) for name in asked.regimes)
        raise UsageError(
            f"no answers of the regime {names} in {period.name}; without it there may be some"
        )
    compared, before, alone = _comparison(reader, period, now, covered)
    trend, thresholds = reader.over_time(period, now.deff, covered)
    rejects, n_read = reader.rejects()
    return ReportData(
        asked=asked, version=reader.version, period=period, partial=not covered.whole(period),
        first_at=ends[0], last_at=ends[1], now=now, before=before,
        compared=compared, alone=alone, by=reader.by, trend=trend, thresholds=thresholds,
        n_undated=n_undated, n_stored=n_stored, rejects=rejects, n_read=n_read,
    )  # fmt: skip


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
        self.tz = zone(asked.tz).key
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
        known = scores.regimes(self._scan())
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
        trend = verdicts.acceptance_rate(v, every=period.every, tz=self.tz)
        whole = {p.name: covered.whole(p) for p in periods}
        trend["partial"] = [not whole[name] for name in trend["period"]]
        for rate, x, n in (
            ("acceptance_rate", "n_accepted", "n_decided"),
            ("match_rate", "n_matched", "n_compared"),
        ):
            limits = [Count(int(a), int(b), deff).limits for a, b in zip(trend[x], trend[n])]  # noqa: B905
            trend[[f"{rate}_low", f"{rate}_high"]] = limits
        return trend, scores.vendor_thresholds(v, tz=self.tz)

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
    place = zone(tz)
    table = pd.DataFrame(spans, columns=["first", "last"])
    local = pd.to_datetime(table["first"], unit="us", utc=True).dt.tz_convert(place)
    days = table.groupby(local.dt.date).agg({"first": "min", "last": "max"}) / 3_600_000_000
    found = {}
    for day, first, last in days.itertuples():
        ends = (dt.datetime.combine(d, dt.time(), place) for d in (day, day + dt.timedelta(days=1)))
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


# ------------------------------------------------------------------ regimes of two periods


@dataclass(frozen=True, slots=True)
class Move:
    """A regime that is in one of two periods only.

    `new`: other thresholds of a request kind that was called before; `first`: its first ones,
    before it had none; `key_new`: a kind of request that was not called before. `gone`: other
    thresholds took its place, or none; `key_gone`: this kind was not called any more.
    """

    kind: str
    row: Any  # of `va.scores.regimes`, of the period that it is in

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


def small(r: ReportData) -> frozenset[str]:
    """Return the regimes that have too few rows in a period to be named."""
    return frozenset().union(*(too_few(complete(part), r) for part in parts(r)))


def too_few(regimes: pd.DataFrame, r: ReportData, size: str = "n_rows") -> frozenset[str]:
    """Return the regimes of a frame whose largest size is below the smallest group shown."""
    sizes = regimes.groupby("regime")[size].max()
    return frozenset(sizes[(sizes > 0) & (sizes < r.asked.min_group)].index)


def named(r: ReportData, part: Slice) -> pd.DataFrame:
    """Return the rows of `va.scores.regimes` with four rising thresholds that may be named."""
    held = complete(part)
    return held[~held["regime"].isin(small(r))]


def parts(r: ReportData) -> list[Slice]:
    """Return this period and, if there is one, that compared with."""
    return [part for part in (r.now, r.before) if part is not None]


def one_sided(part: Slice) -> frozenset[str]:
    """Return the regimes whose scored rows have one verdict only, which any rule can follow."""
    table = part.funnels[~part.funnels["first_gate"].isin(["answered", "scored"])]
    verdicts = table[table["n_rows"] > 0].groupby("regime")["result"].nunique()
    return frozenset(verdicts[verdicts < 2].index)


def moves(r: ReportData) -> list[Move]:
    """Return the named regimes that are in one of the two periods only, the new ones first."""
    if r.before is None:
        return []
    now, before = named(r, r.now), named(r, r.before)
    had_thresholds = set(complete(r.before)["req_key"])
    found = []
    for row in now[~now["regime"].isin(before["regime"])].to_dict("records"):
        known = "first" if row["req_key"] in r.before.kinds else "key_new"
        found.append(Move("new" if row["req_key"] in had_thresholds else known, row))
    gone = before[~before["regime"].isin(now["regime"])].to_dict("records")
    return [
        *found,
        *(Move("gone" if row["req_key"] in r.now.kinds else "key_gone", row) for row in gone),
    ]
