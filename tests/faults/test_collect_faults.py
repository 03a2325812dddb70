"""The collector against a vendor that misbehaves, and against its own sudden death.

The simulator's bill is the oracle: it counts what was processed, whatever the client believes.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from verifyanalytics.collecting.verbs import collect, mark, open_journal, resolve, status
from verifyanalytics.parsing.text import keyed_hash
from verifyanalytics.simulator import FAULTS, serve, token_digest
from verifyanalytics.store.store import Store
from verifyanalytics.vendor.api import UNKNOWN_TOKEN
from verifyanalytics.vendor.client import Client
from verifyanalytics.vendor.credentials import Credentials
from verifyanalytics.vendor.replies import RULES, State
from verifyanalytics.vendor.transport import Timeouts

QUICK = Timeouts(connect=2.0, read=0.4, total=0.8)
PATIENT = Timeouts(connect=10.0, read=20.0, total=60.0)
SILENT = {"stall_before", "stall", "stall_mid_body", "trickle", "slow_head"}
PLANNED = {
    "rate_50429", "rate_50430", "flow_limit", "denied_50400", "signature", "timestamp",
    "lack_policy", "clock_skew", "redirect_301", "redirect_302", "redirect_307", "redirect_308",
}  # fmt: skip
IN_DOUBT = {
    "html_429", "internal_50500", "rpc_50501", "gateway_500", "html_502", "html_503", "html_504",
    "reset_before", "reset_after", "close_before", "close_after", "stall_before", "stall",
    "reset_mid_body", "stall_mid_body", "trickle", "slow_head", "big_header", "many_headers",
    "not_http",
}  # fmt: skip
UNPARSED = {
    "long_length", "short_length", "truncated_chunk", "bad_chunk", "truncated_json", "empty_200",
    "not_json", "bom", "latin1", "utf16", "array", "no_code", "gzip", "gzip_bomb", "huge_body",
}  # fmt: skip
ANSWERED = {"chunked", "no_length", "continue_100", "slow", "garbage_length"}
STATE = {
    **dict.fromkeys(PLANNED, State.PLANNED),
    **dict.fromkeys(IN_DOUBT, State.IN_DOUBT),
    **dict.fromkeys(UNPARSED, State.UNPARSED),
    **dict.fromkeys(ANSWERED, State.OK),
}
OPTIONS = {"clock_skew": "seconds=3600", "slow": "seconds=0.1"}


def request(token):
    return {
        "req_key": "cert_pro_src_verify",
        "byted_token": token,
        "sdk_data": "s",
        "risk_info": "r",
    }


def client(service, timeouts=PATIENT):
    keys = Credentials(service.access_key, service.secret_key)
    return Client(keys, service.address, timeouts=timeouts)


PROOF = ("--no-result-code", ":".join(map(str, UNKNOWN_TOKEN)))
"""What the simulated service answers where it knows of no result; its word is the vendor's."""


def mark_the_rest(store, service, tokens):
    """Settle by hand what no query can: calls that went out before any reply told the time."""
    token_of = {keyed_hash(store.key, "token", token): token for token in tokens}
    for call in status(store).open_calls:
        assert not service.calls(token_of[call.key]).processed
        mark(store, call.key, "NOT_PROCESSED", reason="the service's ledger knows no such call")
    return status(store)


def test_the_table_knows_every_fault():
    assert set(STATE) == set(FAULTS)


@pytest.mark.parametrize("name", sorted(STATE))
def test_twenty_calls_end_in_the_state_of_the_table(name):
    tokens = [f"{name}-{n}" for n in range(20)]
    with serve(seed=1, faults=f"{name} {OPTIONS.get(name, '')}") as service:
        caller = client(service, QUICK if name in SILENT else PATIENT)
        with ThreadPoolExecutor(10) as pool:
            replies = list(pool.map(lambda t: caller.call("CertVerify", request(t)), tokens))
        processed = service.bill().processed
    states = {RULES[reply.outcome].state for reply in replies}
    answered = states <= {State.OK, State.REJECTED} and STATE[name] is State.OK
    assert answered or states == {STATE[name]}
    if STATE[name] is State.PLANNED:
        assert processed == 0
        assert {reply.billed for reply in replies} == {False}


