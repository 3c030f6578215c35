"""Backups of a home, and what may come back from one.

    taxledger backup 1\\n
    <64 hex digits: SHA-256 of all that follows>\\n
    a tar: backup.json (the manifest), then files of the home

**What is in it.** Always: settings, genesis, policies (the former ones too: a lender's older loans verify under them),
certificates, addresses, and the sealed stores (``*.sqlite``), each copied by SQLite's online backup, so the node may
run: each is of one moment, and with a stopped node all are of the same. With ``with_keys`` every private key; a backup
without them opens nothing and signs nothing. The file is not encrypted: its mode is 0600, and it is as secret as the
home. Sealed stores stay sealed, but with the keys in the same file that helps nobody.

**What is never in it: birth tokens.** A token says that its key has never signed; a copy of it would go on saying so.

**The signing journal.** A validator's keys sign only where the journal of what they have signed is. An old journal is
worse than none: the key would sign again, otherwise, and every member could convict it. So:

* A backup has no journal. The home that comes of it has neither journal nor token: its node fetches the ledger from
  the others, follows, and signs nothing until the members have given it new keys by a proposal.
* ``with_journal`` takes the whole store, and with it the journal, of a *stopped* node: a move to another machine and
  nothing else. The locks of store and engine are held meanwhile. When the file is durable, ``moved.json`` is written
  into the home, durably, before the file gets its name; from then on the node of that home refuses to start: it looks
  for it when it holds the store's lock. So of the two homes at most one can sign: the file exists under its name only
  when the old home is locked. Restoring the same file twice can't be seen from here; it is what the warning is about.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from taxledger.ledger.errors import FormatError, InputError, UnavailableError
from taxledger.ledger.genesis import chain_id
from taxledger.nodes.ceremony.newhome import fresh_folder
from taxledger.nodes.home import Home, place_file, sync_folder
from taxledger.nodes.identity.birthtokens import fresh_uses, has_token
from taxledger.nodes.ordering.cometbft.files import ENGINE_NAME, begin_voting

__all__ = ["BackupFacts", "backup_home", "check_not_moved", "restore_home"]

_MAGIC = b"taxledger backup 1\n"
_MANIFEST = "backup.json"
_MOVED = "moved.json"
_PART = 1 << 20
_MANIFEST_BYTES_MAX = 1 << 20
_FILES_MAX = 1_000_000

_PUBLIC = re.compile(
    r"(node\.toml|genesis\.bin|engine/handover\.bin|member\.json|peers\.json|api_keys\.json"
    r"|policy(\.[0-9a-f]{8}|\.[0-9a-f]{16}|-[a-z][a-z0-9-]{0,31})?\.txt"
    r"|tls/([0-9a-f]{8}/)?ca\.pem|tls/peers\.pem|tls/known/[0-9a-f]{1,64}\.pem)\Z"
)
_STORES = re.compile(r"[a-z][a-z0-9_]{0,40}\.sqlite\Z")
_KEYS = re.compile(r"(keys/[A-Za-z0-9._-]{1,80}\.key|tls/([0-9a-f]{8}/)?(ca\.key|node\.pem)|client\.json)\Z")
_JOURNAL = re.compile(
    r"(store/[A-Za-z0-9._-]{1,80}|engine/data/([A-Za-z0-9._-]{1,80}/){0,3}[A-Za-z0-9._-]{1,80})\Z"
)
_LOCKS = re.compile(r".*(/LOCK|\.sock)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFacts:
    """What a backup is of.

    Attributes:
        member: name; ``network`` its network; ``chain_id`` 32 hex digits.
        with_keys, with_journal: see the module text.
        files: number of files of the home.
        digest: SHA-256 in hex; keep it apart to know the file again.
    """

    member: str
    network: str
    chain_id: str
    with_keys: bool
    with_journal: bool
    files: int
    digest: str


class _Hashing(io.RawIOBase):
    """A file that hashes what passes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.hash.update(data)
        return self._file.write(data)


def check_not_moved(home: Home) -> None:
    """Raises InputError where the signing journal of this home has gone into a backup: another home may sign now."""
    path = home.path / _MOVED
    if path.exists():
        raise InputError(
            f"{home.path} was moved: its signing journal is in a backup ({path}). Run the node that was restored "
            "from it. Only if that file was never restored, and is destroyed, delete moved.json"
        )


