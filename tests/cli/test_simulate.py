"""The verbs of the simulated vendor."""

from __future__ import annotations

import json

import pytest

from verifyanalytics.cli import app as cli


def test_simulate_writes_what_import_reads(tmp_path, capsys):
    out = str(tmp_path / "world")
    assert cli.main(["simulate", "-n", "50", "--out", out, "--set", "k=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == 50
    assert cli.main(["import", out, "--store", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 50


@pytest.mark.parametrize("text", [None, "", " \nx"])
def test_a_secret_file_without_a_secret(tmp_path, capsys, text):
    if text is not None:
        (tmp_path / "secret").write_text(text, encoding="utf-8")
    assert cli.main(["serve", "--secret-key-file", str(tmp_path / "secret")]) == 2
    assert "secret key" in capsys.readouterr().err
