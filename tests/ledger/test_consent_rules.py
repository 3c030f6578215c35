"""Rules 19 to 34 refuse once and let the same thing pass once; every transition; random sequences against a model.

The model is written from the tables of docs/protocol.md §6 and §8 alone, as slowly and plainly as it goes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from chainkit import (
    CLIENT,
    INVOICE,
    ISSUER,
    TIME_MS,
    TestChain,
    attest,
    client,
    digest,
    group,
    make_genesis,
    tag_key,
)
from test_rules import amend, change, key_of, revoke

from taxledger.ledger import canonical, statekeys
from taxledger.ledger.operations import RevokeChange, encode_erase

OTHER = 8
"""A second member that issues records, so a second custodian."""
DAY = 86_400_000
BEGIN, END = TIME_MS + DAY, TIME_MS + 30 * DAY
LIFETIME_MAX = 10 * 366 * DAY
HOLDER, OTHER_HOLDER = digest("holder")[:16], digest("other holder")[:16]
OK = (0, None)


@pytest.fixture
def chain() -> TestChain:
    """Two custodians; the next block is the first of the window's days."""
    base = make_genesis()
    other = client(OTHER, "tax2", role=2, kinds=(INVOICE,))
    return TestChain(replace(base, members=(*base.members, other))).at(BEGIN)


def tagged(what: str, data: bytes) -> bytes:
    return hashlib.sha256(b"taxledger/" + what.encode() + b"/1" + data).digest()


def preimage(name: object) -> bytes:
    return digest("preimage", name)


def id_of(name: object, custodian: int = ISSUER) -> bytes:
    return tagged("consent_id", custodian.to_bytes(2, "big") + digest("consent", name))[:16]


def payload(*items: Any) -> bytes:
    return canonical.encode([1, *items])


def grant(
    name: object,
    *,
    former: bytes | None = None,
    holder: bytes = HOLDER,
    begin: int = BEGIN,
    end: int = END,
    max_uses: int = 3,
) -> bytes:
    terms = [digest("consent", name), holder, begin, end, max_uses, tagged("revoke", preimage(name))]
    return (
        payload("consent.grant", *terms) if former is None else payload("consent.supersede", former, *terms)
    )


def pause(name: object) -> bytes:
    return payload("consent.pause", id_of(name))


def resume(name: object) -> bytes:
    return payload("consent.resume", id_of(name))


def end(name: object, shown: bytes | None = None) -> bytes:
    return payload("consent.revoke", id_of(name), shown)


def use(name: object, sequence: int = 1, count: int = 10) -> bytes:
    return payload("consent.use", id_of(name), sequence, digest("plan", name, sequence), count)


def close(name: object, sequence: int = 1, outcome: int = 2, count: int = 10) -> bytes:
    left = None if outcome == 4 else digest("left", name, sequence)
    return payload("consent.use_close", id_of(name), sequence, outcome, left, 0 if outcome == 4 else count)


def content(chain: TestChain) -> dict[bytes, bytes]:
    """All that the map holds about consents."""
    proven = chain.view.prove([b"\x02", b"\x03", b"\x04", b"\x0c"])
    return {key: value for pairs in proven.entries.values() for key, value in pairs}


def value_of(chain: TestChain, name: object) -> list[Any]:
    found = chain.view.get(b"\x02" + id_of(name))
    assert found is not None
    return canonical.decode(found)  # type: ignore[no-any-return]


# --- rule by rule ---------------------------------------------------------------------------------


