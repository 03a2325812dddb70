"""A store with one damaged file: each verb says so, or gives the right rows."""

from __future__ import annotations

import shutil

import pytest
from builders.stored_answers import line, write_lines

import verifyanalytics as va
from verifyanalytics.cli import app as cli
from verifyanalytics.errors import CheckError

N = 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two imports, a context column that came with the second, and labels."""
    folder = tmp_path_factory.mktemp("whole")
    store = va.Store(folder / "store")
    first = write_lines(folder / "a.ndjson", [line(n) for n in range(N)])
    second = write_lines(folder / "b.ndjson", [line(n) for n in range(N, 2 * N)])
    va.import_responses(first, store)
    va.import_responses(second, store, context={"channel": "app"})
    ids = store.read("verifications")["request_id"].head(3)
    labels = folder / "labels.csv"
    labels.write_text("request_id,mated\n" + "".join(f"{id_},true\n" for id_ in ids))
    va.import_labels(labels, store)
    store.close()
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def files_of(whole):
    store = whole / "store"
    return sorted(
        str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()
    )  # fmt: skip


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 16
    path.write_bytes(bytes(data))


DAMAGE = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "gone": lambda path: path.unlink(),
    "one bit": flip,
    "a control character": lambda path: path.write_bytes(b"\x01" + path.read_bytes()),
}
VERBS = {
    "check": ["check"],
    "deep": ["check", "--deep"],
    "scores": ["sql", "select round(sum(score), 3) from verifications", "--csv"],
    "known": ["import", "a.ndjson"],
    "compact": ["compact"],
}


def run(words, folder, capsys):
    words = [str(folder / word) if word.endswith(".ndjson") else word for word in words]
    code = cli.main([*words, "--store", str(folder / "store"), "--quiet"])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "fault of ours" not in said.err
    return code, said.out + said.err


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_told_or_does_not_matter(whole, tmp_path, capsys, how):
    right = run(VERBS["scores"], whole, capsys)[1]
    for file in files_of(whole):
        folder = tmp_path / file.replace("/", "+")[-80:]
        shutil.copytree(whole, folder)
        DAMAGE[how](folder / "store" / file)
        # one process opens it for the first time: no cached version hides anything
        for name in ("check", "deep", "scores", "known", "compact"):
            code, said = run(VERBS[name], folder, capsys)
            assert code in {0, 7, 8}, (file, name, said)
            if name == "deep" and "_head" not in file:
                assert code in {7, 8}, (file, said)
            if name == "scores" and code == 0:
                assert said == right, file
            if code:
                assert any(
                    part in said for part in (str(folder), "kind=", "batch", "source", "labels/")
                )
        shutil.rmtree(folder)


def test_an_emptied_entry_names_the_import_to_repeat_and_repair_goes_back(folder, capsys):
    """What a power cut leaves of a commit that was not flushed."""
    store = folder / "store"
    newest = sorted((store / "responses" / "_delta_log").glob("*.json"))[-1]
    newest.write_bytes(b"")
    for words in (["check"], ["sql", "select count(*) from verifications"], ["import", "b.ndjson"]):
        code, said = run(words, folder, capsys)
        assert (code, newest.name in said, "b.ndjson" in said, "a.ndjson" in said) == (
            8, True, True, False
        )  # fmt: skip
    assert "import again" in va.Store(store).repair(dry_run=True)[0]
    (said,) = va.Store(store).repair()
    assert "b.ndjson" in said
    assert run(["repair"], folder, capsys)[0] == 0
    summary = va.import_responses(folder / "b.ndjson", store, context={"channel": "app"})
    assert summary.added == N
    reopened = va.Store(store)
    assert reopened.check(deep=True) == []
    assert len(reopened.read("verifications")) == 2 * N


def test_an_older_log_is_seen(folder, tmp_path):
    store = va.Store(folder / "store")
    shutil.copytree(store.path / "responses" / "_delta_log", tmp_path / "old")
    write_lines(folder / "c.ndjson", [line(n) for n in range(90, 95)])
    va.import_responses(folder / "c.ndjson", store)
    shutil.rmtree(store.path / "responses" / "_delta_log")
    shutil.copytree(tmp_path / "old", store.path / "responses" / "_delta_log")
    with pytest.raises(CheckError, match=r"c\.ndjson"):
        va.Store(store.path).read("verifications")
    with pytest.raises(CheckError, match="is missing"):
        va.import_responses(folder / "a.ndjson", va.Store(store.path))


def test_a_log_that_is_gone_is_not_made_anew(folder):
    shutil.rmtree(folder / "store" / "responses" / "_delta_log")
    with pytest.raises(CheckError, match=r"a\.ndjson, .*b\.ndjson"):
        va.import_responses(folder / "a.ndjson", folder / "store")


def test_a_torn_entry_above_the_head_was_never_confirmed(folder):
    log = folder / "store" / "responses" / "_delta_log"
    (log / f"{99:020}.json").write_bytes(b"")
    last = int(sorted(log.glob("*.json"))[-2].name[:20])
    (log / f"{99:020}.json").rename(log / f"{last + 1:020}.json")
    store = va.Store(folder / "store")
    assert store.check(deep=True) == []
    assert va.import_responses(folder / "a.ndjson", store).added == 0
    assert (log / f"{last + 1:020}.json.torn").exists()


def test_a_commit_that_the_disk_does_not_confirm_is_no_success(folder, monkeypatch):
    from verifyanalytics.store import tables

    def fails(path):
        raise OSError(5, "Input/output error")

    write_lines(folder / "c.ndjson", [line(n) for n in range(90, 95)])
    with monkeypatch.context() as patched:
        patched.setattr(tables, "sync", fails)
        with pytest.raises(va.errors.StorageError, match="did not confirm"):
            va.import_responses(folder / "c.ndjson", folder / "store")
    store = va.Store(folder / "store")
    assert va.import_responses(folder / "c.ndjson", store).already_imported == 5
    assert store.check(deep=True) == []


def test_every_flipped_bit_of_a_data_file_is_found(folder):
    store = va.Store(folder / "store")
    (path, *_) = sorted((store.path / "responses").rglob("kind=verification/*/*.parquet"))
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 40)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        path.write_bytes(bytes(flipped))
        assert store.check(deep=True) != [], at
    path.write_bytes(data)
    assert store.check(deep=True) == []


@pytest.mark.parametrize("how", ["one bit", "halved", "gone"])
@pytest.mark.parametrize("kind", ["verification", "reject", "import", "labels"])
def test_a_damaged_data_file_is_taken_out_and_its_sources_come_back(folder, kind, how):
    store = va.Store(folder / "store")
    third = folder / "c.ndjson"
    third.write_bytes(b"{\n" + b"\n".join(line(n) for n in range(2 * N, 2 * N + 5)) + b"\n")
    va.import_responses(third, store)
    before = store.read().sort_values("request_id").drop(columns=["batch"])
    files = sorted((store.path / "responses").rglob(f"kind={kind}/*/*.parquet"))
    files = files or sorted((store.path / "labels").glob("*.parquet"))
    chosen = files[-1]  # of the third source, which has a reject
    DAMAGE[how](chosen)
    store.close()
    store = va.Store(folder / "store")
    said = store.repair(dry_run=True)
    assert chosen.name in said[0]
    assert store.repair() == said
    assert store.repair() == []
    assert store.check(deep=True) == []
    for name in ("a.ndjson", "b.ndjson", "c.ndjson"):
        context = {"channel": "app"} if name == "b.ndjson" else None
        va.import_responses(folder / name, store, context=context)
    after = store.read().sort_values("request_id").drop(columns=["batch"])
    assert after.reset_index(drop=True).equals(before.reset_index(drop=True))
    assert len(store.read("rejects")) == (2 if kind == "import" else 1)
    assert store.check(deep=True) == []
    if kind == "verification":
        assert any("import again" in text and "/" in text for text in said)


def test_what_cannot_be_removed_after_the_commit_is_no_failure(folder, monkeypatch, caplog):
    from pathlib import Path

    def failing(method):
        def act(self, *args, **options):
            if "_staging" in str(self):
                raise OSError(5, "Input/output error", str(self))
            return method(self, *args, **options)

        return act

    write_lines(folder / "c.ndjson", [line(n) for n in range(90, 95)])
    store = va.Store(folder / "store")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", failing(Path.unlink))
        patched.setattr(Path, "rmdir", failing(Path.rmdir))
        assert va.import_responses(folder / "c.ndjson", store).added == 5
    store.close()  # what it still owns of the staging folders
    assert "left behind" in caplog.text
    assert va.Store(folder / "store").check(deep=True) == []


def test_rows_of_a_journal_come_back_from_its_raw_answers(tmp_path, capsys):
    requests = [
        {"req_key": "cert_pro_src_verify", "byted_token": f"token-{n}", "sdk_data": "…",
         "risk_info": "…"}
        for n in range(5)
    ]  # fmt: skip
    store = va.Store(tmp_path / "store", create=True)
    with va.serve(seed=1) as service:
        client = va.Client(va.Credentials(service.access_key, service.secret_key), service.address)
        va.collect(requests, store, client=client)
    before = store.read().sort_values("request_id").drop(columns=["batch"])
    (path,) = (store.path / "responses").rglob("kind=verification/*/*.parquet")
    path.unlink()
    store.close()
    assert cli.main(["repair", "--store", str(store.path)]) == 0
    assert "5 rows came back" in capsys.readouterr().out
    store = va.Store(store.path)
    after = store.read().sort_values("request_id").drop(columns=["batch"])
    assert after.reset_index(drop=True).equals(before.reset_index(drop=True))
    assert store.check(deep=True) == []
