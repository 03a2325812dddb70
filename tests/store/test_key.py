"""The key file: where it is, who may read it, and that it fits."""

from __future__ import annotations

import os

import pytest

from verifyanalytics.errors import StorageError
from verifyanalytics.store.store import Store


def test_the_key_lies_beside_the_store_and_stays(store, tmp_path):
    file = tmp_path / "store.key"
    assert store.key == bytes.fromhex(file.read_text())
    assert len(store.key) == 32
    assert Store(store.path).key == store.key
    everything = b"".join(path.read_bytes() for path in store.path.rglob("*") if path.is_file())
    assert store.key.hex().encode() not in everything
    assert Store(tmp_path / "other", create=True).key != store.key


def test_the_key_may_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("VERIFYANALYTICS_KEY_FILE", str(tmp_path / "keys" / "one"))
    store = Store(tmp_path / "store", create=True)
    assert (tmp_path / "keys" / "one").exists()
    assert not (tmp_path / "store.key").exists()
    assert Store(store.path).key == store.key


def test_a_lost_key_is_not_made_again(store, tmp_path):
    (tmp_path / "store.key").rename(tmp_path / "moved")
    with pytest.raises(StorageError, match="set VERIFYANALYTICS_KEY_FILE to where it is"):
        Store(store.path).key  # noqa: B018
    with pytest.raises(StorageError, match="is missing"):
        Store(store.path).new_batch()
    assert not (tmp_path / "store.key").exists()
    assert any("is missing" in finding for finding in Store(store.path).check())
    assert len(Store(store.path).read()) == 0  # reading needs no key


def test_another_stores_key_is_refused(store, tmp_path):
    Store(tmp_path / "other", create=True)
    (tmp_path / "other.key").replace(tmp_path / "store.key")
    with pytest.raises(StorageError, match="not the one this store was made with"):
        Store(store.path).new_batch()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_key_that_others_may_read_is_refused(store, tmp_path):
    (tmp_path / "store.key").chmod(0o640)
    with pytest.raises(StorageError, match="run: chmod 600"):
        Store(store.path).key  # noqa: B018


@pytest.mark.parametrize("text", ["", "0" * 63, "x" * 64, "é"])
def test_a_key_that_is_none_is_refused(store, tmp_path, text):
    (tmp_path / "store.key").write_text(text, encoding="utf-8")
    with pytest.raises(StorageError, match=r"64 hexadecimal digits|cannot be read"):
        Store(store.path).key  # noqa: B018


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize("inner", ["", "responses", "labels", "responses/_delta_log"])
def test_a_store_that_is_opened_to_others_later_is_refused(tmp_path, inner):
    store = Store(tmp_path / "store", create=True)
    folder = store.path / inner
    for mode in (0o750, 0o701):
        folder.chmod(mode)
        with pytest.raises(StorageError, match="others may read") as refused:
            Store(store.path).read("labels" if inner == "labels" else "verifications")
        assert f"chmod -R go-rwx {store.path}" in str(refused.value)
    folder.chmod(0o700)
    assert len(Store(store.path).read()) == 0
