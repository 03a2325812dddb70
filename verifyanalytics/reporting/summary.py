"""The sentences of a report: what a risk lead should know before looking at any table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.base.rows import GATES
from verifyanalytics.reporting.blocks import Bullets, Tile, Tiles
from verifyanalytics.reporting.changes import Change, Count
from verifyanalytics.reporting.data import ReportData, Slice, complete, moves, named, parts, small
from verifyanalytics.wording.names import name_words, regime_words, shown
from verifyanalytics.wording.numbers import (
    Points,
    interval,
    local_minute,
    number,
    percent,
    places,
    points,
    relative,
    size,
)
from verifyanalytics.wording.texts import say
from verifyanalytics.wording.words import Say, Words, enumerated, joined

REJECTING = (*GATES, "unknown", "none")
"""First gates of a rejection; `none`: all gates pass, and nothing explains it."""

_FEW = 3


def by_words(r: ReportData) -> str:
    """Name what mix is told from rate by, as `channel`."""
    return ", ".join(shown(name.removeprefix("ctx_")) for name in r.groups)


def other(r: ReportData) -> Words:
    """Name the period compared with."""
    return r.compared.words if r.compared else ""


def why_alone(r: ReportData) -> Say:
    """Say why nothing is compared."""
    return say(f"alone_{r.alone}", other=other(r))


def tiles(r: ReportData) -> Tiles:
    """The four numbers that are read from afar."""
    volume: Words = ""
    if r.before is not None:
        key = "volume_previous" if r.compared == r.period.before else "volume_change"
        volume = say(key, change=relative(r.now.n_rows, r.before.n_rows), other=other(r))
    return Tiles(
        (
            Tile(say("tile_answers"), number(r.now.n_rows), volume),
            _tile("acceptance_rate", r.change("accepted")),
            _tile("tile_match", r.change("matches")),
            _tile("tile_faults", r.change("faults")),
        )
    )


def _tile(label: str, change: Change) -> Tile:
    if not change.now.n:
        note: Words = say("no_interval")
    elif change.before is None:
        note = say("rate_interval", interval=interval(*change.now.limits))
    else:
        three = Points.of(change.difference, *change.limits)
        note = say("rate_change", **three._asdict())
    return Tile(say(label), percent(change.now.rate), note)


def in_short(r: ReportData) -> Bullets:
    """The sentences of the first page."""
    found = [_acceptance(r), *_reasons(r), _regimes(r), tags_sentence(r), _quality(r)]
    return Bullets(tuple(found))


# ------------------------------------------------------------------ acceptance


def _acceptance(r: ReportData) -> Say:
    change = r.change("accepted")
    if not change.now.n:
        return say("acceptance_nothing")
    if change.before is None:
        return say(
            "acceptance_alone", now=percent(change.now.rate), n=number(change.now.n),
            interval=interval(*change.now.limits), why=why_alone(r),
        )  # fmt: skip
    digits = places(*change.now.limits)
    told = say(
        f"acceptance_{change.verdict}", before=percent(change.before.rate, digits),
        now=percent(change.now.rate, digits), smallest=size(change.smallest), other=other(r),
        **Points.of(change.difference, *change.limits)._asdict(),
    )  # fmt: skip
    if change.verdict == "none":
        return told
    whole, digits = explained_part(r, "accepted"), places(*change.limits)
    split = {name: points(whole[name], digits) for name in ("mix", "rate")}
    return joined([told, say("explained", by=by_words(r), **split)])


def explained_part(r: ReportData, part: str) -> Any:
    """The row of all groups together of `va.verdicts.change_explained`."""
    table = r.explained
    name = "unexplained" if part == "none" else part
    whole = table.iloc[: table["part"].nunique()] if table is not None else None
    return None if whole is None else whole[whole["part"] == name].iloc[0]


# ------------------------------------------------------------------ reasons


def _reasons(r: ReportData) -> list[Say]:
    changes = {gate: r.change("turned_away", gate) for gate in REJECTING}
    most = sorted((g for g in REJECTING if changes[g].now.x), key=lambda g: -changes[g].now.x)
    if not most:
        return [nobody(r)] if r.now.accepted.n else []  # without a verdict that is said already
    names = [
        say("reason_share", gate=say(f"gate_{g}"), share=percent(changes[g].now.rate))
        for g in most[:_FEW]
    ]
    told = [say("reasons_top", names=enumerated(names))]
    if r.before is None:
        return told
    for verdict in ("up", "down"):
        moved = [g for g in REJECTING if changes[g].verdict == verdict]
        moved.sort(key=lambda g: -abs(changes[g].difference))
        if moved:
            names = [
                say(
                    "reason_points",
                    gate=say(f"gate_{g}"),
                    **Points.of(changes[g].difference, *changes[g].limits)._asdict(),
                )
                for g in moved
            ]
            told.append(say(f"reasons_{verdict}", other=other(r), names=enumerated(names)))
    if len(told) == 1:
        told.append(say("reasons_same", other=other(r)))
    return [joined(told)]


def nobody(r: ReportData) -> Say:
    """Say that nobody was turned away; or that nobody could be, without any verdict."""
    return say("nobody" if r.now.accepted.n else "no_verdicts", n=number(r.now.accepted.n))


# ------------------------------------------------------------------ regimes


def _regimes(r: ReportData) -> Say:
    if not any(len(complete(part)) for part in parts(r)):
        return say("regimes_nothing")
    if r.before is None:
        return _regimes_alone(r)
    held = moves(r)
    told = [
        say(f"regimes_{move.kind}", name=regime_words(move.name), when=_first_seen(move.row, r))
        for move in [*[m for m in held if m.new][:_FEW], *[m for m in held if not m.new][:_FEW]]
    ]
    if set(named(r, r.now)["regime"]) & set(named(r, r.before)["regime"]):
        same = "regimes_rest" if told else "regimes_same_named" if small(r) else "regimes_same"
        told.append(say(same, other=other(r), least=r.asked.min_group))
    return joined(told) if told else say("regimes_small", least=r.asked.min_group)


def _regimes_alone(r: ReportData) -> Say:
    held = named(r, r.now)
    if held.empty:
        return say("regimes_small", least=r.asked.min_group)
    later = [
        row
        for _, part in held.groupby("req_key", sort=False)
        for row in part.sort_values("first_at").iloc[1:].to_dict("records")
    ]
    if later:
        return joined(
            say("regimes_within", name=regime_words(row["regime"]), when=_first_seen(row, r))
            for row in later[:_FEW]
        )
    names = [regime_words(name) for name in held["regime"].head(2 * _FEW)]
    return say("regimes_alone", names=enumerated(names))


def _first_seen(row: Any, r: ReportData) -> str:
    return local_minute(row["first_at"], r.asked.tz)


# ------------------------------------------------------------------ tags


def shown_lifts(part: Slice, least: int) -> Any:
    """The tags on enough answers, the surest lift first."""
    table = part.lifts
    return table[(table["n_tag"] >= least) & table["lift"].notna()].reset_index(drop=True)


def tags_sentence(r: ReportData) -> Say:
    """Say which tags go with non-matches; and if none, whether any could have been seen to."""
    if nothing := _no_lift(r):
        return nothing
    table = shown_lifts(r.now, r.asked.min_group)
    if not table["clustered"].iloc[0]:
        return say("tags_untested")
    sure = table[table["significant"] & (table["lift_low"] > 1)].head(_FEW)
    if sure.empty:
        return say("tags_none", n=number(table["n"].iloc[0]), x=number(table["n_outcome"].iloc[0]))
    names = [
        say(
            "tag_lifted", tag=name_words(row.tag), lift=f"{row.lift:.1f}",
            low=f"{row.lift_low:.1f}", high=f"{row.lift_high:.1f}", name=tag_name(row),
            n=number(row.n_tag),
        )
        for row in sure.itertuples()
    ]  # fmt: skip
    return say("tags_some", names=enumerated(names))


def _no_lift(r: ReportData) -> Say | None:
    """Say why no tag can be held against non-matches; None when some can."""
    asked = r.now.n_rows - int(r.now.funnel["n_risk_not_asked"].sum())
    if not asked:
        return say("tags_not_asked")
    if r.now.tag_rates.empty:
        return say("tags_absent", n=number(asked))
    lifts = r.now.lifts
    n, x = (int(lifts[c].max()) if len(lifts) else 0 for c in ("n", "n_outcome"))
    if x in (0, n):
        return say("tags_blind", n=number(n), x=number(x))
    if shown_lifts(r.now, r.asked.min_group).empty:
        return say("tags_small", least=r.asked.min_group)
    return None


def tag_name(row: Any) -> Say:
    """Say what a tag means; a tag that is not in the book says so."""
    if not row.known:
        return say("unknown_tag")
    return Say(shown(row.name_en, 80), shown(row.name_zh, 80))


# ------------------------------------------------------------------ data quality


def _quality(r: ReportData) -> Say:
    """Name everything that the table of data quality holds of this period, and the store's own."""
    faults = r.change("faults")
    found = [_found("d_faults", faults)] if faults.now.x else []
    if faults.verdict == "up":
        found = [joined([found[0], say("q_more", other=other(r))])]
    found += [_found(check.key, check.change) for check in checks(r) if check.change.now.x]
    whole = {"q_rejects": int(r.rejects["n_rows"].sum()), "q_undated": r.n_undated}
    found += [say(key, n=number(n)) for key, n in whole.items() if n]
    return say("quality_some", names=enumerated(found)) if found else say("quality_fine")


