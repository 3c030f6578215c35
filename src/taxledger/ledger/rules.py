"""The rules of the ledger: one numbered list, executed by every validator (docs/protocol.md §8).

Invariants:

* The rules run in the order of their codes; the first that fails gives the code, and then nothing is written
  (but the mark that a contest leaves, rule 49: docs/decisions/0023).
* A rule reads its arguments only: no clock, no randomness, no order of a set. Same bytes, same result.
* Rule 1 is ``operations.decode_operation``; rule 2 is asked before there is a leaf, by
  ``execute.check_transaction``, so its code never stands in a result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from taxledger.ledger import canonical, consentrules, limits, pledgerules, recordrules, statekeys
from taxledger.ledger.calls import Call, Refusal, RuleState
from taxledger.ledger.consentoperations import (
    ConsentChange,
    ConsentGrant,
    ConsentRevoke,
    ConsentUse,
    ConsentUseClose,
)
from taxledger.ledger.effects import Writes, effects_of
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.governance import (
    ProposalState,
    is_change_valid,
    may_follow,
    pending_proposal,
    proposal_of,
)
from taxledger.ledger.members import Member
from taxledger.ledger.operations import (
    Amend,
    Approve,
    Attest,
    DataErased,
    Erase,
    Operation,
    Propose,
    Revoke,
    TagKey,
    decode_operation,
)
from taxledger.ledger.pledgeeffects import contest_writes
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeRelease, PledgeTransfer
from taxledger.ledger.shapes import array, ascending, integer
from taxledger.ledger.tagkeys import verify_tag_key

__all__ = [
    "CONTESTED",
    "PAYLOAD_MALFORMED",
    "RESULT_NAMES",
    "RULES",
    "Outcome",
    "Result",
    "Rule",
    "decode_result",
    "encode_result",
    "execute_payload",
]

PAYLOAD_MALFORMED = 1
CONTESTED = 49
_YEARS = range(1990, 2201)

_REFUSED = Refusal()
_RECORD_OPERATIONS = (Attest, Amend, Revoke, Erase)
_CONSENT_OPERATIONS = (ConsentChange, ConsentGrant, ConsentRevoke, ConsentUse, ConsentUseClose)
_PLEDGE_CHANGES = (PledgeConfirm, PledgeRelease, PledgeTransfer)
_PERMITTED = (PledgePlace, PledgeTransfer)


# --- rules 12 and 13: tag keys ------------------------------------------------------------------


def _tag_key_new(call: Call) -> Refusal | None:
    key = statekeys.tag_key_key(call.signer.number, call.operation.year)
    return None if call.state.get(key) is None else _REFUSED


def _tag_key_valid(call: Call) -> Refusal | None:
    tag_key: TagKey = call.operation
    if tag_key.year not in _YEARS or not call.signer.kinds:
        return _REFUSED
    try:
        verify_tag_key(tag_key.modulus, tag_key.proof, call.chain_id, call.signer.number, tag_key.year)
    except (InputError, VerificationError):
        return _REFUSED
    return None


# --- rules 14 to 18: the network itself ---------------------------------------------------------


def _proposal_open(call: Call) -> Refusal | None:
    proposal = proposal_of(call.state, call.operation.proposal)
    return None if proposal is not None and proposal.state == ProposalState.OPEN else _REFUSED


def _approval_new(call: Call) -> Refusal | None:
    proposal = proposal_of(call.state, call.operation.proposal)
    return _REFUSED if proposal is None or call.signer.number in proposal.approvals else None


def _signer_validates(call: Call) -> Refusal | None:
    return None if call.signer.number in call.validators else _REFUSED


def _change_valid(call: Call) -> Refusal | None:
    change = call.operation.change
    return None if is_change_valid(change, state=call.state, chain_id=call.chain_id) else _REFUSED


def _none_pending(call: Call) -> Refusal | None:
    return None if may_follow(call.operation.change, pending_proposal(call.state)) else _REFUSED


# --- rules 19 to 51: consents, erasure, pledges -----------------------------------------------------------


def _asked(holds: Callable[[Call], bool]) -> Callable[[Call], Refusal | None]:
    """A rule about the whole transaction, from a question that is answered yes where it holds."""

    def ask(call: Call) -> Refusal | None:
        return None if holds(call) else _REFUSED

    return ask


# --- the list -----------------------------------------------------------------------------------


class Rule(NamedTuple):
    """One rule: its result code and name, the operations it is asked of, and how it is asked."""

    code: int
    name: str
    operations: tuple[type, ...]
    ask: Callable[[Call], Refusal | None]
    mark: Callable[[Call], Writes] | None = None
    """What is written even though the transaction is refused."""


RULES: tuple[Rule, ...] = (
    Rule(3, "kind_not_issued", _RECORD_OPERATIONS, recordrules.kind_issued),
    Rule(4, "schema_unknown", (Attest, Amend), recordrules.schemas_known),
    Rule(5, "tag_key_missing", (Attest,), recordrules.tag_key_there),
    Rule(6, "record_exists", (Attest,), recordrules.records_new),
    Rule(7, "status_invalid", (Attest,), recordrules.statuses_valid),
    Rule(8, "through_not_forward", (Attest,), recordrules.through_forward),
    Rule(9, "record_unknown", (Amend, Revoke, Erase), recordrules.records_known),
    Rule(10, "version_conflict", (Amend, Revoke, Erase), recordrules.versions_present),
    Rule(11, "transition_invalid", (Amend, Revoke, Erase), recordrules.transitions_valid),
    Rule(12, "tag_key_exists", (TagKey,), _tag_key_new),
    Rule(13, "tag_key_invalid", (TagKey,), _tag_key_valid),
    Rule(14, "proposal_unknown", (Approve,), _proposal_open),
    Rule(15, "approval_repeated", (Approve,), _approval_new),
    Rule(16, "not_validator", (Propose, Approve), _signer_validates),
    Rule(17, "change_invalid", (Propose,), _change_valid),
    Rule(18, "change_pending", (Propose,), _none_pending),
    Rule(19, "consent_exists", (ConsentGrant,), _asked(consentrules.consent_new)),
    Rule(20, "consent_terms_invalid", (ConsentGrant,), _asked(consentrules.terms_valid)),
    Rule(21, "consent_unknown", _CONSENT_OPERATIONS, _asked(consentrules.is_known)),
    Rule(22, "not_custodian", _CONSENT_OPERATIONS, _asked(consentrules.signer_is_custodian)),
    Rule(23, "preimage_invalid", (ConsentRevoke,), _asked(consentrules.preimage_fits)),
    Rule(
        24,
        "consent_state_invalid",
        (ConsentChange, ConsentGrant, ConsentRevoke),
        _asked(consentrules.may_change),
    ),
    *(
        Rule(code, name, (ConsentUse,), _asked(partial(consentrules.not_for, name)))
        for code, name in (
            (25, "consent_paused"),
            (26, "consent_revoked"),
            (27, "consent_superseded"),
            (28, "consent_early"),
            (29, "consent_expired"),
            (30, "consent_used_up"),
        )
    ),
    Rule(31, "use_out_of_order", (ConsentUse,), _asked(consentrules.sequence_next)),
    Rule(32, "use_unknown", (ConsentUseClose,), _asked(consentrules.use_known)),
    Rule(33, "use_closed", (ConsentUseClose,), _asked(consentrules.use_open)),
    Rule(34, "data_erased_repeated", (DataErased,), _asked(consentrules.erasure_new)),
    Rule(35, "pledge_exists", (PledgePlace,), _asked(pledgerules.is_new)),
    Rule(36, "pledge_unknown", _PLEDGE_CHANGES, _asked(pledgerules.is_known)),
    Rule(37, "pledge_ended", _PLEDGE_CHANGES, _asked(pledgerules.is_open)),
    Rule(38, "not_pledgee", _PLEDGE_CHANGES, _asked(pledgerules.signer_holds)),
    Rule(39, "pledge_confirmed", (PledgeConfirm,), _asked(pledgerules.is_reservation)),
    Rule(40, "permit_invalid", _PERMITTED, _asked(pledgerules.permit_valid)),
    Rule(41, "permit_expired", _PERMITTED, _asked(pledgerules.permit_in_time)),
    Rule(42, "permit_not_for_signer", (PledgePlace,), _asked(pledgerules.permit_for_signer)),
    Rule(43, "permit_not_for_pledge", (PledgeTransfer,), _asked(pledgerules.permit_for_pledge)),
    Rule(44, "lender_inactive", (PledgeTransfer,), _asked(pledgerules.lender_active)),
    Rule(45, "ppm_too_small", (PledgePlace,), _asked(pledgerules.ppm_enough)),
    Rule(46, "pledge_term_invalid", (PledgePlace,), _asked(pledgerules.term_valid)),
    Rule(47, "record_not_pledgeable", _PERMITTED, _asked(pledgerules.record_pledgeable)),
    Rule(48, "record_not_valid", (*_PERMITTED, PledgeConfirm), _asked(pledgerules.record_valid)),
    Rule(CONTESTED, "pledge_contested", (PledgePlace,), _asked(pledgerules.uncontested), contest_writes),
    Rule(50, "pledges_full", (PledgePlace,), _asked(pledgerules.has_room)),
    Rule(51, "pledge_exceeds", (PledgePlace,), _asked(pledgerules.fits)),
)

RESULT_NAMES: dict[int, str] = {
    0: "ok",
    PAYLOAD_MALFORMED: "payload_malformed",
    2: "member_inactive",
    **{rule.code: rule.name for rule in RULES},
}
"""Name of every result code."""


# --- executing and results --------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What became of a transaction: code 0 with its writes, or a code with none (but a rule's mark)."""

    code: int
    first_refused: int | None
    writes: Writes
    impaired: tuple[int, ...] = ()
    """See ``Result``."""


