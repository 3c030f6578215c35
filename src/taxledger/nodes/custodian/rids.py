"""Keys of record ids: one for each tag and month, so that an erasure can take away what tests guesses of them.

    rid key = HMAC(year secret, "rid_key", seed)        seed: 32 random bytes of this tag and month

Both parts are needed. The year secret alone (which stays, for it serves all enterprises) says nothing about a
month whose seed was destroyed; the seed alone, sealed with the rows, says nothing without the year secret, which
is sealed apart. A seed becomes durable in the commit that stores its first records.

An erasure is of whole months, so the seed goes with the records of its month, always. What it costs: a later row
of that month can't be told from an erased one, so none is taken any more (``matching.py``, ``erased``).

A key of the state map is never used twice, so a revoked record keeps its own: what is attested in its place gets
the next id of the same identity (``next_rid``).

Months that had records before there were seeds go on with the year secret itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from taxledger.ledger.hashing import keyed_hash
from taxledger.ledger.records import rid_key
from taxledger.nodes.custodian.vault import Vault

__all__ = ["RidKeys", "next_rid"]

_SEED_BYTES = 32


def next_rid(key: bytes, rid: bytes, attempt: int) -> bytes:
    """``HMAC(rid key, "rid_again", rid ‖ u16be attempt)[:16]``: for what is attested again, after a record of the same
    identity, of which ``rid`` is the first id, was revoked. Attempts count from 1.
    """
    return keyed_hash(key, "rid_again", rid + attempt.to_bytes(2, "big"))[:16]


class RidKeys:
    """The keys of one tag, 32 bytes each, by month byte."""

    __slots__ = ("_keys", "_tag", "_vault", "_year_secret", "new")

    def __init__(self, vault: Vault, tag: bytes, year_secret: bytes, months: Iterable[int]) -> None:
        """``months`` are the month bytes under which the vault has records of the tag.

        Attributes:
            new: seed by month byte, of months that had none.
        """
        seeds = vault.rid_seeds(tag)
        self._vault, self._tag, self._year_secret = vault, tag, year_secret
        self._keys = dict.fromkeys(months, year_secret)
        self._keys.update((month, rid_key(year_secret, seed)) for month, seed in seeds.items())
        self.new: dict[int, bytes] = {}

    def of(self, month: int) -> bytes:
        """The key of a month; one that had none gets a seed now."""
        found = self._keys.get(month)
        if found is None:
            seed = self.new[month] = os.urandom(_SEED_BYTES)
            found = self._keys[month] = rid_key(self._year_secret, seed)
        return found

    def rows(self, months: Iterable[int]) -> list[tuple[bytes, bytes]]:
        """Rows of ``rid_seeds`` for those of these months that have a new seed."""
        return [
            self._vault.rid_seed_row(self._tag, month, self.new[month])
            for month in sorted(set(months))
            if month in self.new
        ]
