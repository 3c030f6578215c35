"""Two verifiers of permits and pledge proofs, one from docs/protocol.md alone: they agree, whatever they are given."""

from __future__ import annotations

import ast
import json
import random
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from pledgecheats import (
    FAULTS,
    FREE,
    GOOD,
    KEYS,
    NOTE,
    PLEDGED,
    POLICY_BYTES,
    PROOF,
    TAX_KEY,
    VALUES,
    Fault,
    PledgeWorld,
    permit,
    world,
)
from test_agreement import changed, encoded
from world import AGE_MS_MAX, NOW_MS

from taxledger.ledger import canonical, checkpoint
from taxledger.ledger.errors import EncodingError, InputError, VerificationError
from taxledger.ledger.operations import decode_operation
from taxledger.ledger.permit import decode_permit, encode_permit, verify_permit
from taxledger.ledger.pledgeproof import PledgeKey, verify_pledges
from taxledger.ledger.pledgestate import pledge_id
from taxledger.ledger.policy import decode_policy

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import pledges  # noqa: E402
import verifier  # noqa: E402

EITHER = {"malformed", "not_canonical"}
VECTORS: dict[str, Any] = json.loads((FOLDER.parent / "vectors" / "pledge.json").read_text("utf-8"))


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = lru_cache(maxsize=256)(checkpoint.verify_signature)
    monkeypatch.setattr(checkpoint, "verify_signature", remembered)


def both(
    data: bytes,
    keys: tuple[PledgeKey, ...] = KEYS,
    *,
    policy: bytes = POLICY_BYTES,
    now_ms: int = NOW_MS,
) -> dict[str, Any] | str:
    """The answer or code on which both agree; fails where they don't."""
    outcomes: list[dict[str, Any] | str] = []
    try:
        said = verify_pledges(data, decode_policy(policy), keys, now_ms=now_ms, age_ms_max=AGE_MS_MAX)
        states = {
            key: None
            if state.is_free
            else (
                state.record_key,
                int(state.marks),
                [[each.id, each.member, each.ppm, each.not_after] for each in state.pledges],
            )
            for key, state in said.states.items()
        }
        size = said.checkpoint.checkpoint.size
        outcomes.append({"states": states, "age_ms": said.age_ms, "size": size, "height": said.header.height})
    except VerificationError as error:
        outcomes.append(error.code)
    try:
        outcomes.append(pledges.verify_pledges(data, policy, keys, now_ms, AGE_MS_MAX))
    except verifier.Refused as error:
        outcomes.append(error.code)
    one, other = outcomes
    assert one == other or (isinstance(one, str) and isinstance(other, str) and {one, other} == EITHER)
    return one