def execute_payload(
    payload: bytes,
    *,
    chain_id: bytes,
    height: int,
    time_ms: int,
    transaction_id: bytes,
    signer: Member,
    validators: tuple[int, ...],
    state: RuleState,
) -> Outcome:
    """Run all rules over the payload of a transaction that ``signer``, an active member, validly signed."""
    try:
        operation: Operation = decode_operation(payload)
    except InputError:
        return Outcome(PAYLOAD_MALFORMED, None, {})
    call = Call(
        chain_id=chain_id,
        height=height,
        time_ms=time_ms,
        transaction_id=transaction_id,
        signer=signer,
        validators=validators,
        state=state,
        operation=operation,
    )
    kind = type(operation)
    for rule in RULES:
        if kind in rule.operations:
            refusal = rule.ask(call)
            if refusal is not None:
                return Outcome(rule.code, refusal.entry, rule.mark(call) if rule.mark else {})
    effects = effects_of(call)
    return Outcome(0, None, effects.writes, effects.impaired)


class Result(NamedTuple):
    """A transaction's result.

    Attributes:
        leaf_hash: its id.
        code: 0, or that of the rule it failed.
        first_refused: number of the first refused entry, None where the rule is not about one.
        impaired: numbers of the changes whose records were pledged, ascending.
    """

    leaf_hash: bytes
    code: int
    first_refused: int | None
    impaired: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return RESULT_NAMES.get(self.code, str(self.code))


