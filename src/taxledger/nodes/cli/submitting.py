"""The way from the custodian's commands to the ledger: the verifying client as a ``Submitter``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxledger.ledger.errors import InputError, UnavailableError
from taxledger.ledger.genesis import chain_id
from taxledger.nodes.cli.output import connect

if TYPE_CHECKING:
    from taxledger.api.client import Client
    from taxledger.nodes.custodian.outbox import Receipt
    from taxledger.nodes.custodian.vault import Vault
    from taxledger.nodes.home import Home
    from taxledger.nodes.identity.memberkeys import KeyInForce

__all__ = ["ClientSubmitter", "Desk", "open_desk"]

_KEY_S = 1.0


class ClientSubmitter:
    """Submits through the home's own node; called from several threads at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def submit(self, raw: bytes) -> Receipt:
        """See ``custodian.outbox.Submitter``."""
        from taxledger.nodes.custodian.outbox import Receipt

        said = self._client.submit(raw, wait="certified")
        if said.state != "certified" or said.code is None:
            raise UnavailableError(
                "the transaction is accepted, but not certified yet: run it again to go on"
            )
        return Receipt(
            code=said.code,
            first_refused=said.first_refused,
            height=said.height or 0,
            index=said.index or 0,
        )

    def find(self, id: bytes) -> Receipt | None:
        """See ``custodian.outbox.Submitter``; the answer is proved, not only said."""
        from taxledger.nodes.custodian.outbox import Receipt

        found = self._client.transaction(id)
        if found is None:
            return None
        said = found.receipt
        return Receipt(
            code=said.code or 0,
            first_refused=said.first_refused,
            height=said.height or 0,
            index=said.index or 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What an issuer's command works with."""

    vault: Vault
    signer: KeyInForce
    submitter: ClientSubmitter
    client: Client


def _check_issuer(home: Home, leaf: bytes, client: Client) -> None:
    """Say early and clearly that a bank's home can't attest; the ledger would refuse it anyway."""
    from taxledger.ledger.genesis import decode_genesis
    from taxledger.ledger.members import decode_member
    from taxledger.ledger.statekeys import member_key

    number = home.config.number
    issuers = {member.number: member.name for member in decode_genesis(leaf).members if member.kinds}
    if number in issuers:
        return
    key = member_key(number)
    pairs = client.state(key).entries[key]
    if not pairs or not decode_member(number, pairs[0][1]).kinds:
        names = ", ".join(issuers.values())
        raise InputError(f"{home.config.name} is no issuer; the first issuers of this network: {names}")


class _KeyOnLedger:
    """The member's transaction key as the ledger has it, verified; asked again after a moment."""

    def __init__(self, number: int, client: Client) -> None:
        self._number = number
        self._client = client
        self._known: tuple[float, bytes] | None = None

    def __call__(self) -> bytes:
        from taxledger.ledger.members import decode_member
        from taxledger.ledger.statekeys import member_key

        known, now_s = self._known, time.monotonic()
        if known is None or now_s - known[0] >= _KEY_S:
            key = member_key(self._number)
            pairs = self._client.state(key).entries[key]
            if not pairs:
                raise InputError(f"member {self._number} is not on this ledger")
            known = self._known = now_s, decode_member(self._number, pairs[0][1]).transaction_key
        return known[1]


@contextmanager
def open_desk(home: Home) -> Iterator[Desk]:
    """Vault, signer and way to the ledger of an issuer's home; closed at the end.

    Raises:
        InputError: this member issues nothing, or its keys can't be read.
    """
    from taxledger.nodes.custodian.vault import Vault
    from taxledger.nodes.identity.memberkeys import KeyInForce
    from taxledger.nodes.sealed.homekeys import open_key_provider

    leaf = home.genesis()
    with ExitStack() as stack:
        client = stack.enter_context(connect(home))
        _check_issuer(home, leaf, client)
        vault = Vault.open(
            home.vault_path, open_key_provider(home), chain_id=chain_id(leaf), member=home.config.number
        )
        stack.callback(vault.close)
        signer = KeyInForce(home, _KeyOnLedger(home.config.number, client))
        yield Desk(vault=vault, signer=signer, submitter=ClientSubmitter(client), client=client)
