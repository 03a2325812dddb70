"""The sentences of a report: what a risk lead should know before looking at any table."""

from __future__ import annotations

from typing import Any

from verifyanalytics.analysis.base.rows import GATES
from verifyanalytics.reporting.blocks import Bullets, Tile, Tiles
from verifyanalytics.reporting.changes import Change
from verifyanalytics.reporting.checks import checks
from verifyanalytics.reporting.data import Figures, Slice
from verifyanalytics.reporting.regimes import complete, moves, named, parts, small
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


def by_words(f: Figures) -> str:
    """Name what mix is told from rate by, as `channel`."""
    return ", ".join(shown(name.removeprefix("ctx_")) for name in f.groups)


def other(f: Figures) -> Words:
    """Name the period compared with."""
    return f.compared.words if f.compared else ""


def why_alone(f: Figures) -> Say:
    """Say why nothing is compared."""
    return say(f"alone_{f.alone}", other=other(f))


def tiles(f: Figures) -> Tiles:
    """The four numbers that are read from afar."""
    return Tiles(
        (
            Tile(say("tile_answers"), number(f.now.n_rows), _volume(f)),
            _tile("acceptance_rate", f.change("accepted")),
            _tile("tile_match", f.change("matches")),
            _tile("tile_faults", f.change("faults")),
        )
    )


def _volume(f: Figures) -> Words:
    if f.before is None or f.compared is None:
        return ""
    key = "volume_previous" if f.compared == f.period.before else "volume_change"
    return say(key, change=relative(f.now.n_rows, f.before.n_rows), other=other(f))


def _tile(label: str, change: Change) -> Tile:
    if not change.now.n:
        note: Words = say("no_interval")
    elif change.before is None:
        note = say("rate_interval", interval=interval(*change.now.limits))
    else:
        three = Points.of(change.difference, *change.limits)
        note = say("rate_change", **three._asdict())
    return Tile(say(label), percent(change.now.rate), note)


def in_short(f: Figures) -> Bullets:
    """The sentences of the first page."""
    found = [_acceptance(f), *_reasons(f), _regimes(f), tags_sentence(f), _quality(f)]
    return Bullets(tuple(found))


# ------------------------------------------------------------------ acceptance


def _acceptance(f: Figures) -> Say:
    change = f.change("accepted")
    if not change.now.n:
        return say("acceptance_nothing")
    if change.before is None:
        return say(
            "acceptance_alone", now=percent(change.now.rate), n=number(change.now.n),
            interval=interval(*change.now.limits), why=why_alone(f),
        )  # fmt: skip
    digits = places(*change.now.limits)
    told = say(
        f"acceptance_{change.verdict}", before=percent(change.before.rate, digits),
        now=percent(change.now.rate, digits), smallest=size(change.smallest), other=other(f),
        **Points.of(change.difference, *change.limits)._asdict(),
    )  # fmt: skip
    return joined([told, _explained(f, change)]) if change.verdict != "none" else told


def _explained(f: Figures, change: Change) -> Say:
    whole, digits = explained_part(f, "accepted"), places(*change.limits)
    split = {name: points(whole[name], digits) for name in ("mix", "rate")}
    return say("explained", by=by_words(f), **split)


def explained_part(f: Figures, part: str) -> Any:
    """The row of all groups together of `va.verdicts.change_explained`."""
    table = f.explained
    name = "unexplained" if part == "none" else part
    whole = table.iloc[: table["part"].nunique()] if table is not None else None
    return None if whole is None else whole[whole["part"] == name].iloc[0]


# ------------------------------------------------------------------ reasons


def _reasons(f: Figures) -> list[Say]:
    changes = {gate: f.change("turned_away", gate) for gate in REJECTING}
    most = sorted((g for g in REJECTING if changes[g].now.x), key=lambda g: -changes[g].now.x)
    if not most:
        return [nobody(f)] if f.now.accepted.n else []  # without a verdict that is said already
    names = [
        say("reason_share", gate=say(f"gate_{g}"), share=percent(changes[g].now.rate))
        for g in most[:_FEW]
    ]
    told = [say("reasons_top", names=enumerated(names))]
    if f.before is None:
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
            told.append(say(f"reasons_{verdict}", other=other(f), names=enumerated(names)))
    if len(told) == 1:
        told.append(say("reasons_same", other=other(f)))
    return [joined(told)]


