"""What a transaction that passed all rules writes to the state map (docs/protocol.md §6)."""

from __future__ import annotations

from collections.abc import Callable

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.calls import Call
from taxledger.ledger.governance import Proposal, ProposalState, encode_proposal, proposal_of
from taxledger.ledger.operations import ENTRY_BYTES, Amend, Approve, Attest, Propose, Revoke, TagKey
from taxledger.ledger.policy import quorum
from taxledger.ledger.records import RecordValue, Status, encode_record_value, record_value_parts

__all__ = ["effects_of"]

Writes = dict[bytes, bytes]

_NO_FINGERPRINT = bytes(16)


def effects_of(call: Call) -> Writes:
    """Keys and values that the call writes. Only asked where every rule has passed."""
    return _EFFECTS[type(call.operation)](call)


def _attest_writes(call: Call) -> Writes:
    attest: Attest = call.operation
    writes: Writes = {}
    keys = iter(call.keys())
    for group in attest.groups:
        before, after = record_value_parts(group.status, 1, group.schema, call.height)
        unmarked, entries = b"\xc0" + after, group.entries
        for at in range(0, len(entries), ENTRY_BYTES):
            mark = entries[at + 48 : at + 64]
            end = unmarked if mark == _NO_FINGERPRINT else b"\xc4\x10" + mark + after
            writes[next(keys)] = before + entries[at + 16 : at + 48] + end
    if attest.through is not None:
        key = statekeys.attested_through_key(call.signer.number, attest.kind)
        writes[key] = canonical.encode([attest.through, call.height])
    return writes


def _amend_writes(call: Call) -> Writes:
    amend: Amend = call.operation
    return {
        change.key: encode_record_value(
            RecordValue(
                status=Status(change.status),
                version=change.version + 1,
                schema=change.schema,
                commitment=change.commitment,
                fingerprint=change.fingerprint,
                height=call.height,
            )
        )
        for change in amend.changes
    }


def _revoke_writes(call: Call) -> Writes:
    """Only status and height change: the commitment names its version, and has to go on verifying."""
    revoke: Revoke = call.operation
    return {
        change.key: encode_record_value(
            RecordValue(
                status=Status.REVOKED,
                version=record.version,
                schema=record.schema,
                commitment=record.commitment,
                fingerprint=record.fingerprint,
                height=call.height,
            )
        )
        for change, record in zip(revoke.changes, call.records(), strict=True)
    }


def _tag_key_writes(call: Call) -> Writes:
    key = statekeys.tag_key_key(call.signer.number, call.operation.year)
    return {key: canonical.encode([call.operation.modulus, call.height])}


def _propose_writes(call: Call) -> Writes:
    return _approved(
        call,
        Proposal(
            id=call.transaction_id[:16],
            change=call.operation.change,
            proposer=call.signer.number,
            approvals=(),
            state=ProposalState.OPEN,
            height=call.height,
        ),
    )


def _approve_writes(call: Call) -> Writes:
    proposal = proposal_of(call.state, call.operation.proposal)
    return {} if proposal is None else _approved(call, proposal)


def _approved(call: Call, proposal: Proposal) -> Writes:
    """The proposal with the signer's approval, accepted if that makes a quorum of the present validators."""
    approvals = tuple(sorted((*proposal.approvals, call.signer.number)))
    counted = sum(number in call.validators for number in approvals)
    accepted = counted >= quorum(len(call.validators))
    written = Proposal(
        id=proposal.id,
        change=proposal.change,
        proposer=proposal.proposer,
        approvals=approvals,
        state=ProposalState.ACCEPTED if accepted else ProposalState.OPEN,
        height=call.height if accepted else proposal.height,
    )
    return {statekeys.proposal_key(proposal.id): encode_proposal(written)}


_EFFECTS: dict[type, Callable[[Call], Writes]] = {
    Attest: _attest_writes,
    Amend: _amend_writes,
    Revoke: _revoke_writes,
    TagKey: _tag_key_writes,
    Propose: _propose_writes,
    Approve: _approve_writes,
}
