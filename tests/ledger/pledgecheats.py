"""A world in which things are pledged and others are not, its proof file, and every way of lying in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cheating import edited, put
from world import AGE_MS_MAX, NOW_MS, NOW_S, World, seeded

from taxledger.ledger import canonical
from taxledger.ledger.crypto import Signer
from taxledger.ledger.permit import Permit, sign_permit
from taxledger.ledger.pledgeproof import (
    PledgeKey,
    VerifiedPledges,
    encode_pledge_proof,
    prove_pledges,
    verify_pledges,
)

KEYS_AT, NOTE, HEADER, PATH, VALUES, PROOF = range(2, 8)
"""Where the parts of a file stand."""
HEADER_MS = NOW_MS - 5_000
DAY = 86_400_000
TAX_KEY = Signer(seeded("transaction", "tax"))


def mark(name: str) -> bytes:
    return seeded("fingerprint", name)[:16]


def record(name: str) -> bytes:
    return b"\x01\x00\x01\x05" + seeded("tag")[:16] + b"\x03" + seeded("rid", name)[:16]


def row(name: str, ppm: int, *, member: int = 2, until: int | None = None) -> list[Any]:
    return [seeded("pledge", name)[:16], member, ppm, until]


def entry(name: str, *rows: list[Any], marks: int = 0) -> bytes:
    return canonical.encode([record(name), marks, list(rows)])


PLEDGED: dict[PledgeKey, bytes] = {
    (1, mark("whole")): entry("whole", row("a", 1_000_000)),
    (1, mark("part")): entry("part", row("b", 300_000), row("c", 200_000, member=3, until=HEADER_MS + DAY)),
    (1, mark("over")): entry("over", row("d", 400_000, until=HEADER_MS)),
    (1, mark("both")): entry(
        "both", row("e", 10_000, until=HEADER_MS), row("f", 20_000, until=HEADER_MS + 1)
    ),
    (1, mark("released")): entry("released"),
    (1, mark("impaired")): entry("impaired", row("g", 600_000), marks=1),
    (1, mark("contested")): entry("contested", row("h", 600_000), marks=3),
    (1, mark("full")): entry("full", *[row(f"{n}", 62_500) for n in range(16)]),
    (1, mark("others")): entry("others", row("i", 100_000)),
    (2, mark("whole")): entry("whole 2", row("j", 10_000)),
}
FREE: tuple[PledgeKey, ...] = ((1, mark("free")), (2, mark("part")), (3, mark("free")))
KEYS: tuple[PledgeKey, ...] = tuple(sorted([*PLEDGED.keys() - {(1, mark("others"))}, *FREE]))
"""What is asked; not everything that is pledged."""


@dataclass
class PledgeWorld(World):
    """A world with entries of pledges in its map.

    Attributes:
        pledged: value by (issuer, fingerprint).
    """

    pledged: dict[PledgeKey, bytes] = field(default_factory=lambda: PLEDGED)

    def _content(self) -> dict[bytes, bytes]:
        placed = {
            b"\x05" + issuer.to_bytes(2, "big") + fingerprint: value
            for (issuer, fingerprint), value in self.pledged.items()
        }
        return {**super()._content(), **placed}

    def proof(self, keys: Sequence[PledgeKey] = KEYS, **note: Any) -> bytes:
        return encode_pledge_proof(
            prove_pledges(
                keys,
                view=self.view,
                checkpoint=self.note(**note),
                header=self.leaves[-1],
                inclusion=self.inclusion(),
            )
        )


@cache
def world() -> PledgeWorld:
    return PledgeWorld()


@cache
def other_world(**changes: Any) -> PledgeWorld:
    """The same chain one block later, in which nothing is pledged."""
    return PledgeWorld(pledged={}, **changes)


GOOD = world().proof()
POLICY_BYTES = world().policy_bytes
OTHER_CHAIN = PledgeWorld(validators=("a", "b", "c", "d")).policy_bytes


def check(data: bytes, keys: Sequence[PledgeKey] = KEYS, **changes: Any) -> VerifiedPledges:
    arguments: dict[str, Any] = {"now_ms": NOW_MS, "age_ms_max": AGE_MS_MAX, **changes}
    policy = arguments.pop("policy", world().policy)
    return verify_pledges(data, policy, keys, **arguments)


@dataclass(frozen=True)
class Fault:
    """A named lie, and the code that must come of it."""

    code: str
    name: str
    make: Callable[[], bytes]
    keys: tuple[PledgeKey, ...] = KEYS
    now_ms: int = NOW_MS

    def __str__(self) -> str:
        return f"{self.code}: {self.name}"


def at(name: str, issuer: int = 1) -> int:
    return KEYS.index((issuer, mark(name)))


def lie(code: str, name: str, edit: Callable[[list[Any]], object]) -> Fault:
    return Fault(code, name, lambda: edited(GOOD, edit))


def within(name: str, edit: Callable[[list[Any]], object]) -> Callable[[list[Any]], object]:
    """The edit of one entry."""
    return put(VALUES, at(name))(lambda raw: edited(raw, edit))


def swapped(items: list[Any]) -> None:
    values, a, b = items[VALUES], at("whole"), at("part")
    values[a], values[b] = values[b], values[a]


def doubled(items: list[Any]) -> None:
    items[KEYS_AT] = sorted([*items[KEYS_AT], items[KEYS_AT][0]])
    items[VALUES] = [items[VALUES][0], *items[VALUES]]


def shortened(items: list[Any]) -> None:
    """One key and its value fewer, under the proof of all."""
    items[KEYS_AT], items[VALUES] = items[KEYS_AT][:-1], items[VALUES][:-1]


def taken_from(part: int, **note: Any) -> Callable[[list[Any]], object]:
    """A part of another world's file."""

    def edit(items: list[Any]) -> None:
        items[part] = canonical.decode(other_world(height=4).proof(**note))[part]

    return edit


