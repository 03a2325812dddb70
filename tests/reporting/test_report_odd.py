"""The report of odd stores: hardly any data, nothing to compare, nothing found, names of all kinds.

A sentence that says "none" or "the same" is true only where something could have been seen.
"""

from __future__ import annotations

import datetime as dt
import re
import shlex
import shutil
import subprocess
from functools import cache

import numpy as np
import pytest
from builders import report_stores as worlds
from builders.report_stores import Page, stored, week
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

import verifyanalytics as va
from verifyanalytics.cli import app as cli
from verifyanalytics.errors import StorageError, UsageError
from verifyanalytics.reporting import blocks
from verifyanalytics.reporting import write as reporting
from verifyanalytics.reporting.data import Asked, moves, read_data
from verifyanalytics.reporting.drawings import CHARTS, compact
from verifyanalytics.reporting.html import html
from verifyanalytics.reporting.pages import first_page, last_page, second_page
from verifyanalytics.reporting.pdf import pdf

FAULT = {"code": 50500}
OTHER = {"1e-3": 62, "1e-4": 72, "1e-5": 82, "1e-6": 92}


@cache
def asked_for(store, **asked):
    return read_data(store, Asked(**asked))


def document(store, lang="en", **asked):
    """All but the charts, which take their time."""
    found = asked_for(store, **asked)
    made = first_page(found, lang)
    made.add(*second_page(found), *last_page(found, lang, "1.2.3", ["html"]))
    return made


def page(store, lang="en", **asked):
    return Page(html(document(store, lang, **asked)))


def sentences(store, **asked):
    """The list of the first page."""
    found = next(b for b in document(store, **asked).blocks if isinstance(b, blocks.Bullets))
    return " ".join(item.en for item in found.items)


def told_by(name, store):
    """A chart in words, and its caption."""
    axes, alternative, caption = CHARTS[name](asked_for(store), "en")
    plt.close(np.ravel(axes)[0].figure)
    return alternative.en, caption.en


def tagged(i):
    return ["14010"] if i % 3 else []


def weeks(number, n, **odd):
    return list(week(number, n, **odd))