# --- backup --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stopped(home: Home) -> Iterator[None]:
    """Hold the locks that node and engine hold while they run. Raises UnavailableError where one runs."""
    with contextlib.ExitStack() as stack:
        locks = [path for path in (home.store_path / "LOCK",) if path.exists()]
        locks += sorted((home.path / "engine" / "data").glob("*/LOCK"))
        for path in locks:
            file = stack.enter_context(path.open("r+b"))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UnavailableError(
                    f"{home.config.name} runs: a journal is taken of a stopped node only"
                ) from error
        yield


def _begin_journals(home: Home) -> None:
    """A token does not travel: what has not signed yet begins its journal here, as at a start, and that travels.

    Raises:
        InputError: the node has never run, so its store is no ledger yet.
        UnavailableError: a file can't be written.
    """
    if home.config.engine == ENGINE_NAME and has_token(home, "vote"):
        begin_voting(home)  # after ``network migrate`` the engine may not have run yet
    fresh = sorted(fresh_uses(home))
    if fresh:
        raise InputError(
            f"{home.config.name} has never run: its {' and '.join(fresh)} keys have no journal to take. Start it once"
        )


def _chosen(home: Home, *, with_keys: bool, with_journal: bool) -> list[str]:
    """Names of the files to take, without the sealed stores, ascending."""
    patterns = [_PUBLIC, *([_KEYS] if with_keys else []), *([_JOURNAL] if with_journal else [])]
    found = []
    for path in sorted(home.path.rglob("*")):
        name = path.relative_to(home.path).as_posix()
        if not path.is_file() or path.is_symlink() or _LOCKS.match(name):
            continue
        if any(pattern.match(name) for pattern in patterns):
            found.append(name)
    return found


def _copy_stores(home: Home, folder: Path) -> list[str]:
    """Online copies of the sealed stores, in order of their names: a custodian's book before its vault."""
    names = sorted(path.name for path in home.path.glob("*.sqlite") if _STORES.match(path.name))
    for name in names:
        with (
            contextlib.closing(sqlite3.connect(f"file:{home.path / name}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(folder / name)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whole
    return names


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as file:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = os.fstat(file.fileno()).st_size, 0o600
        tar.addfile(entry, file)


def backup_home(
    home: Home, output: Path, *, with_keys: bool = False, with_journal: bool = False
) -> BackupFacts:
    """Write a backup; whole, durable and readable by its owner alone when this returns.

    Args:
        home: whose; its node may run unless ``with_journal``.
        output: must not exist.
        with_keys, with_journal: see the module text.

    Raises:
        InputError: there is a file already, or a journal is wanted without the keys that it belongs to.
        UnavailableError: the node runs and a journal is wanted, or a file can't be read or written.
    """
    if with_journal and not with_keys:
        raise InputError("expected keys with the journal: it is of use to the keys that it belongs to alone")
    if output.exists():
        raise InputError(f"{output} exists: choose another name, nothing was changed")
    check_not_moved(home)
    fresh = output.absolute().with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        with contextlib.ExitStack() as stack:
            if with_journal:
                stack.enter_context(_stopped(home))
                _begin_journals(home)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=output.absolute().parent)))
            facts = _write(home, fresh, folder, with_keys=with_keys, with_journal=with_journal)
            if with_journal:  # before the file has its name: never two homes that sign
                place_file(home.path / _MOVED, json.dumps({"backup": facts.digest}).encode() + b"\n")
            fresh.rename(output)
            sync_folder(output.absolute().parent)
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"cannot back up {home.path} to {output}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return facts


def _write(home: Home, path: Path, folder: Path, *, with_keys: bool, with_journal: bool) -> BackupFacts:
    names = _chosen(home, with_keys=with_keys, with_journal=with_journal)
    stores = _copy_stores(home, folder)
    manifest = {
        "member": home.config.name,
        "network": home.config.network,
        "chain_id": chain_id(home.genesis()).hex(),
        "with_keys": with_keys,
        "with_journal": with_journal,
        "files": [*stores, *names],
    }
    data = json.dumps(manifest, indent=2).encode() + b"\n"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_MAGIC + b"0" * 64 + b"\n")
        hashing = _Hashing(file)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size, entry.mode = len(data), 0o600
            tar.addfile(entry, io.BytesIO(data))
            for name in stores:
                _add(tar, folder / name, name)
            for name in names:
                _add(tar, home.path / name, name)
        digest = hashing.hash.hexdigest()
        file.seek(len(_MAGIC))
        file.write(digest.encode())
        file.flush()
        os.fsync(file.fileno())
    return _facts(manifest, digest)


