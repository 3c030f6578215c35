"""The member's keys that can be rotated: which of them is in force is asked of the ledger at each use.

    keys/transaction.key       keys/transaction.next.key     made, and proposed or about to be
    keys/hpke.key              keys/hpke.next.key            keys/hpke.<8 hex>.key   former ones
    keys/<use>.key             keys/<use>.next.key           of a validator: vote, log, cosign
    keys/cosign.fresh          keys/cosign.next.fresh        birth tokens (birthtokens.py), of vote too

A new key is durable before anybody hears of it. The node moves it into place once the certified state names it; a
crash at any moment leaves every key that may still be needed, and each is found by its public half. Former HPKE
keys stay: an answer that is under way may be sealed to one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.ledger.members import Member
from taxledger.nodes.home import Home, place_file, sync_folder
from taxledger.nodes.identity.birthtokens import USES, has_token, make_token, token_path
from taxledger.nodes.identity.hpke import public_key_of

__all__ = [
    "ROTATED",
    "KeyInForce",
    "TransactionSigner",
    "hpke_key_of",
    "next_key",
    "promote_keys",
    "public_half",
    "signer_now",
]

ROTATED = ("transaction", "hpke", "vote", "log", "cosign")
"""Uses whose keys are files of ``keys/`` that can be rotated."""


def public_half(use: str, private: bytes) -> bytes:
    """The 32 bytes that stand in the member's entry for this use."""
    return public_key_of(private) if use == "hpke" else Signer(private).public_key


def _named(use: str, member: Member) -> bytes | None:
    named: bytes | None = getattr(member, f"{use}_key")
    return named


def _private_keys(home: Home, use: str) -> Iterator[bytes]:
    names = [use, f"{use}.next", *sorted(path.stem for path in home.keys_folder.glob(f"{use}.????????.key"))]
    # The present one again at the end: the node may move the next one into its place while we look.
    for name in (*names, use):
        if home.has_key(name):
            yield home.key(name)


def _private_key(home: Home, use: str, public: bytes) -> bytes:
    for private in _private_keys(home, use):
        if public_half(use, private) == public:
            return private
    raise InputError(f"{home.keys_folder}: none of the {use} keys here is the one that the ledger names")


def hpke_key_of(home: Home, public: bytes) -> bytes:
    """The private half, 32 bytes, of a present, next or former HPKE key. Raises InputError."""
    return _private_key(home, "hpke", public)


def next_key(home: Home, use: str) -> bytes:
    """The key that is to follow, 32 private bytes; made, and durable, when there is none yet.

    Raises:
        UnavailableError: it can't be written.
    """
    name = f"{use}.next"
    if not home.has_key(name):
        private = secrets.token_bytes(32)
        if use in USES:  # before the key: a key without its token would never sign
            make_token(home.keys_folder, name, public_half(use, private))
        place_file(home.keys_folder / f"{name}.key", private.hex().encode() + b"\n")
    return home.key(name)


def promote_keys(home: Home, member: Member) -> list[str]:
    """Move each next key that the member's entry names into place; returns their uses.

    For the node alone, with its newest certified state, which never goes back. One rename is the whole step; a
    former HPKE key has its copy before. A former vote or co-signing key goes: the blocks it signed are certified.
    """
    done = []
    for use in ROTATED:
        fresh = home.keys_folder / f"{use}.next.key"
        if not home.has_key(f"{use}.next") or public_half(use, home.key(f"{use}.next")) != _named(
            use, member
        ):
            continue
        if use == "hpke" and home.has_key(use):
            _keep(home, home.key(use))
        if use in USES and has_token(home, f"{use}.next"):
            # Before the key: it says whose it is, so until the key follows it says nothing of the former one.
            _rename(token_path(home.keys_folder, f"{use}.next"), token_path(home.keys_folder, use))
        _rename(fresh, home.keys_folder / f"{use}.key")
        done.append(use)
    return done


def _keep(home: Home, former: bytes) -> None:
    path = home.keys_folder / f"hpke.{public_key_of(former).hex()[:8]}.key"
    place_file(path, former.hex().encode() + b"\n")


def _rename(fresh: Path, path: Path) -> None:
    try:
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise UnavailableError(f"{path}: cannot write it: {error.strerror}") from error


class KeyInForce:
    """The member's transaction key: ask for it at each signing.

    Args:
        home: where the private keys lie.
        public_key: the transaction key of the member's entry in the newest certified state.
    """

    def __init__(self, home: Home, public_key: Callable[[], bytes]) -> None:
        self._home = home
        self._public_key = public_key
        self._signer: Signer | None = None

    def present(self) -> Signer:
        """The signer that counts now.

        Raises:
            InputError: its private key is not in this home.
        """
        public = self._public_key()
        signer = self._signer
        if signer is None or signer.public_key != public:
            signer = self._signer = Signer(_private_key(self._home, "transaction", public))
        return signer


TransactionSigner = Signer | KeyInForce
"""Who signs transactions: one key for good, or whichever is in force."""


def signer_now(source: TransactionSigner) -> Signer:
    """The signer to use for the next signature. Raises InputError where its key is not here."""
    return source if isinstance(source, Signer) else source.present()
