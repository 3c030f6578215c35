"""Vectors of the log: Merkle tree, checkpoints, policies and transactions (docs/protocol.md §2–4)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from taxledger.ledger import checkpoint as notes
from taxledger.ledger import merkle
from taxledger.ledger.crypto import Signer
from taxledger.ledger.hashing import log_leaf
from taxledger.ledger.policy import decode_policy, encode_policy, verify_checkpoint
from taxledger.ledger.transaction import decode_transaction, sign_transaction

Json = dict[str, Any]

CHAIN_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
ORIGIN = notes.make_origin("demo", CHAIN_ID, "embedded")
MEMBERS = ["tax", "bank1", "bank2", "bank3"]
TIME_S = 1_750_000_000
AGE_MS_MAX = 600_000


def private_key(name: str) -> bytes:
    return hashlib.sha256(b"taxledger test vector key " + name.encode()).digest()


def signer(name: str) -> Signer:
    return Signer(private_key(name))


# --- merkle.json ----------------------------------------------------------------------------


def merkle_vectors() -> Json:
    leaves = [
        bytes.fromhex(each) for each in ("", "00", "10", "2021", "3031", "40414243", "50" * 8, "60" * 16)
    ]
    hashes = [log_leaf(leaf) for leaf in leaves]
    nodes = merkle.EMPTY.extended(hashes)[1]
    roots = [merkle.root_of(hashes[:size]) for size in range(len(leaves) + 1)]

    def get_node(level: int, index: int) -> bytes:
        return nodes[level, index]

    inclusion = [
        {"index": index, "size": size, "proof": hexes(merkle.prove_inclusion(get_node, index, size))}
        for size in range(1, len(leaves) + 1)
        for index in range(size)
    ]
    consistency = [
        {"old": old, "new": new, "proof": hexes(merkle.prove_consistency(get_node, old, new))}
        for new in range(1, len(leaves) + 1)
        for old in range(1, new + 1)
    ]
    path = hexes(merkle.prove_inclusion(get_node, 4, 7))
    between = hexes(merkle.prove_consistency(get_node, 6, 8))
    return {
        "leaves": hexes(leaves),
        "leaf_hashes": hexes(hashes),
        "roots": hexes(roots),
        "inclusion": inclusion,
        "consistency": consistency,
        "refused_inclusion": [
            {"why": "cut", "index": 4, "size": 7, "proof": path[:-1]},
            {"why": "too long", "index": 4, "size": 7, "proof": [*path, "00" * 32]},
            {"why": "reordered", "index": 4, "size": 7, "proof": path[::-1]},
            {"why": "another leaf's", "index": 5, "size": 7, "proof": path},
            {"why": "not in the log", "index": 7, "size": 7, "proof": path},
        ],
        "refused_consistency": [
            {"why": "cut", "old": 6, "new": 8, "proof": between[:-1]},
            {"why": "too long", "old": 6, "new": 8, "proof": [*between, "00" * 32]},
            {"why": "reordered", "old": 6, "new": 8, "proof": between[::-1]},
            {"why": "of other sizes", "old": 5, "new": 8, "proof": between},
            {"why": "backwards", "old": 8, "new": 6, "proof": between},
        ],
    }


def hexes(items: list[bytes]) -> list[str]:
    return [item.hex() for item in items]


# --- checkpoint.json ------------------------------------------------------------------------


def policy_text() -> str:
    return encode_policy(
        origin=ORIGIN,
        log_keys=[signer(f"log {name}").public_key for name in MEMBERS],
        witnesses={name: signer(f"cosign {name}").public_key for name in MEMBERS},
    ).decode()


def note_text(
    checkpoint: notes.Checkpoint, log: str, cosigners: list[tuple[str, str, int]], *, signed: Any = None
) -> str:
    """A note by key ``log`` and each (member name, key, seconds); they may sign ``signed`` instead."""
    signed = signed or checkpoint
    cosignatures = [
        (f"demo/{name}", signer(key).public_key, time_s, notes.cosign(signer(key), signed, time_s))
        for name, key, time_s in cosigners
    ]
    signature = notes.sign_checkpoint(signer(log), signed)
    return notes.encode_note(checkpoint, signer(log).public_key, signature, cosignatures).decode()


def by(*names: str, time_s: int = TIME_S) -> list[tuple[str, str, int]]:
    return [(name, f"cosign {name}", time_s) for name in names]


def checkpoint_vectors() -> Json:
    checkpoint = notes.Checkpoint(origin=ORIGIN, size=70_000, root=hashlib.sha256(b"root").digest())
    other = notes.Checkpoint(origin=ORIGIN, size=70_001, root=checkpoint.root)
    elsewhere = notes.Checkpoint(
        origin=notes.make_origin("demo", bytes(16), "embedded"), size=70_000, root=checkpoint.root
    )
    three = by("tax", "bank1", "bank2")
    good = note_text(checkpoint, "log tax", three)
    root = b64encode(checkpoint.root).decode()
    stale = AGE_MS_MAX // 1_000 + 6
    refused = [
        ("malformed", "CRLF", good.replace("\n", "\r\n")),
        ("malformed", "no line feed at the end", good[:-1]),
        ("malformed", "an extension line", good.replace("\n\n", "\nextension\n\n")),
        ("malformed", "an en dash", good.replace("\u2014", "\u2013")),
        ("malformed", "a root of 33 bytes", good.replace(root, b64encode(bytes(33)).decode())),
        ("malformed", "more than a quorum", note_text(checkpoint, "log tax", by(*MEMBERS))),
        ("not_canonical", "a size with a leading zero", good.replace("\n70000\n", "\n070000\n")),
        ("not_canonical", "base64 without padding", good.replace(root, root.rstrip("="))),
        ("not_canonical", "base64 with an unread bit set", good.replace(root, loosened(root))),
        ("policy_mismatch", "another origin", note_text(elsewhere, "log tax", three)),
        ("policy_mismatch", "another log key", note_text(checkpoint, "log stranger", three)),
        (
            "signer_unknown",
            "another co-signing key",
            note_text(checkpoint, "log tax", [*three[:2], ("bank2", "cosign stranger", TIME_S)]),
        ),
        (
            "signer_unknown",
            "another co-signer's name",
            note_text(checkpoint, "log tax", [*three[:2], ("bank9", "cosign bank2", TIME_S)]),
        ),
        ("signer_repeated", "one twice", note_text(checkpoint, "log tax", [*three[:2], three[0]])),
        ("quorum_missing", "two of four", note_text(checkpoint, "log tax", three[:2])),
        ("signature_invalid", "signed another size", note_text(checkpoint, "log tax", three, signed=other)),
        (
            "checkpoint_stale",
            "one is too old",
            note_text(checkpoint, "log tax", [*three[:2], *by("bank2", time_s=TIME_S - stale)]),
        ),
        (
            "checkpoint_stale",
            "one is in the future",
            note_text(checkpoint, "log tax", [*three[:2], *by("bank2", time_s=TIME_S + 66)]),
        ),
    ]
    accepted = [
        good,
        note_text(checkpoint, "log bank3", by("bank3", "bank1", "tax")),
        note_text(checkpoint, "log tax", [*three[:2], *by("bank2", time_s=TIME_S - 100)]),
    ]
    now_ms = TIME_S * 1_000 + 5_000
    names = [f"{use} {name}" for use in ("log", "cosign") for name in MEMBERS]
    return {
        "keys": {name: {"private": private_key(name).hex(), "public": public(name)} for name in names},
        "checkpoint": {"origin": ORIGIN, "size": checkpoint.size, "root": checkpoint.root.hex()},
        "text": checkpoint.text.decode(),
        "log_signature_by_log_tax": notes.sign_checkpoint(signer("log tax"), checkpoint).hex(),
        "cosignature_message": notes.cosignature_message(checkpoint, TIME_S).decode(),
        "cosignature_by_cosign_tax": notes.cosign(signer("cosign tax"), checkpoint, TIME_S).hex(),
        "policy": policy_text(),
        "now_ms": now_ms,
        "age_ms_max": AGE_MS_MAX,
        "accepted": [{"note": note, "age_ms": age_of(note, now_ms)} for note in accepted],
        "refused": [{"code": code, "why": why, "note": note} for code, why, note in refused],
    }


def public(name: str) -> str:
    return signer(name).public_key.hex()


def age_of(note: str, now_ms: int) -> int:
    policy = decode_policy(policy_text().encode())
    return verify_checkpoint(policy, notes.decode_note(note.encode()), now_ms=now_ms, age_ms_max=AGE_MS_MAX)


def loosened(encoded: str) -> str:
    """Another text of the same 32 bytes: the last character has two bits that nobody reads."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return encoded[:-2] + alphabet[alphabet.index(encoded[-2]) + 1] + "="


