"""What a transaction that passed all rules writes to the state map (docs/protocol.md §6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.calls import Call
from taxledger.ledger.consentoperations import (
    ConsentChange,
    ConsentGrant,
    ConsentRevoke,
    ConsentUse,
    ConsentUseClose,
)
from taxledger.ledger.consentstate import (
    ConsentStatus,
    ConsentValue,
    UseState,
    UseValue,
    consent_id,
    consent_of,
    encode_consent_value,
    encode_use_value,
    use_of,
)
from taxledger.ledger.conviction import is_conviction
from taxledger.ledger.governance import (
    Proposal,
    ProposalState,
    encode_proposal,
    pending_proposal,
    proposal_of,
    superseded_writes,
)
from taxledger.ledger.operations import (
    ENTRY_BYTES,
    Amend,
    Approve,
    Attest,
    DataErased,
    Erase,
    Propose,
    Revoke,
    TagKey,
)
from taxledger.ledger.pledgeeffects import (
    Writes,
    confirm_writes,
    impaired_by,
    place_writes,
    release_writes,
    transfer_writes,
)
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeRelease, PledgeTransfer
from taxledger.ledger.policy import quorum
from taxledger.ledger.records import RecordValue, Status, encode_record_value, record_value_parts

__all__ = ["Effects", "Writes", "effects_of"]

_NO_FINGERPRINT = bytes(16)


class Effects(NamedTuple):
    """What a call does: its writes, and the numbers of its changes that impaired pledges, ascending."""

    writes: Writes
    impaired: tuple[int, ...] = ()


def effects_of(call: Call) -> Effects:
    """Keys and values that the call writes. Only asked where every rule has passed."""
    writes = _EFFECTS[type(call.operation)](call)
    if not isinstance(call.operation, Amend | Revoke | Erase):
        return Effects(writes)
    pledges, impaired = impaired_by(call, writes)
    return Effects(writes | pledges, impaired)


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
    return _status_writes(call, Status.REVOKED)


def _erase_writes(call: Call) -> Writes:
    """The commitment stays: without the record's secret it tells nothing, and old evidence goes on verifying."""
    return _status_writes(call, Status.ERASED)


def _status_writes(call: Call, status: Status) -> Writes:
    operation: Revoke | Erase = call.operation
    return {
        change.key: encode_record_value(replace(record, status=status, height=call.height))
        for change, record in zip(operation.changes, call.records(), strict=True)
    }


def _tag_key_writes(call: Call) -> Writes:
    key = statekeys.tag_key_key(call.signer.number, call.operation.year)
    return {key: canonical.encode([call.operation.modulus, call.height])}


def _propose_writes(call: Call) -> Writes:
    convicts = is_conviction(call.operation.change)
    before = superseded_writes(pending_proposal(call.state), call.height) if convicts else {}
    return before | _approved(
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
    accepted = counted >= quorum(len(call.validators)) or is_conviction(proposal.change)
    written = Proposal(
        id=proposal.id,
        change=proposal.change,
        proposer=proposal.proposer,
        approvals=approvals,
        state=ProposalState.ACCEPTED if accepted else ProposalState.OPEN,
        height=call.height if accepted else proposal.height,
    )
    return {statekeys.proposal_key(proposal.id): encode_proposal(written)}


# --- consents ---------------------------------------------------------------------------------


def _consent_writes(call: Call, consent: bytes, **changes: int) -> Writes:
    present = consent_of(call.state, consent)
    if present is None:  # rule 21 has found it
        return {}
    return {statekeys.consent_key(consent): encode_consent_value(replace(present, **changes))}  # type: ignore[arg-type]


def _grant_writes(call: Call) -> Writes:
    grant: ConsentGrant = call.operation
    consent = consent_id(call.signer.number, grant.digest)
    value = ConsentValue(
        status=ConsentStatus.ACTIVE,
        digest=grant.digest,
        custodian=call.signer.number,
        not_before=grant.not_before,
        not_after=grant.not_after,
        max_uses=grant.max_uses,
        uses=0,
        revoke_hash=grant.revoke_hash,
    )
    writes: Writes = {
        statekeys.consent_key(consent): encode_consent_value(value),
        statekeys.holder_key(grant.holder, consent): canonical.encode([call.height]),
    }
    if grant.former is not None:
        writes.update(_consent_writes(call, grant.former, status=ConsentStatus.SUPERSEDED))
    return writes


def _change_writes(call: Call) -> Writes:
    change: ConsentChange = call.operation
    status = ConsentStatus.ACTIVE if change.resume else ConsentStatus.PAUSED
    return _consent_writes(call, change.consent, status=status)


def _consent_revoke_writes(call: Call) -> Writes:
    return _consent_writes(call, call.operation.consent, status=ConsentStatus.REVOKED)


def _use_writes(call: Call) -> Writes:
    use: ConsentUse = call.operation
    value = UseValue(
        state=UseState.OPEN,
        planned_digest=use.digest,
        planned_count=use.count,
        opened_height=call.height,
    )
    return {
        statekeys.use_key(use.consent, use.sequence): encode_use_value(value),
        **_consent_writes(call, use.consent, uses=use.sequence),
    }


def _use_close_writes(call: Call) -> Writes:
    close: ConsentUseClose = call.operation
    use = use_of(call.state, close.consent, close.sequence)
    if use is None:  # rule 32 has found it
        return {}
    closed = replace(
        use,
        state=UseState(close.outcome),
        digest=close.digest,
        count=close.count,
        closed_height=call.height,
    )
    return {statekeys.use_key(close.consent, close.sequence): encode_use_value(closed)}


def _data_erased_writes(call: Call) -> Writes:
    erased: DataErased = call.operation
    key = statekeys.data_erased_key(call.signer.number, erased.digest)
    return {key: canonical.encode([erased.digest, erased.count, call.height])}


_EFFECTS: dict[type, Callable[[Call], Writes]] = {
    Attest: _attest_writes,
    Amend: _amend_writes,
    Revoke: _revoke_writes,
    TagKey: _tag_key_writes,
    Propose: _propose_writes,
    Approve: _approve_writes,
    Erase: _erase_writes,
    ConsentGrant: _grant_writes,
    ConsentChange: _change_writes,
    ConsentRevoke: _consent_revoke_writes,
    ConsentUse: _use_writes,
    ConsentUseClose: _use_close_writes,
    DataErased: _data_erased_writes,
    PledgePlace: place_writes,
    PledgeConfirm: confirm_writes,
    PledgeRelease: release_writes,
    PledgeTransfer: transfer_writes,
}
