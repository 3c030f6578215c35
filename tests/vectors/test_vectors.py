"""The vector files are what the generator writes, and a reader that shares no code with ours agrees."""

from __future__ import annotations

import hashlib
import json
import runpy
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from taxledger.ledger import merkle
from taxledger.ledger.checkpoint import decode_note
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.policy import decode_policy, verify_checkpoint
from taxledger.ledger.transaction import decode_transaction

FOLDER = Path(__file__).resolve().parent
GENERATE = runpy.run_path(str(FOLDER / "generate.py"))
MAKERS = GENERATE["makers"]()


def load(name: str):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MAKERS)
def test_generating_changes_nothing(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == GENERATE["rendered"](MAKERS[name]())


def test_no_file_without_a_maker_and_every_file_described() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(MAKERS)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in MAKERS if f"`{name}`" not in readme] == []


# --- an independent reader, from the specifications alone -----------------------------------


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def root(hashes: list[bytes]) -> bytes:
    """RFC 6962 §2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01", root(hashes[:split]), root(hashes[split:]))


def path(index: int, hashes: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1."""
    if len(hashes) == 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return [*path(index, hashes[:split]), root(hashes[split:])]
    return [*path(index - split, hashes[split:]), root(hashes[:split])]


def subproof(old: int, hashes: list[bytes], known: bool) -> list[bytes]:
    """RFC 6962 §2.1.2."""
    if old == len(hashes):
        return [] if known else [root(hashes)]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if old <= split:
        return [*subproof(old, hashes[:split], known), root(hashes[split:])]
    return [*subproof(old - split, hashes[split:], False), root(hashes[:split])]


def test_merkle_read_independently() -> None:
    content = load("merkle.json")
    hashes = [sha256(b"\x00", bytes.fromhex(leaf)) for leaf in content["leaves"]]
    assert content["leaf_hashes"] == [each.hex() for each in hashes]
    assert content["roots"] == [root(hashes[:size]).hex() for size in range(len(hashes) + 1)]
    for case in content["inclusion"]:
        assert case["proof"] == [each.hex() for each in path(case["index"], hashes[: case["size"]])]
    for case in content["consistency"]:
        assert case["proof"] == [each.hex() for each in subproof(case["old"], hashes[: case["new"]], True)]
    assert len(content["inclusion"]) == len(content["consistency"]) == 36


def vkey_parts(text: str) -> tuple[str, bytes, int, bytes]:
    name, key_id, encoded = text.split("+", 2)
    material = b64decode(encoded)
    assert sha256(name.encode(), b"\n", material)[:4].hex() == key_id
    return name, bytes.fromhex(key_id), material[0], material[1:]


def test_checkpoint_read_independently() -> None:
    content = load("checkpoint.json")
    for name, key in content["keys"].items():
        assert key["private"] == sha256(b"taxledger test vector key ", name.encode()).hex()
        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["private"]))
        assert private.public_key().public_bytes_raw().hex() == key["public"]
    at = content["checkpoint"]
    encoded = b64encode(bytes.fromhex(at["root"])).decode()
    assert content["text"] == f"{at['origin']}\n{at['size']}\n{encoded}\n"
    lines = [line.split() for line in content["policy"].splitlines()]
    keys = [vkey_parts(line[-1]) for line in lines if line[0] in ("log", "witness")]
    known = {(name, key_id): (kind, key) for name, key_id, kind, key in keys}
    for case in content["accepted"]:
        text, _, signatures = case["note"].partition("\n\n")
        oldest = None
        assert len(signatures.splitlines()) == 1 + 3
        for at, line in enumerate(signatures.splitlines()):
            dash, name, encoded = line.split(" ")
            signed = b64decode(encoded)
            kind, key = known[name, signed[:4]]
            message = text.encode() + b"\n"
            assert dash == "\u2014"
            assert kind == (4 if at else 1)
            if kind == 4:
                seconds = int.from_bytes(signed[4:12], "big")
                oldest = seconds if oldest is None else min(oldest, seconds)
                message = f"cosignature/v1\ntime {seconds}\n".encode() + message
            Ed25519PublicKey.from_public_bytes(key).verify(signed[-64:], message)
        assert content["now_ms"] - 1_000 * oldest == case["age_ms"]