def test_1_shapes_of_the_operations(chain: TestChain) -> None:
    """Each element out of range, of another type, missing or too many: no rule but the first is asked."""
    good: dict[str, tuple[list[Any], list[list[Any]]]] = {
        "consent.grant": (
            [bytes(32), bytes(16), 1, 2, 3, bytes(32)],
            [
                [bytes(31), None],
                [bytes(15), b""],
                [-1, 2**63, None],
                [-1, 2**63],
                [0, 1_000_001, True],
                [bytes(33)],
            ],
        ),
        "consent.supersede": ([bytes(16), bytes(32), bytes(16), 1, 2, 3, bytes(32)], [[bytes(15), None]]),
        "consent.pause": ([bytes(16)], [[bytes(17), None, "x"]]),
        "consent.resume": ([bytes(16)], [[bytes(15)]]),
        "consent.revoke": ([bytes(16), None], [[bytes(15)], [bytes(31), bytes(33), 0]]),
        "consent.use": (
            [bytes(16), 1, bytes(32), 0],
            [[bytes(15)], [0, 1_000_001, None], [None, bytes(31)], [-1, 200_001, None]],
        ),
        "consent.use_close": (
            [bytes(16), 1, 2, bytes(32), 0],
            [[bytes(15)], [0, 1_000_001], [0, 1, 5, True, 4], [bytes(31), None], [-1, 200_001]],
        ),
        "data.erased": ([bytes(32), 0], [[bytes(31), None], [-1, 200_001]]),
    }
    for name, (elements, wrongs) in good.items():
        assert chain.result(payload(name, *elements))[0] != 1, name
        for at, values in enumerate(wrongs):
            for wrong in values:
                changed = [*elements[:at], wrong, *elements[at + 1 :]]
                assert chain.result(payload(name, *changed)) == (1, None), (name, at, wrong)
        assert chain.result(payload(name, *elements, None)) == (1, None), name
        assert chain.result(payload(name, *elements[:-1])) == (1, None), name
    for count in (1, 10):
        assert chain.result(payload("consent.use_close", bytes(16), 1, 4, None, count)) == (1, None)
    assert chain.result(payload("consent.use_close", bytes(16), 1, 4, None, 0)) == (21, None)


def test_19_consent_exists(chain: TestChain) -> None:
    assert chain.result(grant("a")) == OK
    assert chain.result(grant("a")) == (19, None)
    assert chain.result(grant("a", former=id_of("a"))) == (19, None)
    assert chain.result(grant("a", holder=OTHER_HOLDER, max_uses=9)) == (19, None), "by its digest alone"
    assert chain.result(grant("a"), OTHER) == OK, "another custodian's id is another"
    assert chain.result(end("a")) == OK
    assert chain.result(grant("a")) == (19, None), "not even when it has ended"
    assert chain.result(grant("b")) == OK


def test_20_consent_terms_invalid(chain: TestChain) -> None:
    assert chain.result(grant("a"), CLIENT) == (20, None), "it issues nothing"
    assert chain.result(grant("a"), 1) == (20, None)
    assert chain.result(grant("a", begin=END, end=END)) == (20, None)
    assert chain.result(grant("a", begin=END + 1, end=END)) == (20, None)
    assert chain.result(grant("a", end=BEGIN + LIFETIME_MAX + 1)) == (20, None)
    assert chain.result(grant("a", end=BEGIN + LIFETIME_MAX)) == OK
    assert chain.at(END).result(grant("b")) == (20, None), "over already"
    assert chain.at(END + 1_000).result(grant("b", end=END + 1_000)) == (20, None)
    assert chain.at(END + 2_000).result(grant("b", end=END + 2_001)) == OK, "one millisecond is left"
    assert chain.result(grant("c", begin=END + 9 * DAY, end=END + 10 * DAY)) == OK, "it may begin later"


def test_21_consent_unknown(chain: TestChain) -> None:
    for operation in (pause("a"), resume("a"), end("a"), end("a", preimage("a")), use("a"), close("a")):
        assert chain.result(operation) == (21, None)
    assert chain.result(grant("b", former=id_of("a"))) == (21, None)
    assert chain.result(grant("a")) == OK
    assert chain.result(grant("b", former=id_of("a"))) == OK


def test_22_not_custodian(chain: TestChain) -> None:
    assert chain.result(grant("a")) == OK
    for operation in (pause("a"), resume("a"), end("a"), use("a"), close("a"), grant("b", former=id_of("a"))):
        assert chain.result(operation, OTHER) == (22, None)
    for operation in (pause("a"), resume("a"), use("a"), close("a", outcome=4), end("a")):
        assert chain.result(operation)[0] in (0, 32)


def test_23_preimage_invalid(chain: TestChain) -> None:
    assert chain.result(grant("a")) == OK
    for member in (ISSUER, CLIENT, 1):
        assert chain.result(end("a", preimage("b")), member) == (23, None)
    assert chain.result(end("a", tagged("revoke", preimage("a"))), CLIENT) == (23, None), "the hash itself"
    assert chain.result(end("a", preimage("a")), CLIENT) == OK, "whoever shows it"
    assert value_of(chain, "a")[0] == 3


