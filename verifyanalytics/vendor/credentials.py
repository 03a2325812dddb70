"""Find the access key: sources are tried in order, the first hit wins, and no secret is shown.

arguments → ``VOLCENGINE_ACCESS_KEY`` … → ``VOLC_ACCESSKEY`` … → ``~/.volcengine/config.json`` →
``~/.volc/credentials`` → ``~/.volc/config`` → keyring, if installed. A file that others can read
is refused, as ssh does with a private key. When nothing is found, the error names every source
that was tried and no value.
"""

from __future__ import annotations

import configparser
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from verifyanalytics.errors import RefusedError


class CredentialsError(RefusedError):
    """No usable credentials, or a place that holds them is open to others.

    Attributes
    ----------
    tried : tuple of str
        Names of the sources that were looked at, in order.
    """

    def __init__(self, message: str, tried: tuple[str, ...] = ()) -> None:
        self.tried = tried
        super().__init__(message)


@dataclass(frozen=True)
class Credentials:
    """An access key pair, with a security token when it is temporary.

    Parameters
    ----------
    access_key, secret_key : str
        Not shown in the repr.
    session_token : str, optional
        STS token; not shown in the repr.
    source : str
        Where the pair came from, for messages.

    Raises
    ------
    CredentialsError
        A part is empty, or holds a character that no header may hold.
    TypeError
        On pickling: secrets do not travel in files or between processes.

    Examples
    --------
    >>> Credentials("AKEXAMPLE", "SKEXAMPLE")
    Credentials(source='arguments', temporary=False)

    See Also
    --------
    verifyanalytics.Client : Signs calls with them, and finds them when none are given.
    """

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    source: str = "arguments"

    def __post_init__(self) -> None:
        for name in ("access_key", "secret_key", "session_token"):
            value = getattr(self, name)
            if name == "session_token" and value is None:
                continue
            fits = isinstance(value, str) and value.isascii() and value.isprintable()
            if not fits or not value or " " in value:
                raise CredentialsError(
                    f"{name} from {self.source} is empty or holds a character no key has"
                )

    def __repr__(self) -> str:
        return f"Credentials(source={self.source!r}, temporary={self.session_token is not None})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; make the client where it is used")


def find_credentials(
    environ: Mapping[str, str] | None = None, home: Path | None = None
) -> Credentials:
    """Look through the chain and take the first pair that is there.

    `environ` and `home` are the process's own by default.

    Raises
    ------
    CredentialsError
        Nothing was found, a place holds only half a pair, or a file is unreadable or open to
        others.
    """
    env = os.environ if environ is None else environ
    try:
        folder = home or Path.home()
    except RuntimeError:  # the system knows none, as in some containers
        folder = Path(os.devnull)

    def from_environment(access: str, secret: str, token: str) -> Credentials | None:
        return _pair(env.get(access), env.get(secret), env.get(token), f"{access}, {secret}")

    def from_json(path: Path) -> Credentials | None:
        data = _read_json(path) or {}
        return _pair(data.get("ak"), data.get("sk"), data.get("session_token"), _shown(path))

    sources: dict[str, Callable[[], Credentials | None]] = {
        "VOLCENGINE_ACCESS_KEY, VOLCENGINE_SECRET_KEY": lambda: from_environment(
            "VOLCENGINE_ACCESS_KEY", "VOLCENGINE_SECRET_KEY", "VOLCENGINE_SESSION_TOKEN"
        ),
        "VOLC_ACCESSKEY, VOLC_SECRETKEY": lambda: from_environment(
            "VOLC_ACCESSKEY", "VOLC_SECRETKEY", "VOLC_SESSIONTOKEN"
        ),
        "~/.volcengine/config.json": lambda: _from_cli(folder / ".volcengine" / "config.json"),
        "~/.volc/credentials": lambda: _from_ini(folder / ".volc" / "credentials"),
        "~/.volc/config": lambda: from_json(folder / ".volc" / "config"),
        "keyring": _from_keyring,
    }
    for look in sources.values():
        found = look()
        if found is not None:
            return found
    tried = tuple(sources)
    raise CredentialsError(f"no credentials; looked in {'; '.join(tried)}", tried)


def _from_cli(path: Path) -> Credentials | None:
    """The vendor's command line keeps named profiles and the name of the current one."""
    data = _read_json(path) or {}
    profiles, current = data.get("profiles"), data.get("current")
    if not isinstance(profiles, dict) or not isinstance(current, str):
        return None
    profile = profiles.get(current)
    if not isinstance(profile, dict):
        return None
    access, secret = profile.get("access-key"), profile.get("secret-key")
    return _pair(access, secret, profile.get("session-token"), _shown(path))


def _from_ini(path: Path) -> Credentials | None:
    text = _read_private(path)
    if text is None:
        return None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        # the parser's own message quotes the line, which may be the secret
        raise CredentialsError(f"{_shown(path)} is not an ini file") from None
    if not parser.has_section("default"):
        return None
    section = parser["default"]
    return _pair(
        section.get("access_key_id"),
        section.get("secret_access_key"),
        section.get("session_token"),
        _shown(path),
    )


def _from_keyring() -> Credentials | None:
    if find_spec("keyring") is None:
        return None
    ring = import_module("keyring")
    try:
        access, secret, token = (
            ring.get_password("verifyanalytics", name)
            for name in ("access_key", "secret_key", "session_token")
        )
    except ring.errors.KeyringError:
        return None
    return _pair(access, secret, token, "keyring")


def _pair(access: Any, secret: Any, token: Any, source: str) -> Credentials | None:
    if not access and not secret:
        return None
    if not access or not secret:
        half = "the access key" if access else "the secret key"
        raise CredentialsError(f"{source} holds only {half}; both are needed")
    return Credentials(access, secret, token or None, source)


def _read_json(path: Path) -> dict[str, Any] | None:
    text = _read_private(path)
    if text is None:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise CredentialsError(f"{_shown(path)} is not JSON") from None
    if not isinstance(data, dict):
        raise CredentialsError(f"{_shown(path)} is not a JSON object")
    return data


def _read_private(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise CredentialsError(
                    f"{_shown(path)} can be read by others; run: chmod 600 {_shown(path)}"
                )
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CredentialsError(f"{_shown(path)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CredentialsError(f"{_shown(path)} is not UTF-8 text") from None


def _shown(path: Path) -> str:
    return f"~/{path.parent.name}/{path.name}"