def _facts(manifest: dict[str, Any], digest: str) -> BackupFacts:
    return BackupFacts(
        member=manifest["member"],
        network=manifest["network"],
        chain_id=manifest["chain_id"],
        with_keys=manifest["with_keys"],
        with_journal=manifest["with_journal"],
        files=len(manifest["files"]),
        digest=digest,
    )


# --- restore -------------------------------------------------------------------------------------


def restore_home(
    path: Path, directory: Path, *, digest: str | None = None, with_journal: bool = False
) -> BackupFacts:
    """Make a home of a backup: nothing is written before the whole file has its digest.

    Args:
        path: the backup.
        directory: must not exist, or be empty.
        digest: what the backup must have, where it was noted down; without it only damage is found, not a forger.
        with_journal: take the signing journal too; else it is left out, and the keys sign nothing.

    Raises:
        FormatError: no backup, damaged, cut short, or not of this digest.
        InputError: the folder holds something, or a journal is wanted that is not there.
        UnavailableError: a file can't be read or written.
    """
    try:
        with path.open("rb") as file:
            found = _check_digest(file, path)
            if digest is not None and digest.lower() != found:
                raise FormatError(f"{path}: expected digest {digest.lower():.64}, got {found}")
            with fresh_folder(directory) as fresh:
                return _extract(file, fresh, path, found, with_journal=with_journal)
    except OSError as error:
        raise UnavailableError(f"cannot restore {path} to {directory}: {error}") from error


def _check_digest(file: IO[bytes], path: Path) -> str:
    """The digest of a file that has it; stands before the tar afterwards."""
    head = file.read(len(_MAGIC) + 65)
    said = head[len(_MAGIC) : -1]
    if not head.startswith(_MAGIC) or not re.fullmatch(rb"[0-9a-f]{64}", said) or head[-1:] != b"\n":
        raise FormatError(f"{path}: expected a backup of version 1, made by taxledger backup")
    hashed = hashlib.sha256()
    while part := file.read(_PART):
        hashed.update(part)
    if hashed.hexdigest().encode() != said:
        raise FormatError(
            f"{path}: damaged or cut short: expected digest {said.decode()}, got {hashed.hexdigest()}"
        )
    file.seek(len(head))
    return hashed.hexdigest()


def _extract(file: IO[bytes], folder: Path, path: Path, digest: str, *, with_journal: bool) -> BackupFacts:
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            entries = iter(tar)
            manifest = _read_manifest(tar, next(entries, None))
            if with_journal and not manifest["with_journal"]:
                raise InputError(f"{path}: expected a backup with the signing journal, got one without it")
            left = list(manifest["files"])
            for entry in entries:
                if not left or entry.name != left.pop(0) or not entry.isreg():
                    raise FormatError(f"{path}: expected the files of its manifest, got {entry.name!r:.100}")
                if with_journal or not _JOURNAL.match(entry.name):
                    _place(tar, entry, folder)
            if left:
                raise FormatError(f"{path}: expected {left[0]!r:.100}, got the end of the file")
    except (tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: not a backup of version 1: {error}") from error
    for name in ("store", "log"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    _sync_all(folder)
    return _facts(manifest, digest)


def _read_manifest(tar: tarfile.TarFile, entry: tarfile.TarInfo | None) -> dict[str, Any]:
    if entry is None or entry.name != _MANIFEST or not entry.isreg() or entry.size > _MANIFEST_BYTES_MAX:
        raise FormatError(f"expected {_MANIFEST} first")
    file = tar.extractfile(entry)
    manifest: dict[str, Any] = json.loads(file.read() if file is not None else b"")
    names = manifest["files"]
    allowed = (_PUBLIC, _STORES, _KEYS, _JOURNAL)
    if len(names) > _FILES_MAX or len(set(names)) != len(names):
        raise FormatError("expected every file once")
    for name in names:
        # Names decide where something is written: no other than those that a backup has, no birth token ever.
        if not any(pattern.match(name) for pattern in allowed) or ".." in name.split("/"):
            raise FormatError(f"expected files of a home, got {name!r:.100}")
    return manifest


def _place(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    path = folder / entry.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = tar.extractfile(entry)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        if source is not None:
            shutil.copyfileobj(source, file, _PART)
        file.flush()
        os.fsync(file.fileno())


def _sync_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