FAULTS: tuple[Fault, ...] = (
    Fault("not_canonical", "a byte behind", lambda: GOOD + b"\x00"),
    Fault("not_canonical", "cut", lambda: GOOD[:-1]),
    Fault("not_canonical", "empty", lambda: b""),
    lie("malformed", "version 2", put(0)(2)),
    lie("malformed", "true for a version", put(0)(True)),
    lie("malformed", "another name", put(1)("evidence")),
    lie("malformed", "an element more", lambda items: items.append(None)),
    lie("malformed", "no keys", put(KEYS_AT)([])),
    lie("malformed", "a key twice", doubled),
    lie("malformed", "keys out of order", put(KEYS_AT)(lambda keys: keys[::-1])),
    lie("malformed", "issuer 0", put(KEYS_AT, 0, 0)(0)),
    lie("malformed", "a fingerprint of 15 bytes", put(KEYS_AT, 0, 1)(bytes(15))),
    lie("malformed", "a value fewer", put(VALUES)(lambda values: values[:-1])),
    lie("malformed", "a value that is a text", put(VALUES, 0)("free")),
    lie("malformed", "a hash of 31 bytes", put(PATH, 0)(bytes(31))),
    lie("malformed", "no checkpoint", put(NOTE)(b"")),
    lie("malformed", "an entry of another shape", within("whole", lambda value: value.append(0))),
    lie("malformed", "an entry of no record", within("whole", put(0)(bytes(37)))),
    lie("malformed", "marks 4", within("whole", put(1)(4))),
    lie("malformed", "a pledge of 9,999", within("whole", put(2, 0, 2)(9_999))),
    lie("malformed", "a pledge of 1,000,001", within("whole", put(2, 0, 2)(1_000_001))),
    lie("malformed", "a pledge twice", within("whole", put(2)(lambda rows: rows * 2))),
    lie("malformed", "17 pledges", within("full", put(2)(lambda rows: [*rows, row("more", 10_000)]))),
    lie("not_canonical", "an entry with a byte behind", put(VALUES, at("whole"))(lambda raw: raw + b"\x00")),
    Fault("query_mismatch", "not all that was asked", lambda: world().proof(KEYS[1:])),
    Fault("query_mismatch", "more than was asked", lambda: GOOD, KEYS[1:]),
    Fault("query_mismatch", "of another issuer", lambda: GOOD, (*KEYS[:-1], (4, KEYS[-1][1]))),
    Fault(
        "query_mismatch", "of another fingerprint", lambda: GOOD, tuple(sorted((*KEYS[1:], (1, mark("x")))))
    ),
    lie("query_mismatch", "a key and its value left out", shortened),
    lie("header_mismatch", "no header", put(HEADER)(b"\x01")),
    lie("header_mismatch", "a header of another height", taken_from(HEADER)),
    Fault(
        "policy_outdated",
        "validators that are to change",
        lambda: PledgeWorld(changes={"next_validators_hash": bytes(32)}).proof(),
    ),
    Fault("quorum_missing", "two co-signatures", lambda: world().proof(signers=(0, 1))),
    Fault("malformed", "four co-signatures", lambda: world().proof(signers=(0, 1, 2, 3))),
    Fault("signer_repeated", "one co-signer twice", lambda: world().proof(signers=(0, 1, 1))),
    Fault("checkpoint_stale", "eleven minutes old", lambda: world().proof(time_s=NOW_S - 660)),
    Fault(
        "checkpoint_stale", "one of them is old", lambda: world().proof(time_s=[NOW_S, NOW_S - 601, NOW_S])
    ),
    Fault("checkpoint_stale", "from the future", lambda: world().proof(time_s=NOW_S + 61)),
    Fault("checkpoint_stale", "asked too late", lambda: GOOD, KEYS, NOW_MS + AGE_MS_MAX + 1),
    lie("signature_invalid", "another root", put(NOTE)(lambda note: other_root(note))),
    lie("inclusion_invalid", "no path", put(PATH)([])),
    lie("inclusion_invalid", "another path", put(PATH, 0)(bytes(32))),
    lie("prefix_incomplete", "free, and yet pledged", put(VALUES, at("whole"))(None)),
    lie("prefix_incomplete", "pledged, and yet free", put(VALUES, at("free"))(PLEDGED[1, mark("whole")])),
    lie("map_proof_invalid", "a smaller share", within("whole", put(2, 0, 2)(10_000))),
    lie("map_proof_invalid", "another lender", within("whole", put(2, 0, 1)(4))),
    lie("map_proof_invalid", "a pledge left out", within("part", put(2)(lambda rows: rows[:1]))),
    lie("map_proof_invalid", "an end to it", within("whole", put(2, 0, 3)(HEADER_MS))),
    lie("map_proof_invalid", "not impaired", within("impaired", put(1)(0))),
    lie("map_proof_invalid", "not contested", within("contested", put(1)(1))),
    lie("map_proof_invalid", "another record", within("whole", put(0)(record("part")))),
    lie("map_proof_invalid", "two entries for each other", swapped),
    lie("prefix_incomplete", "a proof of when all were free", taken_from(PROOF)),
    lie("map_proof_invalid", "no proof", put(PROOF)(b"")),
)


def other_root(note: bytes) -> bytes:
    """The note with the root of a log of the same size."""
    lines, theirs = note.split(b"\n"), other_world().note().split(b"\n")
    return b"\n".join([*lines[:2], theirs[2], *lines[3:]])


def permit(**changes: Any) -> Permit:
    """A permit of issuer 1 for member 2."""
    terms: dict[str, Any] = {
        "record_key": record("whole"),
        "version": 1,
        "fingerprint": mark("whole"),
        "lender": 2,
        "not_after": NOW_MS + DAY,
        **changes,
    }
    signer = terms.pop("signer", TAX_KEY)
    return sign_permit(signer, terms.pop("chain_id", world().chain_id), **terms)
