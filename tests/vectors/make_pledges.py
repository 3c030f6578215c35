"""Vectors of permits and pledge proofs (docs/protocol.md §15, §16), of the world in tests/ledger/pledgecheats.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

import pledgecheats as cheats
import world
from cheating import edited, put

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import EncodingError, InputError, VerificationError
from taxledger.ledger.operations import encode_pledge
from taxledger.ledger.permit import Permit, decode_permit, encode_permit, permit_message, verify_permit
from taxledger.ledger.pledgeoperations import PledgeConfirm, PledgePlace, PledgeRelease, PledgeTransfer
from taxledger.ledger.pledgeproof import PledgeKey
from taxledger.ledger.pledgestate import pledge_id

Json = dict[str, Any]


# --- permits --------------------------------------------------------------------------------


def accepted_permit(why: str, permit: Permit) -> Json:
    terms: dict[str, Any] = {
        name: getattr(permit, name)
        for name in ("record_key", "version", "fingerprint", "lender", "not_after")
    }
    message = permit_message(cheats.world().chain_id, **terms)
    shown = {name: each.hex() if isinstance(each, bytes) else each for name, each in terms.items()}
    return {"why": why, "permit": encode_permit(permit).hex(), "message": message.hex(), **shown}


def code_of(raw: bytes) -> str:
    try:
        verify_permit(decode_permit(raw), cheats.world().chain_id, cheats.TAX_KEY.public_key)
    except EncodingError:
        return "not_canonical"
    except InputError:
        return "malformed"
    except VerificationError as error:
        return error.code
    raise SystemExit("a permit that should be refused is accepted")


def refused_permits() -> list[Json]:
    raw = encode_permit(cheats.permit())
    stranger = Signer(world.seeded("stranger"))
    edits: list[tuple[str, Callable[[list[Any]], object]]] = [
        ("version 2", put(0)(2)),
        ("another name", put(1)("permits")),
        ("no record's key", put(2)(lambda key: b"\x02" + key[1:])),
        ("month 17", put(2)(lambda key: key[:20] + b"\x11" + key[21:])),
        ("record version 0", put(3)(0)),
        ("a fingerprint of 15 bytes", put(4)(bytes(15))),
        ("lender 0", put(5)(0)),
        ("an end before 1970", put(6)(-1)),
        ("an element more", lambda items: items.append(None)),
        ("another record", put(2)(cheats.record("part"))),
        ("the record's next version", put(3)(2)),
        ("another fingerprint", put(4)(cheats.mark("part"))),
        ("another lender", put(5)(3)),
        ("a later end", put(6)(lambda end: end + 1)),
        ("another key's id", put(7)(bytes(16))),
        ("another signature", put(8)(bytes(64))),
    ]
    cases = [(why, edited(raw, edit)) for why, edit in edits]
    cases += [
        ("a byte behind", raw + b"\x00"),
        ("cut", raw[:-1]),
        ("of another chain", encode_permit(cheats.permit(chain_id=bytes(16)))),
        ("by a stranger", encode_permit(cheats.permit(signer=stranger))),
    ]
    return [{"why": why, "permit": each.hex(), "code": code_of(each)} for why, each in cases]


# --- operations -----------------------------------------------------------------------------


def operations() -> list[Json]:
    permit, nonce, pledge = cheats.permit(), world.seeded("nonce")[:16], world.seeded("pledge")[:16]
    said = [
        PledgePlace(permit=permit, ppm=250_000, not_after=None, nonce=nonce),
        PledgePlace(permit=permit, ppm=10_000, not_after=world.NOW_MS + cheats.DAY, nonce=nonce),
        PledgeConfirm(pledge=pledge),
        PledgeRelease(pledge=pledge),
        PledgeTransfer(pledge=pledge, permit=cheats.permit(lender=3)),
    ]
    cases = []
    for payload in map(encode_pledge, said):
        _version, name, *body = canonical.decode(payload)
        shown = [each.hex() if isinstance(each, bytes) else each for each in body]
        cases.append({"operation": name, "payload": payload.hex(), "body": shown})
    return cases


def ids() -> list[Json]:
    fingerprint, nonce = cheats.mark("whole"), world.seeded("nonce")[:16]
    return [
        {
            "member": member,
            "issuer": issuer,
            "fingerprint": fingerprint.hex(),
            "nonce": nonce.hex(),
            "pledge": pledge_id(member, issuer, fingerprint, nonce).hex(),
        }
        for member, issuer in ((2, 1), (1, 2), (65_535, 256))
    ]


# --- proofs ---------------------------------------------------------------------------------


def shown_keys(keys: Sequence[PledgeKey]) -> list[list[Any]]:
    return [[issuer, fingerprint.hex()] for issuer, fingerprint in keys]


def patch(data: bytes) -> Json:
    """How a file differs from the good one; all of it where it differs in most places."""
    good = cheats.GOOD
    if data == good:
        return {}
    at = next(
        (n for n, (a, b) in enumerate(zip(good, data, strict=False)) if a != b), min(len(good), len(data))
    )
    rest, other = good[at:], data[at:]
    same = next(
        (n for n, (a, b) in enumerate(zip(rest[::-1], other[::-1], strict=False)) if a != b),
        min(len(rest), len(other)),
    )
    return {"at": at, "drop": len(rest) - same, "insert": other[: len(other) - same].hex()}


def accepted(why: str, keys: Sequence[PledgeKey]) -> Json:
    data = cheats.world().proof(keys)
    said = cheats.check(data, keys)
    return {
        "why": why,
        "keys": shown_keys(keys),
        "proof": data.hex(),
        "answer": {
            "size": said.checkpoint.checkpoint.size,
            "height": said.header.height,
            "age_ms": said.age_ms,
            "states": [
                None
                if state.record_key is None
                else [
                    state.record_key.hex(),
                    int(state.marks),
                    [[each.id.hex(), each.member, each.ppm, each.not_after] for each in state.pledges],
                ]
                for state in said.states.values()
            ],
        },
    }


def refused(fault: cheats.Fault) -> Json:
    case: Json = {"why": fault.name, "code": fault.code, **patch(fault.make())}
    if fault.keys != cheats.KEYS:
        case["keys"] = shown_keys(fault.keys)
    if fault.now_ms != world.NOW_MS:
        case["now_ms"] = fault.now_ms
    return case


def pledge_vectors() -> Json:
    return {
        "chain_id": cheats.world().chain_id.hex(),
        "issuer_key": cheats.TAX_KEY.public_key.hex(),
        "permits": {
            "accepted": [
                accepted_permit("of issuer 1 for member 2", cheats.permit()),
                accepted_permit("the largest numbers", cheats.permit(version=2**32 - 1, lender=65_535)),
            ],
            "refused": refused_permits(),
        },
        "ids": ids(),
        "operations": operations(),
        "policy": cheats.POLICY_BYTES.decode(),
        "now_ms": world.NOW_MS,
        "age_ms_max": world.AGE_MS_MAX,
        "proofs": {
            "accepted": [
                accepted("pledged, in part or whole, ended, impaired, contested, free", cheats.KEYS),
                accepted("one that is free", cheats.FREE[:1]),
                accepted("one that is pledged as a whole", [(1, cheats.mark("whole"))]),
            ],
            "refused": [refused(fault) for fault in cheats.FAULTS],
        },
    }


VECTORS = {"pledge.json": pledge_vectors}
