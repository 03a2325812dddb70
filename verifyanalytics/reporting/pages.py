"""The pages of a report: the first one, groups and rules, and how the report was made."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from verifyanalytics.analysis.base.regimes import INCOMPLETE
from verifyanalytics.analysis.verdicts.decisions import acceptance_rate
from verifyanalytics.codebook.book import Lang, current
from verifyanalytics.reporting.blocks import (
    Block,
    Bullets,
    Document,
    Heading,
    Paragraph,
    Table,
    table,
)
from verifyanalytics.reporting.changes import Change, Count, hidden
from verifyanalytics.reporting.data import Move, ReportData, moves, one_sided, parts, small
from verifyanalytics.reporting.summary import (
    REJECTING,
    Check,
    by_words,
    checks,
    despite,
    explained_part,
    in_short,
    nobody,
    other,
    shown_lifts,
    tag_name,
    tags_sentence,
    tiles,
    why_alone,
)
from verifyanalytics.wording.names import (
    name_words,
    names_words,
    regime_words,
    reject_words,
    rule_words,
    shown,
)
from verifyanalytics.wording.numbers import (
    NOTHING,
    local_minute,
    number,
    percent,
    places,
    points_with_limits,
    rate_with_limits,
    size,
    split,
)
from verifyanalytics.wording.texts import say
from verifyanalytics.wording.words import Say, Words, enumerated, joined

_MOST_TAGS, _MOST_REGIMES, _MOST_GROUPS = 5, 6, 12


def first_page(r: ReportData, lang: Lang) -> Document:
    """Begin the document: everything a risk lead asks first."""
    period = r.period.words
    subtitle = say("subtitle", period=period, first=r.period.start, last=r.period.last,
                   tz=r.asked.tz)  # fmt: skip
    if r.before is not None:
        subtitle = joined([subtitle, say("against", other=other(r))], "")
    page = Document(say(f"title_{r.period.every}"), subtitle, lang)
    if r.asked.regimes:
        names = enumerated([regime_words(name) for name in r.asked.regimes])
        page.add(Paragraph(say("only_regimes", names=names), "warning"))
    if r.partial:
        ends = {"first": r.first_at, "last": r.last_at}
        told = {name: local_minute(moment, r.asked.tz) for name, moment in ends.items()}
        page.add(Paragraph(say("partial_period", **told), "warning"))
    page.add(tiles(r), Heading(say("in_short")), in_short(r))
    page.add(Heading(say("key_figures")), key_figures(r))
    page.add(Heading(say("turned_away")), turned_away(r), _turned_note(r))
    page.add(Heading(say("regimes")), *regimes(r))
    page.add(Heading(say("tags_by_lift")), *tags(r))
    page.add(Heading(say("quality")), *quality(r))
    return page


def second_page(r: ReportData) -> Iterable[Block]:
    """Give what an analyst asks next: the caller's groups, and what the vendor seems to do."""
    return [*by_groups(r), *_rules(r)]


# ------------------------------------------------------------------ key figures


def key_figures(r: ReportData) -> Table:
    """The main rates of both periods."""
    withheld = int(r.now.acceptance["n_withheld"])
    rows = [
        (_counted("f_acceptance", change := r.change("accepted")), change),
        (_counted("f_match_withheld" if withheld else "f_match", change := r.change("matches"),
                  withheld=number(withheld)), change),
        (_counted("f_faults", change := r.change("faults")), change),
    ]  # fmt: skip
    columns = _columns(r, say("c_figure"), say("c_now", period=r.period.words),
                       compared=("c_difference", "c_reading"))  # fmt: skip
    return table(
        say("key_figures"), columns,
        [[name, _rate(change.now), *_against(change)] for name, change in rows], texts=[4],
    )  # fmt: skip


def _counted(key: str, change: Change, **values: Words) -> Say:
    """Name a rate by its count and its denominator."""
    return say(key, x=number(change.now.x), n=number(change.now.n), **values)


def _columns(r: ReportData, *heads: Words, compared: Iterable[str] = ()) -> list[Words]:
    """Head a table; what is compared follows the period before, if there is one."""
    if r.before is None or r.compared is None:
        return list(heads)
    return [*heads, r.compared.head, *map(say, compared)]


def _rate(count: Count) -> Words:
    return rate_with_limits(count.rate, *count.limits)


def _against(change: Change) -> list[Words]:
    """Last period, difference with limits, reading; nothing without a last period."""
    if change.before is None:
        return []
    return [
        percent(change.before.rate, places(*change.before.limits)),
        points_with_limits(change.difference, *change.limits),
        reading(change),
    ]


