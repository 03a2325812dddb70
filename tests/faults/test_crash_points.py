"""Every call that changes a file is a crash point: a kill, an error of the disk, or a power cut.

A small C library (`crash_shim.c`) counts these calls in a whole run of a verb and breaks one. After
that the store is whole or says what is damaged, running the verb again ends it, and the rows are
those of a run that nothing broke. A power cut takes what was not flushed: names in folders, and
files that never were.

By default every eleventh point of a verb is broken, in turn by each means; with
VERIFYANALYTICS_NIGHTLY=1 every point by every means.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders.stored_answers import line, write_lines

import verifyanalytics as va

pytestmark = [
    pytest.mark.second_tier,
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (cc)"),
]

NIGHTLY = os.environ.get("VERIFYANALYTICS_NIGHTLY") == "1"
MEANS = ("kill-before", "power", "eio", "kill-after", "enospc", "short")
N_CALLS = 4


# -------------------------------------------------------------------------------- the verbs


def importing(place: Path) -> None:
    va.import_responses(place / "b.ndjson", place / "store")


def making(place: Path) -> None:
    va.import_responses(place / "a.ndjson", place / "new")


def compacting(place: Path) -> None:
    va.Store(place / "store").compact()


def labelling(place: Path) -> None:
    va.import_labels(place / "labels.csv", place / "store")


def erasing(place: Path) -> None:
    va.erase(place / "store", request_ids=[(place / "chosen").read_text()])


def collecting(place: Path) -> None:
    access = json.loads((place / "service.json").read_text())
    credentials = va.Credentials(access["access_key"], access["secret_key"])
    client = va.Client(credentials, access["address"])
    requests = [
        {"req_key": "cert_pro_src_verify", "byted_token": f"{place.name}-{n}", "sdk_data": "…",
         "risk_info": "…"}
        for n in range(N_CALLS)
    ]  # fmt: skip
    va.collect(requests, place / "store", client=client, workers=2, rate=None)


VERBS: dict[str, Callable[[Path], None]] = {
    verb.__name__: verb for verb in (importing, making, compacting, labelling, erasing, collecting)
}


def rows_of(place: Path) -> tuple[list[str], int, int]:
    """What a store holds: each verification without its batch, rejects, labels."""
    store = va.Store(place / ("new" if (place / "new").exists() else "store"))
    query = (
        "SELECT md5(request_id || coalesce(score::VARCHAR, '') || coalesce(code::VARCHAR, '')) AS h"
        " FROM verifications ORDER BY h"
    )
    rows = store.sql(query)["h"].tolist()
    return rows, len(store.read("rejects")), len(store.read("labels"))


# -------------------------------------------------------------------------------- the shim


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "crash_shim.so"
    source = Path(__file__).with_name("crash_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store with two imports, a reject, and labels; more of each to come."""
    place = tmp_path_factory.mktemp("template")
    write_lines(place / "a.ndjson", [line(n) for n in range(6)])
    write_lines(place / "c.ndjson", [line(n) for n in range(6, 9)])
    (place / "b.ndjson").write_bytes(b"{\n" + b"\n".join(line(n) for n in range(9, 14)) + b"\n")
    store = va.Store(place / "store", create=True)
    for name in ("a.ndjson", "c.ndjson"):
        va.import_responses(place / name, store)
    ids = store.read()["request_id"].tolist()
    (place / "chosen").write_text(ids[2])
    (place / "labels.csv").write_text("request_id,mated\n" + "".join(f"{i},true\n" for i in ids))
    store.close()
    return place


@dataclass
class Run:
    """One broken run of a verb in a copy of the template."""

    code: int
    said: str
    n_points: int
    log: list[list[str]]