# --- policy.json ----------------------------------------------------------------------------


def policy_vectors() -> Json:
    text = policy_text()
    lines = text.splitlines(keepends=True)
    loose = "# of the demo network\n\n" + "".join(
        f"\t{line.rstrip()}  https://example.com/\n" if line.startswith(("log", "witness")) else line
        for line in lines
    )
    stranger = signer("log stranger").public_key
    elsewhere = notes.vkey(notes.make_origin("demo", bytes(16), "embedded"), notes.LOG_TYPE, stranger)
    refused = [
        (1, "CRLF", text.replace("\n", "\r\n")),
        (10, "no line feed at the end", text[:-1]),
        (4, "a second origin", "".join([*lines[:3], f"log {elsewhere}\n", *lines[4:]])),
        (4, "a log key twice", "".join([*lines[:3], lines[2], *lines[4:]])),
        (6, "a witness twice", "".join([*lines[:5], lines[4], *lines[5:]])),
        (
            5,
            "a witness named unlike its key",
            text.replace("witness tax ", "witness tax9 ").replace("3 tax ", "3 tax9 "),
        ),
        (1, "a wrong key id", text.replace(lines[0].split("+")[1], "00000000", 1)),
        (9, "a threshold that is not the quorum", text.replace("validators 3", "validators 2")),
        (8, "a witness outside the group", text.replace(" bank3\nquorum", "\nquorum")),
        (9, "another group", text.replace("group validators", "group others")),
        (10, "quorum of a witness", text.replace("quorum validators", "quorum tax")),
        (10, "no quorum", "".join(lines[:-1])),
        (7, "no log", "".join(lines[4:])),
    ]
    policy = decode_policy(text.encode())
    return {
        "accepted": [text, loose],
        "content": {
            "origin": policy.origin,
            "log_keys": [key.public_key.hex() for key in policy.log_keys],
            "witnesses": {name: key.public_key.hex() for name, key in policy.witnesses.items()},
            "threshold": policy.threshold,
            "validators_hash": policy.validators_hash.hex(),
        },
        "refused": [{"line": line, "why": why, "policy": wrong} for line, why, wrong in refused],
    }


