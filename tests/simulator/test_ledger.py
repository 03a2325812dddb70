"""The ledger file of a service in another process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from builders.signed_calls import (
    QUERY,
    call,
    good,
    raw_call,
)

from verifyanalytics.errors import StorageError
from verifyanalytics.simulator import (
    read_ledger,
    serve,
    token_digest,
)


class Elsewhere:
    """The address of a service in another process."""

    def __init__(self, address):
        self.port = int(address.rpartition(":")[2])


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "faults.txt").write_text("close_after calls=2\n", encoding="utf-8")
    (tmp_path / "secret").write_text("of the verb\nsecond line\n", encoding="utf-8")
    command = [
        sys.executable, "-m", "verifyanalytics", "serve", "--seed", "4", "--access-key", "AKLTVERB",
        "--secret-key-file", str(tmp_path / "secret"), "--faults", str(tmp_path / "faults.txt"),
        "--ledger", str(tmp_path / "ledger.jsonl"), "--set", "impostor_share=0.5",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:")
        yield process, Elsewhere(line.strip()), tmp_path / "ledger.jsonl"
        process.kill()


def test_the_ledger_survives_a_kill(elsewhere):
    process, running, ledger = elsewhere
    keys = {"key": "AKLTVERB", "secret": "of the verb"}
    raw_call(running, "a", **keys)
    raw_call(running, "b", **keys)
    raw_call(running, "b", **keys)
    wanted = {"req_key": "cert_pro_verify_query", "byted_token": "a"}
    call(running, fields=wanted, target=QUERY, **keys)
    assert call(running, "c").gateway == "InvalidAccessKey"
    process.kill()
    process.wait()
    counts = read_ledger(ledger)
    assert counts == {
        token_digest("a"): {"processed": 1, "refused": 0, "query": 1},
        token_digest("b"): {"processed": 2, "refused": 0, "query": 0},
    }
    text = ledger.read_text(encoding="utf-8")
    assert '"fault": "close_after"' in text
    ledger.write_text(text[:-5], encoding="utf-8")  # a line that a kill cut off is no event
    assert read_ledger(ledger)[token_digest("a")]["query"] == 0


def test_a_signal_ends_the_server_in_order(elsewhere):
    process, running, _ = elsewhere
    good(raw_call(running, key="AKLTVERB", secret="of the verb")[0])
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == ""
    assert process.wait() == 0


def test_a_ledger_that_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match="cannot write"), serve(ledger=tmp_path / "no" / "l"):
        pass