def broken(shim: Path, place: Path, verb: str, at: int, how: str) -> Run:
    """Run a verb in a process of its own and break its call number `at`."""
    side = place.with_name(f"{place.name}-side")
    (side / "trash").mkdir(parents=True)
    (side / "state").write_bytes(struct.pack("QQ", 0, at))
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "SHIM_ROOT": str(place),
        "SHIM_STATE": str(side / "state"),
        "SHIM_LOG": str(side / "log"),
        "SHIM_TRASH": str(side / "trash"),
        "SHIM_DO": "kill-before" if how == "power" else how,
        "PYTHONPATH": f"{Path(va.__file__).parents[1]}{os.pathsep}{Path(__file__).parents[1]}",
    }
    script = (
        "import sys, pathlib\n"
        "from verifyanalytics.errors import VerifyAnalyticsError\n"
        "from faults.test_crash_points import VERBS\n"
        "try:\n    VERBS[sys.argv[1]](pathlib.Path(sys.argv[2]))\n"
        "except VerifyAnalyticsError as error:\n"
        "    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, verb, str(place)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (n_points, _) = struct.unpack("QQ", (side / "state").read_bytes())
    log = [entry.split("\t") for entry in (side / "log").read_text().splitlines()]
    if how == "power":
        cut_power(log, side / "trash")
    return Run(done.returncode, done.stderr, n_points, log)


def cut_power(log: list[list[str]], trash: Path) -> None:
    """Take back what was not flushed: names in folders, and files that never were."""
    names: dict[str, list[tuple[int, str, str, str]]] = {}
    inode: dict[str, int] = {}
    dirty: set[int] = set()
    for text, call, path, other in log:
        number, folder = int(text), str(Path(other or path).parent)
        inode.setdefault(path, number)
        if call == "create":
            inode[path] = number
            dirty.add(number)
        if call in {"create", "mkdir", "rename", "link", "unlink", "rmdir"}:
            names.setdefault(folder, []).append((number, call, path, other))
        if call in {"rename", "link"}:
            inode[other] = inode[path]
        if call == "sync":
            names.pop(path, None)
            dirty.discard(inode[path])
    lost = {path for path, number in inode.items() if number in dirty}
    for path in lost:
        if Path(path).is_file():
            os.truncate(path, 0)
    for number, call, path, other in sorted(itertools.chain(*names.values()), reverse=True):
        kept = trash / str(number)
        if call == "mkdir":
            shutil.rmtree(path, ignore_errors=True)
        elif call in {"create", "link"}:
            Path(other or path).unlink(missing_ok=True)
        elif call == "rename" and Path(other).exists():
            with contextlib.suppress(FileExistsError):
                os.link(other, path)
            Path(other).unlink()
        if kept.exists():
            back = Path(other or path)
            back.parent.mkdir(parents=True, exist_ok=True)
            kept.replace(back)


# -------------------------------------------------------------------------------- the proof


def points(n_points: int) -> list[tuple[int, str]]:
    """The points to break and how: every one by every means, or each eleventh by one."""
    if NIGHTLY:
        return [(at, how) for at in range(1, n_points + 1) for how in MEANS]
    chosen = range(3, n_points + 1, 11)
    return [(at, MEANS[turn % len(MEANS)]) for turn, at in enumerate(chosen)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_crash_at_any_point_leaves_the_store_whole(verb, shim, template, tmp_path):
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(va.serve(seed=1)) if verb == "collecting" else None

        def copy(name: str) -> Path:
            place = tmp_path / name
            shutil.copytree(template, place)
            if service is not None:
                access = {name: getattr(service, name) for name in ("access_key", "secret_key")}
                access["address"] = service.address
                (place / "service.json").write_text(json.dumps(access))
            return place

        whole = copy("whole")
        first = broken(shim, whole, verb, 0, "none")
        assert first.code == 0, first.said
        wanted = rows_of(whole)
        wrong = []
        for at, how in points(first.n_points):
            place = copy(f"{at}-{how}")
            run = broken(shim, place, verb, at, how)
            said = after(place, verb, run, how, wanted)
            if service is not None and service.bill().repeated:
                said = "a call was made twice"
            wrong += [f"point {at} {how} {run.log[at - 1 : at]}: {said}"] if said else []
            shutil.rmtree(place)
            shutil.rmtree(place.with_name(f"{place.name}-side"))
        assert not wrong, "\n".join(wrong)


def after(place: Path, verb: str, run: Run, how: str, wanted: tuple[list[str], int, int]) -> str:
    """Look at what a broken run left, run the verb again, and say what is wrong."""
    killed = how in {"kill-before", "kill-after", "power"}
    if "Traceback" in run.said or run.code not in ({-signal.SIGKILL, 0} if killed else {0, 7, 8}):
        return f"ended with {run.code}: {run.said[-500:]}"
    try:
        for name in ("store", "new"):
            if (place / name / "responses" / "_delta_log").is_dir():
                store = va.Store(place / name)
                with contextlib.suppress(va.errors.NoStoreError):  # it is half made
                    findings = store.check(deep=True)
                    if [found for found in findings if "erasure was begun" not in found]:
                        store.repair()
        VERBS[verb](place)
        store = va.Store(place / ("new" if verb == "making" else "store"))
        findings = store.check(deep=True)
        if findings:
            return f"afterwards: {findings}"
        found = rows_of(place)
    except va.errors.VerifyAnalyticsError as error:
        return f"afterwards: {type(error).__name__} {error}"
    if verb == "collecting":  # a call whose answer was lost stays in doubt, and is made once
        states = va.status(place / "store").states
        n_rows, n_doubted = len(found[0]) - len(wanted[0]) + N_CALLS, states["IN_DOUBT"]
        return "" if n_rows + n_doubted == N_CALLS else f"{n_rows} rows, {states}"
    return "" if found == wanted else f"other rows: {found[1:]}, {len(found[0])} rows"
