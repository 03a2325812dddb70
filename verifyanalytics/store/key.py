"""The store's key: 32 random bytes in a file beside the store, for keyed hashes of what is secret.

The key is never in the store. The store's properties hold its fingerprint, so a wrong key is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from verifyanalytics.errors import StorageError
from verifyanalytics.store.disk import sync


def key_path(store: Path) -> Path:
    """Name the key file of a store: `VERIFYANALYTICS_KEY_FILE`, else `<store>.key` beside it."""
    named = os.environ.get("VERIFYANALYTICS_KEY_FILE")
    return Path(named) if named else store.with_name(store.name + ".key")


def make_key(path: Path) -> bytes:
    """Make a key file of 32 random bytes, or read the one that another process made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(secrets.token_hex(32) + "\n")
        sync(draft)
        with contextlib.suppress(FileExistsError):
            draft.rename(path) if os.name == "nt" else os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return read_key(path)


def read_key(path: Path) -> bytes:
    """Read a key file.

    Raises
    ------
    StorageError
        It is missing, readable by others, or not 64 hexadecimal digits.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        hint = "put it back, or set VERIFYANALYTICS_KEY_FILE to where it is"
        raise StorageError(f"the store's key {path} is missing; {hint}", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the key {path} cannot be read: {error}", path=path) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise StorageError(f"others may read the key {path}; run: chmod 600 {path}", path=path)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise StorageError(f"the key {path} is not 64 hexadecimal digits", path=path)
    return bytes.fromhex(text)


def fingerprint(key: bytes) -> str:
    """Give the fingerprint of a key: it names the key and tells nothing about it."""
    return hmac.new(key, b"verifyanalytics store key", hashlib.sha256).hexdigest()[:32]
