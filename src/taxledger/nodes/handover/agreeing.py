"""The handover itself: the present members leave their engine, sign the same tree under the other origin, go over.

Order, and why (each arrow is durable at every party before the next begins):

    level ──▶ begin_handover at all ──▶ co-sign under the new origin ──▶ hand_over at each, one batch

From the second arrow on those present, a quorum, take no part in the former engine: nothing more can be decided
there. Only then a signature under the new origin exists. A crash before the last arrow loses signatures, which are
made anew for the same tree; one within it leaves parties that have gone over, and the others take their record.
"""

from __future__ import annotations

from collections.abc import Sequence

from taxledger.ledger.auditnotes import verify_note
from taxledger.ledger.checkpoint import Checkpoint, CoSignature, cosigner_name, encode_note, sign_checkpoint
from taxledger.ledger.errors import InputError, UnavailableError, check
from taxledger.ledger.handingover import begin_handover, hand_over
from taxledger.ledger.handover import COMETBFT, EMBEDDED, Handover
from taxledger.ledger.members import Member, validators_of
from taxledger.ledger.policy import quorum
from taxledger.nodes.application import CosignMessage, decode_cosign
from taxledger.nodes.handover.levelling import level, level_to
from taxledger.nodes.handover.party import Party

__all__ = ["hand_over_all"]

Cosigns = Sequence[tuple[int, int, bytes]]


def hand_over_all(parties: Sequence[Party], engine: str) -> Handover:
    """Hand every party's ledger over; whatever was done of it before is gone on with.

    Args:
        parties: all members whose homes are here, of one ledger.
        engine: the one to go to.

    Raises:
        InputError: it can't be done with these; says why.
        UnavailableError, RefusedError, VerificationError: a block or its certificate is missing or wrong.
    """
    if engine != COMETBFT:
        raise InputError(f"expected to go to {COMETBFT}, got {engine!r}: nothing goes back from it")
    if len({each.chain.chain_id for each in parties}) != 1:
        raise InputError("the homes are of different ledgers")
    done = [each for each in parties if each.chain.engine == engine]
    rest = [each for each in parties if each.chain.engine != engine]
    if not done:
        _check_former(rest)
        level(rest)
        _check_set(rest[0])
        record, cosigns, own = _agree(rest, engine)
    else:
        record = _record(done[0])
        cosigns, own = done[0].chain.cosigns(record.height), {}
        for party in rest:
            level_to(party, done[0], record.height)
    for party in rest:
        if party.chain.handing_over() != engine:
            begin_handover(party.chain, engine)
        hand_over(party.chain, record, cosigns, own=own.get(party.number))
    return record


def _record(party: Party) -> Handover:
    found = party.chain.handover(party.chain.engine_from - 1)
    if found is None:
        raise InputError(f"the ledger of {party.name} has had this engine from its first block")
    return found


def _check_former(parties: Sequence[Party]) -> None:
    for party in parties:
        if party.chain.engine != EMBEDDED:
            raise InputError(f"{party.name} is ordered by {party.chain.engine}: nothing goes over from there")


def _check_set(party: Party) -> None:
    """The handover is signed by the validators of the last block, and its engine begins with them."""
    tip = party.chain.tip
    if tip.height:
        header = party.chain.header(tip.height)
        if header.validators_hash != header.next_validators_hash:
            raise InputError(
                "a change of the validators comes into force with the next block: start the network until it has"
            )


def _agree(parties: Sequence[Party], engine: str) -> tuple[Handover, Cosigns, dict[int, bytes]]:
    """(the handover, its co-signatures, each party's own message)."""
    for party in parties:
        if party.chain.handing_over() != engine:
            begin_handover(party.chain, engine)
    chain = parties[0].chain
    validators = {each.number: each for each in validators_of(chain.view)}
    frontier = chain.tip.frontier
    checkpoint = Checkpoint(origin=chain.origin_of(engine), size=frontier.size, root=frontier.root)
    messages = {}
    for party in parties:
        member = validators.get(party.number)
        if member is not None and party.application.may_cosign(member, checkpoint):
            raw = party.application.make_cosign(checkpoint)
            messages[party.number] = decode_cosign(raw, chain.chain_id)
    if len(messages) < quorum(len(validators)):
        raise UnavailableError(
            f"{len(messages)} of {len(validators)} validators can co-sign the last block, "
            f"{quorum(len(validators))} are needed"
        )
    cosigns = [_tuple(each) for _, each in sorted(messages.items())]
    former = Checkpoint(origin=chain.origin, size=frontier.size, root=frontier.root)
    height, former_cosigns = chain.tip.height, chain.cosigns(chain.tip.height)
    record = Handover(
        height=height,
        former=chain.engine,
        engine=engine,
        former_cosigns=former_cosigns if height else (),
        former_note=_note(parties, validators, former, former_cosigns) if height else b"",
        # Exactly a quorum: what a link for verifiers takes (``setchanges.py``).
        note=_note(parties, validators, checkpoint, cosigns[: quorum(len(validators))]),
    )
    verify_note(record.note, checkpoint, chain.genesis.network, list(validators.values()))
    return record, cosigns, {number: each.raw for number, each in messages.items()}


def _tuple(message: CosignMessage) -> tuple[int, int, bytes]:
    return message.member, message.time_s, message.signature


def _note(
    parties: Sequence[Party], validators: dict[int, Member], checkpoint: Checkpoint, cosigns: Cosigns
) -> bytes:
    log = next(
        (
            party.application.keys.log
            for party in parties
            if party.application.keys.log is not None
            and party.number in validators
            and validators[party.number].log_key == party.application.keys.log.public_key
        ),
        None,
    )
    if log is None:
        raise UnavailableError("none of the homes has a log key that the ledger names")
    network = parties[0].chain.genesis.network
    lines = []
    for number, time_s, signature in cosigns:
        key = validators[number].cosign_key
        check(key is not None, "who co-signed has a key")
        lines.append(
            CoSignature(cosigner_name(network, validators[number].name), key or b"", time_s, signature)
        )
    return encode_note(checkpoint, log.public_key, sign_checkpoint(log, checkpoint), lines)