def _found(key: str, change: Change) -> Say:
    return say("q_found", name=say(key), x=number(change.now.x), n=number(change.now.n))


# ------------------------------------------------------------------ what is looked for


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked for: the key of its name, and how often it was found."""

    key: str
    change: Change

    @property
    def found(self) -> bool:
        """It is there, in either period."""
        before = self.change.before
        return bool(self.change.now.x or (before and before.x))

    @property
    def absent(self) -> bool:
        """It could have been there in this period, and is not there."""
        return not self.found and self.change.now.n > 0


def checks(r: ReportData) -> list[Check]:
    """Look for everything that is odd about the responses of the period and of that before."""

    def incomplete(part: Slice) -> Count:
        answered = part.regimes.set_index("regime")["n_answered"]
        return Count(int(answered.get(INCOMPLETE, 0)), int(answered.sum()), part.deff)

    def undecided(part: Slice) -> Count:
        table = part.funnel[part.funnel["first_gate"] != "answered"]
        n = int(table.loc[table["result"].isna(), "n_rows"].sum())
        return Count(n, int(table["n_rows"].sum()), part.deff)

    def empty_days(part: Slice) -> Count:
        period = r.period if part is r.now or r.compared is None else r.compared
        n_days = (period.after.start - period.start).days
        return Count(n_days - int(part.days["starts_at"].notna().sum()), n_days)

    looked: dict[str, Callable[[Slice], Count]] = {
        "d_no_risk": lambda part: Count(
            int(part.funnel["n_risk_not_asked"].sum()), part.n_rows, part.deff
        ),
        "d_incomplete": incomplete,
        "d_undecided": undecided,
        "d_despite": despite,
        "d_issues": lambda part: Count(part.n_with_issues, part.n_rows, part.deff),
    }
    if not r.partial:  # of a period that is not covered whole, days without a call are no finding
        looked["d_days"] = empty_days
    return [Check(key, r.compare(count)) for key, count in looked.items()]


def despite(part: Slice) -> Count:
    """Count the rows accepted although a gate fails, of those accepted."""
    table = part.funnel
    accepted = table["result"].fillna(value=False).astype(bool)
    n = int(table.loc[accepted & table["first_gate"].isin(GATES), "n_rows"].sum())
    return Count(n, part.accepted.x, part.deff)
