"""The command line: exit codes, clean output, one line for whatever goes wrong."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifyanalytics.cli import app as cli
from verifyanalytics.cli import output
from verifyanalytics.cli.options import MaxRejected, pairs
from verifyanalytics.errors import StorageError, UsageError


@pytest.fixture
def verb():
    """Lend the command line one more verb."""
    before = list(cli.app.registered_commands)
    yield cli.app.command("lent")
    cli.app.registered_commands[:] = before


def squeeze(line: str) -> str:
    return re.sub(" +", " ", line).strip()


def start(code: str, **keywords) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **(pipes | keywords))


# ------------------------------------------------------------------ usage


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["explain"], "Missing argument 'code'"),
        (["explain", "1", "2"], "unexpected extra argument"),
        (["explain", "1", "--nope"], "No such option: --nope"),
        (["explain", "1", "--lang", "fr"], "no language 'fr'; there are: en, zh, both"),
        (["sql", "select 1", "--limit", "x"], "Invalid value for '--limit'"),
        (["sql", "select 1", "--limit", "-1"], "Invalid value for '--limit'"),
        (["sql", "select 1", "--json", "--csv"], "give one of them"),
        (["import"], "Missing argument 'paths'"),
        (["import", "x", "--workers", "-1"], "Invalid value for '--workers'"),
        (["import", "x", "--max-rejected", "few"], "give a count such as 10, or 0.5%"),
        (["import", "x", "--context", "app"], "--context 'app': give NAME=VALUE"),
        (["simulate"], "Missing option '--out'"),
        (["simulate", "--out", "x", "--set", "nope=1"], "--set 'nope': the world has"),
        (["simulate", "--out", "x", "--set", "k=much"], "--set k=much: Expected `float`"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, arguments, says):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


def test_no_verb_prints_the_help(capsys):
    assert cli.main([]) == 2
    assert "Usage: verifyanalytics" in capsys.readouterr().out


def test_help_and_version_are_done(capsys):
    assert cli.main(["--help"]) == 0
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.endswith("0.1.0\n")


READING = ["tables", "versions", "check", "sql", "export", "compact", "vacuum"]


@pytest.mark.parametrize("verb_name", READING)
def test_a_verb_that_reads_never_makes_a_store(capsys, tmp_path, verb_name):
    words = {"sql": ["select 1"], "export": [str(tmp_path / "out")]}.get(verb_name, [])
    missing = tmp_path / "none"
    assert cli.main([verb_name, *words, "--store", str(missing)]) == 2
    assert f"no store at {missing}; import first" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ the verbs of a store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """A store with four answers and two rejects, imported by the verb."""
    folder = tmp_path_factory.mktemp("street")
    answers = [answer(f"{i}", score=60 + 10 * i) for i in range(4)]
    (folder / "answers.ndjson").write_text("\n".join([*answers, "{", "[1]"]))
    path = str(folder / "store")
    assert cli.main(["import", str(folder / "answers.ndjson"), "--store", path]) == 3
    return path


def answer(request_id: str, score: float) -> str:
    details = {"score": score, "alive": True, "thresholds": {"1e-3": 60, "1e-4": 70}}
    data = {"result": score >= 70, "source_comp_details": details}
    return json.dumps({"code": 10000, "request_id": request_id, "data": data})


def test_an_import_says_one_line_and_its_exit_code_knows_the_rejects(tmp_path, capsys):
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join([*(answer(f"{i}", 80) for i in range(9)), "{"]))
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
        "body": json.loads(answer("1", 80)),
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


def test_simulate_writes_what_import_reads(tmp_path, capsys):
    out = str(tmp_path / "world")
    assert cli.main(["simulate", "-n", "50", "--out", out, "--set", "k=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 50
    assert cli.main(["import", out, "--store", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 50


# ------------------------------------------------------------------ explain


def test_explain_prints_one_line_a_meaning(capsys):
    assert cli.main(["explain", "210302", "--lang", "both"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("（")[0].split(" (")[0] for line in lines] == ["210302", "210302"]
    assert "人脸图片质量差" in lines[1]


def test_explain_as_json(capsys):
    assert cli.main(["explain", "14004", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["kind"] == "risk_tag"
    assert entry["zh"] == "设备环境异常"


def test_explain_answers_what_is_not_in_the_book(capsys):
    assert cli.main(["explain", "x\x1b[31m\u202e"]) == 0
    assert capsys.readouterr().out.startswith(r"x\x1b[31m\u202e (not in the code book)")


def test_a_code_book_that_does_not_fit_is_named(capsys, tmp_path, monkeypatch):
    path = tmp_path / "book.json"
    path.write_text('{"codes": {"x": {}}}')
    monkeypatch.setenv("VERIFYANALYTICS_CODEBOOK", str(path))
    assert cli.main(["explain", "1"]) == 2
    assert "codes 'x': the key must be a whole number" in capsys.readouterr().err


# ------------------------------------------------------------------ when things go wrong


def test_a_fault_of_ours_is_one_line_and_exit_1(verb, capsys, monkeypatch):
    @verb
    def lent() -> int:
        return 1 // 0

    assert cli.main(["lent"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("verifyanalytics: a fault of ours: ZeroDivisionError")
    assert err.count("\n") == 1
    monkeypatch.setenv("VERIFYANALYTICS_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["lent"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageError("disk full"), 7),
        (OSError(28, "No space left on device", "f"), 7),
        (UsageError("x\nturned\u202e"), 2),
    ],
)
def test_errors_carry_their_exit_code_and_are_cleaned(verb, capsys, error, code):
    @verb
    def lent() -> int:
        raise error

    assert cli.main(["lent"]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\u202e" not in err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_unwinds_and_has_its_exit_code(number, code):
    program = """
