"""Vectors of consents and disclosures (docs/protocol.md §12, §13), of the worlds in tests/ledger/disclosureforge.py."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

import disclosurecheats as cheats
import disclosureforge as forge
import world
from consentkit import SUBJECT_SECRET, grant_of

from taxledger.ledger import canonical
from taxledger.ledger.consent import Artefact, decode_artefact, holder_of, revoke_preimage
from taxledger.ledger.consentoperations import ConsentChange, ConsentRevoke, ConsentUse, ConsentUseClose
from taxledger.ledger.consentscope import check_scope, opened_fields
from taxledger.ledger.consentstate import data_erased_digest, revoke_hash_of
from taxledger.ledger.disclosure import close_digest, use_digest
from taxledger.ledger.errors import EncodingError, InputError, RefusedError, VerificationError
from taxledger.ledger.operations import encode_consent, encode_data_erased
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import Schema
from taxledger.ledger.verify import totals

Json = dict[str, Any]
LIES_OF_A_CODE = 1
"""Files that differ from the good one in most places are long: one of each code is enough."""


# --- consent.json ---------------------------------------------------------------------------


def artefact_vector(why: str, artefact: Artefact) -> Json:
    terms = artefact.terms
    members = [each.member for each in terms.custodians]
    return {
        "why": why,
        "artefact": artefact.raw.hex(),
        "public_key": artefact.public_key.hex(),
        "subject": terms.subject,
        "recipient": terms.recipient,
        "holder": terms.holder.hex(),
        "custodians": [
            {"member": each, "digest": artefact.digest(each).hex(), "consent": artefact.id(each).hex()}
            for each in members
        ],
    }


def code_of(raw: bytes) -> str:
    try:
        decode_artefact(raw)
    except VerificationError as error:
        return error.code
    except EncodingError:
        return "not_canonical"
    except InputError:
        return "malformed"
    raise SystemExit("an artefact that should be refused is accepted")


def bare_signature(outer: list[Any]) -> None:
    outer[4] = forge.SUBJECT_KEY.sign(outer[2])


def refused_artefacts() -> list[Json]:
    put = cheats.put
    edits: list[tuple[str, Callable[[list[Any]], object]]] = [
        ("version 2", put(0)(2)),
        ("a chain id of 15 bytes", put(1)(bytes(15))),
        ("a nonce of 31 bytes", put(2)(bytes(31))),
        ("no subject", put(3, 0)("91110101MA00000005")),
        ("a role of 65 bytes", put(3, 1)("x" * 65)),
        ("a line end in a text", put(3, 2)("a\nb")),
        ("no custodian", put(4)([])),
        ("a custodian twice", put(4)(lambda each: each * 2)),
        ("member 0", put(4, 0, 0)(0)),
        ("recipient 65,536", put(5, 0)(65_536)),
        ("details out of order", put(7)(lambda each: each[::-1])),
        ("a detail of kind 12", put(7, 2, 0)(12)),
        ("no month", put(7, 0, 1)("2024-13")),
        ("from after to", put(7, 0, 1)("2025-01")),
        ("31 years", put(7, 0, 1)("1994-12")),
        ("fields out of order", put(7, 2, 3)(["net", "date"])),
        ("no fields", put(7, 2, 3)([])),
        ("predicates out of order", put(8)([["a", None], ["a", 1]])),
        ("a predicate twice", put(8)([["a", 1], ["a", 1]])),
        ("a predicate's argument that is true", put(8)([["a", True]])),
        ("may_pledge 1", put(9)(1)),
        ("another mode", put(10)("copy")),
        ("proof_only with details", put(10)("proof_only")),
        ("view without details", put(7)([])),
        ("once, three times", put(11, 0)("once")),
        ("0 uses", put(11, 1)(0)),
        ("an empty window", put(12, 1)(lambda _end: 1_700_000_000_000)),
        ("more than ten years", put(12, 0)(1)),
        ("days of retention to view", put(13, 0)(1)),
        ("store for no days", put(10)("store")),
        ("kept afterwards", put(13, 1)("keep")),
        ("onward to anybody", put(13, 2)("anybody")),
        ("no legal basis", put(14, 1)("")),
        ("issued −1", put(15)(-1)),
        ("a term more", lambda terms: terms.append(None)),
    ]
    cases = []
    for why, edit in edits:
        items = [0, 0, forge.ARTEFACT_GIVEN.raw]
        forge.body(edit)(items)
        cases.append((why, items[2]))
    raw = forge.ARTEFACT_GIVEN.raw
    cases += [
        ("a byte behind", raw + b"\x00"),
        ("cut", raw[:-1]),
        ("another name", cheats.edited(raw, put(1)("consent_change"))),
        ("another signature", cheats.edited(raw, put(4)(bytes(64)))),
        ("another key", cheats.edited(raw, put(3)(cheats.STRANGER.public_key))),
        ("a signature over the body alone", cheats.edited(raw, bare_signature)),
    ]  # fmt: skip
    return [{"why": why, "artefact": each.hex(), "code": code_of(each)} for why, each in cases]


def cover_vector(artefact: Artefact, query: Query, schema: Schema) -> Json:
    case: Json = {"query": query.as_list(), "schema": [schema.kind, schema.number]}
    try:
        check_scope(artefact.terms, query)
        opened = opened_fields(artefact.terms, query, schema)
        return {**case, "opened": None if opened is None else [schema.fields[at].name for at in opened]}
    except RefusedError as error:
        return {**case, "code": error.code}


def operation_vectors() -> list[Json]:
    artefact = forge.ARTEFACT_GIVEN
    consent, salt, frame, parts = artefact.id(1), world.seeded("use salt"), b"frame", [b"part 1", b"part 2"]
    grant = grant_of(artefact)
    left = close_digest(salt, frame, parts[:1])
    erased = data_erased_digest(salt, consent, 1, "retention")
    operations = [
        grant,
        type(grant)(**{**{n: getattr(grant, n) for n in grant.__slots__}, "former": bytes(16)}),
        ConsentChange(consent=consent, resume=False),
        ConsentChange(consent=consent, resume=True),
        ConsentRevoke(consent=consent, preimage=None),
        ConsentRevoke(consent=consent, preimage=revoke_preimage(SUBJECT_SECRET, artefact.terms.nonce, 1)),
        ConsentUse(consent=consent, sequence=1, digest=use_digest(salt, frame, parts), count=2),
        ConsentUseClose(consent=consent, sequence=1, outcome=3, digest=left, count=1),
        ConsentUseClose(consent=consent, sequence=1, outcome=4, digest=None, count=0),
    ]
    payloads = [*map(encode_consent, operations), encode_data_erased(erased, 2)]
    return [
        {
            "operation": canonical.decode(payload)[1],
            "payload": payload.hex(),
            "body": [
                each.hex() if isinstance(each, bytes) else each for each in canonical.decode(payload)[2:]
            ],
        }
        for payload in payloads
    ]


def consent_vectors() -> Json:
    given, artefacts = forge.ARTEFACT_GIVEN, [("fields of three kinds", forge.ARTEFACT_GIVEN)]
    artefacts += [
        ("predicates only", forge.PROVES),
        ("predicates of one name", forge.artefact_of(predicates=ONE_NAME)),
        ("to keep for 30 days", forge.artefact_of(mode="store", retention_days=30)),
        (
            "once, text that is not ASCII",
            forge.artefact_of(frequency="once", max_uses=1, jurisdiction="中国"),
        ),
        ("two custodians", forge.artefact_of(custodians=forge.two_custodians())),
    ]
    nonce, schemas = given.terms.nonce, world.SCHEMAS
    queries = [
        (forge.QUERY, schemas[kind, 1]) for kind in forge.KINDS
    ] + [
        (world.ask((5,), "2024-12", "2025-01"), schemas[5, 1]),
        (world.ask((9,)), schemas[5, 1]),
        (world.ask((12,)), schemas[12, 1]),
        (world.ask((5,), subject=world.OTHER_SUBJECT), schemas[5, 1]),
        (world.ask((5,), issuer=2), schemas[5, 1]),
    ]  # fmt: skip
    salt, frame, parts = world.seeded("use salt"), b"frame", [b"part 1", b"part 2"]
    return {
        "subject_secret": SUBJECT_SECRET.hex(),
        "accepted": [artefact_vector(why, each) for why, each in artefacts],
        "refused": refused_artefacts(),
        "holders": [[member, holder_of(SUBJECT_SECRET, member).hex()] for member in (1, 2, 256, 65_535)],
        "revocations": [
            {
                "nonce": nonce.hex(),
                "custodian": member,
                "preimage": revoke_preimage(SUBJECT_SECRET, nonce, member).hex(),
                "revoke_hash": revoke_hash_of(revoke_preimage(SUBJECT_SECRET, nonce, member)).hex(),
            }
            for member in (1, 256)
        ],
        "cover": [cover_vector(given, query, schema) for query, schema in queries],
        "pieces": {
            "salt": salt.hex(),
            "frame": frame.hex(),
            "parts": [each.hex() for each in parts],
            "use_digest": use_digest(salt, frame, parts).hex(),
            "close_digests": [close_digest(salt, frame, parts[:n]).hex() for n in range(3)],
        },
        "data_erased": {
            "salt": salt.hex(),
            "consent": given.id(1).hex(),
            "sequence": 1,
            "reason": "retention",
            "digest": data_erased_digest(salt, given.id(1), 1, "retention").hex(),
        },
        "operations": operation_vectors(),
    }


ONE_NAME = tuple(
    forge.PredicateTerms(name="a", argument=each)
    for each in (0, 127, "A", "B", "AB", None, 128, 65_536, -33, -1)
)


# --- disclosure.json ------------------------------------------------------------------------


def common(left: bytes, right: bytes) -> int:
    """How many bytes both begin with."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def patch(data: bytes) -> Json:
    """How a file differs from the good one; nothing where it does not."""
    if data == forge.GOOD:
        return {}
    at = common(forge.GOOD, data)
    end = common(forge.GOOD[at:][::-1], data[at:][::-1])
    return {"at": at, "drop": len(forge.GOOD) - end - at, "insert": data[at : len(data) - end].hex()}


