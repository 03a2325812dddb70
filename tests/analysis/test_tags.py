"""Risk tags: denominators, repetitions, names, strangers."""

from __future__ import annotations

import math
import random

import pandas as pd
import pytest
from builders import frames as w
from scipy import stats

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError, UsageError


def tagged(*tags, **columns):
    return pd.DataFrame({"risk_tags": list(tags), **columns})


def test_counts_rates_and_the_rest():
    v = tagged(["14004"], ["14004", "13001"], [], None)
    table = va.tags.rates(v).set_index("tag")
    assert table["n_tag"].to_dict() == {"14004": 2, "13001": 1}
    assert (table["n"] == 3).all()
    assert (table["n_tagged"] == 2).all()
    assert (table["n_risk_not_asked"] == 1).all()
    assert table.loc["14004", "tag_rate"] == 2 / 3
    want = stats.binomtest(2, 3).proportion_ci(method="exact")
    limits = table.loc["14004", ["tag_rate_low", "tag_rate_high"]].tolist()
    assert limits == pytest.approx([want.low, want.high])


def test_a_tag_sent_twice_is_one_and_order_says_nothing():
    v = tagged(["a", "b", "a"], ["b", "a"], ["b", None])
    assert va.tags.rates(v).set_index("tag")["n_tag"].to_dict() == {"a": 2, "b": 3}


def test_a_risk_result_without_tags_counts_as_asked():
    v = tagged(None, None, ["14004"], risk_score=[0, None, 300])
    table = va.tags.rates(v)
    assert (table["n"].item(), table["n_risk_not_asked"].item()) == (2, 1)


def test_a_group_without_a_tag_has_the_rate_zero_with_its_limit():
    v = tagged(*[["14004"]] * 5, *[[]] * 20, ctx_channel=["h5"] * 5 + ["app"] * 20)
    app = va.tags.rates(v, by="ctx_channel").set_index("ctx_channel").loc["app"]
    assert (app["n"], app["n_tag"], app["tag_rate"], app["tag_rate_low"]) == (20, 0, 0, 0)
    assert app["tag_rate_high"] == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_group_without_a_risk_result_has_no_rate():
    v = tagged(["14004"], None, result=[True, None])
    table = va.tags.rates(v, by="result")
    assert table["n"].tolist() == [1, 0]
    assert math.isnan(table["tag_rate"].iloc[1])
    assert table["result"].isna().tolist() == [False, True]


def test_names_and_strangers():
    table = va.tags.rates(tagged(["14004", "19999", "=cmd|x", ""])).set_index("tag")
    assert table.loc["14004", ["name_en", "name_zh", "family", "known"]].tolist() == [
        "cheating environment (script, emulator)", "设备环境异常", "14", True,
    ]  # fmt: skip
    assert table["known"].to_dict() == {"14004": True, "19999": False, "": False, "=cmd|x": False}


def test_the_user_s_code_book_names_the_user_s_tags(tmp_path, monkeypatch):
    book = tmp_path / "book.json"
    book.write_text(
        '{"risk_tags": {"19999": {"en": "house list", "zh": "内部名单"}}}', encoding="utf-8"
    )
    monkeypatch.setenv("VERIFYANALYTICS_CODEBOOK", str(book))
    row = va.tags.rates(tagged(["19999"])).iloc[0]
    assert (row["name_en"], row["name_zh"], row["known"]) == ("house list", "内部名单", True)


def test_weeks_are_complete_and_partial_ones_marked():
    days = pd.date_range("2024-04-03", "2024-04-21", tz="Asia/Shanghai")  # Wednesday to Sunday
    v = tagged(*[["14004"]] * 5, *[[]] * 14, occurred_at=days)
    table = va.tags.rates(v, every="week")
    assert table["period"].tolist() == ["2024-W14", "2024-W15", "2024-W16"]
    assert table["n_tag"].tolist() == [5, 0, 0]
    assert table["n"].tolist() == [5, 7, 7]
    assert table["partial"].tolist() == [True, False, False]


def test_no_tags_at_all():
    assert va.tags.rates(tagged([], None)).empty
    with pytest.raises(MissingColumnError, match="risk_tags"):
        va.tags.rates(pd.DataFrame({"risk_score": [0]}))


# ------------------------------------------------------------------ limits


def test_many_rows_have_wilson_s_limits():
    row = va.tags.rates(tagged(*[["14004"]] * 40, *[[]] * 160)).iloc[0]
    want = stats.binomtest(40, 200).proportion_ci(method="wilson")
    assert [row["tag_rate_low"], row["tag_rate_high"]] == pytest.approx([want.low, want.high])
    assert row["deff"] == 1


