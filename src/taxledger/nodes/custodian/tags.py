"""The issuer's keys of a year: made when its first record comes, and on the ledger before that record.

A year's secret (for record ids and fingerprints) and its RSA key (for tags) are sealed in the vault in the
same commit as the signed ``tag_key`` transaction. They can never be replaced: the ledger takes one key a
year.
"""

from __future__ import annotations

import os
from concurrent.futures import Future

from taxledger.ledger.crypto import TagSigner
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.operations import encode_tag_key
from taxledger.ledger.tagkeys import prove_tag_key
from taxledger.nodes.custodian.outbox import STAGE_TAG_KEY, Outbox, Receipt, Settled, Transaction
from taxledger.nodes.custodian.vault import Vault, YearKeys

__all__ = ["YEAR_MAX", "YEAR_MIN", "Keyring"]

YEAR_MIN, YEAR_MAX = 1990, 2200
"""Years that the ledger takes tag keys for (rule 13)."""


class Keyring:
    """Keys of the years an upload meets."""

    def __init__(self, vault: Vault, outbox: Outbox) -> None:
        self._vault = vault
        self._outbox = outbox
        self._started: list[Future[tuple[Transaction, Receipt]]] = []

    def require(self, year: int) -> YearKeys:
        """The keys of a year; new ones are durable, and on their way to the ledger, when this returns."""
        known = self._vault.year(year)
        if known is not None:
            return known
        private_der = TagSigner.generate_der()
        signer = TagSigner(private_der)
        proof = prove_tag_key(signer, self._vault.chain_id, self._vault.member, year)
        transaction = self._outbox.prepare(
            STAGE_TAG_KEY, "tag_key", encode_tag_key(year, signer.modulus, proof)
        )
        keys = YearKeys(year, os.urandom(32), signer)
        with self._vault.database.write() as connection:
            self._vault.add_year(connection, keys, private_der)
            self._outbox.store(connection, [transaction])
        self._started += self._outbox.start([transaction])
        return keys

    def settle(self) -> None:
        """Returns when every new key is certified: only then may records of its year be submitted.

        Raises:
            RefusedError: the ledger refused a key.
        """
        started, self._started = self._started, []
        require_accepted(self._outbox.finish(started))


def require_accepted(settled: list[Settled]) -> None:
    """Raises RefusedError when the ledger refused a tag key: nothing of that year can be attested then."""
    for each in settled:
        if each.transaction.stage == STAGE_TAG_KEY and each.receipt.code:
            raise RefusedError(
                "tag_key_refused",
                f"the ledger refused the tag key of a year with code {each.receipt.code}: another vault of "
                "this issuer has registered its own, or the member may not issue any kind; nothing was "
                "attested",
            )
