"""API keys: who may call which routes.

A token is ``tl_<id>_<secret>``: 8 hex digits that name the key, and 32 random bytes in base64url. A node's
file holds ``sha256(token)`` only. A fast hash is right here: the secret has 256 bits of entropy, so there
is nothing to guess that a slow hash would slow down, and every request pays for it once. Comparison takes
constant time.

Scopes do not imply each other: ``read`` (checkpoints, proofs, events), ``submit`` (transactions), ``operate``
(metrics, readiness, the archive), ``custody`` (the custodian's desk: subjects, consents, erasure, its own
records), ``disclose`` (dossiers under a consent, and what is kept of them), ``pledge`` (permits, and this
member's pledges). A lender's service has scopes of its own (docs/lending.md): ``lend_apply`` (applications of one
channel), ``lend_officer`` (every loan), ``lend_core`` (the core banking system: repayments).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from taxledger.ledger.errors import FormatError, InputError, UnavailableError

__all__ = [
    "LEND_SCOPES",
    "SCOPES",
    "ApiKey",
    "KeyFile",
    "KeyRing",
    "KeySource",
    "create_key",
    "load_keys",
    "save_keys",
]

SCOPES = ("read", "submit", "operate", "custody", "disclose", "pledge")
"""Of a node."""
LEND_SCOPES = ("lend_apply", "lend_officer", "lend_core")
"""Of a lender's service; its keys are in a file of their own, so that neither opens the other."""
_ALL_SCOPES = SCOPES + LEND_SCOPES
_FILE_BYTES_MAX = 1024 * 1024
_NOTE_CHARACTERS_MAX = 200
_TOKEN_CHARACTERS_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as a node knows it.

    Attributes:
        id: 8 hex digits, also the middle of the token; may stand in logs.
        hash: ``sha256:`` and 64 hex digits over the whole token.
        scopes: some of ``SCOPES`` or ``LEND_SCOPES``.
        note: for whom it was made.
    """

    id: str
    hash: str
    scopes: frozenset[str]
    note: str


def _hash(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def create_key(scopes: Iterable[str], note: str = "") -> tuple[str, ApiKey]:
    """A new key: the token, which is shown once, and what the node keeps of it.

    Raises:
        InputError: an unknown scope, none, or a note of more than 200 characters.
    """
    chosen = frozenset(scopes)
    if not chosen or not chosen <= set(_ALL_SCOPES):
        raise InputError(
            f"expected scopes out of {', '.join(_ALL_SCOPES)}, got {', '.join(sorted(chosen)) or 'none'}"
        )
    if len(note) > _NOTE_CHARACTERS_MAX:
        raise InputError(f"expected a note of at most {_NOTE_CHARACTERS_MAX} characters")
    key_id = secrets.token_hex(4)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    token = f"tl_{key_id}_{secret}"
    return token, ApiKey(id=key_id, hash=_hash(token), scopes=chosen, note=note)


def save_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Replace the file of keys at once, readable by its owner only."""
    rows = [{"id": k.id, "hash": k.hash, "scopes": sorted(k.scopes), "note": k.note} for k in keys]
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def load_keys(path: Path) -> list[ApiKey]:
    """The keys of a file.

    Raises:
        FormatError: the file is not of this format; the message names the row.
        UnavailableError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise UnavailableError(f"{path}: can't read the API keys: {error.strerror}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise FormatError(f"{path}: expected at most {_FILE_BYTES_MAX} bytes")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON") from error
    if type(rows) is not list:
        raise FormatError(f"{path}: expected an array of API keys")
    keys = [_key(row, f"{path}: key {number}") for number, row in enumerate(rows, 1)]
    if len({key.id for key in keys}) != len(keys):
        raise FormatError(f"{path}: an id stands there twice")
    return keys


def _key(row: object, where: str) -> ApiKey:
    if not isinstance(row, Mapping) or set(row) != {"id", "hash", "scopes", "note"}:
        raise FormatError(f"{where}: expected exactly id, hash, scopes and note")
    key_id, digest, scopes, note = row["id"], row["hash"], row["scopes"], row["note"]
    if type(key_id) is not str or len(key_id) != 8 or set(key_id) - set("0123456789abcdef"):
        raise FormatError(f"{where}: expected an id of 8 hex digits")
    if type(digest) is not str or not digest.startswith("sha256:") or len(digest) != 71:
        raise FormatError(f"{where}: expected a hash of the form sha256:<64 hex digits>")
    if type(scopes) is not list or not all(type(s) is str and s in _ALL_SCOPES for s in scopes):
        raise FormatError(f"{where}: expected scopes out of {', '.join(_ALL_SCOPES)}")
    if type(note) is not str:
        raise FormatError(f"{where}: expected a note, maybe empty")
    return ApiKey(id=key_id, hash=digest, scopes=frozenset(scopes), note=note)


class KeySource(Protocol):
    """Where the API finds a key."""

    def find(self, token: str) -> ApiKey | None:
        """The key of a token, or None; takes the same time for a wrong secret as for a right one."""


class KeyRing:
    """Keys in memory."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.id: key for key in keys}

    def find(self, token: str) -> ApiKey | None:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            return None
        parts = token.split("_", 2)
        key = self._keys.get(parts[1]) if len(parts) == 3 else None
        # Surrogates can't come from a header, but a caller's str may hold one.
        found = _hash(token) if token.isascii() else ""
        return key if secrets.compare_digest(found, key.hash if key else "") and key else None


class KeyFile:
    """The keys of a file, read again when the file changes: a key is revoked by taking it out.

    A file that can't be read any more opens nothing: ``find`` raises then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stamp_now()
        self._ring = KeyRing(load_keys(path))

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise UnavailableError(f"{self._path}: can't read the API keys: {error.strerror}") from error
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def find(self, token: str) -> ApiKey | None:
        stamp = self._stamp_now()
        if stamp != self._stamp:
            try:
                self._ring = KeyRing(load_keys(self._path))
            except InputError as error:
                raise UnavailableError("the file of API keys can't be read") from error
            self._stamp = stamp
        return self._ring.find(token)
