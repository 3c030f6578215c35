"""A loan's archive: one file with all on which it was decided, agreed and paid, checked offline by whoever holds it.

    [1, "loan_archive", body, lender key32, signature64]
    body = [2, loan, [[origin, validators_hash32, [name …], verified s or nil] …], sealed ms, [product …],
            [[id, scorecard] …], [file …], [[kind, key, at ms, value] …], head32, [[draw, payment digest32] …],
            [alert …]]

``file`` are consent, evidence and decisions, ascending by SHA-256; the events name each of them. The policies are
those of the decisions, in order; they say what a verifier has to hold, and nothing is trusted by them. The lender seals
the body with its key for contracts, under a domain of its own. ``check.py`` says what it means.

Invariant: what ``write_archive`` returns has been verified, as anyone else will verify it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from taxledger.ledger import canonical, limits
from taxledger.ledger.checkpoint import cosigner_name, parse_origin
from taxledger.ledger.crypto import Signer, check_public_key
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policies import HeldPolicy
from taxledger.ledger.policy import quorum
from taxledger.ledger.policydate import Verified
from taxledger.ledger.query import Query
from taxledger.ledger.shapes import array, fixed_bytes, integer, items, text
from taxledger.ledger.signedbody import SignedBody, encode_signed_body, verify_signed_body
from taxledger.lending.loans.contract import check_loan_id
from taxledger.lending.loans.events import FIRST_PREVIOUS, Event, event_hash

__all__ = [
    "Archive",
    "NamedPolicy",
    "PaymentDigest",
    "decode_archive",
    "decode_query",
    "encode_archive",
    "name_policy",
    "named_files",
]

_WHAT = "loan_archive"
_VERSION = 1
_BODY_VERSION = 2
_BODY_VERSION_OF_ONE_POLICY = 1
"""Had the digest of one policy file, under which everything was verified."""
_PRODUCTS_MAX = 64
_PRODUCT_BYTES_MAX = 256 * 1024
_KEY_BYTES_MAX = 160
_KIND_BYTES_MAX = 32
_EVENT_BYTES_MAX = 64 * 1024
_ALERTS_MAX = 10_000
_ALERT_BYTES_MAX = 16 * 1024
_FILES_MAX = 1_024
_ORIGIN_BYTES_MAX = 160
_NAME_BYTES_MAX = 32
_VERIFIED_S_MAX = 253_402_300_799
"""The last second of the year 9999: what the calendar of a message can show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentDigest:
    """That a payment message was sent for a draw: its number from 1, and the SHA-256 of the message."""

    draw: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPolicy:
    """Under which policy a decision was made, for whoever looks for its file: the lender's word.

    Attributes:
        origin: of the log.
        validators_hash: of its witnesses, 32 bytes.
        names: the witnesses' member names, ascending.
        verified_s: what the line of the lender's file said, seconds since 1970; None without one.
    """

    origin: str
    validators_hash: bytes
    names: tuple[str, ...]
    verified_s: int | None

    @property
    def text(self) -> str:
        """For messages: whose policy, and of when."""
        dated = (
            "" if self.verified_s is None else f", verified {Verified(time_s=self.verified_s, size=0).text}"
        )
        return f"the policy of {self.origin}, {quorum(len(self.names))} of {', '.join(self.names)}{dated}"

    def as_list(self) -> list[Any]:
        """As the archive has it."""
        return [self.origin, self.validators_hash, list(self.names), self.verified_s]


def name_policy(held: HeldPolicy) -> NamedPolicy:
    """A held policy as an archive names it."""
    return NamedPolicy(
        origin=held.policy.origin,
        validators_hash=held.policy.validators_hash,
        names=tuple(sorted(held.policy.witnesses)),
        verified_s=None if held.verified is None else held.verified.time_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What is in an archive; only its form and its seal are checked.

    Attributes:
        loan: the lender's id of it.
        policies: of each decision, in order.
        policy_digest: in an archive of the first version, of the one policy file by which the lender verified
            (``policydate.policy_digest``); it has no ``policies``.
        sealed_ms: when the archive was made, milliseconds since 1970.
        products: product files, ascending; ``scorecards`` by id.
        files: by SHA-256: consent artefacts, evidence, proofs of pledges, decisions.
        events: the loan's, in order; their hashes are computed here and end in the head that was sealed.
        payments: one for each draw that was paid, ascending.
        alerts: what the watch raised, as it stored them.
        lender_key: who sealed it, 32 bytes.
    """

    loan: str
    policies: tuple[NamedPolicy, ...]
    policy_digest: bytes | None
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
    policies: Sequence[NamedPolicy],
    sealed_ms: int,
    products: Iterable[bytes],
    scorecards: Mapping[str, bytes],
    files: Iterable[bytes],
    events: Sequence[Event],
    payments: Sequence[PaymentDigest],
    alerts: Sequence[str],
) -> bytes:
    """The file, sealed by the lender's key for contracts; ``policies`` are those of its decisions, in order.

    Raises:
        InputError: what no reader would take.
    """
    body = [
        _BODY_VERSION,
        loan,
        [each.as_list() for each in policies],
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
    version, loan, policies, sealed_ms, products, scorecards, files, events, head, payments, alerts = value
    integer(version, _BODY_VERSION_OF_ONE_POLICY, _BODY_VERSION, "version of the archive")
    one_policy = version == _BODY_VERSION_OF_ONE_POLICY
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
        policies=() if one_policy else _decode_policies(policies),
        policy_digest=fixed_bytes(policies, 32, "a policy's digest") if one_policy else None,
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


def _decode_policies(value: Any) -> tuple[NamedPolicy, ...]:
    found = []
    for each in array(value, 0, limits.loan_archive_events_max, "policies"):
        origin, validators, names, verified_s = items(each, 4, "a policy")
        parse_origin(text(origin, _ORIGIN_BYTES_MAX, "a policy's origin"))
        array(names, 1, limits.validators_max, "names of a policy")
        found.append(
            NamedPolicy(
                origin=origin,
                validators_hash=fixed_bytes(validators, 32, "a policy's validators_hash"),
                names=tuple(_name(name) for name in names),
                verified_s=None
                if verified_s is None
                else integer(verified_s, 0, _VERIFIED_S_MAX, "a policy's instant"),
            )
        )
    return tuple(found)


def _name(value: Any) -> str:
    """Printed by whoever verifies: of no other form than members have."""
    try:
        cosigner_name("network", text(value, _NAME_BYTES_MAX, "a member's name"))
    except FormatError as error:
        raise FormatError(f"a name of a policy: {error}") from error
    return str(value)


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
