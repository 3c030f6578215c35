"""The vectors of consents and disclosures: both verifiers take and refuse them as they say; formulas from the text."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from taxledger.ledger import canonical
from taxledger.ledger.consent import decode_artefact
from taxledger.ledger.disclosure import verify_disclosure
from taxledger.ledger.errors import EncodingError, InputError, VerificationError
from taxledger.ledger.operations import decode_operation
from taxledger.ledger.policy import decode_policy
from taxledger.ledger.query import Query
from taxledger.ledger.verify import totals

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import disclosures  # noqa: E402
import verifier  # noqa: E402

CONSENT: dict[str, Any] = json.loads((FOLDER.parent / "vectors" / "consent.json").read_text("utf-8"))
FILES: dict[str, Any] = json.loads((FOLDER.parent / "vectors" / "disclosure.json").read_text("utf-8"))
GOOD = bytes.fromhex(FILES["accepted"][0]["disclosure"])


def hashed(what: str, data: bytes) -> bytes:
    return hashlib.sha256(f"taxledger/{what}/1".encode() + data).digest()


def keyed(key: str, what: str, data: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(key), f"taxledger/{what}/1".encode() + data, "sha256")


@pytest.mark.parametrize("case", CONSENT["accepted"], ids=lambda case: case["why"])
def test_artefacts_that_are_accepted(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["artefact"])
    terms = decode_artefact(raw).terms
    body, _ = disclosures.read_artefact(raw)
    assert (terms.subject, terms.recipient, terms.holder.hex()) == (
        case["subject"],
        case["recipient"],
        case["holder"],
    )
    assert [body[3][0], *body[5]] == [case["subject"], case["recipient"], bytes.fromhex(case["holder"])]
    for each in case["custodians"]:
        two = each["member"].to_bytes(2, "big")
        assert hashed("consent", two + raw).hex() == each["digest"]
        assert hashed("consent_id", two + bytes.fromhex(each["digest"]))[:16].hex() == each["consent"]


@pytest.mark.parametrize("case", CONSENT["refused"], ids=lambda case: case["why"])
def test_artefacts_that_are_refused(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["artefact"])
    error = {
        "not_canonical": EncodingError,
        "malformed": InputError,
        "consent_signature_invalid": VerificationError,
    }
    with pytest.raises(error[case["code"]]):
        decode_artefact(raw)
    if case["code"] != "consent_signature_invalid":
        with pytest.raises(verifier.Refused) as caught:
            disclosures.read_artefact(raw)
        assert caught.value.code == case["code"]


def test_formulas_of_consents() -> None:
    secret = CONSENT["subject_secret"]
    for member, holder in CONSENT["holders"]:
        assert keyed(secret, "holder", member.to_bytes(2, "big"))[:16].hex() == holder
    for case in CONSENT["revocations"]:
        data = bytes.fromhex(case["nonce"]) + case["custodian"].to_bytes(2, "big")
        assert keyed(secret, "revoke_preimage", data).hex() == case["preimage"]
        assert hashed("revoke", bytes.fromhex(case["preimage"])).hex() == case["revoke_hash"]
    pieces = CONSENT["pieces"]
    each = [hashlib.sha256(bytes.fromhex(raw)).digest() for raw in (pieces["frame"], *pieces["parts"])]
    salt = bytes.fromhex(pieces["salt"])
    assert hashed("use", salt + b"".join(each)).hex() == pieces["use_digest"]
    for n, digest in enumerate(pieces["close_digests"]):
        assert hashed("use_close", salt + b"".join(each[: n + 1])).hex() == digest
    said = CONSENT["data_erased"]
    packed = verifier.encode([bytes.fromhex(said["consent"]), said["sequence"], said["reason"]])
    assert hashed("data_erased", bytes.fromhex(said["salt"]) + packed).hex() == said["digest"]


def test_operations() -> None:
    for case in CONSENT["operations"]:
        payload = bytes.fromhex(case["payload"])
        version, name, *body = canonical.decode(payload)
        assert (version, name) == (1, case["operation"])
        assert [each.hex() if isinstance(each, bytes) else each for each in body] == case["body"]
        decode_operation(payload)
    assert len({case["operation"] for case in CONSENT["operations"]}) == 8


def test_what_a_consent_covers() -> None:
    body, _ = disclosures.read_artefact(bytes.fromhex(CONSENT["accepted"][0]["artefact"]))
    for case in CONSENT["cover"]:
        if case["query"][1] != 1:
            assert case["code"] == "consent_custodian_mismatch"
            continue
        if "code" in case:
            with pytest.raises(verifier.Refused) as caught:
                disclosures.cover(body, case["query"])
            assert caught.value.code == case["code"]
            continue
        names = disclosures.cover(body, case["query"]).get(case["schema"][0])
        assert sorted(names or ()) == sorted(case["opened"] or ())
        assert (names is None) == (case["opened"] is None)


def file_of(case: dict[str, Any]) -> bytes:
    if "disclosure" in case:
        return bytes.fromhex(case["disclosure"])
    if "at" not in case:
        return GOOD
    return GOOD[: case["at"]] + bytes.fromhex(case["insert"]) + GOOD[case["at"] + case["drop"] :]


def asked(case: dict[str, Any]) -> tuple[bytes, list[Any], int, int]:
    return (
        case.get("policy", FILES["policy"]).encode(),
        case.get("query", FILES["accepted"][0]["query"]),
        case.get("recipient", FILES["recipient"]),
        case.get("now_ms", FILES["now_ms"]),
    )


def ours(case: dict[str, Any]) -> Any:
    policy, (subject, issuer, kinds, begin, end), recipient, now_ms = asked(case)
    query = Query(subject=subject, issuer=issuer, kinds=tuple(kinds), from_period=begin, to_period=end)
    return verify_disclosure(
        file_of(case), decode_policy(policy), query,
        recipient=recipient, now_ms=now_ms, age_ms_max=FILES["age_ms_max"],
    )  # fmt: skip


@pytest.mark.parametrize("case", FILES["accepted"], ids=lambda case: case["why"])
def test_disclosures_that_are_accepted(case: dict[str, Any]) -> None:
    said, told = ours(case), case["answer"]
    theirs = disclosures.verify(file_of(case), *asked(case), FILES["age_ms_max"])
    assert said.consent.hex() == theirs["consent"].hex() == told["consent"]
    assert [int(said.consent_value.status), said.consent_value.uses] == [told["status"], told["uses"]]
    assert [int(said.use_value.state), said.use_value.planned_count] == [told["use"], told["planned"]]
    assert [theirs["use"][0], theirs["use"][2]] == [told["use"], told["planned"]]
    answer = said.answer
    for given in (
        (answer.size, answer.height, answer.age_ms),
        tuple(theirs[n] for n in ("size", "height", "age_ms")),
    ):
        assert given == (told["size"], told["height"], told["age_ms"])
    assert [list(pair) for pair in theirs["through"].items()] == told["through"]
    assert totals(answer) == told["totals"]
    got = [
        [
            each.key.hex(), each.kind, each.year, each.month, int(each.status), each.version,
            None if each.opened is None else list(each.opened), None if each.values is None else list(each.values),
        ]
        for each in answer.records
    ]  # fmt: skip
    assert got == told["records"]
    assert len(theirs["records"]) + theirs["erased"] == len(got)


@pytest.mark.parametrize("case", FILES["refused"], ids=lambda case: f"{case['code']}: {case['why']}")
def test_disclosures_that_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(VerificationError) as caught:
        ours(case)
    assert caught.value.code == case["code"]
    with pytest.raises(verifier.Refused) as theirs:
        disclosures.verify(file_of(case), *asked(case), FILES["age_ms_max"])
    assert theirs.value.code == case["code"]