def reading(change: Change) -> Words:
    """Say what a difference is evidence of; and without any, what would have shown."""
    if change.verdict != "none":
        return say(change.verdict) if change.verdict else NOTHING
    if math.isnan(change.smallest):
        return say("none_blunt")
    return say("none", smallest=size(change.smallest))


# ------------------------------------------------------------------ gates


def turned_away(r: ReportData) -> Table | Paragraph:
    """Rejections by the first gate that failed; or that there are none."""
    columns = _columns(r, say("c_gate"), say("answers"), say("c_share"),
                       compared=("c_difference", "c_reading", "c_split"))  # fmt: skip
    rows = []
    for gate in REJECTING:
        change = r.change("turned_away", gate)
        if change.now.x or (change.before and change.before.x):
            row: list[Words] = [say(f"gate_{gate}"), number(change.now.x), _rate(change.now)]
            row += _against(change)
            if (whole := explained_part(r, gate)) is not None:
                row.append(split(whole["mix"], whole["rate"], places(*change.limits)))
            rows.append(row)
    if not rows:
        return Paragraph(nobody(r))
    return table(say("turned_away"), columns, rows, texts=[5])


def _turned_note(r: ReportData) -> Paragraph:
    key = "turned_note" if r.before is not None else "turned_note_alone"
    n = r.now.accepted.n
    return Paragraph(
        say(
            key, n=number(n), despite=number(despite(r.now).x), open=number(r.now.n_rows - n),
            by=by_words(r),
        ),
        "note",
    )  # fmt: skip


# ------------------------------------------------------------------ groups


def by_groups(r: ReportData) -> Iterable[Block]:
    """How groups of the caller's choice fared; small ones are put together."""
    if not r.by:
        return []
    groups = _groups(r)
    small = hidden([[c.n for c in (g.now, g.before) if c] for g in groups], r.asked.min_group)
    rest = [g for g, is_small in zip(groups, small, strict=True) if is_small]
    large = [g for g, is_small in zip(groups, small, strict=True) if not is_small]
    large.sort(key=lambda g: (-g.now.n, g.key))
    rows = [_group_row(r, names_words(g.key), [g]) for g in large[:_MOST_GROUPS]]
    for key, more in (("g_more", large[_MOST_GROUPS:]), ("g_small", rest)):
        rows += [_group_row(r, say(key, n=number(len(more))), more)] if more else []
    rows.append(_group_row(r, say("g_all"), groups))
    by = by_words(r)
    columns = _columns(
        r, by, say("c_decided"), say("c_of_all"), say("c_acceptance", period=r.period.words),
        compared=("c_difference", "c_contribution"),
    )  # fmt: skip
    return [
        Heading(say("by_groups", by=by)),
        table(say("by_groups", by=by), columns, rows),
        Paragraph(say("g_note", least=r.asked.min_group), "note"),
    ]


class _Group(NamedTuple):
    """A group: its names, accepted of those with a verdict, and what it adds to the change."""

    key: list[str]
    now: Count
    before: Count | None = None
    mix: float = 0.0
    rate: float = 0.0


def _groups(r: ReportData) -> list[_Group]:
    if r.explained is None or r.before is None:
        return [
            _Group([str(row[column]) for column in r.by],
                   Count(int(row["n_accepted"]), int(row["n_decided"]), r.now.deff))
            for row in acceptance_rate(r.now.v, by=list(r.by)).to_dict("records")
        ]  # fmt: skip

    def count(row: dict[Any, Any], which: str, deff: float) -> Count:
        n = int(row[f"n_{which}"])
        return Count(round(row[f"rate_{which}"] * n) if n else 0, n, deff)

    each = r.explained.iloc[r.explained["part"].nunique() :]
    return [
        _Group([str(row[column]) for column in r.groups], count(row, "current", r.now.deff),
               count(row, "previous", r.before.deff), row["mix"], row["rate"])
        for row in each[each["part"] == "accepted"].to_dict("records")
    ]  # fmt: skip


def _group_row(r: ReportData, name: Words, groups: list[_Group]) -> list[Words]:
    now = _together(g.now for g in groups)
    share = now.n / r.now.accepted.n if r.now.accepted.n else math.nan
    row = [name, number(now.n), percent(share), _rate(now)]
    if r.before is None:
        return row
    change = Change(now, _together(g.before for g in groups if g.before))
    digits = places(*r.change("accepted").limits)  # parts of one whole
    parts = split(sum(g.mix for g in groups), sum(g.rate for g in groups), digits)
    return [*row, *_against(change)[:2], parts]


