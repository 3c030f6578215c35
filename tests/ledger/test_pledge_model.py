"""Random sequences about pledges against a model that is written from docs/protocol.md §8 and §15, slow and plain."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from chainkit import ISSUER, TestChain, digest, signer
from pledgekit import (
    BANKS,
    DAY,
    MINUTE,
    NOW,
    RIDS,
    amend,
    amended,
    confirm,
    content,
    erased,
    key_of,
    mark_of,
    payload,
    permit,
    pledge_chain,
    release,
    revoked,
    tagged,
    transfer,
)

from taxledger.ledger import canonical
from taxledger.ledger.rules import decode_result

WHOLE = 1_000_000
MEMBERS = (*BANKS, ISSUER)
Outcome = tuple[int, int | None, tuple[int, ...]]


@dataclass
class Model:
    """§8's table, and what §15 says is written.

    Attributes:
        records: record key → [status, version, fingerprint].
        entries: fingerprint → [record key, marks, rows].
        placed: pledge → [issuer, fingerprint, version, height].
        genuine: the permits that the issuer signed.
    """

    records: dict[bytes, list[Any]] = field(default_factory=dict)
    entries: dict[bytes, list[Any]] = field(default_factory=dict)
    placed: dict[bytes, list[Any]] = field(default_factory=dict)
    genuine: set[bytes] = field(default_factory=set)

    # --- §15 ------------------------------------------------------------------------------

    def rows(self, fingerprint: bytes, now: int) -> list[list[Any]]:
        """Those that are open."""
        found = self.entries.get(fingerprint, [None, 0, []])[2]
        return [row for row in found if row[3] is None or now < row[3]]

    def write(self, fingerprint: bytes, key: bytes, contested: int, rows: list[list[Any]]) -> None:
        status, version, _ = self.records[key]
        impaired = any(status != 1 or self.placed[row[0]][2] != version for row in rows)
        self.entries[fingerprint] = [key, (impaired + 2 * contested) if rows else 0, rows]

    def contested(self, fingerprint: bytes) -> int:
        return int(self.entries[fingerprint][1]) // 2 if fingerprint in self.entries else 0

    # --- §8 -------------------------------------------------------------------------------

    def run(self, items: list[Any], member: int, now: int, height: int) -> Outcome:
        name, *rest = items
        if name in ("amend", "revoke", "erase"):
            return self.change(name, rest[1], now)
        code = (
            self.place(rest, member, now, height)
            if name == "pledge.place"
            else self.other(name, rest, member, now)
        )
        return code, None, ()

    def permitted(self, raw: bytes, now: int) -> int | None:
        if raw not in self.genuine:
            return 40
        return 41 if now >= canonical.decode(raw)[6] else None

    def record(self, permitted: list[Any]) -> int | None:
        key, version, fingerprint = permitted[2:5]
        if key not in self.records or self.records[key][2] != fingerprint:
            return 47
        return None if self.records[key][:2] == [1, version] else 48

    def place(self, rest: list[Any], member: int, now: int, height: int) -> int:
        raw, ppm, until, nonce = rest
        permitted = canonical.decode(raw)
        key, version, fingerprint, lender = permitted[2:6]
        named = member.to_bytes(2, "big") + key[1:3] + fingerprint + nonce
        pledge = tagged("pledge_id", named)[:16]
        if pledge in self.placed:
            return 35
        code = self.permitted(raw, now)
        if code is not None:
            return code
        if lender != member:
            return 42
        if ppm < 10_000:
            return 45
        if until is not None and now >= until:
            return 46
        code = self.record(permitted)
        if code is not None:
            return code
        rows = self.rows(fingerprint, now)
        if rows and self.entries[fingerprint][0] != key:
            self.write(fingerprint, self.entries[fingerprint][0], 1, rows)
            return 49
        if len(rows) >= 16:
            return 50
        if sum(row[2] for row in rows) + ppm > WHOLE:
            return 51
        self.placed[pledge] = [ISSUER, fingerprint, version, height]
        contested = self.contested(fingerprint) if rows else 0
        self.write(fingerprint, key, contested, [*rows, [pledge, member, ppm, until]])
        return 0

    def other(self, name: str, rest: list[Any], member: int, now: int) -> int:
        pledge = rest[0]
        if pledge not in self.placed:
            return 36
        _, fingerprint, version, _ = self.placed[pledge]
        key, rows = self.entries[fingerprint][0], self.rows(fingerprint, now)
        mine = [row for row in rows if row[0] == pledge]
        if not mine:
            return 37
        if mine[0][1] != member:
            return 38
        changed: list[Any] = []  # of a release
        if name == "pledge.confirm":
            if mine[0][3] is None:
                return 39
            if self.records[key][:2] != [1, version]:
                return 48
            changed = [*mine[0][:3], None]
        if name == "pledge.transfer":
            code = self.permitted(rest[1], now)
            if code is not None:
                return code
            permitted = canonical.decode(rest[1])
            if permitted[2:5] != [key, version, fingerprint]:
                return 43
            if permitted[5] not in MEMBERS or permitted[5] == member:
                return 44
            code = self.record(permitted)
            if code is not None:
                return code
            changed = [pledge, permitted[5], *mine[0][2:]]
        kept = [row if row[0] != pledge else changed for row in rows]
        self.write(fingerprint, key, self.contested(fingerprint), [row for row in kept if row])
        return 0

    def change(self, name: str, changes: list[list[Any]], now: int) -> Outcome:
        for number, change in enumerate(changes):
            if change[1] != self.records[change[0]][1]:
                return 10, number, ()
        allowed = {"amend": (1, 3), "revoke": (1, 2, 3), "erase": (1, 2, 3, 4, 6)}[name]
        for number, change in enumerate(changes):
            present = self.records[change[0]][0]
            if present not in allowed or (name == "amend" and present == 3 and change[2] not in (2, 3)):
                return 11, number, ()
        impaired = []
        for number, change in enumerate(changes):
            key, before = change[0], self.records[change[0]]
            after = {"revoke": [4, *before[1:]], "erase": [5, *before[1:]]}
            self.records[key] = after.get(name) or [change[2], change[1] + 1, change[5]]
            fingerprint = before[2]
            rows = self.rows(fingerprint, now)
            if fingerprint is not None and rows and self.entries[fingerprint][0] == key:
                self.write(fingerprint, key, self.contested(fingerprint), rows)
                impaired.append(number)
        return 0, None, tuple(impaired)

    def content(self) -> dict[bytes, bytes]:
        who = b"\x05" + ISSUER.to_bytes(2, "big")
        return {
            **{who + key: canonical.encode(value) for key, value in self.entries.items()},
            **{b"\x0d" + key: canonical.encode(value) for key, value in self.placed.items()},
        }


class Play:
    """One chain and the model beside it, from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng, self.chain, self.model = seed, random.Random(seed), pledge_chain(), Model()
        self.now, self.codes = NOW, set[int]()
        self.pledges = [bytes(16)]
        self.narrow = seed % 4 == 3
        """Many small pledges of one invoice, until no more have room."""
        for tag in (1, 2):
            for rid in RIDS:
                self.model.records[key_of(rid, tag=tag)] = [1, 1, mark_of(rid)]

    def permit(self, rid: int, lender: int) -> bytes:
        rng = self.rng
        tag = rng.choice((1, 1, 1, 2))
        version = self.model.records[key_of(rid, tag=tag)][1]
        said: dict[str, Any] = {"lender": lender, "tag": tag, "version": version, "end": self.now + DAY}
        forged = False
        match rng.randrange(30):
            case 0:
                said["version"] = version + 1
            case 1:
                said["end"] = self.now
            case 2:
                said["by"], forged = signer(lender), True
            case 3:
                said["mark"] = mark_of(rng.choice(RIDS))
            case 4:
                said["lender"] = rng.choice((*BANKS, 999))
        made = permit(self.chain, rid, **said)
        if not forged:
            self.model.genuine.add(made)
        return made

    def operation(self) -> tuple[bytes, int]:
        """One that has a chance to pass, and its signer."""
        rng = self.rng
        bank, rid, tag = rng.choice(BANKS), rng.choice(RIDS), rng.choice((1, 1, 2))
        if self.narrow:
            rid, tag = RIDS[0], 1
        what = rng.choice(
            ("place",) * (60 if self.narrow else 8) + ("confirm", "release", "release", "transfer", "change")
        )
        if what == "place":
            shares = (10_000, 20_000, 50_000, 250_000, 500_000, WHOLE, 9_999)
            ppm = 10_000 if self.narrow else rng.choice(shares)
            until = rng.choice((None, self.now + 2 * MINUTE, self.now + DAY, self.now + 3 * DAY, self.now))
            nonce = digest("nonce", rng.randrange(400))[:16]
            return payload("pledge.place", self.permit(rid, bank), ppm, until, nonce), bank
        if what == "change":
            version = self.model.records[key_of(rid, tag=tag)][1] + (rng.random() < 0.1)
            status = rng.choice((1, 1, 1, 1, 3))
            return rng.choice(
                (
                    amended(amend(rid, version=version, status=status, tag=tag, none=rng.random() < 0.1)),
                    amended(amend(rid, version=version, status=status, tag=tag)),
                    amended(*[amend(each, version=self.model.records[key_of(each)][1]) for each in RIDS]),
                    revoked(rid, version=version, tag=tag)
                    if rng.random() < 0.15
                    else amended(amend(rid, version=version, tag=tag)),
                    erased(rid, version=version, tag=tag)
                    if rng.random() < 0.15
                    else amended(amend(rid, version=version, tag=tag)),
                )
            ), ISSUER
        pledge = rng.choice(self.pledges[-30:])
        holder = next(
            (row[1] for entry in self.model.entries.values() for row in entry[2] if row[0] == pledge), bank
        )
        member = holder if rng.random() < 0.9 else bank
        if what == "transfer":
            placed = self.model.placed.get(pledge)
            named = next((each for each in RIDS if placed and mark_of(each) == placed[1]), rid)
            return transfer(pledge, self.permit(named, bank)), member
        return (confirm if what == "confirm" else release)(pledge), member

    def block(self) -> None:
        """The next block: its results and the whole content of the map are the model's."""
        self.now += self.rng.choice((1_000, 1_000, MINUTE, 3 * MINUTE, DAY // 2))
        self.chain.at(self.now)
        transactions: list[bytes] = []
        expected: list[Outcome] = []
        for _ in range(self.rng.randrange(1, 12)):
            said, member = self.operation()
            transaction = self.chain.sign(said, member)
            if transaction in transactions:
                continue
            transactions.append(transaction)
            known = set(self.model.placed)
            items = canonical.decode(said)[1:]
            expected.append(self.model.run(items, member, self.now, self.chain.tip.height + 1))
            self.pledges += sorted(set(self.model.placed) - known)
        executed = self.chain.add(*transactions)
        assert executed.skipped == []
        results = [decode_result(each) for each in executed.results]
        got = [(each.code, each.first_refused, each.impaired) for each in results]
        assert got == expected, f"seed {self.seed}, height {self.chain.tip.height}"
        assert content(self.chain) == self.model.content(), f"seed {self.seed}"
        self.codes.update(code for code, *_ in expected)

    def holds(self) -> None:
        """What must be so whatever happened, from the map alone."""
        seen: set[bytes] = set()
        for key, value in content(self.chain).items():
            if key[0] != 5:
                continue
            record, marks, rows = canonical.decode(value)
            now_open = [row for row in rows if row[3] is None or self.now < row[3]]
            assert sum(row[2] for row in now_open) <= WHOLE
            assert len(rows) <= 16
            assert rows or not marks
            assert record in self.model.records
            for pledge, *_ in rows:
                assert pledge not in seen, "a pledge in two entries"
                seen.add(pledge)
                assert self.chain.view.get(b"\x0d" + pledge) is not None


def play(seed: int, blocks: int = 40) -> Play:
    run = Play(seed)
    for _ in range(blocks):
        run.block()
        run.holds()
    return run


def test_sequences_at_random_against_the_model() -> None:
    seen: set[int] = set()
    for seed in range(12):
        seen |= play(seed).codes
    assert seen == {0, 10, 11, *range(35, 52)}, sorted({*range(35, 52)} - seen)


def headers(chain: TestChain) -> list[bytes]:
    return [block.executed.header_leaf for block in chain.blocks]


def test_the_same_transactions_make_the_same_ledger() -> None:
    one, other = play(3, 15), play(3, 15)
    assert headers(one.chain) == headers(other.chain)


def test_a_replay_of_the_leaves_makes_the_same_ledger() -> None:
    chain = play(5, 20).chain
    again = TestChain(chain.genesis)
    for block in chain.blocks:
        header = block.executed.header
        executed = again.execute(*block.executed.leaves, time_ms=header.time_ms)
        again.time_ms = header.time_ms - 1_000
        again.add(*block.executed.leaves)
        assert executed.header_leaf == block.executed.header_leaf
        assert executed.results == block.executed.results
