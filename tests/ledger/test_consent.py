"""Artefacts, scope, parts and values on the ledger: each in its one form, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest
from consentkit import INVOICE_KIND, SUBJECT_KEY, SUBJECT_SECRET, make_artefact, make_terms
from world import FILING, INVOICE, SCHEMAS, World, ask, invoice, seeded

from taxledger.ledger import canonical, limits, parts
from taxledger.ledger.consent import (
    ConsentTerms,
    CustodianTerms,
    Detail,
    PredicateTerms,
    consent_digest,
    decode_artefact,
    holder_of,
    revoke_preimage,
    sign_artefact,
)
from taxledger.ledger.consentscope import check_scope, opened_fields
from taxledger.ledger.consentstate import (
    consent_id,
    data_erased_digest,
    decode_consent_value,
    decode_use_value,
    encode_consent_value,
    encode_use_value,
    revoke_hash_of,
)
from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import close_digest, evidence_query, use_digest
from taxledger.ledger.errors import (
    EncodingError,
    FormatError,
    InputError,
    LimitError,
    RefusedError,
    VerificationError,
)
from taxledger.ledger.evidence import decode_evidence, encode_evidence
from taxledger.ledger.parts import join_evidence, part_records, split_evidence

(
    VERSION, CHAIN, NONCE, GRANTOR, CUSTODIANS, RECIPIENT, PURPOSE, DETAILS, PREDICATES, PLEDGE, MODE,
    FREQUENCY, WINDOW, AFTERWARDS, LAW, ISSUED,
) = range(16)  # fmt: skip
FULL = make_artefact(
    custodians=(
        CustodianTerms(member=1, revoke_hash=seeded("a")),
        CustodianTerms(member=7, revoke_hash=seeded("b"), former=bytes(16)),
    ),
    details=(
        Detail(kind=2, from_period="2023-01", to_period="2024-12", fields=None),
        Detail(kind=5, from_period="2023-01", to_period="2023-12", fields=("date", "net")),
        Detail(kind=5, from_period="2024-01", to_period="2024-12", fields=("tax",)),
    ),
    predicates=(
        PredicateTerms(name="grade", argument="A"),
        PredicateTerms(name="grade", argument=None),
        PredicateTerms(name="sales", argument=-5),
    ),
    may_pledge=True,
    mode="store",
    retention_days=30,
)


def signed(body: Any, signer: Signer = SUBJECT_KEY) -> bytes:
    """An artefact of any body at all, as the protocol signs it."""
    raw = canonical.encode(body)
    signature = signer.sign(b"taxledger/consent_signature/1" + raw)
    return canonical.encode([1, "consent", raw, signer.public_key, signature])


def body_of(raw: bytes) -> list[Any]:
    return canonical.decode(canonical.decode(raw)[2])  # type: ignore[no-any-return]


# --- artefacts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mode": "store", "retention_days": 3_660},
        {"frequency": "once", "max_uses": 1},
        {"max_uses": 1_000_000, "onward": "regulator"},
        {"mode": "proof_only", "details": (), "predicates": (PredicateTerms(name="grade", argument="A"),)},
        {"not_before": 0, "not_after": limits.consent_lifetime_ms_max},
        {"jurisdiction": "中" * 170, "legal_basis": "x" * 512, "purpose": "é" * 32},
    ],
    ids=repr,
)
def test_what_is_signed_is_read_again(changes: dict[str, Any]) -> None:
    terms = make_terms(**changes)
    artefact = sign_artefact(terms, SUBJECT_KEY)
    assert artefact.terms == terms
    assert artefact.public_key == SUBJECT_KEY.public_key
    assert decode_artefact(artefact.raw) == artefact
    assert signed(body_of(artefact.raw)) == artefact.raw


PUT: list[tuple[tuple[int, ...], list[Any], str]] = [
    ((VERSION,), [0, 2, True, None], "version"),
    ((CHAIN,), [bytes(15), bytes(17), "x", None], "chain id"),
    ((NONCE,), [bytes(31), 0], "nonce"),
    ((GRANTOR,), [[], None, ["x:x", "r"], ["x:x", "r", "a", "b"]], "grantor"),
    ((GRANTOR, 0), ["", "x", ":x", "X:x", "x: y", "x:" + "y" * 255, 1, b"x:x"], "subject"),
    ((GRANTOR, 1), ["", "x" * 65, "é" * 33, "a\nb", "a\x7fb", None, b"x"], "role"),
    ((GRANTOR, 2), ["", "x" * 65, 1], "authenticated"),
    ((CUSTODIANS,), [[], None, [[1, bytes(32), None]] * 2], "custodians"),
    ((CUSTODIANS,), [[[n + 1, bytes(32), None] for n in range(17)]], "custodians"),
    ((CUSTODIANS,), [[[7, bytes(32), None], [1, bytes(32), None]]], "custodians strictly ascending"),
    ((CUSTODIANS, 0), [[1, bytes(32)], None, [1, bytes(32), None, 1]], "custodian"),
    ((CUSTODIANS, 0, 0), [0, 65_536, True, "1"], "custodian"),
    ((CUSTODIANS, 0, 1), [bytes(31), None], "revoke hash"),
    ((CUSTODIANS, 0, 2), [bytes(15), b"", 0], "former"),
    ((RECIPIENT, 0), [0, 65_536, True, None], "recipient"),
    ((RECIPIENT, 1), [bytes(15), bytes(32), None], "holder"),
    ((PURPOSE, 0), ["", "x" * 65, None], "purpose"),
    ((PURPOSE, 1), [bytes(31), None], "notice"),
    ((PURPOSE, 2), ["", "x" * 65, 1], "language"),
    ((DETAILS,), [None, {}, [[n + 13, "2024-01", "2024-01", None] for n in range(17)]], "details"),
    ((DETAILS,), [[[5, "2024-01", "2024-01", None]] * 2], "details strictly ascending"),
    ((DETAILS,), [[]], "details"),
    ((DETAILS, 0), [[5, "2024-01", "2024-01"], None], "detail"),
    ((DETAILS, 0, 0), [0, 256, True, None], "kinds"),
    ((DETAILS, 2, 0), [12], "predicates"),
    ((DETAILS, 0, 1), ["2024-13", "2024", "1989-12", "2025-01", 2024, None], "period|from"),
    ((DETAILS, 0, 2), ["2024-13", "2201-01", "2022-12", None], "period|from"),
    ((DETAILS, 0, 3), [[], ["x"] * 65, "net", ["net", "date"], ["net", "net"], [""], ["x" * 33], [1]], "field"),
    ((PREDICATES,), [None, [["a", n] for n in range(33)]], "predicates"),
    ((PREDICATES, 0), [["grade"], None], "predicate"),
    ((PREDICATES, 0, 0), ["", "x" * 65, 1], "predicate"),
    ((PREDICATES, 0, 1), ["", "x" * 65, True, b"x", [1]], "argument"),
    ((PLEDGE,), [0, 1, None], "may_pledge"),
    ((MODE,), ["copy", "", None, 1], "mode"),
    ((MODE,), ["view"], "retention"),
    ((MODE,), ["proof_only"], "retention|details"),
    ((FREQUENCY, 0), ["daily", None], "frequency"),
    ((FREQUENCY, 0), ["once"], "max_uses 1"),
    ((FREQUENCY, 1), [0, 1_000_001, True, None], "max_uses"),
    ((WINDOW, 0), [-1, True, None], "not_before"),
    ((WINDOW, 0), [1_800_000_000_000, 1_800_000_000_001, 0], "not_before before not_after"),
    ((WINDOW, 1), [-1, 2**63, None], "not_after"),
    ((AFTERWARDS, 0), [-1, 3_661, True, None], "retention"),
    ((AFTERWARDS, 0), [0], "retention"),
    ((AFTERWARDS, 1), ["keep", None], "retention"),
    ((AFTERWARDS, 2), ["anybody", None], "onward"),
    ((LAW, 0), ["", "x" * 513, None], "jurisdiction"),
    ((LAW, 1), ["", "x" * 513, 1], "legal basis"),
    ((ISSUED,), [-1, 2**63, True, None], "issued"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "values", "named"), PUT, ids=lambda value: str(value)[:30])
def test_each_term_out_of_range_is_refused_by_its_name(
    path: tuple[int, ...], values: list[Any], named: str
) -> None:
    for value in values:
        body = body_of(FULL.raw)
        at: Any = body
        for index in path[:-1]:
            at = at[index]
        at[path[-1]] = value
        with pytest.raises(FormatError, match=named):
            decode_artefact(signed(body))


def test_each_element_missing_or_too_many_is_refused() -> None:
    body = body_of(FULL.raw)
    for at in range(16):
        with pytest.raises(FormatError):
            decode_artefact(signed([*body[:at], *body[at + 1 :]]))
        for inner in (body[at], *(body[at] if isinstance(body[at], list) else [])):
            if isinstance(inner, list) and at not in (CUSTODIANS, DETAILS, PREDICATES):
                changed = canonical.decode(canonical.encode(body))
                changed[at] = [*inner, None]
                with pytest.raises(FormatError):
                    decode_artefact(signed(changed))
    with pytest.raises(FormatError):
        decode_artefact(signed([*body, None]))


def test_predicates_of_one_name_are_in_the_order_of_their_arguments_bytes() -> None:
    ordered: list[Any] = [0, 127, "A", "B", "AB", None, 128, 2**63 - 1, -33, -(2**63), -1]
    keys = [canonical.encode(each) for each in ordered]
    assert keys == sorted(keys)
    body = body_of(FULL.raw)
    body[PREDICATES] = [["grade", each] for each in ordered]
    assert [each.argument for each in decode_artefact(signed(body)).terms.predicates] == ordered
    for at in range(len(ordered) - 1):
        body[PREDICATES] = [["grade", ordered[at + 1]], ["grade", ordered[at]]]
        with pytest.raises(FormatError, match="predicates"):
            decode_artefact(signed(body))


def test_every_byte_and_every_cut_of_an_artefact_counts() -> None:
    raw = FULL.raw
    for at, byte in enumerate(raw):
        for other in (byte ^ 1, byte ^ 0x80, (byte + 85) % 256):
            with pytest.raises((InputError, VerificationError)) as caught:
                decode_artefact(raw[:at] + bytes([other]) + raw[at + 1 :])
            if isinstance(caught.value, VerificationError):
                assert caught.value.code == "consent_signature_invalid"
        with pytest.raises(EncodingError):
            decode_artefact(raw[:at])
    with pytest.raises(EncodingError):
        decode_artefact(raw + b"\x00")


def test_who_signed_what() -> None:
    outer = canonical.decode(FULL.raw)
    stranger = Signer(seeded("stranger"))
    for at, value in ((3, stranger.public_key), (4, bytes(64)), (4, stranger.sign(outer[2]))):
        changed = [*outer[:at], value, *outer[at + 1 :]]
        with pytest.raises(VerificationError, match="consent_signature_invalid"):
            decode_artefact(canonical.encode(changed))
    naked = SUBJECT_KEY.sign(outer[2])
    with pytest.raises(VerificationError, match="consent_signature_invalid"):
        decode_artefact(canonical.encode([*outer[:4], naked]))
    instruction = SUBJECT_KEY.sign(b"taxledger/consent_change_signature/1" + outer[2])
    with pytest.raises(VerificationError, match="consent_signature_invalid"):
        decode_artefact(canonical.encode([*outer[:4], instruction]))
    with pytest.raises(FormatError):
        decode_artefact(canonical.encode([1, "consent_change", *outer[2:]]))


def test_an_artefact_has_at_most_16384_bytes() -> None:
    long = tuple(PredicateTerms(name=f"{number:02}" + "x" * 62, argument="y" * 64) for number in range(32))
    names = tuple(sorted(f"{number:02}" + "f" * 30 for number in range(64)))
    details = [
        Detail(kind=20 + n, from_period="2024-01", to_period="2024-12", fields=names) for n in range(16)
    ]
    assert len(make_artefact(predicates=long, details=tuple(details[:5])).raw) <= 16_384
    with pytest.raises(LimitError):
        make_artefact(predicates=long, details=tuple(details))


def test_no_subject_is_in_an_error_of_its_artefact() -> None:
    with pytest.raises(RefusedError) as caught:
        check_scope(FULL.terms, ask(subject="x:secret"))
    assert "secret" not in str(caught.value)
    assert FULL.terms.subject not in str(caught.value)


# --- formulas, recomputed from the text ------------------------------------------------------------


def tagged(what: str, data: bytes) -> bytes:
    return hashlib.sha256(b"taxledger/" + what.encode() + b"/1" + data).digest()


def keyed(key: bytes, what: str, data: bytes) -> bytes:
    return hmac.new(key, b"taxledger/" + what.encode() + b"/1" + data, hashlib.sha256).digest()


@pytest.mark.parametrize("custodian", [1, 7, 256, 65_535])
def test_digests_and_ids(custodian: int) -> None:
    two = custodian.to_bytes(2, "big")
    digest = tagged("consent", two + FULL.raw)
    assert consent_digest(FULL.raw, custodian) == FULL.digest(custodian) == digest
    assert consent_id(custodian, digest) == FULL.id(custodian) == tagged("consent_id", two + digest)[:16]
    assert holder_of(SUBJECT_SECRET, custodian) == keyed(SUBJECT_SECRET, "holder", two)[:16]
    preimage = keyed(SUBJECT_SECRET, "revoke_preimage", seeded("nonce") + two)
    assert revoke_preimage(SUBJECT_SECRET, seeded("nonce"), custodian) == preimage
    assert revoke_hash_of(preimage) == tagged("revoke", preimage)
    others = {consent_digest(FULL.raw, 2), consent_id(custodian, FULL.digest(2)), FULL.id(2)}
    assert not others & {digest, FULL.id(custodian)}


def test_digests_of_uses_and_erasures() -> None:
    salt, frame, pieces = seeded("salt"), b"frame", [b"one", b"two"]
    joined = salt + b"".join(hashlib.sha256(each).digest() for each in (frame, *pieces))
    assert use_digest(salt, frame, pieces) == tagged("use", joined)
    assert close_digest(salt, frame, pieces) == tagged("use_close", joined)
    assert close_digest(salt, frame, []) == tagged("use_close", joined[:64])
    packed = canonical.encode([bytes(16), 3, "retention"])
    assert data_erased_digest(salt, bytes(16), 3, "retention") == tagged("data_erased", salt + packed)


# --- scope -------------------------------------------------------------------------------------------


SUBJECT = make_terms().subject


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (ask((2, 5), "2024-01", "2024-12"), None),
        (ask((5,), "2024-03", "2024-03"), None),
        (ask((5,), "2023-01", "2023-12"), None),
        (ask((2,), "2023-01", "2024-12"), None),
        (ask((12,), "1999-01", "2024-12"), None),
        (ask((5,), "2023-12", "2024-01"), "consent_period_exceeded"),
        (ask((2, 5), "2023-01", "2024-12"), "consent_period_exceeded"),
        (ask((2,), "2022-12", "2024-12"), "consent_period_exceeded"),
        (ask((2,), "2023-01", "2025-01"), "consent_period_exceeded"),
        (ask((3,), "2024-01", "2024-12"), "consent_kind_exceeded"),
        (ask((2, 3), "2022-01", "2024-12"), "consent_period_exceeded"),
        (ask((1, 2), "2022-01", "2024-12"), "consent_kind_exceeded"),
        (ask((5,), issuer=7), None),
        (ask((5,), issuer=2), "consent_custodian_mismatch"),
        (ask((5,), subject="cumcm:E1"), "consent_subject_mismatch"),
        (ask((3,), subject="cumcm:E1", issuer=2), "consent_custodian_mismatch"),
        (ask((3,), subject="cumcm:E1"), "consent_subject_mismatch"),
    ],
    ids=str,
)
def test_what_a_consent_covers(query: Any, code: str | None) -> None:
    if code is None:
        check_scope(FULL.terms, query)
        return
    with pytest.raises(RefusedError) as caught:
        check_scope(FULL.terms, query)
    assert caught.value.code == code


def test_predicates_need_consent_and_are_asked_for_alone() -> None:
    plain = make_artefact()
    with pytest.raises(RefusedError, match="consent_kind_exceeded"):
        check_scope(plain.terms, ask((12,)))
    asked = evidence_query(FULL, ask((12,), issuer=7))
    assert asked == ask((12,), subject=f"consent:{FULL.id(7).hex()}", issuer=7)
    with pytest.raises(RefusedError, match="consent_kind_exceeded"):
        evidence_query(FULL, ask((5, 12)))
    assert evidence_query(FULL, ask((2, 5))) == ask((2, 5))


def opens(terms: ConsentTerms, *period: str, kind: int = INVOICE) -> tuple[int, ...] | None:
    return opened_fields(terms, ask((kind,), *period), SCHEMAS[kind, 1])


def test_which_fields_are_opened() -> None:
    assert opens(FULL.terms, "2023-01", "2023-12") == (3, 6)
    assert opens(FULL.terms, "2024-02", "2024-02") == (7,)
    assert opens(FULL.terms, "2023-01", "2024-12", kind=FILING) is None
    assert opens(FULL.terms, "2024-01", "2024-12", kind=12) is None
    with pytest.raises(RefusedError, match="consent_period_exceeded"):
        opens(FULL.terms, "2023-01", "2024-12")
    detail = Detail(kind=INVOICE_KIND, from_period="2024-01", to_period="2024-12", fields=("colour", "net"))
    with pytest.raises(RefusedError, match="consent_fields_exceeded"):
        opens(make_terms(details=(detail,)), "2024-01", "2024-12")
    wide = replace(detail, from_period="2020-01", fields=None)
    assert opens(make_terms(details=(wide, detail)), "2024-01", "2024-12") is None, "the first that covers"


# --- parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(31))
def test_parts_of_every_size_join_to_the_evidence(size: int) -> None:
    world = World(specs=[invoice(number, f"2024-{1 + number % 12:02}-15") for number in range(size)])
    query = ask((INVOICE,), "2024-01", "2024-11")
    data = world.evidence(query)
    evidence = decode_evidence(data)
    n = sum(len(group.ends) for group in evidence.groups)
    for records_max in {1, 2, 3, 7, max(1, n - 1), max(1, n), 1_000}:
        frame, pieces = split_evidence(evidence, records_max=records_max)
        assert [part_records(piece, number) for number, piece in enumerate(pieces, start=1)] == [
            min(records_max, n - at) for at in range(0, n, records_max)
        ]
        assert encode_evidence(join_evidence(frame, pieces)) == data


def test_parts_that_are_not_all_in_order_are_refused() -> None:
    world = World(specs=[invoice(number, f"2024-{1 + number % 3:02}-15") for number in range(9)])
    evidence = decode_evidence(world.evidence(ask()))
    frame, pieces = split_evidence(evidence, records_max=2)

    def joined(*some: bytes) -> None:
        with pytest.raises(VerificationError) as caught:
            join_evidence(frame, some)
        assert caught.value.code in ("malformed", "not_canonical")

    for at, piece in enumerate(pieces):
        joined(*pieces[:at], *pieces[at + 1 :])
        joined(*pieces[:at], piece, *pieces[at:])
        joined(*pieces[:at], pieces[at - 1], *pieces[at + 1 :])
        for size in range(0, len(piece), 7):
            joined(*pieces[:at], piece[:size], *pieces[at + 1 :])
        joined(*pieces[:at], piece + b"\x00", *pieces[at + 1 :])
        number, secrets, rows = canonical.decode(piece)[2:]
        for changed in (
            [2, "part", number, secrets, rows],
            [True, "part", number, secrets, rows],
            [1, "parts", number, secrets, rows],
            [1, "part", number + 1, secrets, rows],
            [1, "part", number - 1, secrets, rows],
            [1, "part", number, secrets[:-1], rows],
            [1, "part", number, secrets + bytes(32), rows],
            [1, "part", number, secrets.hex(), rows],
            [1, "part", number, secrets, rows[:-1]],
            [1, "part", number, secrets, [*rows, None]],
            [1, "part", number, secrets, []],
            [1, "part", number, secrets, None],
            [1, "part", number, secrets, [0, *rows[1:]]],
            [1, "part", number, secrets, [[[]], *rows[1:]]],
            [1, "part", number, secrets, [[{}], *rows[1:]]],
            [1, "part", number, secrets, [[None] * 65, *rows[1:]]],
            [1, "part", number, secrets, rows, None],
            [1, "part", number, secrets],
        ):
            joined(*pieces[:at], canonical.encode(changed), *pieces[at + 1 :])
    joined()
    joined(*pieces, canonical.encode([1, "part", len(pieces) + 1, b"", []]))


def test_a_part_is_cut_at_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(specs=[invoice(number, "2024-01-15", goods="x" * 500) for number in range(9)])
    evidence = decode_evidence(world.evidence(ask()))
    monkeypatch.setattr(limits, "disclosure_part_bytes_max", 2_000)
    frame, pieces = split_evidence(evidence)
    assert max(map(len, pieces)) <= 2_000
    assert [part_records(piece, number) for number, piece in enumerate(pieces, start=1)] == [3, 3, 3]
    assert join_evidence(frame, pieces) == evidence
    monkeypatch.setattr(limits, "disclosure_part_bytes_max", 500)
    with pytest.raises(LimitError):
        split_evidence(evidence)
    assert parts.__all__


# --- values on the ledger --------------------------------------------------------------------------


CONSENT = [1, bytes(32), 1, 0, 1, 1, 0, bytes(32)]
OPEN, CLOSED = [1, bytes(32), 0, 1, None, 0, None], [2, bytes(32), 9, 1, bytes(32), 9, 2]


def test_values_of_consents() -> None:
    for status in range(1, 5):
        raw = canonical.encode([status, *CONSENT[1:]])
        assert encode_consent_value(decode_consent_value(raw)) == raw
    wrong: dict[int, list[Any]] = {
        0: [0, 5, True, None], 1: [bytes(31), None], 2: [0, 65_536, None], 3: [-1, 2**63, None],
        4: [-1, None], 5: [0, 1_000_001], 6: [-1, 1_000_001, None], 7: [bytes(31), None],
    }  # fmt: skip
    for at, values in wrong.items():
        for value in values:
            with pytest.raises(FormatError):
                decode_consent_value(canonical.encode([*CONSENT[:at], value, *CONSENT[at + 1 :]]))
    for raw in (canonical.encode(CONSENT) + b"\x00", b"\xdc\x00\x08" + canonical.encode(CONSENT)[1:], b""):
        with pytest.raises(EncodingError):
            decode_consent_value(raw)


def test_values_of_uses() -> None:
    partial, none = [3, *CLOSED[1:5], 0, 2], [4, *CLOSED[1:4], None, 0, 2]
    for value in (OPEN, CLOSED, partial, none):
        raw = canonical.encode(value)
        assert encode_use_value(decode_use_value(raw)) == raw
    wrong: list[tuple[list[Any], int, list[Any]]] = [
        (OPEN, 0, [0, 2, 3, 4, 5, True, None]), (OPEN, 1, [bytes(31), None]), (OPEN, 2, [-1, 200_001, None]),
        (OPEN, 3, [-1, None]), (OPEN, 4, [bytes(32), b""]), (OPEN, 5, [1, -1, None]), (OPEN, 6, [1]),
        (CLOSED, 0, [1, 4, 5]), (CLOSED, 4, [None, bytes(31)]), (CLOSED, 5, [-1, 200_001, None]),
        (CLOSED, 6, [None, -1]), (none, 0, [1, 2, 3]), (none, 4, [bytes(32)]), (none, 5, [1]),
    ]  # fmt: skip
    for base, at, values in wrong:
        for value in values:
            with pytest.raises(FormatError):
                decode_use_value(canonical.encode([*base[:at], value, *base[at + 1 :]]))


def test_why_no_use_may_begin() -> None:
    value = decode_consent_value(canonical.encode([1, bytes(32), 1, 100, 200, 2, 1, bytes(32)]))
    assert [value.refusal(at) for at in (99, 100, 199, 200)] == [
        "consent_early",
        None,
        None,
        "consent_expired",
    ]
    assert replace(value, uses=2).refusal(150) == "consent_used_up"
    for status, name in ((2, "paused"), (3, "revoked"), (4, "superseded")):
        assert replace(value, status=type(value.status)(status)).refusal(0) == f"consent_{name}"
