"""Scripts of faults: which rule strikes a call, and what cannot be read."""

from __future__ import annotations

import pytest

from verifyanalytics.errors import UsageError
from verifyanalytics.simulator import (
    parse_script,
    token_digest,
)
from verifyanalytics.simulator.server.scripts import Script


def strikes(text, calls, seed=0):
    script = Script(parse_script(text), seed)
    seen = {}
    numbers = {"CertVerify": 0, "CertVerifyQuery": 0}
    struck = []
    for action, token in calls:
        numbers[action] += 1
        nth = seen[token] = seen.get(token, 0) + 1
        rule = script.strike(action, token_digest(token), numbers[action], nth)
        struck.append(None if rule is None else rule.kind.name)
    return struck


def test_rules_strike_by_number_and_the_first_that_fits():
    calls = [("CertVerify", str(i)) for i in range(8)]
    text = "# comment\n\nbom calls=2,5-6 # more\narray calls=6-7\n"
    assert strikes(text, calls) == [None, "bom", None, None, "bom", "bom", "array", None]


def test_rules_strike_by_token_action_and_count():
    digest = token_digest("b")
    mixed = [("CertVerify", "a"), ("CertVerify", "b"), ("CertVerifyQuery", "b")] * 2
    assert strikes(f"bom token={digest[:8].upper()}", mixed) == [
        None, "bom", None, None, "bom", None,
    ]  # fmt: skip
    assert strikes("bom action=any times=2", mixed) == ["bom", "bom", None, None, None, None]
    assert strikes("bom action=CertVerifyQuery", mixed) == [None, None, "bom"] * 2
    assert strikes("bom per_token=1", mixed) == ["bom", "bom", None, None, None, None]


def test_chances_do_not_depend_on_the_order_of_calls():
    tokens = [str(i) for i in range(2000)]
    one = dict(
        zip(tokens, strikes("bom share=0.3", [("CertVerify", t) for t in tokens]), strict=True)
    )
    turned = tokens[::-1]
    two = dict(
        zip(turned, strikes("bom share=0.3", [("CertVerify", t) for t in turned]), strict=True)
    )
    assert one == two
    assert sum(name == "bom" for name in one.values()) / 2000 == pytest.approx(0.3, abs=0.04)
    other = strikes("bom share=0.3", [("CertVerify", t) for t in tokens], seed=1)
    assert other != list(one.values())
    # a second try of the same token has its own chance
    again = strikes("bom share=0.3", [("CertVerify", "same")] * 400)
    assert sum(name == "bom" for name in again) / 400 == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bomm", "line 1 of the faults: no fault 'bomm'; there are: array"),
        ("\nbom share=2", "line 2 of the faults: share is 2"),
        ("bom share=often", "line 1"),
        ("bom often", "'often' is no key=value"),
        ("bom calls=a-b", "line 1"),
        ("bom action=Verify", "CertVerify, CertVerifyQuery, any"),
        ("bom processed=no", "bom is processed always"),
        ("reset_before processed=yes", "reset_before is not processed always"),
        ("html_502 processed=perhaps", "yes, no"),
        ("bom retry_after=3", "bom has no retry_after"),
        ("stall seconds=long", "line 1"),
        ('bom "share=1', "line 1"),
    ],
)
def test_scripts_that_cannot_be_read(text, said):
    with pytest.raises(UsageError) as caught:
        parse_script(text)
    assert said in str(caught.value)
