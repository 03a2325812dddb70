"""The sentences of a report: what a risk lead should know before looking at any table."""

from __future__ import annotations

from typing import Any

from verifyanalytics._report_blocks import Bullets, Say, Tile, Tiles, Words, shown
from verifyanalytics._report_changes import Change, Count
from verifyanalytics._report_figures import Figures, Slice, regime_changes
from verifyanalytics._report_numbers import (
    Points,
    interval,
    local_minute,
    number,
    percent,
    period_words,
    places,
    points,
    relative,
    size,
)
from verifyanalytics._report_words import enumerated, say
from verifyanalytics.analysis.counts import GATES, INCOMPLETE

REJECTING = (*GATES, "unknown", "none")
"""First gates of a rejection; `none`: all gates pass, and nothing explains it."""

_FEW = 3


def by_words(f: Figures) -> str:
    """Name what mix is told from rate by, as `channel`."""
    return ", ".join(shown(name.removeprefix("ctx_")) for name in f.groups)


def other(f: Figures) -> Words:
    """Name the period compared with."""
    return period_words(f.compared) if f.compared else ""


def why_alone(f: Figures) -> Say:
    """Say why nothing is compared."""
    return say(f"alone_{f.alone}", other=other(f))


def tiles(f: Figures) -> Tiles:
    """The four numbers that are read from afar."""
    return Tiles(
        (
            Tile(say("tile_answers"), number(f.now.n_rows), _volume(f)),
            _tile("tile_acceptance", f.change("accepted")),
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
    found = [_acceptance(f), *_reasons(f), *_regimes(f), _tags(f), _quality(f)]
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
    return joined(told, _explained(f, change)) if change.verdict != "none" else told


def _explained(f: Figures, change: Change) -> Say:
    whole, digits = explained_part(f, "accepted"), places(*change.limits)
    parts = {name: points(whole[name], digits) for name in ("mix", "rate")}
    return say("explained", by=by_words(f), **parts)


def explained_part(f: Figures, part: str) -> Any:
    """The row of all groups together of `va.change_explained`; `none` is its `unexplained`."""
    table = f.explained
    name = "unexplained" if part == "none" else part
    whole = table.iloc[: table["part"].nunique()] if table is not None else None
    return None if whole is None else whole[whole["part"] == name].iloc[0]


def joined(*parts: Say) -> Say:
    """Put sentences after each other."""
    return Say(" ".join(p.en for p in parts), "".join(p.zh for p in parts))


# ------------------------------------------------------------------ reasons


def _reasons(f: Figures) -> list[Say]:
    changes = {gate: f.change("turned_away", gate) for gate in REJECTING}
    most = sorted((g for g in REJECTING if changes[g].now.x), key=lambda g: -changes[g].now.x)
    if not most:
        return []
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
    return [joined(*told)]


# ------------------------------------------------------------------ regimes


def _regimes(f: Figures) -> list[Say]:
    if f.before is None:
        return _regimes_alone(f)
    new, gone = regime_changes(f.now, f.before)
    told = [_appeared("regimes_new", row, f) for row in new[:_FEW]]
    told += [say("regimes_gone", name=shown(row["regime"], 60)) for row in gone[:_FEW]]
    return [joined(*told)] if told else [say("regimes_same", other=other(f))]


def _regimes_alone(f: Figures) -> list[Say]:
    held = f.now.regimes[f.now.regimes["regime"] != INCOMPLETE]
    if held.empty:
        return []
    later = [
        row
        for _, part in held.groupby("req_key", sort=False)
        for row in part.sort_values("first_at").iloc[1:].to_dict("records")
    ]
    if later:
        return [joined(*(_appeared("regimes_within", row, f) for row in later[:_FEW]))]
    names = [shown(name, 60) for name in held["regime"].head(2 * _FEW)]
    return [say("regimes_alone", names=enumerated(names))]


def _appeared(key: str, row: Any, f: Figures) -> Say:
    when = local_minute(row["first_at"], f.asked.tz)
    return say(key, name=shown(row["regime"], 60), when=when)


# ------------------------------------------------------------------ tags


def shown_lifts(part: Slice, least: int) -> Any:
    """The tags on enough answers, the surest lift first."""
    table = part.lifts
    return table[(table["n_tag"] >= least) & table["lift"].notna()].reset_index(drop=True)


def _tags(f: Figures) -> Say:
    if f.now.tags.empty:
        return say("tags_absent")
    table = shown_lifts(f.now, f.asked.min_group)
    if len(table) and not table["clustered"].iloc[0]:
        return say("tags_untested")
    sure = table[table["significant"] & (table["lift_low"] > 1)].head(_FEW)
    if sure.empty:
        return say("tags_none")
    names = [
        say(
            "tag_lifted", tag=shown(row.tag), lift=f"{row.lift:.1f}", low=f"{row.lift_low:.1f}",
            high=f"{row.lift_high:.1f}", name=tag_name(row),
        )
        for row in sure.itertuples()
    ]  # fmt: skip
    return say("tags_some", names=enumerated(names))


def tag_name(row: Any) -> Say:
    """Say what a tag means; a tag that is not in the book says so."""
    if not row.known:
        return say("unknown_tag")
    return Say(shown(row.name_en, 80), shown(row.name_zh, 80))


# ------------------------------------------------------------------ data quality


def _quality(f: Figures) -> Say:
    n_rejects = int(f.rejects["n_rows"].sum())
    counts = {
        "q_rejects": n_rejects,
        "q_undated": f.n_undated,
        "q_despite": despite(f.now).x,
        "q_issues": f.now.n_with_issues,
        "q_empty_days": empty_days(f, f.now),
    }
    found = [say(key, n=number(n)) for key, n in counts.items() if n]
    if f.change("faults").verdict == "up":
        found.append(say("q_faults", other=other(f)))
    return say("quality_some", names=enumerated(found)) if found else say("quality_fine")


def despite(part: Slice) -> Count:
    """Rows accepted although a gate fails, of those accepted."""
    table = part.funnel
    accepted = table["result"].fillna(value=False).astype(bool)
    n = int(table.loc[accepted & table["first_gate"].isin(GATES), "n_rows"].sum())
    return Count(n, part.accepted.x, part.deff)


def empty_days(f: Figures, part: Slice) -> int:
    """Days of a whole period without any call."""
    if f.partial:
        return 0
    period = f.period if part is f.now or f.compared is None else f.compared
    n_days = (period.after.start - period.start).days
    return n_days - int(part.days["starts_at"].notna().sum())
