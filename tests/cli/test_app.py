"""The command line: exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from verifyanalytics.cli import app as cli
from verifyanalytics.errors import StorageError, UsageError


@pytest.fixture
def verb():
    """Lend the command line one more verb."""
    before = list(cli.app.registered_commands)
    yield cli.app.command("lent")
    cli.app.registered_commands[:] = before


def start(code: str, **keywords) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **(pipes | keywords))


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
from verifyanalytics.cli import app as cli

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
from verifyanalytics.cli import app as cli

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
    program = "from verifyanalytics.cli import app; raise SystemExit(app.main(['explain', '0']))"
    with open("/dev/full", "w") as full, start(program, stdout=full) as process:  # noqa: PTH123
        _, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert err == "verifyanalytics: output: No space left on device\n"


def test_a_terminal_without_chinese_gets_escapes():
    program = (
        "from verifyanalytics.cli import app as cli\n"
        "raise SystemExit(cli.main(['explain', '0', '--json']))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with start(program, env=environment) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)[0]["zh"] == "比对一致，通过"
