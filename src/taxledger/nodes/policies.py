"""What a node says of the validators: its own policy as of its state, and the links that lead others to it.

A node executes the ledger from its genesis, so for its own checks it needs no policy file: it knows the validators.
It never writes ``policy.txt``. That file is the trust root of those who check this node: were the node to renew it,
a node that lies would also say whom to believe. ``taxledger policy update`` renews it, by proof.
"""

from __future__ import annotations

from taxledger.ledger.checkpoint import (
    COSIGNATURE_TYPE,
    LOG_TYPE,
    VerifierKey,
    cosigner_name,
    note_key_id,
    parse_origin,
)
from taxledger.ledger.errors import UnavailableError
from taxledger.ledger.policy import Policy, quorum
from taxledger.ledger.policylinks import PolicyLinks, encode_links, prove_head
from taxledger.ledger.setchanges import is_last_of_its_set, links_from
from taxledger.nodes.replica import CertifiedState

__all__ = ["links_file", "policy_of"]


def policy_of(state: CertifiedState) -> Policy:
    """The policy of those who co-sign the newest certified block."""
    origin = state.checkpoint.origin
    network = parse_origin(origin).network

    def key(name: str, type_: int, public_key: bytes) -> VerifierKey:
        key_id = note_key_id(name, type_, public_key)
        return VerifierKey(name=name, key_id=key_id, type=type_, public_key=public_key)

    members = [each for _, each in sorted(state.validators.items())]
    return Policy(
        origin=origin,
        log_keys=tuple(key(origin, LOG_TYPE, each.log_key) for each in members if each.log_key is not None),
        witnesses={
            each.name: key(cosigner_name(network, each.name), COSIGNATURE_TYPE, each.cosign_key)
            for each in members
            if each.cosign_key is not None
        },
        threshold=quorum(len(members)),
    )


def links_file(state: CertifiedState, note: bytes, trusted: bytes, engine: str | None = None) -> bytes:
    """The file that leads from a set of validators to the present one (docs/protocol.md §18).

    Args:
        state: the newest certified one, of height 1 or more.
        note: its certified note.
        trusted: the hash of the set to begin at, 32 bytes.
        engine: that of the policy's origin; None for the present one.

    Raises:
        RefusedError: ``policy_unknown``: this ledger has had no such set, as far as it lies here.
        UnavailableError: the validators are just changing.
    """
    if state.header is None or is_last_of_its_set(state.header):
        raise UnavailableError("the validators are changing with the next block: ask again in a moment")
    head = prove_head(
        state.view, checkpoint=note, header=state.header_leaf, inclusion=state.header_inclusion()
    )
    former = None if engine == parse_origin(state.checkpoint.origin).engine else engine
    links = links_from(state.chain, trusted, state.header.validators_hash, former)
    return encode_links(PolicyLinks(links=links, head=head))
