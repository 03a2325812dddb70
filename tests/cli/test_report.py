"""The verb `notebooks`."""

from __future__ import annotations

import json

from verifyanalytics.cli import app as cli


def test_notebooks_are_copied_once(capsys, tmp_path):
    assert cli.main(["notebooks", str(tmp_path / "mine")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == sorted(str(path) for path in (tmp_path / "mine").iterdir())
    assert any(line.endswith("01_first_look.ipynb") for line in told)
    assert cli.main(["notebooks", str(tmp_path / "mine")]) == 2
    assert "already; give another folder" in capsys.readouterr().err


def test_notebooks_as_json(capsys, tmp_path):
    assert cli.main(["notebooks", str(tmp_path / "mine"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(list((tmp_path / "mine").iterdir()))