def accepted(case: forge.Case) -> Json:
    data = case.make()
    said = forge.check(data, case.query)
    return {
        "why": case.name,
        "query": case.query.as_list(),
        **(patch(data) or {"disclosure": data.hex()}),
        "answer": {
            "consent": said.consent.hex(),
            "sequence": said.sequence,
            "status": int(said.consent_value.status),
            "uses": said.consent_value.uses,
            "use": int(said.use_value.state),
            "planned": said.use_value.planned_count,
            "proved_height": said.proved_height,
            "size": said.answer.size,
            "height": said.answer.height,
            "age_ms": said.answer.age_ms,
            "through": [[kind, date] for kind, date in said.answer.through.items()],
            "records": [
                [
                    each.key.hex(),
                    each.kind,
                    each.year,
                    each.month,
                    int(each.status),
                    each.version,
                    None if each.opened is None else list(each.opened),
                    None if each.values is None else list(each.values),
                ]
                for each in said.answer.records
            ],
            "totals": totals(said.answer),
        },
    }


def refused(fault: cheats.Fault) -> Json:
    case: Json = {"why": fault.name, "code": fault.code}
    if fault.query != forge.QUERY:
        case["query"] = fault.query.as_list()
    for name, value in fault.arguments:
        case[name] = cheats.OTHER_CHAIN.decode() if name == "policy" else value
    return {**case, **patch(fault.make())}


def disclosure_vectors() -> Json:
    cases, long = [], Counter[str]()
    for fault in cheats.FAULTS:
        case = refused(fault)
        if len(case.get("insert", "")) > 4_000:
            long[fault.code] += 1
            if long[fault.code] > LIES_OF_A_CODE:
                continue
        cases.append(case)
    return {
        "policy": forge.POLICY_BYTES.decode(),
        "now_ms": world.NOW_MS,
        "age_ms_max": world.AGE_MS_MAX,
        "recipient": 2,
        "accepted": [accepted(case) for case in forge.ACCEPTED],
        "refused": cases,
    }


VECTORS = {"consent.json": consent_vectors, "disclosure.json": disclosure_vectors}
