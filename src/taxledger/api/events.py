"""What happened, as events: a pure function from certified blocks to CloudEvents.

Events come from the ledger's bytes alone, in their order, and are numbered within their block; so every node
makes the same events with the same ids, and an id says where to go on. Refused transactions make none, but the
one that contests a pledge. Whether a change of a record impaired pledges is no matter of its own bytes: its result
says so. A record is named by its pseudonymous key; nothing here is anybody's plain data.

An event is a node's word, a hint to look: whoever acts on one asks for the proof (state, transaction,
dossier).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from taxledger.ledger.consentoperations import (
    ConsentChange,
    ConsentGrant,
    ConsentRevoke,
    ConsentUse,
    ConsentUseClose,
)
from taxledger.ledger.consentstate import UseState, consent_id
from taxledger.ledger.errors import FormatError, check
from taxledger.ledger.operations import (
    ENTRY_BYTES,
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
from taxledger.ledger.permit import Permit
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeRelease, PledgeTransfer
from taxledger.ledger.pledgestate import pledge_id
from taxledger.ledger.records import Status
from taxledger.ledger.rules import CONTESTED, Result, decode_result
from taxledger.ledger.statekeys import pledges_key
from taxledger.ledger.transaction import decode_transaction

__all__ = ["EVENT_TYPES", "Event", "EventId", "cloud_event", "events_of_block"]

EVENT_TYPES = {
    "taxledger.record.attested": "a transaction attested records, or moved *attested through* forward",
    "taxledger.record.amended": "a record has a new version",
    "taxledger.record.revoked": "a record was attested in error",
    "taxledger.record.erased": "a record's custodian destroyed its fields and secret",
    "taxledger.data.erased": "a recipient destroyed what was disclosed to it",
    "taxledger.consent.granted": "a custodian put a consent on the ledger",
    "taxledger.consent.paused": "a consent is paused",
    "taxledger.consent.resumed": "a paused consent goes on",
    "taxledger.consent.revoked": "a consent has ended",
    "taxledger.consent.superseded": "another consent has taken its place",
    "taxledger.consent.used": "a disclosure under a consent begins",
    "taxledger.consent.use_closed": "a disclosure has ended",
    "taxledger.pledge.placed": "a lender pledged, or reserved, a share of a record",
    "taxledger.pledge.confirmed": "a reservation is a pledge without end now",
    "taxledger.pledge.released": "a pledge has ended",
    "taxledger.pledge.transferred": "a pledge is another lender's",
    "taxledger.pledge.impaired": "a record with open pledges changed",
    "taxledger.pledge.contested": "a lender was refused: under another record the same document is pledged",
    "taxledger.tag_key.published": "an issuer's tag key for a year is on the ledger",
    "taxledger.member.proposed": "a validator proposed to add or change a member",
    "taxledger.member.convicted": "a validator showed that a member signed two contradicting statements",
    "taxledger.parameter.proposed": "a validator proposed another value of a parameter",
    "taxledger.schema.proposed": "a validator proposed a schema",
    "taxledger.proposal.approved": "a validator approved a proposal",
    "taxledger.block.certified": "the last event of every block that holds transactions",
}
_PROPOSED = {
    "member.set": "taxledger.member.proposed",
    "member.replace": "taxledger.member.proposed",
    "member.convict": "taxledger.member.convicted",
    "parameter.set": "taxledger.parameter.proposed",
    "schema.register": "taxledger.schema.proposed",
}
_ID = re.compile(r"(0|[1-9][0-9]{0,17})(?:-(0|[1-9][0-9]{0,8}))?")
_LAST = 999_999_999


class EventId(NamedTuple):
    """Where an event stands: block, and number within it from 0. Ids are ordered like events."""

    height: int
    number: int

    def __str__(self) -> str:
        return str(self.height) if self.number == _LAST else f"{self.height}-{self.number}"

    @classmethod
    def after_block(cls, height: int) -> EventId:
        """The place behind all events of a block."""
        return cls(height, _LAST)

    @classmethod
    def parse(cls, text: str) -> EventId:
        """``<height>-<number>``, or ``<height>`` for the place behind that block.

        Raises:
            FormatError: neither.
        """
        found = _ID.fullmatch(text)
        if found is None:
            raise FormatError("expected an event id <height>-<number>, or a height")
        return cls(int(found[1]), _LAST if found[2] is None else int(found[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One certified event.

    Attributes:
        id: its place on the ledger.
        type: a key of ``EVENT_TYPES``.
        time_ms: its block's time.
        subject: what it is about: a key of the state map as hex, or a name.
        data: JSON values; hashes and keys are hex.
    """

    id: EventId
    type: str
    time_ms: int
    subject: str
    data: Mapping[str, Any]


