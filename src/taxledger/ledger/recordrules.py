"""What the rules ask of operations about records (docs/protocol.md §8, codes 3 to 11); ``rules.py`` has the list."""

from __future__ import annotations

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.calls import Call, Refusal
from taxledger.ledger.operations import ENTRY_BYTES, Attest, AttestGroup, Erase, Revoke
from taxledger.ledger.records import Status
from taxledger.ledger.schemas import is_date

__all__ = [
    "kind_issued",
    "records_known",
    "records_new",
    "schemas_known",
    "statuses_valid",
    "tag_key_there",
    "through_forward",
    "transitions_valid",
    "versions_present",
]

_REFUSED = Refusal()


# --- rules 3 to 8: new records ----------------------------------------------------------------


def kind_issued(call: Call) -> Refusal | None:
    return None if call.operation.kind in call.signer.kinds else _REFUSED


def schemas_known(call: Call) -> Refusal | None:
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


def tag_key_there(call: Call) -> Refusal | None:
    key = statekeys.tag_key_key(call.signer.number, call.operation.year)
    return _REFUSED if call.state.get(key) is None else None


def records_new(call: Call) -> Refusal | None:
    seen: set[bytes] = set()
    for entry, (key, value) in enumerate(zip(call.keys(), call.values(), strict=True)):
        if value is not None or key in seen:
            return Refusal(entry)
        seen.add(key)
    return None


def statuses_valid(call: Call) -> Refusal | None:
    for entry, group in _first_entries(call.operation):
        if group.status not in (Status.VALID, Status.VOIDED, Status.REVERSED):
            return Refusal(entry)
    return None


def through_forward(call: Call) -> Refusal | None:
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


def records_known(call: Call) -> Refusal | None:
    own = b"\x01" + call.signer.number.to_bytes(2, "big") + bytes([call.operation.kind])
    for entry, (key, value) in enumerate(zip(call.keys(), call.values(), strict=True)):
        if value is None or not key.startswith(own):
            return Refusal(entry)
    return None


def versions_present(call: Call) -> Refusal | None:
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


def transitions_valid(call: Call) -> Refusal | None:
    for entry, (change, record) in enumerate(zip(call.operation.changes, call.records(), strict=True)):
        if isinstance(call.operation, Revoke | Erase):
            allowed = record.status in (_REVOCABLE if isinstance(call.operation, Revoke) else _ERASABLE)
        else:
            allowed = (record.status, change.status) in _AMENDMENTS
        if not allowed:
            return Refusal(entry)
    return None
