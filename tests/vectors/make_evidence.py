"""Vectors of records and evidence (docs/protocol.md §5, §10) of the world in tests/ledger/world.py."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

import cheating
import world

from taxledger.ledger import records
from taxledger.ledger.builtin import BUILTIN
from taxledger.ledger.crypto import TagSigner
from taxledger.ledger.hashing import sha256
from taxledger.ledger.query import Query
from taxledger.ledger.schemas import Schema, encode_schema
from taxledger.ledger.verify import totals

Json = dict[str, Any]
YEAR_SECRET = sha256(b"taxledger test vector year secret")
RECORD_SECRET = sha256(b"taxledger test vector record secret")


# --- record.json ----------------------------------------------------------------------------


def schema_vector(schema: Schema) -> Json:
    document = encode_schema(schema)
    return {
        "name": schema.name,
        "kind": schema.kind,
        "schema": schema.number,
        "document": document.hex(),
        "hash": sha256(document).hex(),
    }


def tag_vector(signer: TagSigner, chain_id: bytes, subject: str, kind: int, year: int) -> Json:
    message = records.tag_message(chain_id, subject, kind, year)
    sigma = signer.sign(message)
    return {
        "subject": subject,
        "kind": kind,
        "year": year,
        "message": message.hex(),
        "sigma": sigma.hex(),
        "tag": records.tag_of(sigma).hex(),
    }


def record_vector(schema: Schema, chain_id: bytes, tag: bytes, spec: world.Spec, why: str) -> Json:
    row = schema.row(spec.fields)
    year, month = records.record_period(schema, row)
    identified = records.identity(schema, row)
    rid = records.record_id(YEAR_SECRET, schema.kind, tag, identified)
    mark = records.fingerprint(YEAR_SECRET, schema, row, identified)
    key = bytes([1, 0, world.ISSUER, schema.kind]) + tag + bytes([month]) + rid
    commitment = records.commit(schema, chain_id, key, spec.version, RECORD_SECRET, row)
    value = records.RecordValue(
        status=spec.status,
        version=spec.version,
        schema=schema.number,
        commitment=commitment,
        fingerprint=mark,
        height=3,
    )
    return {
        "why": why,
        "kind": schema.kind,
        "fields": list(row),
        "year": year,
        "month": month,
        "identity": [list(pair) for pair in identified],
        "rid": rid.hex(),
        "fingerprint": None if mark is None else mark.hex(),
        "version": spec.version,
        "key": key.hex(),
        "commitment": commitment.hex(),
        "value": records.encode_record_value(value).hex(),
    }


def record_vectors() -> Json:
    filing, rating, invoice = BUILTIN[:3]
    chain_id = cheating.WORLD.chain_id
    signer = world.tag_signers()[0]
    tags = [
        tag_vector(signer, chain_id, subject, kind, 2024)
        for subject, kind in ((world.SUBJECT, 5), (world.SUBJECT, 2), (world.OTHER_SUBJECT, 5))
    ]
    tag = bytes.fromhex(tags[0]["tag"])
    plain = world.invoice(1, "2024-02-29", goods="钢材")
    cases = [
        (invoice, plain, "unique by code and number"),
        (invoice, world.invoice(1, "2024-02-29", number="24" + "1" * 18), "unique by a number of 20 digits"),
        (invoice, world.invoice(1, "2024-02-29", code=None), "unique by all fields, absent ones included"),
        (invoice, world.invoice(1, "2024-02-29", direction="purchase"), "a purchase has no fingerprint"),
        (invoice, replace(plain, version=2, status=records.Status.VOIDED), "a second version"),
        (invoice, world.invoice(9, "2024-03-01", -500, original="00000001"), "a red letter"),
        (filing, world.filing("2024-12"), "a kind without fingerprints"),
        (rating, world.rating(2024), "a record of the whole year"),
    ]
    return {
        "chain_id": chain_id.hex(),
        "issuer": world.ISSUER,
        "year_secret": YEAR_SECRET.hex(),
        "record_secret": RECORD_SECRET.hex(),
        "modulus": signer.modulus.hex(),
        "schemas": [schema_vector(schema) for schema in BUILTIN],
        "tags": tags,
        "tag": tag.hex(),
        "records": [record_vector(schema, chain_id, tag, spec, why) for schema, spec, why in cases],
    }


# --- evidence.json --------------------------------------------------------------------------


def accepted(query: Query, why: str) -> Json:
    data = cheating.WORLD.evidence(query)
    answer = cheating.WORLD.verify(data, query)
    return {
        "why": why,
        "query": query.as_list(),
        "evidence": data.hex(),
        "answer": {
            "size": answer.size,
            "height": answer.height,
            "age_ms": answer.age_ms,
            "through": [[kind, date] for kind, date in answer.through.items()],
            "records": [
                [
                    record.key.hex(),
                    record.kind,
                    record.year,
                    record.month,
                    int(record.status),
                    record.version,
                    None if record.values is None else list(record.values),
                ]
                for record in answer.records
            ],
            "totals": totals(answer),
        },
    }


def common(left: bytes, right: bytes) -> int:
    """How many bytes both begin with."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def refused(fault: cheating.Fault) -> Json:
    """How the forged file differs from the good one, and whatever is asked differently."""
    good, bad = cheating.EVIDENCE, fault.forge()
    at = common(good, bad)
    end = common(good[at:][::-1], bad[at:][::-1])
    case: Json = {"why": fault.name, "code": fault.code}
    for name, value in fault.arguments:
        case[name] = cheating.OTHER_CHAIN.decode() if name == "policy" else value
    return {**case, "at": at, "drop": len(good) - end - at, "insert": bad[at : len(bad) - end].hex()}


def evidence_vectors() -> Json:
    asked = cheating.ASKED
    return {
        "policy": cheating.WORLD.policy_bytes.decode(),
        "now_ms": world.NOW_MS,
        "age_ms_max": world.AGE_MS_MAX,
        "accepted": [
            accepted(asked, "parts of two years, three kinds"),
            accepted(world.ask(), "a whole year"),
            accepted(world.ask((5,), "2021-06", "2026-06"), "years without a tag key"),
            accepted(world.ask(subject="cumcm:E999"), "a subject without records"),
            accepted(world.ask(issuer=2), "a member that issues nothing"),
            accepted(world.ask(issuer=9), "no such member"),
        ],
        "refused": [refused(fault) for fault in cheating.FAULTS],
    }


VECTORS = {"record.json": record_vectors, "evidence.json": evidence_vectors}