def _together(counts: Iterable[Count]) -> Count:
    x, n, deff = zip(*counts, strict=True)
    return Count(sum(x), sum(n), deff[0])


# ------------------------------------------------------------------ regimes


def regimes(r: ReportData) -> Iterable[Block]:
    """The regimes of both periods; with their state when there is something to compare."""
    few, known = small(r), r.now.regimes
    now = known[~known["regime"].isin(few)].head(_MOST_REGIMES).to_dict("records")
    gone = sorted((m for m in moves(r) if not m.new), key=lambda m: m.name)[:_MOST_REGIMES]
    rows = [_regime_row(r, line) for line in (*now, *gone)]
    if few:
        held = [part.regimes[part.regimes["regime"].isin(few)] for part in parts(r)]
        counts = [number(table["n_rows"].sum()) for table in held]
        told = say("g_small", n=number(len(few)))
        rows.append([told, NOTHING, *counts, *_compared(r, NOTHING)])
    if not rows:
        return [Paragraph(say("regimes_nothing"))]
    columns = _columns(r, say("c_regime"), say("c_first"), say("c_n_now", period=r.period.words),
                       compared=["c_state"])  # fmt: skip
    left = len(known) - len(few) - _MOST_REGIMES
    more = [Paragraph(say("regimes_more", n=number(left)), "note")] if left > 0 else []
    return [table(say("regimes"), columns, rows, texts=[1, 4]), *more]


def _regime_row(r: ReportData, line: Any) -> list[Words]:
    gone = isinstance(line, Move)
    name = line.name if gone else line["regime"]
    first = NOTHING if gone else local_minute(line["first_at"], r.asked.tz)
    sizes = [part.regimes.set_index("regime")["n_rows"].get(name, 0) for part in parts(r)]
    moved = {move.name: f"s_{move.kind}" for move in moves(r)}
    state = NOTHING if name == INCOMPLETE else say(moved.get(name, "s_same"))
    return [regime_words(name), first, *map(number, sizes), *_compared(r, state)]


def _compared(r: ReportData, words: Words) -> list[Words]:
    """Give a cell that is there only when something is compared."""
    return [] if r.before is None else [words]


# ------------------------------------------------------------------ tags


def tags(r: ReportData) -> Iterable[Block]:
    """The tags whose lift is surest."""
    lifts = shown_lifts(r.now, r.asked.min_group)
    if lifts.empty:
        return [Paragraph(tags_sentence(r))]
    columns = _columns(
        r, say("c_tag"), say("c_meaning"), say("answers"), say("c_lift"),
        say("c_tag_share", period=r.period.words), compared=["c_difference"],
    )  # fmt: skip
    rows = []
    for row in lifts.head(_MOST_TAGS).itertuples():
        change = r.change("with_tag", row.tag)
        lift = say("lift_with_limits", lift=f"{row.lift:.1f}", low=f"{row.lift_low:.1f}",
                   high=f"{row.lift_high:.1f}")  # fmt: skip
        told: list[Words] = [name_words(row.tag), tag_name(row), number(change.now.x), lift]
        share = percent(change.now.rate, places(*change.now.limits))
        rows.append([*told, share, *_against(change)[:2]])
    first = lifts.iloc[0]
    note = say(
        "tags_note", n=number(first["n"]), least=r.asked.min_group,
        n_not_asked=number(first["n_risk_not_asked"]),
    )  # fmt: skip
    return [table(say("tags_by_lift"), columns, rows, texts=[1]), Paragraph(note, "note")]


# ------------------------------------------------------------------ data quality


def quality(r: ReportData) -> Iterable[Block]:
    """What is odd about the data of the period, and of the store."""
    looked = checks(r)
    rows = [_check_row(r, check) for check in looked if check.found]
    latencies = [
        " / ".join(number(part.latency[name]) for name in ("p50_ms", "p95_ms", "p99_ms"))
        for part in parts(r)
    ]
    rows.append([say("d_latency"), *(f"{ms} ms" for ms in latencies), *_compared(r, NOTHING)])
    fine = [say(check.key) for check in looked if check.absent]
    columns = _columns(r, say("c_check"), r.period.head, compared=["c_difference"])
    blocks: list[Block] = [table(say("quality"), columns, rows)]
    if fine:
        blocks.append(Paragraph(say("d_fine", names=enumerated(fine)), "note"))
    return [*blocks, *_whole_store(r)]


def _check_row(r: ReportData, check: Check) -> list[Words]:
    change = check.change
    if change.before is None:
        return [say(check.key), _of(change.now)]
    counted = check.key == "d_days"  # days are counted whole, not sampled
    differs = NOTHING if counted else points_with_limits(change.difference, *change.limits)
    return [say(check.key), _of(change.now), _of(change.before), differs]