def test_every_shape_of_refusal_is_tried_again_until_it_passes(tmp_path, monkeypatch):
    monkeypatch.setattr("verifyanalytics.collecting.sender.BACKOFF_S", 0.01)
    script = "\n".join(
        f"{name} per_token=1 share=0.05 retry_after={wish}"
        for name in ("rate_50429", "rate_50430", "flow_limit")
        for wish in ("0", "absent", "past", "garbage", "negative")
    )
    tokens = [f"T{n}" for n in range(60)]
    with serve(seed=2, faults=script) as service:
        summary = collect(
            [request(t) for t in tokens], Store(tmp_path / "s"), client=client(service),
            rate=None, workers=8,
        )  # fmt: skip
        bill = service.bill()
    assert summary.exit_code == 0
    assert summary.states["OK"] + summary.states["REJECTED"] == 60
    assert (bill.processed, bill.repeated) == (60, 0)
    assert bill.received > 60


def test_the_clock_follows_the_vendor(tmp_path):
    with serve(seed=3, faults="clock_skew seconds=7200") as service:
        summary = collect(
            [request(f"T{n}") for n in range(12)], Store(tmp_path / "s"), client=client(service),
            rate=None, workers=4,
        )  # fmt: skip
        assert service.bill().processed == 12
    assert summary.exit_code == 0


def test_what_was_lost_is_found_by_query(tmp_path):
    """Half of the lost calls were processed: those get their rows, the others their proof."""
    script = "reset_after share=0.2\nreset_before share=0.2\nhtml_504 share=0.1\nbom share=0.1"
    store = Store(tmp_path / "s")
    tokens = [f"T{n}" for n in range(80)]
    with serve(seed=4, faults=script, ready_after=0.0) as service:
        lines = [request(t) for t in tokens]
        for _ in range(80):
            summary = collect(lines, store, client=client(service), rate=None, workers=4)
            if not summary.states["PLANNED"]:
                break
        assert summary.states["IN_DOUBT"] > 10
        assert summary.states["UNPARSED"] >= 2
        settled = resolve(
            store, client=client(service), rate=None, grace_s=0.0, no_result=UNKNOWN_TOKEN
        )
        settled = mark_the_rest(store, service, tokens)
        bill = service.bill()
        processed = {t for t in tokens if service.calls(t).processed}
    assert bill.repeated == 0
    assert settled.exit_code == 0
    assert settled.states["NOT_PROCESSED"] == len(tokens) - len(processed)
    frame = store.read("verifications")
    assert len(frame) == len(processed) == frame.token.nunique()
    assert store.check() == []


# --- sudden death ----------------------------------------------------------------------------


def environment(service):
    return os.environ | {
        "VOLCENGINE_ACCESS_KEY": service.access_key,
        "VOLCENGINE_SECRET_KEY": service.secret_key,
    }


def command(verb, *words, store, service):
    return [
        sys.executable, "-m", "verifyanalytics", verb, *map(str, words), "--store", str(store),
        "--endpoint", service.address, "--rate", "0", "--json",
    ]  # fmt: skip


def killed_once(words, env, wait, journal):
    """Run until some calls went out and `wait` seconds more, then kill; False when it ended."""
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = journal.stat().st_mtime_ns if journal.exists() else 0
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_mtime_ns != seen:
            break
        time.sleep(0.002)  # the poll of a file that another process writes
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


N_CALLS = 700
"""More than the runs between the kills get through, however fast the machine is."""