def nobody(f: Figures) -> Say:
    """Say that nobody was turned away; or that nobody could be, without any verdict."""
    return say("nobody" if f.now.accepted.n else "no_verdicts", n=number(f.now.accepted.n))


# ------------------------------------------------------------------ regimes


def _regimes(f: Figures) -> Say:
    if not any(len(complete(part)) for part in parts(f)):
        return say("regimes_nothing")
    if f.before is None:
        return _regimes_alone(f)
    held = moves(f)
    told = [
        say(f"regimes_{move.kind}", name=regime_words(move.name), when=_first_seen(move.row, f))
        for move in [*[m for m in held if m.new][:_FEW], *[m for m in held if not m.new][:_FEW]]
    ]
    if set(named(f, f.now)["regime"]) & set(named(f, f.before)["regime"]):
        same = "regimes_rest" if told else "regimes_same_named" if small(f) else "regimes_same"
        told.append(say(same, other=other(f), least=f.asked.min_group))
    return joined(told) if told else say("regimes_small", least=f.asked.min_group)


def _regimes_alone(f: Figures) -> Say:
    held = named(f, f.now)
    if held.empty:
        return say("regimes_small", least=f.asked.min_group)
    later = [
        row
        for _, part in held.groupby("req_key", sort=False)
        for row in part.sort_values("first_at").iloc[1:].to_dict("records")
    ]
    if later:
        return joined(
            say("regimes_within", name=regime_words(row["regime"]), when=_first_seen(row, f))
            for row in later[:_FEW]
        )
    names = [regime_words(name) for name in held["regime"].head(2 * _FEW)]
    return say("regimes_alone", names=enumerated(names))


def _first_seen(row: Any, f: Figures) -> str:
    return local_minute(row["first_at"], f.asked.tz)


# ------------------------------------------------------------------ tags


def shown_lifts(part: Slice, least: int) -> Any:
    """The tags on enough answers, the surest lift first."""
    table = part.lifts
    return table[(table["n_tag"] >= least) & table["lift"].notna()].reset_index(drop=True)


def tags_sentence(f: Figures) -> Say:
    """Say which tags go with non-matches; and if none, whether any could have been seen to."""
    if nothing := _no_lift(f):
        return nothing
    table = shown_lifts(f.now, f.asked.min_group)
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


def _no_lift(f: Figures) -> Say | None:
    """Say why no tag can be held against non-matches; None when some can."""
    asked = f.now.n_rows - int(f.now.funnel["n_risk_not_asked"].sum())
    if not asked:
        return say("tags_not_asked")
    if f.now.tags.empty:
        return say("tags_absent", n=number(asked))
    lifts = f.now.lifts
    n, x = (int(lifts[c].max()) if len(lifts) else 0 for c in ("n", "n_outcome"))
    if x in (0, n):
        return say("tags_blind", n=number(n), x=number(x))
    if shown_lifts(f.now, f.asked.min_group).empty:
        return say("tags_small", least=f.asked.min_group)
    return None


def tag_name(row: Any) -> Say:
    """Say what a tag means; a tag that is not in the book says so."""
    if not row.known:
        return say("unknown_tag")
    return Say(shown(row.name_en, 80), shown(row.name_zh, 80))


# ------------------------------------------------------------------ data quality


def _quality(f: Figures) -> Say:
    """Name everything that the table of data quality holds of this period, and the store's own."""
    faults = f.change("faults")
    found = [_found("d_faults", faults)] if faults.now.x else []
    if faults.verdict == "up":
        found = [joined([found[0], say("q_more", other=other(f))])]
    found += [_found(check.key, check.change) for check in checks(f) if check.change.now.x]
    whole = {"q_rejects": int(f.rejects["n_rows"].sum()), "q_undated": f.n_undated}
    found += [say(key, n=number(n)) for key, n in whole.items() if n]
    return say("quality_some", names=enumerated(found)) if found else say("quality_fine")


def _found(key: str, change: Change) -> Say:
    return say("q_found", name=say(key), x=number(change.now.x), n=number(change.now.n))