def test_policy_read_independently() -> None:
    content = load("policy.json")
    for text in content["accepted"]:
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        logs = [vkey_parts(line[1]) for line in lines if line[0] == "log"]
        witnesses = {line[1]: vkey_parts(line[2]) for line in lines if line[0] == "witness"}
        vkeys = sorted(line[2] for line in lines if line[0] == "witness")
        packed = bytes([0x90 + len(vkeys)]) + b"".join(
            b"\xd9" + bytes([len(each)]) + each.encode() for each in vkeys
        )
        assert content["content"] == {
            "origin": logs[0][0],
            "log_keys": [key.hex() for _, _, _, key in logs],
            "witnesses": {name: key.hex() for name, (_, _, _, key) in witnesses.items()},
            "threshold": 2 * len(witnesses) // 3 + 1,
            "validators_hash": sha256(b"taxledger/validators/1", packed).hex(),
        }


def test_transaction_read_independently() -> None:
    content = load("transaction.json")

    def head(major: int, number: int) -> bytes:
        if number < 24:
            return bytes([major + number])
        width = next(width for width in (1, 2, 4, 8) if number < 256**width)
        return bytes([major + 24 + (1, 2, 4, 8).index(width)]) + number.to_bytes(width, "big")

    public = bytes.fromhex(content["public"])
    for case in content["accepted"]:
        issuer, payload = str(case["member"]).encode(), bytes.fromhex(case["payload"])
        protected = b"".join(
            [
                b"\xa4\x01\x27\x03\x78\x1dapplication/taxledger+msgpack\x04\x50",
                sha256(public)[:16],
                b"\x0f\xa4\x01" + head(0x60, len(issuer)) + issuer,
                b"\x02\x78\x20" + content["chain_id"].encode(),
                b"\x04" + head(0, case["exp_s"]) + b"\x06" + head(0, case["iat_s"]),
            ]
        )
        both = [head(0x40, len(protected)) + protected, head(0x40, len(payload)) + payload]
        message = b"\x84\x6aSignature1" + both[0] + b"\x40" + both[1]
        raw = bytes.fromhex(case["transaction"])
        assert raw[:-64] == b"\xd2\x84" + both[0] + b"\xa0" + both[1] + b"\x58\x40"
        Ed25519PublicKey.from_public_bytes(public).verify(raw[-64:], message)
        assert case["signed_bytes"] == message.hex()
        assert case["id"] == sha256(b"\x00", raw).hex()


# --- what our own code refuses --------------------------------------------------------------


def test_merkle_refused() -> None:
    content = load("merkle.json")
    leaves, roots = ([bytes.fromhex(each) for each in content[name]] for name in ("leaf_hashes", "roots"))
    for case in content["refused_inclusion"]:
        proof = [bytes.fromhex(each) for each in case["proof"]]
        with pytest.raises(VerificationError, match="inclusion_invalid"):
            merkle.verify_inclusion(
                leaves[case["index"]], case["index"], case["size"], proof, roots[case["size"]]
            )
    for case in content["refused_consistency"]:
        proof = [bytes.fromhex(each) for each in case["proof"]]
        with pytest.raises(VerificationError, match="consistency_invalid"):
            merkle.verify_consistency(case["old"], roots[case["old"]], case["new"], roots[case["new"]], proof)


def verify_note(content, note: str) -> int:
    policy = decode_policy(content["policy"].encode())
    decoded = decode_note(note.encode())
    return verify_checkpoint(policy, decoded, now_ms=content["now_ms"], age_ms_max=content["age_ms_max"])


def test_notes_accepted_and_refused() -> None:
    content = load("checkpoint.json")
    for case in content["accepted"]:
        assert verify_note(content, case["note"]) == case["age_ms"]
    for case in content["refused"]:
        with pytest.raises(VerificationError) as caught:
            verify_note(content, case["note"])
        assert caught.value.code == case["code"], case["why"]


def test_policies_refused() -> None:
    content = load("policy.json")
    assert decode_policy(content["accepted"][0].encode()) == decode_policy(content["accepted"][1].encode())
    for case in content["refused"]:
        with pytest.raises(FormatError, match=f"^policy line {case['line']}: expected .*, got "):
            decode_policy(case["policy"].encode())


def test_transactions_refused() -> None:
    for case in load("transaction.json")["refused"]:
        with pytest.raises(FormatError):
            decode_transaction(bytes.fromhex(case["transaction"]))
