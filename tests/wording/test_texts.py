"""The catalogue of texts: both languages, the same values, one term a concept, no text twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from verifyanalytics.wording.numbers import percent
from verifyanalytics.wording.texts import CHARTS, REPORT, TEXTS, TUNER, say, text
from verifyanalytics.wording.words import Say, enumerated, joined, plain, spoken

ONE_LANGUAGE_SAYS_MORE = {"volume_previous": {"other"}}  # 环比 needs no name of the other period

TWICE = {
    # the other gates have shorter names on a chart than in a table
    ("lost_alive", "gate_alive"),
    ("lost_risk", "gate_risk"),
}

TERMS = [
    (r"\btags?\b", "标签"),
    (r"\blabels?\b|labelled", "标注"),
    ("FNMR", "拒真率|FNMR（正态偏差轴）"),
    ("regime", "阈值组"),
    ("lift", "提升度"),
    ("percentile", "百分位"),
    ("liveness", "活体"),
    ("verdict", "结论|判定"),
    ("acceptance|Acceptance", "通过率"),
    ("threshold", "阈值"),
    ("drift|Drift", "漂移"),
    ("(?<!false-)(?<!non-)match rate|Match rate", "匹配率"),
]
"""In a text whose English has the first, the Chinese has the second."""


def fields(template):
    return set(re.findall(r"\{(\w+)", template))


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_is_there_in_both_languages_with_the_same_values(key):
    english, chinese = TEXTS[key]
    assert english
    assert chinese
    assert not re.search(r"[\u4e00-\u9fff]", english)
    bare = re.sub(r"\{[^}]*\}|\bof\b|[^A-Za-z]", "", english)
    assert not bare or re.search(r"[\u4e00-\u9fff]", chinese)
    plurals = {field for field in fields(english) if field.endswith("_s")}
    assert {field.removesuffix("_s") for field in plurals} <= fields(chinese)
    more = ONE_LANGUAGE_SAYS_MORE.get(key, set())
    assert fields(english) - plurals - more == fields(chinese) - more


def test_no_key_is_in_two_catalogues():
    assert len(TEXTS) == len(CHARTS) + len(REPORT) + len(TUNER)


def test_no_text_stands_under_two_keys():
    times = Counter(TEXTS.values())
    twice = {tuple(k for k in TEXTS if TEXTS[k] == words) for words, n in times.items() if n > 1}
    assert twice == TWICE


@pytest.mark.parametrize(("english", "chinese"), TERMS)
def test_a_concept_has_one_term(english, chinese):
    said = {key: re.sub(r"\{\w+\}", "", en) for key, (en, _) in TEXTS.items()}
    assert [k for k in TEXTS if re.search(english, said[k]) and not re.search(chinese, TEXTS[k].zh)
            ] == []  # fmt: skip


@pytest.mark.parametrize(("english", "chinese"), [("tag", "标签"), ("label", "标注")])
def test_a_term_means_nothing_else(english, chinese):
    other = {key for key, (en, zh) in TEXTS.items() if chinese in zh and english not in en}
    assert other <= {"catch_note"}  # "what catches most of the rest": a tag, not named


def test_terms_that_were_given_up_are_gone():
    gone = re.compile("误拒率|拒真率 FNMR|误识率 FMR|本人被拒比例|冒用者|厂商结果")
    assert [key for key, (_, zh) in TEXTS.items() if gone.search(zh)] == []


def test_a_value_is_written_in_each_language():
    assert say("bound_below", ends=percent(0.5)) == (
        "owners turned away 50.0\u00a0%", "拒真率 50.0%",
    )  # fmt: skip
    assert text("n_compared", "both", n=12345) == "n = 12,345 compared  已比对 n = 12,345"
    assert say("g_small", n=1).en == "1 small group"


def test_both_languages_stand_once_where_they_are_the_same():
    assert text("named_count", "both", name="a", n="2") == "a 2"
    assert spoken(percent(0.5), "both") == [("", "50.0\u00a0%")]
    assert spoken("app", "zh") == [("", "app")]
    assert spoken(Say("yes", "是"), "both") == [("en", "yes"), ("zh", "是")]
    assert plain(Say("yes", "是"), "both") == "yes / 是"


def test_words_are_joined_in_each_language():
    parts = [Say("One.", "一。"), "2", Say("Three.", "三。")]
    assert joined(parts) == ("One. 2 Three.", "一。2三。")
    assert enumerated(parts) == ("One.; 2; Three.", "一。；2；三。")


def test_the_glossary_has_the_words_of_the_catalogues():
    page = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|", page, flags=re.MULTILINE)[1:]
    chinese = " ".join(said.zh for said in TEXTS.values())
    assert len(rows) > 25
    assert [word for row in rows for word in row.split(", ") if word not in chinese] == []