def kill_and_restart(tmp_path, kills, seed):
    chance = random.Random(seed)
    tokens = [f"T{n}" for n in range(N_CALLS)]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(request(t)) + "\n" for t in tokens))
    place = tmp_path / "store"
    journal = tmp_path / "store.journal" / "journal.sqlite-wal"
    faults = (
        "reset_after share=0.01\nhtml_504 share=0.01\nrate_50429 share=0.05 retry_after=0\nslow"
        " share=0.2 seconds=0.05\nempty_200 share=0.01"
    )
    n_killed = n_runs = 0
    report = []
    with serve(seed=seed, faults=faults, latency=0.02, ready_after=0.0) as service:
        words = command("collect", path, "--workers", 8, store=place, service=service)
        env = environment(service)
        while True:
            n_runs += 1
            assert n_runs < 400
            if n_killed < kills and killed_once(words, env, chance.uniform(0, 0.5), journal):
                n_killed += 1
                with open_journal(Store(place)) as book:
                    orphans = book.n_orphaned
                assert orphans <= 8
                report.append(orphans)
                continue
            done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
            assert done.returncode in {0, 4}, done.stderr
            if json.loads(done.stdout)["states"]["PLANNED"] == 0:
                break
        states = status(place).states
        open_calls = states["IN_DOUBT"] + states["UNPARSED"]
        assert states["OK"] + states["REJECTED"] + open_calls + states["PLANNED"] == N_CALLS
        assert states["SENT"] == 0
        words = command("resolve", "--grace", "0.5", *PROOF, store=place, service=service)
        time.sleep(0.5)  # the grace itself: the youngest call must be that old to prove anything
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        assert done.returncode in {0, 4}, (done.stdout, done.stderr)
        settled = mark_the_rest(Store(place), service, tokens).states
        bill = service.bill()
        processed = {token for token in tokens if service.calls(token).processed}
        assert max(calls.processed for calls in bill.tokens.values()) == 1
        assert bill.repeated == 0
    assert settled["NOT_PROCESSED"] == N_CALLS - len(processed)
    store = Store(place)
    frame = store.read("verifications")
    assert len(frame) == len(processed) == frame.request_id.nunique() == frame.token.nunique()
    assert {token_digest(t) for t in processed} == {
        d for d, c in bill.tokens.items() if c.processed
    }
    assert store.check() == []
    print(f"\n{n_killed} kills in {n_runs} runs; orphans a kill: {report}; states {states}")
    return n_killed


def test_kills_never_pay_twice(tmp_path):
    assert kill_and_restart(tmp_path, kills=20, seed=11) >= 12


@pytest.mark.nightly
def test_a_hundred_kills_never_pay_twice(tmp_path):
    """As many rounds of 400 tokens as a hundred kills take: each run gets some calls through."""
    n_killed, seed = 0, 12
    while n_killed < 100:
        (tmp_path / str(seed)).mkdir()
        n_killed += kill_and_restart(tmp_path / str(seed), kills=100 - n_killed, seed=seed)
        seed += 1


def test_a_signal_ends_the_run_in_order(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(request(f"T{n}")) + "\n" for n in range(2000)))
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        place = tmp_path / f"store{code}"
        with serve(seed=5, latency=0.05) as service:
            words = command("collect", path, "--workers", 4, store=place, service=service)
            process = subprocess.Popen(
                words, env=environment(service), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            while service.bill().received < 5:
                assert process.poll() is None
                time.sleep(0.01)  # the poll of what another process does
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
            received = service.bill().received
        assert process.returncode == code, err
        states = json.loads(out)["states"]
        assert states["SENT"] == states["IN_DOUBT"] == 0
        assert states["OK"] + states["REJECTED"] == received
        assert len(Store(place).read("verifications")) == received
        assert b"Traceback" not in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_run_at_once(tmp_path, number, code):
    """What was in flight is in doubt then; a person can see it and settle it."""
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(request(f"T{n}")) + "\n" for n in range(20)))
    place = tmp_path / "store"
    with serve(seed=5, faults="stall seconds=60") as service:
        words = command("collect", path, "--workers", 4, store=place, service=service)
        process = subprocess.Popen(
            words, env=environment(service), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while service.bill().received < 4:
            assert process.poll() is None
            time.sleep(0.01)  # the poll of what another process does
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < 20:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        process.kill()
        _, err = process.communicate()
        assert (process.returncode, b"Traceback" in err) == (code, False), err
        assert service.bill().received == 4
    words = [sys.executable, "-m", "verifyanalytics", "status", "--store", str(place)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "IN_DOUBT 4" in done.stdout) == (4, True), done
    stands = status(place)
    assert all(call.key[:8] in done.stdout for call in stands.open_calls)
    words[3:4] = ["mark", stands.open_calls[0].key[:8], "NOT_PROCESSED", "--reason", "seen"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(status(place).open_calls) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_log_on_a_full_disk_ends_the_run_in_order(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(request(f"T{n}")) + "\n" for n in range(200)))
    place = tmp_path / "store"
    with serve(seed=6) as service:
        words = command("collect", path, "--log", "/dev/full", store=place, service=service)
        done = subprocess.run(
            words, env=environment(service), capture_output=True, text=True, timeout=60, check=False
        )
        received = service.bill().received
    assert done.returncode == 7, done
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout)
    assert "log cannot be written" in summary["stopped"]
    assert summary["states"]["SENT"] == 0
    assert summary["added"] == received == summary["sent"] <= 8


