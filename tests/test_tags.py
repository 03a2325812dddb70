"""Risk tags: denominators, repetitions, names, strangers."""

from __future__ import annotations

import math

import pandas as pd
import pytest

import verifyanalytics as va
from verifyanalytics.errors import MissingColumnError


def tagged(*tags, **columns):
    return pd.DataFrame({"risk_tags": list(tags), **columns})


def test_counts_rates_and_the_rest():
    v = tagged(["14004"], ["14004", "13001"], [], None)
    table = va.tag_rates(v).set_index("tag")
    assert table["n_tag"].to_dict() == {"14004": 2, "13001": 1}
    assert (table["n"] == 3).all()
    assert (table["n_tagged"] == 2).all()
    assert (table["n_risk_not_asked"] == 1).all()
    assert table.loc["14004", "tag_rate"] == 2 / 3
    assert table.loc["14004", "tag_rate_low"] == pytest.approx(0.2077, abs=5e-5)  # Wilson, by hand
    assert table.loc["14004", "tag_rate_high"] == pytest.approx(0.9385, abs=5e-5)


def test_a_tag_sent_twice_is_one_and_order_says_nothing():
    v = tagged(["a", "b", "a"], ["b", "a"], ["b", None])
    assert va.tag_rates(v).set_index("tag")["n_tag"].to_dict() == {"a": 2, "b": 3}


def test_a_risk_result_without_tags_counts_as_asked():
    v = tagged(None, None, ["14004"], risk_score=[0, None, 300])
    table = va.tag_rates(v)
    assert (table["n"].item(), table["n_risk_not_asked"].item()) == (2, 1)


def test_a_group_without_a_tag_has_the_rate_zero_with_its_limit():
    v = tagged(*[["14004"]] * 5, *[[]] * 20, ctx_channel=["h5"] * 5 + ["app"] * 20)
    app = va.tag_rates(v, by="ctx_channel").set_index("ctx_channel").loc["app"]
    assert (app["n"], app["n_tag"], app["tag_rate"], app["tag_rate_low"]) == (20, 0, 0, 0)
    assert app["tag_rate_high"] == pytest.approx(0.1611, abs=5e-5)


def test_a_group_without_a_risk_result_has_no_rate():
    v = tagged(["14004"], None, result=[True, None])
    table = va.tag_rates(v, by="result")
    assert table["n"].tolist() == [1, 0]
    assert math.isnan(table["tag_rate"].iloc[1])
    assert table["result"].isna().tolist() == [False, True]


def test_names_and_strangers():
    table = va.tag_rates(tagged(["14004", "19999", "=cmd|x", ""])).set_index("tag")
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
    row = va.tag_rates(tagged(["19999"])).iloc[0]
    assert (row["name_en"], row["name_zh"], row["known"]) == ("house list", "内部名单", True)


def test_weeks_are_complete_and_partial_ones_marked():
    days = pd.date_range("2024-04-03", "2024-04-21", tz="Asia/Shanghai")  # Wednesday to Sunday
    v = tagged(*[["14004"]] * 5, *[[]] * 14, occurred_at=days)
    table = va.tag_rates(v, every="week")
    assert table["period"].tolist() == ["2024-W14", "2024-W15", "2024-W16"]
    assert table["n_tag"].tolist() == [5, 0, 0]
    assert table["n"].tolist() == [5, 7, 7]
    assert table["partial"].tolist() == [True, False, False]


def test_no_tags_at_all():
    assert va.tag_rates(tagged([], None)).empty
    with pytest.raises(MissingColumnError, match="risk_tags"):
        va.tag_rates(pd.DataFrame({"risk_score": [0]}))
