"""Birth tokens: the one sign that a signing key has never signed anything.

    keys/cosign.fresh   keys/vote.fresh     the public key in hex (or nothing: the key beside it)

A token is made with its key, before the key. The node begins the key's signing journal, durably, removes the token,
and only then signs. A key with neither journal nor token never signs: its journal is lost, and with it the
knowledge of what it has signed. Never copy a token, and never keep one in a backup.
"""

from __future__ import annotations

from pathlib import Path

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import UnavailableError
from taxledger.nodes.home import Home, place_file, sync_folder

__all__ = [
    "JOURNAL_LOST",
    "USES",
    "fresh_uses",
    "has_token",
    "make_token",
    "may_sign",
    "spend_token",
    "token_path",
]

USES = ("cosign", "vote")

JOURNAL_LOST = (
    "the signing journal of this key is lost: "
    "rotate the key (taxledger member rotate --key {use}) or restore it"
)
"""What a node says of a key that it must not use."""


def token_path(keys_folder: Path, use: str) -> Path:
    return keys_folder / f"{use}.fresh"


def make_token(keys_folder: Path, use: str, public_key: bytes) -> None:
    """Make the token of a new key, durably; to be called before the key's own file is placed.

    Raises:
        UnavailableError: it can't be written.
    """
    place_file(token_path(keys_folder, use), public_key.hex().encode() + b"\n")


def has_token(home: Home, use: str) -> bool:
    """Whether the present key of this use has its token: one of another key says nothing of this one."""
    try:
        said = token_path(home.keys_folder, use).read_bytes().strip()
    except OSError:
        return False
    return home.has_key(use) and said in (b"", Signer(home.key(use)).public_key.hex().encode())


def fresh_uses(home: Home) -> frozenset[str]:
    """The uses whose present key has never signed."""
    return frozenset(use for use in USES if has_token(home, use))


def spend_token(home: Home, use: str) -> None:
    """Remove the present key's token, once its journal is durable; when this returns the key may sign.

    Raises:
        UnavailableError: it can't be removed.
    """
    if not has_token(home, use):
        return
    path = token_path(home.keys_folder, use)
    try:
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot remove it: {error.strerror}") from error


def may_sign(home: Home, use: str, journal: Path) -> bool:
    """Whether a key whose journal is a file (an ordering engine's own) may sign: it has one, or never signed."""
    return journal.is_file() or has_token(home, use)
