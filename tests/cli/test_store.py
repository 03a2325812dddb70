"""The verbs of a store."""

from __future__ import annotations

import io
import json
import shutil

import pytest
from builders.answers import answer_text

from verifyanalytics.cli import app as cli

READING = ["tables", "versions", "check", "sql", "export", "compact", "vacuum"]


@pytest.mark.parametrize("verb_name", READING)
def test_a_verb_that_reads_never_makes_a_store(capsys, tmp_path, verb_name):
    words = {"sql": ["select 1"], "export": [str(tmp_path / "out")]}.get(verb_name, [])
    missing = tmp_path / "none"
    assert cli.main([verb_name, *words, "--store", str(missing)]) == 2
    assert f"no store at {missing}; import first" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """A store with four answers and two rejects, imported by the verb."""
    folder = tmp_path_factory.mktemp("street")
    answers = [answer_text(f"{i}", score=60 + 10 * i) for i in range(4)]
    (folder / "answers.ndjson").write_text("\n".join([*answers, "{", "[1]"]))
    path = str(folder / "store")
    assert cli.main(["import", str(folder / "answers.ndjson"), "--store", path]) == 3
    return path


def test_tables_and_versions(store, capsys):
    assert cli.main(["tables", "--store", store, "--json"]) == 0
    rows = {row["table"]: row["rows"] for row in json.loads(capsys.readouterr().out)}
    assert (rows["verifications"], rows["rejects"]) == (4, 2)
    assert cli.main(["versions", "--store", store, "--json"]) == 0
    assert [row["verb"] for row in json.loads(capsys.readouterr().out)] == ["create", "import"]


def test_sql_as_a_table_as_json_and_as_csv(store, capsys, monkeypatch):
    query = "select request_id, score from verifications where score >= 80 order by score"
    assert cli.main(["sql", query, "--store", store]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["2", "80"],
        ["3", "90"],
    ]
    assert cli.main(["sql", query, "--store", store, "--csv"]) == 0
    assert capsys.readouterr().out == "request_id,score\n2,80.0\n3,90.0\n"
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("select count(*) as n, sum(code) as s from rejects")
    )
    assert cli.main(["sql", "-", "--store", store, "--json"]) == 2  # rejects have no code
    assert "code" in capsys.readouterr().err
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("select count(*) as n, sum(code) as s from verifications")
    )
    assert cli.main(["sql", "-", "--store", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"n": 4, "s": 40000}]


def test_sql_shows_the_first_rows_to_a_person_and_all_to_a_program(store, capsys):
    query = "select request_id from verifications"
    assert cli.main(["sql", query, "--store", store, "--limit", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert cli.main(["sql", query, "--store", store, "--limit", "1", "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize(
    "query", ["selec 1", "drop table verifications", "select nope from labels"]
)
def test_a_query_that_cannot_work_is_one_line(store, capsys, query):
    assert cli.main(["sql", query, "--store", store]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_check_says_so_when_it_adds_up_and_when_it_does_not(store, capsys, tmp_path):
    assert cli.main(["check", "--deep", "--store", store]) == 0
    assert capsys.readouterr().out == "the store adds up\n"
    damaged = tmp_path / "store"
    shutil.copytree(store, damaged)
    shutil.copy(f"{store}.key", f"{damaged}.key")
    next(damaged.rglob("kind=reject/**/*.parquet")).unlink()
    assert cli.main(["check", "--store", str(damaged)]) == 8
    assert "reject" in capsys.readouterr().out
    assert cli.main(["check", "--store", str(damaged), "--json"]) == 8
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_export_compact_and_vacuum(store, capsys, tmp_path):
    words = ["export", str(tmp_path / "out"), "--format", "csv", "--store", store]
    assert cli.main(words) == 0
    assert (tmp_path / "out" / "verifications.csv").read_text().count("\n") == 5
    assert cli.main(words) == 2
    assert cli.main([*words, "--overwrite", "--quiet"]) == 0
    assert cli.main(["export", str(tmp_path / "x"), "--format", "xls", "--store", store]) == 2
    capsys.readouterr()
    assert cli.main(["compact", "--store", store]) == 0
    assert capsys.readouterr().out == "nothing to merge\n"
    assert cli.main(["vacuum", "--dry-run", "--json", "--store", store]) == 0
    assert json.loads(capsys.readouterr().out) == {"dry_run": True, "files": []}
