"""The verbs `import` and `labels`."""

from __future__ import annotations

import json

import pytest
from builders.answers import answer_text

from verifyanalytics.cli import app as cli


def test_an_import_says_one_line_and_its_exit_code_knows_the_rejects(tmp_path, capsys):
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join([*(answer_text(f"{i}", 80) for i in range(9)), "{"]))
    words = ["import", str(path), "--store"]
    assert cli.main([*words, str(tmp_path / "s1"), "--max-rejected", "1"]) == 0
    assert capsys.readouterr().out == "read 10 = added 9 + known 0 + rejected 1 (syntax 1)\n"
    assert cli.main([*words, str(tmp_path / "s2"), "--max-rejected", "9%", "--json"]) == 3
    summary = json.loads(capsys.readouterr().out)
    assert (summary["read"], summary["added"], summary["rejects"]) == (10, 9, {"syntax": 1})
    assert cli.main([*words, str(tmp_path / "s3"), "--max-rejected", "10%", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_context_and_foreign_envelopes_become_columns(tmp_path, capsys):
    path = tmp_path / "log.ndjson"
    line = {
        "at": "2024-05-01T00:00:00Z",
        "who": {"app": "ios"},
        "body": json.loads(answer_text("1", 80)),
    }
    path.write_text(json.dumps(line))
    options = "--response-path body --time-path at --context-path who --context region=north"
    where = ["--store", str(tmp_path / "s")]
    assert cli.main(["import", str(path), *options.split(), *where]) == 0
    query = "select month, ctx_app, ctx_region from verifications"
    assert cli.main(["sql", query, "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == [
        {"month": "2024-05", "ctx_app": "ios", "ctx_region": "north"}
    ]


def test_labels_are_added_once(capsys, tmp_path, labelled):
    assert capsys.readouterr() == ("", "")  # --quiet
    words = ["labels", str(tmp_path / "labels.csv"), "--store", str(labelled)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == "read 60 = added 0 + known 60 + refused 0\n"
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"read": 60, "added": 0, "known": 60, "refused": 0, "unknown": 0,
                    "undecided": 0, "refusals": []}  # fmt: skip


def test_refused_lines_are_named_on_stderr_and_end_with_3(capsys, tmp_path, labelled):
    path = tmp_path / "more.csv"
    path.write_text("request_id,mated\nid-000001,true\nid-000002,\x1b[31mred\n")
    words = ["labels", str(path), "--store", str(labelled)]
    assert cli.main(words) == 3
    out, err = capsys.readouterr()
    assert out == "read 2 = added 0 + known 1 + refused 1\n"
    assert err == (
        "verifyanalytics: more.csv, row 2 (line 3), column mated: "
        "'\\x1b[31mred' is not true or false\n"
    )
    assert cli.main([*words, "--max-rejected", "1"]) == 0
    assert cli.main([*words, "--max-rejected", "10%"]) == 3


def test_many_refused_lines_do_not_flood_the_terminal(capsys, tmp_path, labelled):
    path = tmp_path / "bad.csv"
    path.write_text("request_id,mated\nid-000001,true\n" + "id-000002,?\n" * 50)
    assert cli.main(["labels", str(path), "--store", str(labelled), "--json"]) == 3
    out, err = capsys.readouterr()
    assert len(json.loads(out)["refusals"]) == 50
    assert len(err.splitlines()) == 21
    assert (
        err.splitlines()[-1] == "verifyanalytics: 30 more rows are refused; --json lists them all"
    )


@pytest.mark.parametrize(
    ("text", "words", "code", "says"),
    [
        ("request_id,mated,x\na,true,1\n", [], 2, "labels have no column 'x'"),
        ("request_id,mated,x\na,true,1\n", ["--ignore", "x"], 2, "none of 1 labels names a stored"),
        ("mated\ntrue\n", [], 2, "no key"),
        ('request_id,mated\n"a,true\n', [], 3, "cannot be read to its end"),
        (None, [], 2, "no such file"),
        ("request_id,mated\n", ["--max-rejected", "few"], 2, "give a count such as 10"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(capsys, tmp_path, unlabelled, text, words, code, says):
    path = tmp_path / "l.csv"
    if text is not None:
        path.write_text(text)
    assert cli.main(["labels", str(path), "--store", str(unlabelled), *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