def events_of_block(
    height: int, time_ms: int, leaves: Sequence[bytes], results: Sequence[bytes]
) -> list[Event]:
    """The events of one certified block, ascending; none for a block without transactions."""
    check(len(leaves) == len(results), f"block {height}: {len(leaves)} leaves, {len(results)} results")
    parts: list[tuple[str, str, dict[str, Any]]] = []
    refused = 0
    for leaf, result in zip(leaves, results, strict=True):
        said = decode_result(result)
        refused += said.code != 0
        if said.code not in (0, CONTESTED):
            continue
        transaction = decode_transaction(leaf)
        for type_, subject, data in _of_transaction(
            transaction.member, decode_operation(transaction.payload), said
        ):
            parts.append(
                (type_, subject, {"member": transaction.member, "transaction": said.leaf_hash.hex(), **data})
            )
    if leaves:
        counts = {"height": height, "transactions": len(leaves), "refused": refused}
        parts.append(("taxledger.block.certified", str(height), counts))
    return [
        Event(id=EventId(height, number), type=type_, time_ms=time_ms, subject=subject, data=data)
        for number, (type_, subject, data) in enumerate(parts)
    ]


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def _of_transaction(
    member: int, operation: Operation, result: Result
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if isinstance(operation, PledgePlace | PledgeConfirm | PledgeRelease | PledgeTransfer):
        yield from _of_pledge(member, operation, result)
        return
    yield from _of_operation(member, operation)
    if isinstance(operation, Amend | Revoke | Erase):
        for number in result.impaired:
            key = operation.changes[number].key.hex()
            yield "taxledger.pledge.impaired", key, {"kind": operation.kind}


def _of_pledge(
    member: int,
    operation: PledgePlace | PledgeConfirm | PledgeRelease | PledgeTransfer,
    result: Result,
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    match operation:
        case PledgePlace(permit=permit) if result.code == CONTESTED:
            # About the entry: whoever has a pledge in it looks there, whatever record it is of.
            key = pledges_key(permit.issuer, permit.fingerprint).hex()
            yield "taxledger.pledge.contested", key, _permitted(permit)
        case PledgePlace(permit=permit):
            pledge = pledge_id(member, permit.issuer, permit.fingerprint, operation.nonce)
            data = {**_permitted(permit), "ppm": operation.ppm, "not_after": operation.not_after}
            yield "taxledger.pledge.placed", pledge.hex(), data
        case PledgeConfirm():
            yield "taxledger.pledge.confirmed", operation.pledge.hex(), {}
        case PledgeRelease():
            yield "taxledger.pledge.released", operation.pledge.hex(), {}
        case PledgeTransfer(permit=permit):
            data = {**_permitted(permit), "lender": permit.lender}
            yield "taxledger.pledge.transferred", operation.pledge.hex(), data


def _permitted(permit: Permit) -> dict[str, Any]:
    return {
        "issuer": permit.issuer,
        "fingerprint": permit.fingerprint.hex(),
        "record": permit.record_key.hex(),
        "version": permit.version,
    }


def _of_operation(member: int, operation: Operation) -> Iterator[tuple[str, str, dict[str, Any]]]:
    match operation:
        case Attest():
            count = sum(len(group.entries) for group in operation.groups) // ENTRY_BYTES
            data = {
                "kind": operation.kind,
                "year": operation.year,
                "count": count,
                "through": operation.through,
            }
            yield "taxledger.record.attested", f"{member}/{operation.kind}/{operation.year}", data
        case Amend():
            for change in operation.changes:
                yield (
                    "taxledger.record.amended",
                    change.key.hex(),
                    _change(
                        operation.kind, change.version + 1, change.status, change.reason, change.reason_digest
                    ),
                )
        case Revoke():
            for revoked in operation.changes:
                yield (
                    "taxledger.record.revoked",
                    revoked.key.hex(),
                    _change(
                        operation.kind, revoked.version, Status.REVOKED, revoked.reason, revoked.reason_digest
                    ),
                )
        case Erase():
            for erased in operation.changes:
                yield (
                    "taxledger.record.erased",
                    erased.key.hex(),
                    _change(
                        operation.kind, erased.version, Status.ERASED, erased.reason, erased.reason_digest
                    ),
                )
        case DataErased():
            yield "taxledger.data.erased", operation.digest.hex(), {"count": operation.count}
        case ConsentGrant() | ConsentChange() | ConsentRevoke() | ConsentUse() | ConsentUseClose():
            yield from _of_consent(member, operation)
        case TagKey():
            yield "taxledger.tag_key.published", f"{member}/{operation.year}", {"year": operation.year}
        case Propose():
            what, subject = operation.change[0], operation.change[1]
            name = subject if type(subject) in (str, int) else ""  # a schema is a document, not a name
            yield _PROPOSED[what], str(name), {"change": what}
        case Approve():
            yield "taxledger.proposal.approved", operation.proposal.hex(), {}


def _of_consent(
    member: int, operation: ConsentGrant | ConsentChange | ConsentRevoke | ConsentUse | ConsentUseClose
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    match operation:
        case ConsentGrant():
            if operation.former is not None:
                yield "taxledger.consent.superseded", operation.former.hex(), {}
            data = {
                "not_before": operation.not_before,
                "not_after": operation.not_after,
                "max_uses": operation.max_uses,
            }
            yield "taxledger.consent.granted", consent_id(member, operation.digest).hex(), data
        case ConsentChange():
            name = "resumed" if operation.resume else "paused"
            yield f"taxledger.consent.{name}", operation.consent.hex(), {}
        case ConsentRevoke():
            by_preimage = operation.preimage is not None
            yield "taxledger.consent.revoked", operation.consent.hex(), {"by_preimage": by_preimage}
        case ConsentUse():
            data = {"use": operation.sequence, "count": operation.count}
            yield "taxledger.consent.used", operation.consent.hex(), data
        case ConsentUseClose():
            outcome = UseState(operation.outcome).name.lower()
            yield (
                "taxledger.consent.use_closed",
                operation.consent.hex(),
                {"use": operation.sequence, "outcome": outcome, "count": operation.count},
            )


def _change(kind: int, version: int, status: int, reason: int, digest: bytes | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "version": version,
        "status": int(status),
        "reason": reason,
        "reason_digest": _hex(digest),
    }


def cloud_event(event: Event, source: str) -> dict[str, Any]:
    """An event in the JSON form of CloudEvents 1.0; ``source`` is the chain's origin."""
    instant = datetime.fromtimestamp(event.time_ms // 1000, UTC)
    return {
        "specversion": "1.0",
        "id": str(event.id),
        "source": source,
        "type": event.type,
        "time": f"{instant:%Y-%m-%dT%H:%M:%S}.{event.time_ms % 1000:03d}Z",
        "subject": event.subject,
        "datacontenttype": "application/json",
        "data": dict(event.data),
    }
