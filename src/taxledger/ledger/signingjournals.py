"""Signing journals: without the journal of a key, what it has signed is not known, and it must not sign.

    S key16 → [size, root] of the largest tree co-signed with this key
    J key16 → the votes of this key are journalled in this store, under V

``key16`` is the id of the public key, so that one key's journal never serves another. A journal is begun once
in a key's life: for a key whose *birth token* is there. A store that is new, or another's, has none, and
beginning one then would let a key sign a second time what it has signed otherwise.

Stores of earlier versions hold one journal, under S alone. It serves the keys that are there when it is first
met, and is then theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

from taxledger.ledger import canonical
from taxledger.ledger.hashing import key_id
from taxledger.ledger.store import Store

__all__ = ["begin_journals", "cosign_journal_key", "has_vote_journal"]

_EARLIER = b"S"
_LETTERS = {"cosign": b"S", "vote": b"J"}


def cosign_journal_key(public_key: bytes) -> bytes:
    """The store's key of a co-signing key's journal."""
    return b"S" + key_id(public_key)


def has_vote_journal(store: Store, public_key: bytes) -> bool:
    """Whether a key's votes are journalled in this store."""
    return store.get(_LETTERS["vote"] + key_id(public_key)) is not None


def begin_journals(
    store: Store, keys: Mapping[str, bytes], fresh: frozenset[str], genesis_root: bytes
) -> frozenset[str]:
    """Begin the journals of keys that are new, and tell which keys may sign.

    What is begun is durable when this returns: only then may the birth tokens be removed, and only after
    that may the keys be used.

    Args:
        store: the node's.
        keys: public key by use, ``cosign`` and ``vote``.
        fresh: the uses whose key has its birth token.
        genesis_root: root of the log of one leaf.

    Returns:
        The uses whose key may sign.
    """
    earlier = store.get(_EARLIER)
    batch: dict[bytes, bytes | None] = {}
    begun = []
    for use, public_key in sorted(keys.items()):
        place = _LETTERS[use] + key_id(public_key)
        begins = canonical.encode([1, genesis_root]) if use == "cosign" else b"\x01"
        if store.get(place) is None:
            if use in fresh:
                batch[place] = begins
            elif earlier is not None:
                batch[place] = earlier if use == "cosign" else begins
            else:
                continue
        begun.append(use)
    if keys and earlier is not None:
        batch[_EARLIER] = None
    if batch:
        store.write(batch)
    return frozenset(begun)
