"""The vectors of records and evidence: our verifier takes and refuses them as they say."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from taxledger.ledger.errors import VerificationError
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.verify import Answer, totals, verify_evidence

FOLDER = Path(__file__).parents[1] / "vectors"
RECORD: dict[str, Any] = json.loads((FOLDER / "record.json").read_text(encoding="utf-8"))
EVIDENCE: dict[str, Any] = json.loads((FOLDER / "evidence.json").read_text(encoding="utf-8"))


# --- records, from the protocol alone --------------------------------------------------------


def keyed(secret: bytes, what: str, data: bytes) -> bytes:
    return hmac.new(secret, f"taxledger/{what}/1".encode() + data, hashlib.sha256).digest()


def hashed(what: str, data: bytes) -> bytes:
    return hashlib.sha256(f"taxledger/{what}/1".encode() + data).digest()


def test_tags_read_independently() -> None:
    chain_id, modulus = bytes.fromhex(RECORD["chain_id"]), bytes.fromhex(RECORD["modulus"])
    public = rsa.RSAPublicNumbers(65537, int.from_bytes(modulus, "big")).public_key()
    for case in RECORD["tags"]:
        message = msgpack.packb(["taxledger/tag/1", chain_id, case["subject"], case["kind"], case["year"]])
        assert message.hex() == case["message"]
        public.verify(bytes.fromhex(case["sigma"]), message, padding.PKCS1v15(), hashes.SHA256())
        assert hashed("tag", bytes.fromhex(case["sigma"]))[:16].hex() == case["tag"]
    assert RECORD["tag"] == RECORD["tags"][0]["tag"]


@pytest.mark.parametrize("case", RECORD["records"], ids=lambda case: case["why"])
def test_records_read_independently(case: dict[str, Any]) -> None:
    document = next(each for each in RECORD["schemas"] if each["kind"] == case["kind"])
    raw = bytes.fromhex(document["document"])
    assert hashlib.sha256(raw).hexdigest() == document["hash"]
    fields, period = msgpack.unpackb(raw)[5], msgpack.unpackb(raw)[8]
    names = [name for name, _type, _role in fields]
    of = dict(zip(names, case["fields"], strict=True))
    read = of[period[1]]
    assert case["year"] == int(str(read)[:4])
    assert case["month"] == (0 if period[0] == "year" else int(read[5:7]))
    chosen = [name for name, _value in case["identity"]]
    assert case["identity"] == [[name, of[name]] for name in names if name in chosen]
    year_secret, secret = bytes.fromhex(RECORD["year_secret"]), bytes.fromhex(RECORD["record_secret"])
    tag = bytes.fromhex(RECORD["tag"])
    packed = msgpack.packb([case["kind"], tag, case["identity"]])
    assert keyed(year_secret, "rid", packed)[:16].hex() == case["rid"]
    if case["fingerprint"] is not None:
        parties = [name for name, _type, role in fields if role == 1]
        content = [pair for pair in case["identity"] if pair[0] not in parties]
        packed = msgpack.packb([case["kind"], content])
        assert keyed(year_secret, "fingerprint", packed)[:16].hex() == case["fingerprint"]
    key = bytes([1, 0, 1, case["kind"]]) + tag + bytes([case["month"]]) + bytes.fromhex(case["rid"])
    assert key.hex() == case["key"]
    digests = b""
    for index, (name, value) in enumerate(of.items()):
        salt = keyed(secret, "salt", index.to_bytes(2, "big"))[:16]
        digests += bytes(32) if value is None else hashed("field", salt + msgpack.packb([name, value]))
    bound = bytes.fromhex(RECORD["chain_id"]) + key + case["version"].to_bytes(4, "big")
    commitment = hashed("commitment", bound + digests)
    assert commitment.hex() == case["commitment"]
    value = msgpack.unpackb(bytes.fromhex(case["value"]))
    mark = None if case["fingerprint"] is None else bytes.fromhex(case["fingerprint"])
    assert value[1:5] == [case["version"], 1, commitment, mark]


# --- evidence --------------------------------------------------------------------------------


def ask(case: dict[str, Any], data: bytes) -> Answer:
    """Verify as a case says: whatever it does not name is asked as for the first accepted one."""
    arguments = {**EVIDENCE, "query": EVIDENCE["accepted"][0]["query"], "engine": None, **case}
    subject, issuer, kinds, from_period, to_period = arguments["query"]
    query = Query(
        subject=subject,
        issuer=issuer,
        kinds=tuple(kinds),
        from_period=from_period,
        to_period=to_period,
    )
    return verify_evidence(
        data,
        decode_policy(arguments["policy"].encode()),
        query,
        now_ms=arguments["now_ms"],
        age_ms_max=arguments["age_ms_max"],
        engine=arguments["engine"],
    )


@pytest.mark.parametrize("case", EVIDENCE["accepted"], ids=lambda case: case["why"])
def test_accepted_evidence_gives_its_answer(case: dict[str, Any]) -> None:
    answer = ask(case, bytes.fromhex(case["evidence"]))
    assert [answer.size, answer.height, answer.age_ms] == [
        case["answer"][name] for name in ("size", "height", "age_ms")
    ]
    assert [list(pair) for pair in answer.through.items()] == case["answer"]["through"]
    assert totals(answer) == case["answer"]["totals"]
    assert [
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
    ] == case["answer"]["records"]


@pytest.mark.parametrize("case", EVIDENCE["refused"], ids=lambda case: f"{case['code']}: {case['why']}")
def test_refused_evidence_gives_its_code(case: dict[str, Any]) -> None:
    good = bytes.fromhex(EVIDENCE["accepted"][0]["evidence"])
    data = good[: case["at"]] + bytes.fromhex(case["insert"]) + good[case["at"] + case["drop"] :]
    with pytest.raises(VerificationError) as caught:
        ask(case, data)
    assert caught.value.code == case["code"]
