"""A loan's archive: one file with all on which it was decided, agreed and paid, checked offline by whoever holds it.

    [1, "loan_archive", body, lender key32, signature64]
    body = [1, loan, policy digest32, sealed ms, [product …], [[id, scorecard] …], [file …],
            [[kind, key, at ms, value] …], head32, [[draw, payment digest32] …], [alert …]]

``file`` are consent, evidence and decisions, ascending by SHA-256; the events name each of them. The lender seals
the body with its key for contracts, under a domain of its own. ``check.py`` says what it means.

Invariant: what ``write_archive`` returns has been verified, as anyone else will verify it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.crypto import Signer, check_public_key
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policydate import policy_digest
from taxledger.ledger.query import Query
from taxledger.ledger.shapes import array, fixed_bytes, integer, items, text
from taxledger.ledger.signedbody import SignedBody, encode_signed_body, verify_signed_body
from taxledger.lending.loans.contract import check_loan_id
from taxledger.lending.loans.events import FIRST_PREVIOUS, Event, event_hash

__all__ = ["Archive", "PaymentDigest", "decode_archive", "decode_query", "encode_archive", "named_files"]

_WHAT = "loan_archive"
_VERSION = 1
_PRODUCTS_MAX = 64
_PRODUCT_BYTES_MAX = 256 * 1024
_KEY_BYTES_MAX = 160
_KIND_BYTES_MAX = 32
_EVENT_BYTES_MAX = 64 * 1024
_ALERTS_MAX = 10_000
_ALERT_BYTES_MAX = 16 * 1024
_FILES_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentDigest:
    """That a payment message was sent for a draw: its number from 1, and the SHA-256 of the message."""

    draw: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What is in an archive; only its form and its seal are checked.

    Attributes:
        loan: the lender's id of it.
        policy: digest of the policy file by which the lender verified (``policydate.policy_digest``).
        sealed_ms: when the archive was made, milliseconds since 1970.
        products: product files, ascending; ``scorecards`` by id.
        files: by SHA-256: consent artefacts, evidence, proofs of pledges, decisions.
        events: the loan's, in order; their hashes are computed here and end in the head that was sealed.
        payments: one for each draw that was paid, ascending.
        alerts: what the watch raised, as it stored them.
        lender_key: who sealed it, 32 bytes.
    """

    loan: str
    policy: bytes
    sealed_ms: int
    products: tuple[bytes, ...]
    scorecards: Mapping[str, bytes]
    files: Mapping[bytes, bytes]
    events: tuple[Event, ...]
    payments: tuple[PaymentDigest, ...]
    alerts: tuple[str, ...]
    lender_key: bytes


def encode_archive(
    signer: Signer,
    *,
    loan: str,
    policy: bytes,
    sealed_ms: int,
    products: Iterable[bytes],
    scorecards: Mapping[str, bytes],
    files: Iterable[bytes],
    events: Sequence[Event],
    payments: Sequence[PaymentDigest],
    alerts: Sequence[str],
) -> bytes:
    """The file, sealed by the lender's key for contracts; ``policy`` is the policy file itself.

    Raises:
        InputError: what no reader would take.
    """
    body = [
        _VERSION,
        loan,
        policy_digest(policy),
        sealed_ms,
        sorted(set(products)),
        [[id, data] for id, data in sorted(scorecards.items())],
        sorted(set(files), key=sha256),
        [[each.kind, each.key, each.at_ms, each.body] for each in events],
        events[-1].hash if events else FIRST_PREVIOUS,
        [[each.draw, each.digest] for each in payments],
        list(alerts),
    ]
    raw = encode_signed_body(_WHAT, _WHAT, body, signer)
    decode_archive(raw)
    return raw


def decode_archive(raw: bytes) -> Archive:
    """An archive whose form and seal are right.

    Raises:
        LimitError, EncodingError, FormatError: not an archive in its one form.
        VerificationError: ``archive_seal_invalid``, or ``archive_events_broken``: its events do not lead to its head.
    """
    version, what, body, key, signature = items(
        canonical.decode(raw, bytes_max=limits.loan_archive_bytes_max, containers_max=1), 5, "an archive"
    )
    if type(version) is not int or [version, what] != [_VERSION, _WHAT] or type(body) is not bytes:
        raise FormatError('expected [1, "loan_archive", body, key, signature]')
    check_public_key(fixed_bytes(key, 32, "a key"))
    signed = SignedBody(
        raw=raw,
        body=body,
        value=None,
        public_key=key,
        signature=fixed_bytes(signature, 64, "a signature"),
    )
    # The seal first: what nobody vouches for is not even decoded. And then within bounds: anyone can have a key.
    verify_signed_body(signed, _WHAT, "archive_seal_invalid")
    value = canonical.decode(
        body, bytes_max=limits.loan_archive_bytes_max, containers_max=limits.loan_archive_containers_max
    )
    return _decode_body(items(value, 11, "an archive's body"), key)


