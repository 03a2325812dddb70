"""Names of the data: printable, bounded, apart from each other, and drawable."""

from __future__ import annotations

import unicodedata

import pytest

from verifyanalytics.wording.names import (
    MOST,
    cjk_font,
    drawable,
    name,
    name_words,
    regime_words,
    rule_words,
    shown,
)

STEERING = "a\x1b[31m\u202eb\tc\n\U0001f9ff\ue000\u2063"
NAMES = {
    "hostile": STEERING,
    "long": "n" * 200,
    "wide": "渠道名称" * 30,
    "accents": "e" + "\u0301" * 90,
    "mathematics": "$x_{1}$ \\frac %s {n}",
}


def columns(text):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("most", [12, 40])
def test_a_name_is_printable_and_no_longer_than_asked(kind, most):
    shown = name(NAMES[kind], most)
    assert columns(shown) <= most
    assert shown.isprintable()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn", "Cs") for c in shown)


@pytest.mark.parametrize("text", ["cert_pro_src_verify", "渠道甲", "app\u00a01.2", "ñandú", ""])
def test_a_plain_name_stays_as_it_is(text):
    if any("\u4e00" <= c <= "\u9fff" for c in text) and cjk_font() is None:
        pytest.skip("no font with Chinese is installed")
    assert name(text) == text


def test_names_that_begin_alike_stay_apart():
    long = ["x" * 100 + end for end in "abc"]
    assert len({name(text) for text in long}) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", "app"),
        ("a\x00b\x1b[0m", "a\\x00b\\x1b[0m"),
        ("\u202eabc\u2069", "\\u202eabc\\u2069"),
        ("x" + "\u0301" * 40, "x\u0301\u0301\u0301… #"),
        ("\ud800", "\\ud800"),
        ("日本", "日本"),
    ],
)
def test_what_may_be_shown(text, expected):
    assert shown(text).startswith(expected)


def test_two_long_names_that_begin_alike_are_told_apart():
    one, other = (shown("a" * 5_000 + end) for end in "xy")
    assert one != other
    assert len(one) <= MOST


def test_a_page_counts_characters_and_a_chart_columns():
    wide = "渠道名称" * 7
    assert shown(wide) == wide
    assert columns(name(wide)) <= 40 < columns(wide)
    assert shown("n" * 41).startswith("n" * 31 + "… #")


def test_what_no_font_has_is_set_as_an_escape():
    assert drawable("h5 \u1780 \U0001f9ff") == "h5 \\u1780 \\U0001f9ff"
    assert drawable("a\u00a0%\u2212") == "a\u00a0%\u2212"


def test_names_in_sentences():
    assert name_words("") == ("(empty)", "（空）")
    assert name_words("  ").en.startswith("(empty) #")
    assert regime_words("k" * 99 + " 60/70/80/90").en.endswith(" 60/70/80/90")
    assert regime_words("incomplete") == ("no complete thresholds", "阈值不完整")
    assert rule_words("score >= 90 and alive and no tag 14004") == (
        "score ≥ 90 and alive and no tag 14004", "分数 ≥ 90，且活体通过，且无标签 14004",
    )  # fmt: skip