def _whole_store(r: ReportData) -> list[Block]:
    """What has no time, and so belongs to no period; and by name what was odd."""
    told = say(
        "d_store", rejects=number(r.rejects["n_rows"].sum()), read=number(r.n_read),
        undated=number(r.n_undated), stored=number(r.n_stored),
    )  # fmt: skip
    if len(r.rejects):
        told = joined([told, say("d_reasons", names=_most(r.rejects, "reason", reject_words))])
    issues = r.now.issues
    odd = [Paragraph(say("d_issue_names", names=_most(issues, "issue", name_words)), "note")]
    return [Paragraph(told, "note"), *(odd if len(issues) else [])]


def _most(frame: Any, column: str, words: Callable[[str], Words]) -> Words:
    """Enumerate the most frequent names with their counts."""
    rows = frame.head(6).to_dict("records")
    return enumerated(
        [say("named_count", name=words(row[column]), n=number(row["n_rows"])) for row in rows]
    )


def _of(count: Count) -> Words:
    return f"{number(count.x)} / {number(count.n)}"


def _rules(r: ReportData) -> list[Block]:
    left_out = {INCOMPLETE, *small(r), *one_sided(r.now)}
    rules = r.now.rules[~r.now.rules["regime"].isin(left_out)].head(_MOST_REGIMES)
    if rules.empty:
        return []
    told = [
        say(
            "rule", regime=regime_words(row.regime), rule=rule_words(row.rule),
            n=number(row.n_rows), agreement=percent(row.agreement),
        )
        for row in rules.itertuples()
    ]  # fmt: skip
    return [Heading(say("rules_heading")), Paragraph(say("rules")), Bullets(tuple(told))]


# ------------------------------------------------------------------ last page

_MOST = 200
"""Characters of a name in the command, which is to be copied."""

_READING = ("h_interval", "h_nobody", "h_change", "h_mix", "h_gates", "h_regime", "h_bounds")


def last_page(r: ReportData, lang: Lang, version: str, formats: Sequence[str]) -> Iterable[Block]:
    """Say how the report was made and how it is read."""
    return [
        Heading(say("made")),
        table(
            say("m_parameters"), [say("c_parameter"), say("c_value")],
            _parameters(r, version, _again(r, lang, formats)), texts=[1],
        ),
        Heading(say("m_read")),
        Bullets(tuple(say(key) for key in _READING if key != "h_nobody" or r.now.persons is None)),
    ]  # fmt: skip


def _parameters(r: ReportData, version: str, again: str) -> list[list[Words]]:
    book, asked = current(), r.asked
    compared: Words = (
        r.compared.words if r.before and r.compared else say("m_nothing", why=why_alone(r))
    )
    deffs = [f"{part.deff:.2f}" if part else NOTHING for part in (r.now, r.before)]
    persons = NOTHING if r.now.persons is None else number(r.now.persons)
    rows: dict[str, Any] = {
        "m_period": r.period.words,
        "m_compare": compared,
        "m_by": by_words(r) if r.by else NOTHING,
        "m_regimes": enumerated([regime_words(n) for n in asked.regimes] or [say("m_all")]),
        "m_least": str(asked.min_group),
        "m_tz": asked.tz,
        "m_data": " … ".join(local_minute(at, asked.tz) for at in (r.first_at, r.last_at)),
        "m_persons": persons,
        "m_deff": " / ".join(deffs),
        "m_book": say("m_builtin" if book.source == "built-in" else "m_own"),
        "m_answered": ", ".join(str(code) for code in sorted(book.answered_codes)),
        "m_risk_fail": f"≥ {book.risk_fail}",
        "m_store": str(r.version),
        "m_code": version,
        "m_again": again,
    }
    return [[say(key), value] for key, value in rows.items()]


def _again(r: ReportData, lang: Lang, formats: Sequence[str]) -> str:
    """Write the command that makes the same report of the same store, wherever that lies."""
    asked = r.asked
    compared = r.compared.name if r.before and r.compared else asked.compare
    words = ["verifyanalytics", "report", "--store", "DIR", "--period", r.period.name]
    words += ["--compare", compared]
    for option, values in (("--by", r.by), ("--regime", asked.regimes)):
        for value in values:
            words += [option, shown(value, _MOST)]
    words += ["--lang", lang, "--format", "both" if len(formats) > 1 else formats[0]]
    words += ["--tz", asked.tz, "--as-of", str(r.version)]
    if asked.min_group != type(asked)().min_group:
        words += ["--min-group", str(asked.min_group)]
    return shlex.join(words)