import sys
from verifyanalytics import cli

@cli.app.command()
def wait() -> int:
    try:
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        print("tidied", flush=True)
    return 0

sys.exit(cli.main(["wait"]))
"""
    with start(program) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (code, "tidied\n", "")


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_has_seen_enough_ends_us_quietly():
    program = """
import sys
from verifyanalytics import cli

@cli.app.command()
def much() -> int:
    while True:
        print("x" * 1000)

sys.exit(cli.main(["much"]))
"""
    with start(program) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_under_stdout_is_exit_7():
    program = "import sys; from verifyanalytics import cli; sys.exit(cli.main(['explain', '0']))"
    with open("/dev/full", "w") as full, start(program, stdout=full) as process:  # noqa: PTH123
        _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert err == "verifyanalytics: output: No space left on device\n"


def test_a_terminal_without_chinese_gets_escapes():
    program = (
        "from verifyanalytics.cli.app import main\n"
        "raise SystemExit(main(['explain', '0', '--json']))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with start(program, env=environment) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)[0]["zh"] == "比对一致，通过"


# ------------------------------------------------------------------ what is printed


def test_a_table_shows_nulls_numbers_and_hostile_text(capsys):
    frame = pd.DataFrame(
        {"n": [1, 12345678], "rate": [0.5, float("nan")], "tag": ["\x1b]0;x\x07", "中文"]}
    )
    output.print_frame(frame)
    out = capsys.readouterr().out
    assert r"\x1b]0;x\x07" in out
    assert "12\u202f345\u202f678" in out
    assert [line.split(" ")[-2] for line in map(squeeze, out.splitlines()[-2:])] == ["0.5", "–"]
    assert "\x1b" not in out


def test_codes_are_names_and_counts_are_amounts(capsys):
    frame = pd.DataFrame(
        {"code": [50215], "sub_code": [210302], "source_row": [12345], "n": [50215]}
    )
    output.print_frame(frame)
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown.split()[:3] == [
        "50215",
        "210302",
        "12345",
    ]
    assert "50\u202f215" in shown


def test_a_wide_table_is_not_cut_when_piped(capsys):
    frame = pd.DataFrame({f"column_{i}": ["x" * 20] for i in range(30)})
    output.print_frame(frame)
    assert capsys.readouterr().out.count("x" * 20) == 30


def test_json_keeps_values_and_two_columns_of_one_name(capsys):
    frame = pd.DataFrame([[1, None, pd.Timestamp("2024-05-01", tz="UTC"), ["a"]]])
    frame.columns = ["a", "a", "t", "l"]
    output.print_frame(frame, as_json=True)
    assert json.loads(capsys.readouterr().out) == [
        {"a": 1, "a_2": None, "t": "2024-05-01T00:00:00+00:00", "l": ["a"]}
    ]


def test_csv_disarms_formulas_and_keeps_numbers(capsys):
    frame = pd.DataFrame({"=x": ["=1+1", "@a", "-2", 'a"b'], "n": [-1.5, 2, float("nan"), 0]})
    output.print_frame(frame, as_csv=True)
    assert capsys.readouterr().out.splitlines() == [
        "'=x,n",
        "'=1+1,-1.5",
        "'@a,2.0",
        "'-2,",
        '"a""b",0.0',
    ]


@given(st.text())
def test_cleaned_text_steers_nothing(text):
    cleaned = output.clean(text)
    assert not any(c in cleaned for c in "\x00\x07\x08\x1b\x7f\x9b\n\r\u202e\u2066\u200f\ufeff")
    assert cleaned.isprintable() or any(not c.isprintable() for c in text)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_json_output_means_what_it_was_given(value):
    file = io.StringIO()
    output.print_json(value, file)
    document = file.getvalue()
    assert json.loads(document) == value
    assert output.clean(document[:-1]) == document[:-1]


# ------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("text", "rejected", "read", "exceeded"),
    [
        ("0", 0, 0, False),
        ("0", 1, 100, True),
        ("5", 5, 10, False),
        ("5", 6, 10**9, True),
        ("1%", 10, 1000, False),
        ("1%", 11, 1000, True),
        ("0%", 1, 1000, True),
        ("100%", 1000, 1000, False),
    ],
)
def test_max_rejected(text, rejected, read, exceeded):
    assert MaxRejected.parse(text).exceeded(rejected=rejected, read=read) is exceeded


@pytest.mark.parametrize("text", ["", "x", "-1", "-1%", "101%", "nan%", "1.5", "1e999%", "%"])
def test_max_rejected_refuses(text):
    with pytest.raises(UsageError, match="give a count such as 10"):
        MaxRejected.parse(text)


def test_pairs():
    assert pairs(["app=2.1", "note=a=b", "empty="], "--context") == {
        "app": "2.1",
        "note": "a=b",
        "empty": "",
    }
    for words in (["app"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--context"):
            pairs(words, "--context")