def _decode_body(value: Sequence[Any], lender_key: bytes) -> Archive:
    version, loan, policy, sealed_ms, products, scorecards, files, events, head, payments, alerts = value
    integer(version, _VERSION, _VERSION, "version of the archive")
    check_loan_id(loan)
    cards = [items(each, 2, "a scorecard") for each in array(scorecards, 0, _PRODUCTS_MAX, "scorecards")]
    digests = [
        sha256(each) for each in _each_bytes(files, _FILES_MAX, limits.loan_archive_bytes_max, "files")
    ]
    paid = [items(each, 2, "a payment") for each in array(payments, 0, limits.integer_max, "payments")]
    _ascending([text(id, 64, "a scorecard's id") for id, _data in cards], "scorecards")
    _ascending(_each_bytes(products, _PRODUCTS_MAX, _PRODUCT_BYTES_MAX, "products"), "products")
    _ascending(digests, "files by their SHA-256")
    _ascending([integer(draw, 1, limits.integer_max, "a draw") for draw, _digest in paid], "payments")
    return Archive(
        loan=loan,
        policy=fixed_bytes(policy, 32, "a policy's digest"),
        sealed_ms=integer(sealed_ms, 0, limits.integer_max, "sealed"),
        products=tuple(products),
        scorecards=dict(
            zip(
                (id for id, _data in cards),
                _each_bytes([data for _id, data in cards], _PRODUCTS_MAX, _PRODUCT_BYTES_MAX, "scorecards"),
                strict=True,
            )
        ),
        files=dict(zip(digests, files, strict=True)),
        events=_decode_events(loan, events, fixed_bytes(head, 32, "a head")),
        payments=tuple(
            PaymentDigest(draw=draw, digest=fixed_bytes(digest, 32, "a payment's digest"))
            for draw, digest in paid
        ),
        alerts=tuple(
            text(each, _ALERT_BYTES_MAX, "an alert") for each in array(alerts, 0, _ALERTS_MAX, "alerts")
        ),
        lender_key=lender_key,
    )


def _decode_events(loan: str, value: Any, head: bytes) -> tuple[Event, ...]:
    found: list[Event] = []
    previous = FIRST_PREVIOUS
    for sequence, each in enumerate(array(value, 1, limits.loan_archive_events_max, "events"), start=1):
        kind, key, at_ms, body = items(each, 4, "an event")
        _each_bytes([body], 1, _EVENT_BYTES_MAX, "an event's body")
        event = {
            "loan": loan,
            "sequence": sequence,
            "kind": text(kind, _KIND_BYTES_MAX, "an event's kind"),
            "key": text(key, _KEY_BYTES_MAX, "an event's key"),
            "at_ms": integer(at_ms, 0, limits.integer_max, "an event's instant"),
            "body": body,
            "previous": previous,
        }
        previous = event_hash(**event)
        found.append(Event(**event, hash=previous))
    if previous != head:
        raise VerificationError(
            "archive_events_broken",
            "the events do not lead to the head",
            expected=head.hex(),
            got=previous.hex(),
        )
    return tuple(found)


def _each_bytes(value: Any, most: int, bytes_max: int, what: str) -> list[bytes]:
    found = array(value, 0, most, what)
    for each in found:
        if type(each) is not bytes or len(each) > bytes_max:
            raise FormatError(f"expected {what} as bytes, at most {bytes_max} each")
    return list(found)


def _ascending(found: Sequence[Any], what: str) -> None:
    if any(low >= high for low, high in pairwise(found)):
        raise FormatError(f"expected {what} ascending, each once")


def named_files(events: Iterable[Event]) -> list[bytes]:
    """SHA-256 of every file that events name, ascending: what an archive has to hold, and nothing else.

    Raises:
        ValueError, TypeError, InputError: events that this engine has not written.
    """
    named: set[bytes] = set()
    for each in events:
        match each.kind:
            case "consent_given" | "decided":
                named.add(each.value[1])
            case "evidence":
                _version, files, pledges, _reasons = each.value
                named.update(digest for _query, digest in files)
                if pledges is not None:
                    named.add(pledges)
    return sorted(named)


def decode_query(value: Sequence[Any]) -> Query:
    """A question as an ``evidence`` event has it. Raises ValueError or InputError: it is none."""
    subject, issuer, kinds, from_period, to_period = value
    return Query(
        subject=subject, issuer=issuer, kinds=tuple(kinds), from_period=from_period, to_period=to_period
    )