# --- transaction.json -----------------------------------------------------------------------


def transaction_vectors() -> Json:
    key = signer("transaction tax")
    cases = [
        {
            "member": 1,
            "iat_s": TIME_S,
            "exp_s": TIME_S + 600,
            "payload": "9301ae6d656d6265722e617070726f766500",
        },
        {"member": 65_535, "iat_s": 2**32 - 1, "exp_s": 2**32, "payload": ""},
        {"member": 10, "iat_s": 23, "exp_s": 24, "payload": "ff" * 23},
        {"member": 100, "iat_s": 255, "exp_s": 256, "payload": "ff" * 24},
        {"member": 1_000, "iat_s": 65_535, "exp_s": 65_536, "payload": "ff" * 256},
    ]
    accepted = []
    for case in cases:
        arguments = case | {"payload": bytes.fromhex(case["payload"])}
        tx = decode_transaction(sign_transaction(key, chain_id=CHAIN_ID, **arguments))
        made = {"signed_bytes": tx.signed_bytes.hex(), "transaction": tx.raw.hex(), "id": tx.id.hex()}
        accepted.append(case | {"kid": tx.kid.hex(), "protected": tx.protected.hex()} | made)
    raw = bytes.fromhex(accepted[0]["transaction"])
    protected = bytes.fromhex(accepted[0]["protected"])
    after = raw[4 + len(protected) :]

    def with_protected(old: bytes, new: bytes) -> bytes:
        changed = protected.replace(old, new)
        return b"\xd2\x84\x58" + bytes([len(changed)]) + changed + after

    refused = [
        ("no tag", raw[1:]),
        ("cut", raw[:-1]),
        ("bytes after it", raw + b"\x00"),
        ("a longer head than needed", raw.replace(b"\xa0\x52", b"\xa0\x58\x12")),
        ("an unprotected header", raw.replace(b"\xa0\x52", b"\xa1\x01\x27\x52")),
        ("an indefinite array", b"\xd2\x9f" + raw[2:] + b"\xff"),
        ("an issuer with a leading zero", with_protected(b"\x01\x61\x31", b"\x01\x62\x30\x31")),
        ("issuer 0", with_protected(b"\x01\x61\x31", b"\x01\x61\x30")),
        ("issuer 65536", with_protected(b"\x01\x61\x31", b"\x01\x6565536")),
        (
            "a chain id in upper case",
            with_protected(CHAIN_ID.hex().encode(), CHAIN_ID.hex().upper().encode()),
        ),
        ("a longer instant than needed", with_protected(b"\x06\x1a", b"\x06\x1b\x00\x00\x00\x00")),
        ("another algorithm", with_protected(b"\xa4\x01\x27", b"\xa4\x01\x26")),
        ("another content type", with_protected(b"+msgpack", b"+msgpacK")),
    ]
    return {
        "private": private_key("transaction tax").hex(),
        "public": key.public_key.hex(),
        "chain_id": CHAIN_ID.hex(),
        "accepted": accepted,
        "refused": [{"why": why, "transaction": wrong.hex()} for why, wrong in refused],
    }


VECTORS: dict[str, Callable[[], Json]] = {
    "merkle.json": merkle_vectors,
    "checkpoint.json": checkpoint_vectors,
    "policy.json": policy_vectors,
    "transaction.json": transaction_vectors,
}
