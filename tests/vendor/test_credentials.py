"""The chain: first hit wins, open files are refused, nothing secret is shown."""

import json
import os
import pickle
import sys
from pathlib import Path

import pytest

from verifyanalytics.vendor.credentials import Credentials, CredentialsError, find_credentials

pytestmark = pytest.mark.filterwarnings("error")


def private(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def fill(home):
    private(
        home / ".volcengine" / "config.json",
        json.dumps(
            {
                "current": "work",
                "profiles": {
                    "other": {"access-key": "AKother", "secret-key": "SKother"},
                    "work": {"access-key": "AKcli", "secret-key": "SKcli", "session-token": "STS"},
                },
            }
        ),
    )
    private(
        home / ".volc" / "credentials",
        "[default]\naccess_key_id = AKini\nsecret_access_key = SK%ini\n",
    )
    private(home / ".volc" / "config", json.dumps({"ak": "AKjson", "sk": "SKjson"}))


ENV_NEW = {
    "VOLCENGINE_ACCESS_KEY": "AKnew",
    "VOLCENGINE_SECRET_KEY": "SKnew",
    "VOLCENGINE_SESSION_TOKEN": "STSnew",
}
ENV_OLD = {"VOLC_ACCESSKEY": "AKold", "VOLC_SECRETKEY": "SKold"}


def test_the_first_place_that_has_a_pair_wins(tmp_path):
    fill(tmp_path)
    steps = [
        ({**ENV_NEW, **ENV_OLD}, "AKnew", "STSnew"),
        (ENV_OLD, "AKold", None),
        ({}, "AKcli", "STS"),
    ]
    for environ, access, token in steps:
        found = find_credentials(environ, tmp_path)
        assert (found.access_key, found.session_token) == (access, token)
    (tmp_path / ".volcengine" / "config.json").unlink()
    assert find_credentials({}, tmp_path).secret_key == "SK%ini"
    (tmp_path / ".volc" / "credentials").unlink()
    assert find_credentials({}, tmp_path).access_key == "AKjson"


def test_nothing_found_names_every_place_and_no_value(tmp_path):
    with pytest.raises(CredentialsError) as caught:
        find_credentials({}, tmp_path)
    assert caught.value.exit_code == 5
    for place in ("VOLCENGINE_ACCESS_KEY", "VOLC_ACCESSKEY", ".volcengine/config.json", "keyring"):
        assert place in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_others_can_read_is_refused(tmp_path, mode):
    fill(tmp_path)
    (tmp_path / ".volcengine" / "config.json").chmod(mode)
    with pytest.raises(CredentialsError, match="chmod 600"):
        find_credentials({}, tmp_path)


def test_half_a_pair_is_an_error_not_a_fallthrough(tmp_path):
    fill(tmp_path)
    with pytest.raises(CredentialsError, match="only the access key"):
        find_credentials({"VOLC_ACCESSKEY": "AKcanary"}, tmp_path)


@pytest.mark.parametrize("text", ["AKcanary SKcanary", "[default\nAKcanary", "{", "[1]", "\udcff"])
@pytest.mark.parametrize("name", [".volcengine/config.json", ".volc/credentials", ".volc/config"])
def test_a_broken_file_is_named_without_its_content(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    if name == ".volc/credentials" and text == "[1]":
        with pytest.raises(CredentialsError, match="no credentials"):
            find_credentials({}, tmp_path)
        return
    with pytest.raises(CredentialsError, match=path.name) as caught:
        find_credentials({}, tmp_path)
    seen = str(caught.value) + str(caught.value.__cause__)
    assert "canary" not in seen


@pytest.mark.parametrize("current", ["[]", "{}", "5", "null"])
def test_a_profile_that_is_no_name_is_none(tmp_path, current):
    path = tmp_path / ".volcengine" / "config.json"
    path.parent.mkdir()
    path.write_text(f'{{"current": {current}, "profiles": {{"a": {{}}}}}}')
    path.chmod(0o600)
    with pytest.raises(CredentialsError, match="no credentials"):
        find_credentials({}, tmp_path)


def test_deep_json_is_not_json(tmp_path):
    path = tmp_path / ".volc" / "config"
    path.parent.mkdir()
    path.write_text("[" * 100_000)
    path.chmod(0o600)
    with pytest.raises(CredentialsError, match="is not JSON"):
        find_credentials({}, tmp_path)


def test_the_environment_is_enough_where_nobody_has_a_home(monkeypatch):
    def lost():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", lost)
    assert find_credentials(ENV_OLD).access_key == "AKold"
    with pytest.raises(CredentialsError, match="no credentials"):
        find_credentials({})


@pytest.mark.parametrize("bad", ["", "AK\r\nX-Evil: 1", "AK é", "AK b"])
def test_a_key_that_no_header_may_hold_is_refused(bad):
    with pytest.raises(CredentialsError, match="access_key"):
        Credentials(bad, "SK")
    with pytest.raises(CredentialsError, match="secret_key"):
        Credentials("AK", bad)
    with pytest.raises(CredentialsError, match="session_token"):
        Credentials("AK", "SK", bad)


def test_repr_hides_and_pickle_refuses():
    secret = Credentials("AKcanary", "SKcanary", "STScanary")
    assert "canary" not in repr(secret)
    assert "canary" not in str([secret])
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_keyring_is_asked_last_and_only_if_installed(tmp_path, monkeypatch):
    (tmp_path / "keyring.py").write_text(
        "class errors:\n"
        "    class KeyringError(Exception): pass\n"
        "def get_password(service, name):\n"
        "    return {'access_key': 'AKring', 'secret_key': 'SKring'}.get(name)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    found = find_credentials({}, tmp_path)
    assert (found.access_key, found.source) == ("AKring", "keyring")
    sys.modules.pop("keyring", None)