def encode_result(result: Result) -> bytes:
    """``[leaf hash, code, first refused entry | nil]``, a leaf under ``results_root``; behind it, only where there
    are any, the numbers of the changes that impaired pledges.
    """
    leaf_hash, code, first_refused, impaired = result
    return canonical.encode([leaf_hash, code, first_refused, *([list(impaired)] if impaired else [])])


def decode_result(data: bytes) -> Result:
    """The result of its bytes.

    Raises:
        LimitError, EncodingError, FormatError: not a result in its one form.
    """
    value = canonical.decode(data, bytes_max=limits.result_bytes_max)
    if type(value) is not list or len(value) not in (3, 4):
        raise FormatError("expected a result [leaf hash, code, first refused entry]")
    leaf_hash, code, first_refused, *impaired = value
    if type(leaf_hash) is not bytes or len(leaf_hash) != 32:
        raise FormatError("result: expected a leaf hash of 32 bytes")
    if type(code) is not int or code not in RESULT_NAMES:
        raise FormatError(f"result: expected a code of the list, got {code!r:.40}")
    if first_refused is not None and (type(first_refused) is not int or first_refused < 0):
        raise FormatError("result: expected the number of an entry or nil")
    return Result(leaf_hash, code, first_refused, _impaired(code, impaired[0]) if impaired else ())


def _impaired(code: int, value: object) -> tuple[int, ...]:
    numbers = array(value, 1, limits.amend_changes_max, "numbers of changes")
    for number in numbers:
        integer(number, 0, limits.amend_changes_max - 1, "the number of a change")
    ascending(numbers, "numbers of changes")
    if code != 0:
        raise FormatError("result: a refused transaction impairs nothing")
    return tuple(numbers)
