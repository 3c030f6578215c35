"""The rules of the ledger: one numbered list, executed by every validator (docs/protocol.md §8).

Invariants:

* The rules run in the order of their codes; the first that fails gives the code, and then nothing is written.
* A rule reads its arguments only: no clock, no randomness, no order of a set. Same bytes, same result.
* Rule 1 is ``operations.decode_operation``; rule 2 is asked before there is a leaf, by
  ``execute.check_transaction``, so its code never stands in a result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from taxledger.ledger import canonical, consentrules, statekeys
from taxledger.ledger.calls import Call, RuleState
from taxledger.ledger.consentoperations import (
    ConsentChange,
    ConsentGrant,
    ConsentRevoke,
    ConsentUse,
    ConsentUseClose,
)
from taxledger.ledger.effects import effects_of
from taxledger.ledger.errors import FormatError, InputError, VerificationError
from taxledger.ledger.governance import ProposalState, is_change_valid, pending_proposal, proposal_of
from taxledger.ledger.members import Member
from taxledger.ledger.operations import (
    ENTRY_BYTES,
    Amend,
    Approve,
    Attest,
    AttestGroup,
    DataErased,
    Erase,
    Operation,
    Propose,
    Revoke,
    TagKey,
    decode_operation,
)
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import is_date
from taxledger.ledger.tagkeys import verify_tag_key

__all__ = [
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
_YEARS = range(1990, 2201)


class Refusal(NamedTuple):
    """A rule failed: number of the first entry it refuses, None where it is not about an entry."""

    entry: int | None = None


_REFUSED = Refusal()
_RECORD_OPERATIONS = (Attest, Amend, Revoke, Erase)
_CONSENT_OPERATIONS = (ConsentChange, ConsentGrant, ConsentRevoke, ConsentUse, ConsentUseClose)


# --- rules 3 to 8: new records ----------------------------------------------------------------


def _kind_issued(call: Call) -> Refusal | None:
    return None if call.operation.kind in call.signer.kinds else _REFUSED


def _schemas_known(call: Call) -> Refusal | None:
    kind = call.operation.kind
    named = _attest_schemas(call.operation) if isinstance(call.operation, Attest) else _amend_schemas(call)
    known: dict[int, bool] = {}
    for entry, schema in named:
        if schema not in known:
            known[schema] = call.state.get(statekeys.schema_key(kind, schema)) is not None
        if not known[schema]:
            return Refusal(entry)
    return None


def _attest_schemas(attest: Attest) -> list[tuple[int, int]]:
    """(number of the group's first entry, schema) of every group."""
    return [(entry, group.schema) for entry, group in _first_entries(attest)]


def _amend_schemas(call: Call) -> list[tuple[int, int]]:
    return [(entry, change.schema) for entry, change in enumerate(call.operation.changes)]


def _first_entries(attest: Attest) -> list[tuple[int, AttestGroup]]:
    numbered, entry = [], 0
    for group in attest.groups:
        numbered.append((entry, group))
        entry += len(group.entries) // ENTRY_BYTES
    return numbered


def _tag_key_there(call: Call) -> Refusal | None:
    key = statekeys.tag_key_key(call.signer.number, call.operation.year)
    return _REFUSED if call.state.get(key) is None else None


def _records_new(call: Call) -> Refusal | None:
    seen: set[bytes] = set()
    for entry, (key, value) in enumerate(zip(call.keys(), call.values(), strict=True)):
        if value is not None or key in seen:
            return Refusal(entry)
        seen.add(key)
    return None


def _statuses_valid(call: Call) -> Refusal | None:
    for entry, group in _first_entries(call.operation):
        if group.status not in (Status.VALID, Status.VOIDED, Status.REVERSED):
            return Refusal(entry)
    return None


def _through_forward(call: Call) -> Refusal | None:
    through = call.operation.through
    if through is None:
        return None
    if not is_date(through):
        return _REFUSED
    present = call.state.get(statekeys.attested_through_key(call.signer.number, call.operation.kind))
    if present is not None and canonical.decode(present)[0] >= through:  # one form, so texts compare as dates
        return _REFUSED
    return None


# --- rules 9 to 11: records that are there ----------------------------------------------------


def _records_known(call: Call) -> Refusal | None:
    own = b"\x01" + call.signer.number.to_bytes(2, "big") + bytes([call.operation.kind])
    for entry, (key, value) in enumerate(zip(call.keys(), call.values(), strict=True)):
        if value is None or not key.startswith(own):
            return Refusal(entry)
    return None


def _versions_present(call: Call) -> Refusal | None:
    for entry, (change, record) in enumerate(zip(call.operation.changes, call.records(), strict=True)):
        if change.version != record.version:
            return Refusal(entry)
    return None


_AMENDMENTS = (
    (Status.VALID, Status.VALID),
    (Status.VALID, Status.VOIDED),
    (Status.VALID, Status.REVERSED),
    (Status.REVERSED, Status.VOIDED),
    (Status.REVERSED, Status.REVERSED),
    (Status.VALID, Status.SUPERSEDED),
)
_REVOCABLE = (Status.VALID, Status.VOIDED, Status.REVERSED)
_ERASABLE = (*_REVOCABLE, Status.REVOKED, Status.SUPERSEDED)


def _transitions_valid(call: Call) -> Refusal | None:
    for entry, (change, record) in enumerate(zip(call.operation.changes, call.records(), strict=True)):
        if isinstance(call.operation, Revoke | Erase):
            allowed = record.status in (_REVOCABLE if isinstance(call.operation, Revoke) else _ERASABLE)
        else:
            allowed = (record.status, change.status) in _AMENDMENTS
        if not allowed:
            return Refusal(entry)
    return None


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
    return None if pending_proposal(call.state) is None else _REFUSED


# --- rules 19 to 34: consents, erasure -----------------------------------------------------------


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


RULES: tuple[Rule, ...] = (
    Rule(3, "kind_not_issued", _RECORD_OPERATIONS, _kind_issued),
    Rule(4, "schema_unknown", (Attest, Amend), _schemas_known),
    Rule(5, "tag_key_missing", (Attest,), _tag_key_there),
    Rule(6, "record_exists", (Attest,), _records_new),
    Rule(7, "status_invalid", (Attest,), _statuses_valid),
    Rule(8, "through_not_forward", (Attest,), _through_forward),
    Rule(9, "record_unknown", (Amend, Revoke, Erase), _records_known),
    Rule(10, "version_conflict", (Amend, Revoke, Erase), _versions_present),
    Rule(11, "transition_invalid", (Amend, Revoke, Erase), _transitions_valid),
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
    """What became of a transaction: code 0 with its writes, or a code with none."""

    code: int
    first_refused: int | None
    writes: dict[bytes, bytes]


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
                return Outcome(rule.code, refusal.entry, {})
    return Outcome(0, None, effects_of(call))


class Result(NamedTuple):
    """A transaction's result: its id, the code and the first refused entry."""

    leaf_hash: bytes
    code: int
    first_refused: int | None

    @property
    def name(self) -> str:
        return RESULT_NAMES.get(self.code, str(self.code))


def encode_result(result: Result) -> bytes:
    """``[leaf hash, code, first refused entry | nil]``, a leaf under ``results_root``."""
    return canonical.encode([result.leaf_hash, result.code, result.first_refused])


def decode_result(data: bytes) -> Result:
    """The result of its bytes.

    Raises:
        LimitError, EncodingError, FormatError: not a result in its one form.
    """
    value = canonical.decode(data, bytes_max=64)
    if type(value) is not list or len(value) != 3:
        raise FormatError("expected a result [leaf hash, code, first refused entry]")
    leaf_hash, code, first_refused = value
    if type(leaf_hash) is not bytes or len(leaf_hash) != 32:
        raise FormatError("result: expected a leaf hash of 32 bytes")
    if type(code) is not int or code not in RESULT_NAMES:
        raise FormatError(f"result: expected a code of the list, got {code!r:.40}")
    if first_refused is not None and (type(first_refused) is not int or first_refused < 0):
        raise FormatError("result: expected the number of an entry or nil")
    return Result(leaf_hash, code, first_refused)