def test_a_query_that_was_killed_is_asked_again(tmp_path):
    path = tmp_path / "tokens.txt"
    tokens = [f"T{n}" for n in range(60)]
    path.write_text("\n".join(tokens))
    place = tmp_path / "store"
    journal = tmp_path / "store.journal" / "journal.sqlite-wal"
    with serve(seed=8, latency=0.1, ready_after=0.0) as service:
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda t: client(service).call("CertVerify", request(t)), tokens))
        words = command("query", path, "--workers", 4, store=place, service=service)
        assert killed_once(words, environment(service), 0.2, journal)
        with open_journal(Store(place)) as book:
            assert book.states()[State.IN_DOUBT] > 0
        done = subprocess.run(
            words, env=environment(service), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert service.bill().processed == 60
    assert len(Store(place).read("verifications")) == 60


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from verifyanalytics.cli.app import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_full_disk_stops_every_call(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(request(f"T{n}")) + "\n" for n in range(400)))
    place = tmp_path / "store"
    Store(place, create=True)
    with serve(seed=6) as service:
        words = command("collect", path, "--workers", 8, store=place, service=service)
        limited = [sys.executable, "-c", LIMITED, str(400_000), *words[3:]]
        done = subprocess.run(
            limited, env=environment(service), capture_output=True, text=True, check=False
        )
        assert done.returncode == 7, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        received = service.bill().received
        with open_journal(Store(place)) as book:
            states = book.states()
        # whatever went out had its intent on the disk before
        assert received <= 400 - states[State.PLANNED]
        assert received < 400
        done = subprocess.run(
            words, env=environment(service), capture_output=True, text=True, check=False
        )
        assert done.returncode in {0, 4}, done.stderr
        assert service.bill().repeated == 0


# --- nothing secret anywhere -----------------------------------------------------------------

SECRETS = {
    "access": "AKLTcanaryACCESS",
    "secret": "canarySECRETcanary",
    "session": "STScanarySESSION",
    "sdk": "canarySDKDATA",
    "risk": "canaryRISKINFO",
    "token": "canaryTOKEN",
}


def test_no_secret_leaks_anywhere(tmp_path):
    script = (
        "reset_after share=0.1\nbom share=0.1\nhtml_502 share=0.1\nnot_json share=0.05\n"
        "rate_50429 share=0.1 retry_after=0"
    )
    path = tmp_path / "in" / "requests.jsonl"
    path.parent.mkdir()
    lines = [
        request(f"{SECRETS['token']}{n}")
        | {"sdk_data": SECRETS["sdk"], "risk_info": SECRETS["risk"]}
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"byted_token": "canary')
    work = tmp_path / "work"
    (work / "tmp").mkdir(parents=True)
    world = {"access_key": SECRETS["access"], "secret_key": SECRETS["secret"]}
    said = []
    with serve(
        seed=7, faults=script, session_token=SECRETS["session"], ready_after=0.0, **world
    ) as service:
        env = environment(service) | {
            "VOLCENGINE_SESSION_TOKEN": SECRETS["session"],
            "VERIFYANALYTICS_DEBUG": "1",
            "TMPDIR": str(work / "tmp"),
            "PYTHONDEVMODE": "1",
        }
        log = ("--log", work / "collect.log")
        for words in [
            command("collect", path, *log, store=work / "store", service=service),
            command("collect", path, *log, store=work / "store", service=service),
            command("resolve", "--grace", 0, *PROOF, *log, store=work / "store", service=service),
        ]:
            done = subprocess.run(
                [words[0], "-c", LOGGING, *words[3:]], env=env, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            said += [done.stdout, done.stderr]
    done = subprocess.run(
        [sys.executable, "-m", "verifyanalytics", "export", str(work / "export"), "--format", "csv",
         "--store", str(work / "store")],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said += [done.stdout, done.stderr]
    assert "DEBUG" in said[1]
    for text in said:
        assert "canary" not in text, text[max(0, text.index("canary") - 200) :][:400]
    for file in work.rglob("*"):
        if file.is_file():
            assert b"canary" not in file.read_bytes(), file


LOGGING = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from verifyanalytics.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