ODD = {
    "five rows": [weeks(1, 5)],
    "one day": [[worlds.answer(i, worlds.MONDAY + dt.timedelta(minutes=i)) for i in range(30)]],
    "first week": [weeks(1, 60)],
    "nobody turned away": [weeks(0, 60), weeks(1, 60)],
    "faults": [weeks(0, 60, **FAULT), weeks(1, 60, **FAULT)],
    "no verdicts": [weeks(0, 60, result=None), weeks(1, 60, result=None)],
    "no thresholds": [weeks(0, 60, thresholds=None), weeks(1, 60, thresholds=None)],
    "tags, and no non-match": [weeks(0, 60, tags=tagged), weeks(1, 60, tags=tagged)],
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The store of a name, made once."""
    return cache(lambda name: stored(tmp_path_factory.mktemp("odd"), *ODD[name]))


@pytest.mark.parametrize("name", sorted(ODD))
def test_every_store_has_its_report(odd, name):
    for lang, compare in (("en", "previous"), ("zh", "none")):
        made = document(odd(name), lang, compare=compare)
        for one in made.blocks:
            if isinstance(one, blocks.Table):
                assert one.rows
                assert {len(row) for row in one.rows} == {len(one.columns)}
        assert not re.search(r"\b1 (\w+ )?(regimes|periods|groups|answers|days)\b", html(made))
        assert pdf(made).startswith(b"%PDF-")


def test_a_table_without_a_row_can_be_set():
    made = blocks.Document("title", "", "en", [blocks.table("none", ["a", "b"], [], texts=[1, 7])])
    assert pdf(made).startswith(b"%PDF-")


@pytest.mark.parametrize("name", sorted(ODD))
def test_what_the_first_page_says_of_quality_is_what_the_table_counts(odd, name):
    seen, said = page(odd(name)), sentences(odd(name))
    table = {r[0]: r[1] for r in seen.tables["Data quality"][1:] if "time" not in r[0]}
    found = [f"{name} {count}" for name, count in table.items() if count[0] != "0"]
    assert all(one in said for one in found)
    assert not (found and "nothing stands out" in said)


@pytest.mark.parametrize(
    ("name", "told", "not_told"),
    [
        ("nobody turned away", "Nobody was turned away: verdicts without a no, n = 60.", "Main"),
        ("no verdicts", "there is no acceptance rate", "Nobody was turned away"),
        ("no verdicts", "answers without a verdict 60 / 60", "nothing stands out"),
        ("faults", "calls not answered (faults) 60 / 60", "nothing stands out"),
        ("no thresholds", "No answer names four rising thresholds", "thresholds are those of"),
        ("no thresholds", "answers without four rising thresholds 60 / 60", "stands out"),
        ("first week", "No call of this period has a risk result", "no evidence that any risk"),
        ("tags, and no non-match", "cannot be seen: of compared answers", "no evidence that any"),
    ],
)  # fmt: skip
def test_nothing_is_said_that_could_not_be_seen(odd, name, told, not_told):
    said = sentences(odd(name))
    assert told in said
    assert not_told not in said


def test_what_could_not_be_there_is_not_called_not_found(odd):
    lines = page(odd("faults")).text.splitlines()
    (told,) = [line for line in lines if line.startswith("Looked for and not found")]
    assert told.endswith("answers with a value not as documented; days without any call.")
    assert "thresholds" not in told  # without an answer there are none to be looked at
    assert "verdict" not in told


def test_risk_that_found_nothing_is_not_risk_that_nobody_asked_for(tmp_path):
    assert "No risk tag was set: risk results without any tag, n = 60." in sentences(
        stored(tmp_path, week(1, 60, tags=[]))
    )


def test_a_tag_that_goes_with_non_matches_says_on_how_many(tmp_path):
    bad = {i for i in range(200) if i % 10 == 0}
    store = stored(
        tmp_path,
        week(1, 200, score=lambda i: 65.0 if i in bad else 85.0, subject=lambda i: f"s{i}",
             tags=lambda i: ["14010"] if i in bad or i % 50 == 1 else ["90001"]),
    )  # fmt: skip
    assert re.search(r"14010 [^(]+\(lift [\d.]+, [\d.]+ to [\d.]+; n = 24\)", sentences(store))


# ------------------------------------------------------------------ regimes


def kinds(store):
    return {move.name: move.kind for move in moves(asked_for(store))}


def test_a_new_kind_of_request_is_no_change_of_thresholds(tmp_path):
    new = {"req_key": "cert_pro_no_src_verify"}
    store = stored(tmp_path, week(0, 60), week(1, 60), week(1, 30, **new))
    assert kinds(store) == {"cert_pro_no_src_verify 60/70/80/90": "key_new"}
    said = sentences(store)
    assert "A kind of request that was not called before: cert_pro_no_src_verify" in said
    assert "The other thresholds are those of 2024-W22." in said
    assert "thresholds changed" not in said


def test_other_thresholds_of_the_same_kind_are_a_change(tmp_path):
    other = {"req_key": "gone_key"}
    store = stored(tmp_path, week(0, 60), week(0, 40, **other), week(1, 70, thresholds=OTHER))
    assert kinds(store) == {
        "cert_pro_src_verify 62/72/82/92": "new",
        "cert_pro_src_verify 60/70/80/90": "gone",
        "gone_key 60/70/80/90": "key_gone",
    }
    said = sentences(store)
    assert "The vendor's thresholds changed: cert_pro_src_verify 62/72/82/92 appeared on" in said
    assert "The vendor no longer sends cert_pro_src_verify 60/70/80/90." in said
    assert "not called in this period: gone_key" in said
    states = {r[0]: r[-1] for r in page(store).tables["Threshold regimes"]}
    assert states["cert_pro_src_verify 62/72/82/92"] == "new thresholds"
    assert states["gone_key 60/70/80/90"] == "not called"


def test_the_first_thresholds_of_a_kind_are_no_new_kind(tmp_path):
    store = stored(tmp_path, week(0, 60, thresholds=None), week(1, 60))
    assert kinds(store) == {"cert_pro_src_verify 60/70/80/90": "first"}
    assert "The vendor sends thresholds where it sent none" in sentences(store)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A large regime, a small one, and one whose verdicts are all the same."""

    def mixed(i):
        return 65.0 if i % 5 == 0 else 85.0

    weeks = [
        some
        for n in (0, 1)
        for some in (
            week(n, 60, score=mixed, result=lambda i: i % 5 > 0, tags=[]),
            week(n, 40, req_key="alike"),
            week(n, 3, req_key="tiny_key", channel="tiny"),
        )
    ]
    return stored(tmp_path_factory.mktemp("crowd"), *weeks)


def test_a_regime_that_is_too_small_is_named_nowhere(crowd):
    seen = page(crowd, by=("req_key",))
    assert "tiny_key" not in seen.text
    rows = {r[0]: r for r in seen.tables["Threshold regimes"]}
    assert rows["1 small group"][2:4] == ["3", "3"]
    assert "Histogram of 100 scores in 2 regimes" in told_by("scores", crowd)[0]
    assert "2 regimes shown" in told_by("thresholds", crowd)[0]


def test_verdicts_that_are_all_the_same_follow_every_rule(crowd):
    told = [b for b in document(crowd).blocks if isinstance(b, blocks.Bullets)][1]
    assert [item.en.partition(":")[0] for item in told.items] == ["cert_pro_src_verify 60/70/80/90"]


def test_a_regime_without_answers_says_that_it_is_the_regime(tmp_path):
    store = stored(tmp_path, week(0, 60), week(0, 20, req_key="old"), week(1, 60))
    with pytest.raises(UsageError, match="no answers of the regime 'old' in 2024-W23"):
        read_data(store, Asked(regimes=("old",), period="2024-W23"))
    found = read_data(store, Asked(regimes=("old",), period="2024-W22"))
    assert not found.partial  # the store covers the week, whatever was called in it
    assert found.now.n_rows == 20


# ------------------------------------------------------------------ periods that are cut off


def test_a_week_cut_off_on_its_sunday_is_not_whole(tmp_path):
    monday = worlds.MONDAY + dt.timedelta(days=7)
    late = [one for one in week(1, 300) if one["occurred_at"] < "2024-06-09T11"]
    store = stored(tmp_path, week(0, 300), late)
    found = read_data(store, Asked(period="2024-W23"))
    assert (found.partial, found.alone, found.before) == (True, "partial", None)
    assert "2024-06-09 10:" in page(store, period="2024-W23").text
    assert read_data(store, Asked()).period.name == "2024-W22"
    (tmp_path / "more.ndjson").write_bytes(worlds.line(1, 2, "app", "accepted", worlds.NAMES))
    va.import_responses([tmp_path / "more.ndjson"], store, workers=1)
    later = read_data(store, Asked(period="2024-W23"))
    assert not later.partial  # there are data after its end
    assert later.last_at >= monday


# ------------------------------------------------------------------ names


NAMES = ["", "   ", "a\x00b", "渠道", "A" * 60]


def test_names_that_nobody_could_see_say_so(tmp_path):
    store = stored(
        tmp_path,
        *(week(n, 20, channel=name, tags=[name], req_key=name, score=lambda i: 65.0 + i)
          for n in (0, 1) for name in NAMES),
    )  # fmt: skip
    for lang, empty in (("en", "(empty)"), ("zh", "（空）")):
        tables = page(store, lang, by=("channel",)).tables.values()
        assert all(row[0].strip() for rows in tables for row in rows)
        firsts = [row[0] for rows in tables for row in rows]
        assert empty in firsts
        assert any(
            re.match(rf"{re.escape(empty)} #[0-9a-f]{{6}} 60/70/80/90", first) for first in firsts
        )
    assert told_by("tags", store)[0] == (
        "Dot chart of 5 risk tags over 100 answers with a risk result."
    )


def test_rejects_are_named_in_chinese(tmp_path):
    store = stored(tmp_path, week(1, 20))
    (tmp_path / "bad.ndjson").write_bytes(b"{\n\xff\xfe\n[1]\n")
    va.import_responses([tmp_path / "bad.ndjson"], store, workers=1)
    text = page(store, "zh").text
    assert "不是合法 JSON" in text
    assert "syntax" not in text


def signs(n, start):
    """Return n names of 60 Chinese characters, each of its own."""
    return ["".join(chr(0x4E00 + (start + 60 * i + k) % 20_000) for k in range(60))
            for i in range(n)]  # fmt: skip


def test_the_page_stays_small_whatever_the_names(tmp_path):
    keys, tags, channels = signs(8, 0), signs(30, 480), signs(30, 2_280)
    weeks = [
        week(1 - w, 240, req_key=lambda i: keys[i % 8], channel=lambda i: channels[i % 30],
             tags=lambda i: tags[i % 30 : i % 30 + 5], score=lambda i: 62.0 + i % 37,
             result=lambda i: i % 7 > 0,
             thresholds={level: 60 + w / 4 + 8 * k for k, level in enumerate(worlds.THRESHOLDS)})
        for w in range(3)
    ]  # fmt: skip
    store = stored(tmp_path, *weeks)
    (path,) = va.report(store, tmp_path, by=("channel", "req_key"), lang="both").paths
    assert path.stat().st_size < 1_000_000


@given(st.lists(st.tuples(st.integers(-800, 6_400), st.integers(-800, 6_400)), min_size=2))
def test_outlines_of_letters_stay_where_they_are(points):
    steps = "L".join(f"{x} {y}" for x, y in points)
    svg = f'<path id="a" d="M{steps}z" transform="scale(0.015625)"/>'
    path = re.search(r'd="([^"]+)" transform="scale\(0\.125\)"', compact(svg))[1]
    x = y = 0
    for found, point in zip(re.findall("[ml]([^mlz]+)", path), points, strict=True):
        dx, dy = map(int, re.findall(r"-?\d+", found))
        x, y = x + dx, y + dy
        assert abs(8 * x - point[0]) <= 4
        assert abs(8 * y - point[1]) <= 4


# ------------------------------------------------------------------ charts in words


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("faults", "0 passed every gate and were accepted; largest loss: not answered, 60."),
        ("nobody turned away", "60 passed every gate and were accepted; largest loss: none."),
    ],
)
def test_the_funnel_in_words_is_the_funnel(odd, name, told):
    alternative, _ = told_by("funnel", odd(name))
    assert alternative == f"Bar chart: of 60 calls, answers and faults, {told}"