def test_24_another_holders_consent_is_not_superseded(chain: TestChain) -> None:
    assert chain.result(grant("a")) == OK
    assert chain.result(grant("b", former=id_of("a"), holder=OTHER_HOLDER)) == (24, None)
    assert chain.view.get(b"\x02" + id_of("b")) is None
    assert value_of(chain, "a")[0] == 1
    assert chain.result(grant("b", former=id_of("a"))) == OK
    assert (value_of(chain, "a")[0], value_of(chain, "b")[0]) == (4, 1)


STATUSES: dict[int, list[Callable[[object], bytes]]] = {
    1: [],
    2: [pause],
    3: [end],
    4: [lambda name: grant(("after", name), former=id_of(name))],
}
OPERATIONS: dict[str, tuple[Callable[[object], bytes], dict[int, int], dict[int, int]]] = {
    # operation → (its payload, status → code, status → next status)
    "pause": (pause, {2: 24, 3: 24, 4: 24}, {1: 2}),
    "resume": (resume, {1: 24, 3: 24, 4: 24}, {2: 1}),
    "revoke": (end, {3: 24, 4: 24}, {1: 3, 2: 3}),
    "revoke by preimage": (lambda name: end(name, preimage(name)), {3: 24, 4: 24}, {1: 3, 2: 3}),
    "supersede": (lambda name: grant(("next", name), former=id_of(name)), {3: 24, 4: 24}, {1: 4, 2: 4}),
    "use": (use, {2: 25, 3: 26, 4: 27}, {}),
    "use_close": (lambda name: close(name, 9), {}, {}),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_24_to_27_every_transition(chain: TestChain, status: int, operation: str) -> None:
    assert chain.result(grant("a")) == OK
    for step in STATUSES[status]:
        assert chain.result(step("a")) == OK
    made, refused, follows = OPERATIONS[operation]
    before = content(chain)
    expected = 32 if operation == "use_close" else refused.get(status, 0)
    assert chain.result(made("a")) == (expected, None)
    assert value_of(chain, "a")[0] == follows.get(status, status)
    if expected:
        assert content(chain) == before, "nothing of what is refused holds"


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("outcome", [2, 3, 4])
def test_an_open_use_closes_whatever_became_of_the_consent(
    chain: TestChain, status: int, outcome: int
) -> None:
    assert chain.results(chain.sign(grant("a")), chain.sign(use("a"))) == [OK, OK]
    opened = chain.tip.height
    for step in STATUSES[status]:
        assert chain.result(step("a")) == OK
    assert chain.at(END + DAY).result(close("a", outcome=outcome)) == OK
    left, count = (None, 0) if outcome == 4 else (digest("left", "a", 1), 10)
    found = chain.view.get(b"\x04" + id_of("a") + (1).to_bytes(4, "big"))
    plan = digest("plan", "a", 1)
    assert found == canonical.encode([outcome, plan, 10, opened, left, count, chain.tip.height])


def test_28_consent_early(chain: TestChain) -> None:
    assert chain.at(BEGIN - 2_000).result(grant("a")) == OK
    assert chain.at(BEGIN - 1).result(use("a")) == (28, None)
    assert chain.at(BEGIN).result(use("a")) == OK


def test_29_consent_expired(chain: TestChain) -> None:
    assert chain.result(grant("a")) == OK
    assert chain.at(END - 1).result(use("a")) == OK, "a millisecond before the end"
    assert chain.at(END + 2_000).result(use("a", 2)) == (29, None)
    assert chain.result(grant("b", end=END + DAY + 1)) == OK
    assert chain.at(END + DAY).result(use("b")) == OK
    assert chain.at(END + DAY + 1).result(use("b", 2)) == (29, None), "at the instant itself"


def test_30_consent_used_up_and_31_use_out_of_order(chain: TestChain) -> None:
    assert chain.result(grant("a", max_uses=2)) == OK
    for sequence in (2, 3, 1_000_000):
        assert chain.result(use("a", sequence)) == (31, None)
    assert chain.result(use("a")) == OK
    assert chain.result(use("a")) == (31, None)
    assert chain.result(use("a", 3)) == (31, None)
    assert chain.result(use("a", 2)) == OK
    for sequence in (1, 2, 3):
        assert chain.result(use("a", sequence)) == (30, None)
    assert value_of(chain, "a")[6] == 2


def test_32_use_unknown(chain: TestChain) -> None:
    assert chain.results(chain.sign(grant("a")), chain.sign(grant("b")), chain.sign(use("b"))) == [OK, OK, OK]
    assert chain.result(close("a")) == (32, None)
    assert chain.result(close("b", 2)) == (32, None)
    assert chain.result(close("b")) == OK


def test_33_use_closed_or_more_than_planned_or_complete_with_less(chain: TestChain) -> None:
    assert chain.results(*map(chain.sign, (grant("a"), use("a"), use("a", 2), use("a", 3)))) == [OK] * 4
    assert chain.result(close("a", count=11)) == (33, None)
    assert chain.result(close("a", outcome=3, count=11)) == (33, None)
    assert chain.result(close("a", count=9)) == (33, None), "not complete"
    assert chain.result(close("a", outcome=3, count=0)) == OK, "the frame left, and no part"
    for outcome in (2, 3, 4):
        assert chain.result(close("a", outcome=outcome)) == (33, None)
    assert chain.result(close("a", 2)) == OK
    assert chain.result(close("a", 3, outcome=3)) == OK, "all records left, but who knows"


def test_34_data_erased_repeated(chain: TestChain) -> None:
    said = payload("data.erased", digest("erased"), 25)
    assert chain.result(said, CLIENT) == OK
    height = chain.tip.height
    key = statekeys.data_erased_key(CLIENT, digest("erased"))
    assert chain.view.get(key) == canonical.encode([digest("erased"), 25, height])
    assert chain.result(payload("data.erased", digest("erased"), 24), CLIENT) == (34, None)
    assert chain.result(said, OTHER) == OK, "another says it of what it had"
    assert chain.result(payload("data.erased", digest("more"), 0), CLIENT) == OK
    assert chain.view.get(key) == canonical.encode([digest("erased"), 25, height])


def test_the_first_rule_that_fails_gives_the_code(chain: TestChain) -> None:
    assert chain.result(grant("a", end=BEGIN), CLIENT) == (20, None)
    assert chain.result(grant("a", former=id_of("z"), end=BEGIN)) == (20, None)
    assert chain.results(*map(chain.sign, (grant("a", max_uses=1), use("a")))) == [OK, OK]
    assert chain.result(end("a", preimage("b")), OTHER) == (23, None), "who shows a preimage is no custodian"
    assert chain.result(use("a", 9), OTHER) == (22, None)
    assert chain.at(END + DAY).result(use("a", 9)) == (29, None), "before used up and out of order"
    assert chain.result(pause("a")) == OK
    assert chain.result(use("a", 9)) == (25, None), "before expired"
    assert chain.result(end("a")) == OK
    assert chain.result(use("a", 9)) == (26, None)


def test_transactions_of_one_block_see_each_other(chain: TestChain) -> None:
    operations = [
        grant("a"),
        pause("a"),
        use("a"),
        resume("a"),
        use("a", count=11),
        use("a", count=12),
        use("a", 2),
        end("a"),
        use("a", 3),
    ]
    codes = [code for code, _ in chain.results(*map(chain.sign, operations))]
    assert codes == [0, 0, 25, 0, 0, 31, 0, 0, 26]


# --- erasing records --------------------------------------------------------------------------


def erase(*rids: int, version: int = 1) -> bytes:
    changes = [RevokeChange(key=key_of(rid), version=version, reason=5, reason_digest=None) for rid in rids]
    return encode_erase(INVOICE, changes)


def test_erase_from_every_status_once(chain: TestChain) -> None:
    assert chain.result(tag_key(chain.chain_id)) == OK
    assert (
        chain.result(
            attest(*[group(*rids, status=status) for status, rids in ((1, (1, 4, 6)), (2, (2,)), (3, (3,)))])
        )
        == OK
    )
    assert chain.result(revoke(4)) == OK
    assert chain.result(amend(change(6, status=6))) == OK
    before = {rid: canonical.decode(chain.view.get(key_of(rid)) or b"") for rid in (1, 2, 3, 4, 6)}
    assert [each[0] for each in before.values()] == [1, 2, 3, 4, 6]
    assert chain.result(erase(6)) == (10, 0), "it has a second version"
    assert chain.result(erase(1, 7)) == (9, 1)
    assert chain.result(erase(1), OTHER) == (9, 0)
    assert chain.result(erase(1), CLIENT) == (3, None)
    for rid, old in before.items():
        assert chain.result(erase(rid, version=old[1])) == OK, rid
        assert canonical.decode(chain.view.get(key_of(rid)) or b"") == [5, *old[1:5], chain.tip.height]
        assert chain.result(erase(rid, version=old[1])) == (11, 0)
        assert chain.result(revoke(rid, version=old[1])) == (11, 0)
        for status in (1, 2, 3, 6):
            assert chain.result(amend(change(rid, version=old[1], status=status))) == (11, 0)


def test_of_several_erasures_all_or_none(chain: TestChain) -> None:
    assert chain.result(tag_key(chain.chain_id)) == OK
    assert chain.result(attest(group(1, 2, 3))) == OK
    assert chain.result(erase(2)) == OK
    before = chain.view.get(key_of(1))
    assert chain.result(erase(1, 2, 3)) == (11, 1)
    assert chain.view.get(key_of(1)) == before
    assert chain.result(erase(1, 3)) == OK


# --- at random, against a model -----------------------------------------------------------------


@dataclass
class Model:
    """§8's table, and what §6 says is written; whatever is slow and obvious is right."""

    consents: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    uses: dict[tuple[bytes, int], list[Any]] = field(default_factory=dict)
    holders: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    erased: dict[tuple[int, bytes], tuple[int, int]] = field(default_factory=dict)

    def run(self, items: Sequence[Any], signer: int, time_ms: int, height: int) -> int:
        name, *rest = items
        if name == "data.erased":
            if (signer, rest[0]) in self.erased:
                return 34
            self.erased[signer, rest[0]] = rest[1], height
            return 0
        if name in ("consent.grant", "consent.supersede"):
            former = rest.pop(0) if name == "consent.supersede" else None
            return self.grant(former, rest, signer, time_ms, height)
        consent = self.consents.get(rest[0])
        if consent is None:
            return 21
        shown = rest[1] if name == "consent.revoke" else None
        if shown is None and consent["custodian"] != signer:
            return 22
        if shown is not None and tagged("revoke", shown) != consent["revoke_hash"]:
            return 23
        if name == "consent.use":
            return self.use(consent, rest, time_ms, height)
        if name == "consent.use_close":
            return self.close(rest, height)
        allowed, after = {
            "consent.pause": ((1,), 2),
            "consent.resume": ((2,), 1),
            "consent.revoke": ((1, 2), 3),
        }[name]
        if consent["status"] not in allowed:
            return 24
        consent["status"] = after
        return 0

    def grant(self, former: bytes | None, terms: list[Any], signer: int, time_ms: int, height: int) -> int:
        said, holder, begin, end, max_uses, revoke_hash = terms
        consent = tagged("consent_id", signer.to_bytes(2, "big") + said)[:16]
        if consent in self.consents:
            return 19
        if signer not in (ISSUER, OTHER) or not begin < end <= begin + LIFETIME_MAX or time_ms >= end:
            return 20
        if former is not None:
            if former not in self.consents:
                return 21
            if self.consents[former]["custodian"] != signer:
                return 22
            if self.consents[former]["status"] not in (1, 2) or (holder, former) not in self.holders:
                return 24
            self.consents[former]["status"] = 4
        self.holders[holder, consent] = height
        self.consents[consent] = {
            "status": 1, "digest": said, "custodian": signer, "begin": begin, "end": end,
            "max_uses": max_uses, "uses": 0, "revoke_hash": revoke_hash,
        }  # fmt: skip
        return 0

    def use(self, consent: dict[str, Any], rest: list[Any], time_ms: int, height: int) -> int:
        if consent["status"] != 1:
            return 23 + int(consent["status"])
        if time_ms < consent["begin"]:
            return 28
        if time_ms >= consent["end"]:
            return 29
        if consent["uses"] >= consent["max_uses"]:
            return 30
        if rest[1] != consent["uses"] + 1:
            return 31
        consent["uses"] += 1
        self.uses[rest[0], rest[1]] = [1, rest[2], rest[3], height, None, 0, None]
        return 0

    def close(self, rest: list[Any], height: int) -> int:
        consent, sequence, outcome, left, count = rest
        found = self.uses.get((consent, sequence))
        if found is None:
            return 32
        if found[0] != 1 or count > found[2] or (outcome == 2 and count < found[2]):
            return 33
        self.uses[consent, sequence] = [outcome, *found[1:4], left, count, height]
        return 0

    def content(self) -> dict[bytes, bytes]:
        return {
            **{b"\x02" + key: canonical.encode(list(value.values())) for key, value in self.consents.items()},
            **{b"\x03" + holder + key: canonical.encode([at]) for (holder, key), at in self.holders.items()},
            **{
                b"\x04" + key + n.to_bytes(4, "big"): canonical.encode(each)
                for (key, n), each in self.uses.items()
            },
            **{
                b"\x0c" + member.to_bytes(2, "big") + said[:16]: canonical.encode([said, *rest])
                for (member, said), rest in self.erased.items()
            },
        }


def at_random(rng: random.Random, model: Model, now: int) -> tuple[list[Any], int]:
    """An operation that has a chance to pass, and its signer."""
    known = [*model.consents, id_of("unknown")]
    consent = rng.choice(known)
    present = model.consents.get(consent, {"custodian": ISSUER, "uses": 0})
    signer = present["custodian"] if rng.random() < 0.85 else rng.choice((ISSUER, OTHER, CLIENT, 1))
    what = rng.choice(
        ("grant", "supersede", "pause", "resume", "revoke", "use", "use", "use", "close", "close", "erased")
    )
    name = rng.randrange(12)
    if what in ("grant", "supersede"):
        begin = now + rng.choice((-DAY, 0, 0, 0, 1_000, DAY))
        terms = [
            digest("consent", name), rng.choice((HOLDER, HOLDER, OTHER_HOLDER)), begin,
            begin + rng.choice((-1, 1, DAY, 5 * DAY, LIFETIME_MAX)), rng.randrange(1, 4),
            tagged("revoke", preimage(name)),
        ]  # fmt: skip
        return ["consent.grant", *terms] if what == "grant" else [
            "consent.supersede",
            consent,
            *terms,
        ], signer
    if what in ("pause", "resume"):
        return [f"consent.{what}", consent], signer
    if what == "revoke":
        if rng.random() < 0.7:
            return ["consent.revoke", consent, None], rng.choice((signer, CLIENT))
        return ["consent.revoke", consent, preimage(name)], rng.choice((signer, CLIENT))
    sequence = max(1, present["uses"] + rng.choice((1, 1, 1, 0, 2)))
    if what == "use":
        return ["consent.use", consent, sequence, digest(sequence), rng.randrange(3)], signer
    if what == "close":
        outcome = rng.choice((2, 3, 4))
        left = [None, 0] if outcome == 4 else [digest("left"), rng.randrange(3)]
        return ["consent.use_close", consent, max(1, sequence - 1), outcome, *left], signer
    return ["data.erased", digest("erased", name), name], signer


def play(seed: int) -> tuple[list[bytes], set[int]]:
    """Header leaves of a chain of random operations, each compared with the model; the codes that came."""
    rng, model, codes = random.Random(seed), Model(), set()
    base = make_genesis()
    other = client(OTHER, "tax2", role=2, kinds=(INVOICE,))
    chain = TestChain(replace(base, members=(*base.members, other)))
    now = BEGIN
    for _ in range(40):
        now += rng.choice((1_000, 1_000, 60_000, DAY // 2))
        chain.at(now)
        transactions, expected = [], []
        for _ in range(rng.randrange(1, 8)):
            items, signer = at_random(rng, model, now)
            transaction = chain.sign(payload(*items), signer)
            if transaction in transactions:
                continue  # the same bytes count once
            transactions.append(transaction)
            expected.append((model.run(items, signer, now, chain.tip.height + 1), None))
        assert chain.results(*transactions) == expected, f"seed {seed}"
        assert content(chain) == model.content(), f"seed {seed}"
        codes.update(code for code, _ in expected)
    return [block.executed.header_leaf for block in chain.blocks], codes


def test_sequences_at_random_against_the_model() -> None:
    seen: set[int] = set()
    for seed in range(25):
        seen |= play(seed)[1]
    assert seen == {0, *range(19, 35)}, "every rule was met"


def test_the_same_transactions_make_the_same_ledger() -> None:
    assert play(7) == play(7)