def design_effect(rows, tag):
    """G/(G−1) · Σ(y − rate·m)² / (Σm)² over persons, against rate(1 − rate)/n; by a loop."""
    persons = {}
    for i, (tags, subject) in enumerate(rows):
        persons.setdefault(subject or i, []).append(tag in tags)
    n, g = len(rows), len(persons)
    rate = sum(map(sum, persons.values())) / n
    squares = sum((sum(p) - rate * len(p)) ** 2 for p in persons.values())
    return g / (g - 1) * squares / n**2 / (rate * (1 - rate) / n)


def test_repeating_persons_widen_the_limits_as_the_linearised_error_says():
    rng = random.Random(4)
    rows = []
    for person in range(60):
        prone = rng.random() < 0.4
        for _ in range(rng.randint(1, 6)):
            tags = [t for t, p in (("14004", 0.8 * prone), ("13001", 0.3)) if rng.random() < p]
            rows.append((tags, rng.choice([f"s{person}"] * 9 + [None])))
    v = tagged(*[tags for tags, _ in rows], subject=[s for _, s in rows])
    days = pd.date_range("2024-04-01", periods=len(rows), freq="5h", tz="UTC").as_unit("us")
    v = v.assign(occurred_at=days, ctx_shop="a")
    for engine, frame in w.engines(v).items():
        table = va.tags.rates(frame, by="ctx_shop").set_index("tag")
        for tag in ("14004", "13001"):
            deff = design_effect(rows, tag)
            assert table.loc[tag, "deff"] == pytest.approx(deff), engine
            n = len(rows) / max(deff, 1)
            x = table.loc[tag, "tag_rate"] * n
            assert min(x, n - x) > 10
            z, p = stats.norm.ppf(0.975), x / n
            half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            centre = (p + z * z / (2 * n)) / (1 + z * z / n)
            limits = table.loc[tag, ["tag_rate_low", "tag_rate_high"]].tolist()
            assert limits == pytest.approx([centre - half, centre + half]), engine
    assert design_effect(rows, "14004") > 1.5
    weeks = va.tags.rates(v, every="week")
    local = days.tz_convert("Asia/Shanghai")
    for row in weeks[weeks["tag"] == "14004"].itertuples():
        mine = [r for r, day in zip(rows, local, strict=True) if f"{day:%G-W%V}" == row.period]
        assert (row.n, row.deff) == (len(mine), pytest.approx(design_effect(mine, "14004")))


def test_the_rarest_of_very_many_tags_take_the_upper_limit_of_the_design_effect():
    tags = [f"{i:05d}" for i in range(70)]
    v = tagged(*[tags[i // 3 :] for i in range(210)], subject=[f"s{i // 3}" for i in range(210)])
    deff = va.tags.rates(v)["deff"]
    assert (deff.iloc[64:] == 3).all()
    assert deff.iloc[1:64].tolist() == pytest.approx([3 * 70 / 69] * 63)


# ------------------------------------------------------------------ what callers may give


STATISTICS = {
    "tag_rates": va.tags.rates,
    "tag_lift": lambda v: va.tags.lift(v, "bad"),
    "tag_catch": lambda v: va.tags.catch(v, "bad"),
    "tag_pairs": va.tags.pairs,
}


@pytest.mark.parametrize("name", STATISTICS)
def test_tags_that_came_as_numbers_are_the_same_tags(name):
    v = tagged([13001], [13001], [], [14004, 13001], bad=[1, 0, 0, 1], subject=list("abcd"))
    text = v.assign(risk_tags=[[str(t) for t in tags] for tags in v["risk_tags"]])
    want = STATISTICS[name](text)
    for engine, frame in w.engines(v).items():
        pd.testing.assert_frame_equal(STATISTICS[name](frame), want, obj=f"{name} on {engine}")


@pytest.mark.parametrize("name", STATISTICS)
def test_tags_in_one_text_are_refused(name):
    v = pd.DataFrame({"risk_tags": ["13001,14004", None], "bad": [1, 0]})
    with pytest.raises(UsageError, match=r"risk_tags holds String; lists of tags are needed"):
        STATISTICS[name](v)


@pytest.mark.parametrize("by", ["n", "tag", "risk_tags", ["period"], 3, [["a"]], "occurred_at"])
def test_what_tags_cannot_be_split_by_is_one_clear_line(by):
    v = tagged(["14004"], [], n=1, tag="x", occurred_at=pd.Timestamp("2024-05-01", tz="UTC"))
    with pytest.raises((UsageError, MissingColumnError)) as told:
        va.tags.rates(v, by=by)
    assert "\n" not in str(told.value)


def test_a_column_named_twice_splits_once():
    v = tagged(["14004"], [], ctx_shop=["a", "b"])
    twice = va.tags.rates(v, by=["ctx_shop", "ctx_shop"])
    pd.testing.assert_frame_equal(twice, va.tags.rates(v, by="ctx_shop"))