def test_it_imports_nothing_of_ours_and_is_short() -> None:
    source = (FOLDER / "pledges.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [getattr(node, "module", None) for node in imports] == ["disclosures"]
    assert len(source.splitlines()) <= 100


@pytest.mark.parametrize("keys", [KEYS, FREE, tuple(sorted(PLEDGED)), KEYS[:1], FREE[:1]])
def test_the_same_answer(keys: tuple[PledgeKey, ...]) -> None:
    outcome = both(world().proof(keys), keys)
    assert isinstance(outcome, dict), outcome


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_same_refusal_of_each_lie(fault: Fault) -> None:
    assert both(fault.make(), fault.keys, now_ms=fault.now_ms) == fault.code


def test_every_byte_and_every_cut() -> None:
    keys = (*KEYS[:2], FREE[1])
    small, rng = world().proof(keys), random.Random(17)
    for at, byte in enumerate(small):
        other = rng.choice((byte ^ 1, byte ^ 0x80, (byte + rng.randrange(1, 256)) % 256))
        assert isinstance(both(small[:at] + bytes([other]) + small[at + 1 :], keys), str)
        if at % 5 == 0:
            assert isinstance(both(small[:at], keys), str)


@pytest.mark.parametrize("seed", range(8))
def test_files_changed_at_random(seed: int) -> None:
    rng, seen, good = random.Random(seed), set(), both(GOOD)
    for _ in range(80):
        items = canonical.decode(GOOD)
        at = rng.choice((NOTE, VALUES, VALUES, PROOF, rng.randrange(len(items))))
        items[at] = changed(items[at], rng)
        data = encoded(items)
        if data is not None and data != GOOD:
            outcome = both(data)
            assert isinstance(outcome, str) or outcome == good, "only a note's lines may change places"
            seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert len(seen) > 3


@pytest.mark.parametrize("seed", range(6))
def test_entries_on_the_ledger_changed_at_random(seed: int) -> None:
    """What the validators certified is anything at all."""
    rng, seen = random.Random(seed), set()
    for _ in range(15):
        content = dict(PLEDGED)
        for key in rng.sample(sorted(content), 1):
            value = canonical.decode(content[key])
            at = rng.randrange(3)
            value[at] = changed(value[at], rng)
            content[key] = encoded(value) or b""
        try:
            data = PledgeWorld(pledged=content).proof()
        except EncodingError:
            continue
        outcome = both(data)
        seen.add(outcome if isinstance(outcome, str) else "accepted")
    assert {"malformed", "accepted"} & seen


def both_permits(data: bytes, chain_id: bytes, key: bytes) -> str | None:
    codes: list[str | None] = []
    try:
        verify_permit(decode_permit(data), chain_id, key)
        codes.append(None)
    except EncodingError:
        codes.append("not_canonical")
    except InputError:
        codes.append("malformed")
    except VerificationError as error:
        codes.append(error.code)
    try:
        pledges.read_permit(data, chain_id, key)
        codes.append(None)
    except verifier.Refused as error:
        codes.append(error.code)
    assert codes[0] == codes[1] or set(codes) == EITHER
    return codes[0]


def test_permits() -> None:
    data, chain_id, key = encode_permit(permit()), world().chain_id, TAX_KEY.public_key
    assert both_permits(data, chain_id, key) is None
    assert both_permits(data, bytes(16), key) == "permit_invalid"
    assert both_permits(data, chain_id, world().logs[0].public_key) == "permit_invalid"
    for at, byte in enumerate(data):
        assert both_permits(data[:at] + bytes([byte ^ 1]) + data[at + 1 :], chain_id, key) is not None
    rng = random.Random(23)
    for _ in range(300):
        items = canonical.decode(data)
        at = rng.randrange(len(items))
        items[at] = changed(items[at], rng)
        other = encoded(items)
        if other is not None and other != data:
            assert both_permits(other, chain_id, key) is not None


# --- the vectors ------------------------------------------------------------------------------------


def test_vectors_of_permits_and_operations() -> None:
    chain_id, key = bytes.fromhex(VECTORS["chain_id"]), bytes.fromhex(VECTORS["issuer_key"])
    for case in VECTORS["permits"]["accepted"]:
        terms = pledges.read_permit(bytes.fromhex(case["permit"]), chain_id, key)
        shown = [each.hex() if isinstance(each, bytes) else each for each in terms]
        assert shown == [
            case[name] for name in ("record_key", "version", "fingerprint", "lender", "not_after")
        ]
        assert verifier.encode(["taxledger/permit/1", chain_id, *terms]).hex() == case["message"]
        assert both_permits(bytes.fromhex(case["permit"]), chain_id, key) is None
    for case in VECTORS["permits"]["refused"]:
        assert both_permits(bytes.fromhex(case["permit"]), chain_id, key) == case["code"], case["why"]
    for case in VECTORS["ids"]:
        member, issuer = case["member"], case["issuer"]
        fingerprint, nonce = bytes.fromhex(case["fingerprint"]), bytes.fromhex(case["nonce"])
        named = member.to_bytes(2, "big") + issuer.to_bytes(2, "big") + fingerprint + nonce
        assert verifier.sha(b"taxledger/pledge_id/1", named)[:16].hex() == case["pledge"]
        assert pledge_id(member, issuer, fingerprint, nonce).hex() == case["pledge"]
    for case in VECTORS["operations"]:
        payload = bytes.fromhex(case["payload"])
        version, name, *body = canonical.decode(payload)
        assert (version, name) == (1, case["operation"])
        assert [each.hex() if isinstance(each, bytes) else each for each in body] == case["body"]
        decode_operation(payload)


def asked(case: dict[str, Any]) -> tuple[bytes, tuple[PledgeKey, ...], int]:
    good = VECTORS["proofs"]["accepted"][0]
    data = bytes.fromhex(good["proof"])
    if "proof" in case:
        data = bytes.fromhex(case["proof"])
    elif "at" in case:
        data = data[: case["at"]] + bytes.fromhex(case["insert"]) + data[case["at"] + case["drop"] :]
    keys = tuple((issuer, bytes.fromhex(mark)) for issuer, mark in case.get("keys", good["keys"]))
    return data, keys, case.get("now_ms", VECTORS["now_ms"])


@pytest.mark.parametrize("case", VECTORS["proofs"]["accepted"], ids=lambda case: case["why"])
def test_vectors_of_proofs_that_are_accepted(case: dict[str, Any]) -> None:
    data, keys, now_ms = asked(case)
    said = both(data, keys, policy=VECTORS["policy"].encode(), now_ms=now_ms)
    assert isinstance(said, dict)
    states = [
        None if state is None else [state[0].hex(), state[1], [[row[0].hex(), *row[1:]] for row in state[2]]]
        for state in said["states"].values()
    ]
    answer = case["answer"]
    assert states == answer["states"]
    assert [said["size"], said["height"], said["age_ms"]] == [
        answer["size"],
        answer["height"],
        answer["age_ms"],
    ]


@pytest.mark.parametrize(
    "case", VECTORS["proofs"]["refused"], ids=lambda case: f"{case['code']}: {case['why']}"
)
def test_vectors_of_proofs_that_are_refused(case: dict[str, Any]) -> None:
    data, keys, now_ms = asked(case)
    assert both(data, keys, policy=VECTORS["policy"].encode(), now_ms=now_ms) == case["code"]