# ------------------------------------------------------------------ the same again, and writing


def command(made):
    rows = dict(r[:2] for rows in made.tables.values() for r in rows)
    return next(text for text in rows.values() if text.startswith("verifyanalytics report"))


def test_the_command_makes_the_same_report_again(crowd, tmp_path):
    (path,) = va.report(crowd, tmp_path / "one", period="2024-W22").paths  # nothing came before
    told = shlex.split(command(Page(path.read_text("utf-8"))))
    words = [str(crowd.path) if word == "DIR" else word for word in told[1:]]
    assert cli.main([*words, "--out", str(tmp_path / "again"), "--quiet"]) == 0
    (again,) = (tmp_path / "again").iterdir()
    assert again.read_bytes() == path.read_bytes()


def test_the_command_says_what_was_asked_for(crowd):
    told = command(page(crowd, compare="none", regimes=("alike",), min_group=3))
    assert "--compare none --regime alike --lang en --format html" in told
    assert told.endswith("--min-group 3")


def test_what_is_copied_from_the_pdf_has_nothing_unseen_in_it(tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    long = "cert_pro_src_verify_" * 7
    made = blocks.Document("t", "", "en", [blocks.table("x", ["a", "b"], [["c", long]], [1])])
    (tmp_path / "x.pdf").write_bytes(pdf(made))
    done = subprocess.run(
        ["pdftotext", "-raw", str(tmp_path / "x.pdf"), "-"], capture_output=True, check=True
    )
    text = done.stdout.decode()
    assert "\u200b" not in text
    assert long in text.replace("\n", "")


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "report.html" / "in the way").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"report\.html"):
        reporting._write(blocks.Document("t", "", "en"), "html", tmp_path, "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("option", ["--period", "--compare"])
def test_the_last_month_of_the_calendar_is_refused(crowd, tmp_path, capsys, option):
    command = ["report", "--store", str(crowd.path), "--out", str(tmp_path), option, "9999-12"]
    assert cli.main(command) == 2
    assert "no period '9999-12'" in capsys.readouterr().err
