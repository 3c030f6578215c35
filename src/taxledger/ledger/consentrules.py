"""What the rules ask of operations about consents (docs/protocol.md §8, codes 19 to 34); ``rules.py`` has the list.

Every validator enforces that a use is its custodian's, within the window and the count, of a consent that is
active at the block's time. Scope, fields and recipient are checked by the custodian, and afterwards by whoever
holds the artefact.
"""

from __future__ import annotations

from taxledger.ledger import limits, statekeys
from taxledger.ledger.calls import Call
from taxledger.ledger.consentoperations import (
    ConsentChange,
    ConsentGrant,
    ConsentRevoke,
    ConsentUse,
    ConsentUseClose,
    UseOutcome,
)
from taxledger.ledger.consentstate import (
    ConsentStatus,
    ConsentValue,
    UseState,
    consent_id,
    consent_of,
    revoke_hash_of,
    use_of,
)

__all__ = [
    "consent_new",
    "erasure_new",
    "is_known",
    "may_change",
    "not_for",
    "preimage_fits",
    "sequence_next",
    "signer_is_custodian",
    "terms_valid",
    "use_known",
    "use_open",
]


def _named(call: Call) -> bytes | None:
    """The present consent that the operation is about; None for a grant that supersedes none."""
    operation = call.operation
    return operation.former if isinstance(operation, ConsentGrant) else operation.consent


def _present(call: Call) -> ConsentValue | None:
    named = _named(call)
    return None if named is None else consent_of(call.state, named)


def consent_new(call: Call) -> bool:
    """Rule 19."""
    return consent_of(call.state, consent_id(call.signer.number, call.operation.digest)) is None


def terms_valid(call: Call) -> bool:
    """Rule 20."""
    grant: ConsentGrant = call.operation
    lifetime = grant.not_after - grant.not_before
    return (
        bool(call.signer.kinds)
        and 0 < lifetime <= limits.consent_lifetime_ms_max
        and call.time_ms < grant.not_after
    )


def is_known(call: Call) -> bool:
    """Rule 21."""
    return _named(call) is None or _present(call) is not None


def signer_is_custodian(call: Call) -> bool:
    """Rule 22. Who shows a preimage need not be the custodian."""
    operation, present = call.operation, _present(call)
    if isinstance(operation, ConsentRevoke) and operation.preimage is not None:
        return True
    return present is None or present.custodian == call.signer.number


def preimage_fits(call: Call) -> bool:
    """Rule 23."""
    revoke, present = call.operation, _present(call)
    if revoke.preimage is None or present is None:
        return True
    return revoke_hash_of(revoke.preimage) == present.revoke_hash


def may_change(call: Call) -> bool:
    """Rule 24."""
    operation, present = call.operation, _present(call)
    if present is None:
        return True
    if isinstance(operation, ConsentChange):
        return present.status == (ConsentStatus.PAUSED if operation.resume else ConsentStatus.ACTIVE)
    if present.status not in (ConsentStatus.ACTIVE, ConsentStatus.PAUSED):
        return False
    # What supersedes a consent is of the same subject, for the same recipient.
    return isinstance(operation, ConsentRevoke) or (
        call.state.get(statekeys.holder_key(operation.holder, operation.former)) is not None
    )


def not_for(name: str, call: Call) -> bool:
    """Rules 25 to 30: no use is refused for this reason."""
    present = _present(call)
    return present is None or present.refusal(call.time_ms) != name


def sequence_next(call: Call) -> bool:
    """Rule 31."""
    use: ConsentUse = call.operation
    present = _present(call)
    return present is not None and use.sequence == present.uses + 1


def use_known(call: Call) -> bool:
    """Rule 32."""
    close: ConsentUseClose = call.operation
    return use_of(call.state, close.consent, close.sequence) is not None


def use_open(call: Call) -> bool:
    """Rule 33. Records that were not planned can't have left, and all of them have where it is complete."""
    close: ConsentUseClose = call.operation
    use = use_of(call.state, close.consent, close.sequence)
    if use is None or use.state != UseState.OPEN or close.count > use.planned_count:
        return False
    return close.outcome != UseOutcome.COMPLETE or close.count == use.planned_count


def erasure_new(call: Call) -> bool:
    """Rule 34."""
    return call.state.get(statekeys.data_erased_key(call.signer.number, call.operation.digest)) is None
