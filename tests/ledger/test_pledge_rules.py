"""Rules 35 to 51 refuse once and let the same thing pass once; what a change of a record does to its pledges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from chainkit import ISSUER, SUSPENDED, TestChain, digest, signer
from pledgekit import (
    BANK,
    BANK2,
    BANK3,
    DAY,
    ISSUER2,
    MINUTE,
    NOW,
    OK,
    PERMIT_END,
    PLAIN,
    amend,
    amended,
    confirm,
    content,
    entry,
    erased,
    id_of,
    key_of,
    mark_of,
    payload,
    permit,
    place,
    pledge_chain,
    release,
    revoked,
    transfer,
)

from taxledger.ledger import canonical
from taxledger.ledger.governance import member_set
from taxledger.ledger.members import member_of
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.ledger.rules import decode_result

CLEAR, IMPAIRED, CONTESTED = 0, 1, 2


@pytest.fixture
def chain() -> TestChain:
    return pledge_chain()


def refused(chain: TestChain, payload: bytes, code: int, member: int = BANK) -> None:
    """With this code, and nothing about pledges is written."""
    before = content(chain)
    assert chain.result(payload, member) == (code, None)
    assert content(chain) == before


# --- what is written ------------------------------------------------------------------------------


def test_a_pledge_from_its_place_to_its_release(chain: TestChain) -> None:
    until = NOW + DAY
    assert chain.result(place(chain, "a", until=until)) == (42, None), "the issuer has no permit for itself"
    assert chain.result(place(chain, "a", until=until), BANK) == OK
    height, pledge = chain.tip.height, id_of("a")
    assert entry(chain) == [key_of(2), CLEAR, [[pledge, BANK, 500_000, until]]]
    assert chain.view.get(b"\x0d" + pledge) == canonical.encode([ISSUER, mark_of(2), 1, height])
    assert chain.result(confirm(pledge), BANK) == OK
    assert entry(chain) == [key_of(2), CLEAR, [[pledge, BANK, 500_000, None]]]
    assert chain.result(transfer(pledge, permit(chain, lender=BANK2)), BANK) == OK
    assert entry(chain) == [key_of(2), CLEAR, [[pledge, BANK2, 500_000, None]]]
    assert chain.result(release(pledge), BANK2) == OK
    assert entry(chain) == [key_of(2), CLEAR, []]
    assert chain.view.get(b"\x0d" + pledge) == canonical.encode([ISSUER, mark_of(2), 1, height])


def test_pledges_of_two_issuers_do_not_meet(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", ppm=1_000_000), BANK) == OK
    assert chain.result(place(chain, "a", ppm=1_000_000, issuer=ISSUER2), BANK) == OK
    assert entry(chain, issuer=ISSUER2) == [
        key_of(2, issuer=ISSUER2),
        CLEAR,
        [[id_of("a", issuer=ISSUER2), BANK, 1_000_000, None]],
    ]


# --- rule by rule ---------------------------------------------------------------------------------


def test_1_shapes_of_the_operations(chain: TestChain) -> None:
    good = permit(chain)
    parts = canonical.decode(good)

    def permits(at: int, *wrongs: Any) -> list[bytes]:
        return [canonical.encode([*parts[:at], wrong, *parts[at + 1 :]]) for wrong in wrongs]

    bad_permits: list[Any] = [
        *permits(0, 0, 2, True, None),
        *permits(1, "permits", b"permit", None),
        *permits(2, bytes(37), key_of(2)[:-1], key_of(2)[:20] + b"\x11" + key_of(2)[21:], None),
        *permits(3, 0, 2**32, True, None),
        *permits(4, bytes(15), bytes(17), None),
        *permits(5, 0, 65_536, True),
        *permits(6, -1, 2**63, None),
        *permits(7, bytes(15), None),
        *permits(8, bytes(63), bytes(65), None),
        *(canonical.encode(parts[:-1]), canonical.encode([*parts, None]), good + b"\x00", b"", parts, None),
    ]
    shapes: dict[str, tuple[list[Any], list[list[Any]]]] = {
        "pledge.place": (
            [good, 10_000, None, bytes(16)],
            [
                bad_permits,
                [0, -1, 1_000_001, True, None],
                [-1, 2**63, True, "x"],
                [bytes(15), bytes(17), None],
            ],
        ),
        "pledge.confirm": ([bytes(16)], [[bytes(15), bytes(17), None]]),
        "pledge.release": ([bytes(16)], [[bytes(15), bytes(17), None]]),
        "pledge.transfer": ([bytes(16), good], [[bytes(15), None], bad_permits]),
    }
    for name, (elements, wrongs) in shapes.items():
        assert chain.result(payload(name, *elements), BANK)[0] != 1, name
        for at, values in enumerate(wrongs):
            for wrong in values:
                changed = [*elements[:at], wrong, *elements[at + 1 :]]
                assert chain.result(payload(name, *changed), BANK) == (1, None), (name, at, wrong)
        assert chain.result(payload(name, *elements, None), BANK) == (1, None), name
        assert chain.result(payload(name, *elements[:-1]), BANK) == (1, None), name


def test_35_pledge_exists(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", ppm=10_000), BANK) == OK
    refused(chain, place(chain, "a", ppm=10_000), 35)
    refused(chain, place(chain, "a", ppm=20_000, until=NOW + DAY), 35)
    assert chain.result(place(chain, "a", ppm=10_000, lender=BANK2), BANK2) == OK, "another's nonce"
    assert chain.result(place(chain, "a", 4, ppm=10_000), BANK) == OK, "another invoice"
    assert chain.result(release(id_of("a")), BANK) == OK
    refused(chain, place(chain, "a", ppm=10_000), 35)
    chain.at(PERMIT_END)
    refused(chain, place(chain, "a", ppm=10_000), 35)
    both = [
        chain.sign(place(chain, "b", 6, end=PERMIT_END + DAY), BANK, exp_s=chain.time_ms // 1_000 + n)
        for n in (60, 61)
    ]
    assert chain.results(*both) == [OK, (35, None)], "two transactions of one place in one block"


def test_36_pledge_unknown(chain: TestChain) -> None:
    for operation in (
        confirm(id_of("a")),
        release(id_of("a")),
        transfer(id_of("a"), permit(chain, lender=BANK2)),
    ):
        refused(chain, operation, 36)
    assert chain.result(place(chain, "a"), BANK) == OK
    assert chain.result(release(id_of("a")), BANK) == OK


def test_37_pledge_ended(chain: TestChain) -> None:
    until = NOW + MINUTE
    assert chain.result(place(chain, "a", until=until), BANK) == OK
    assert chain.result(place(chain, "b", 4), BANK) == OK
    assert chain.result(release(id_of("b", rid=4)), BANK) == OK
    operations = [confirm, release, lambda pledge: transfer(pledge, permit(chain, lender=BANK2))]
    for operation in operations:
        refused(chain, operation(id_of("b", rid=4)), 37)
    assert chain.at(until - 1).result(transfer(id_of("a"), permit(chain, lender=BANK2)), BANK) == OK
    for operation in operations:
        chain.at(chain.time_ms + 1_000)
        refused(chain, operation(id_of("a")), 37)
        refused(chain, operation(id_of("a")), 37, BANK2)


def test_38_not_pledgee(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", until=NOW + DAY), BANK) == OK
    permitted = permit(chain, lender=BANK2)
    for operation in (confirm(id_of("a")), release(id_of("a")), transfer(id_of("a"), permitted)):
        for member in (BANK2, ISSUER, 1):
            refused(chain, operation, 38, member)
    assert chain.result(transfer(id_of("a"), permitted), BANK) == OK
    for operation in (confirm(id_of("a")), release(id_of("a")), transfer(id_of("a"), permitted)):
        refused(chain, operation, 38, BANK)
    for operation in (confirm(id_of("a")), release(id_of("a"))):
        assert chain.result(operation, BANK2) == OK


def test_39_pledge_confirmed(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", until=NOW + DAY), BANK) == OK
    assert chain.result(confirm(id_of("a")), BANK) == OK
    refused(chain, confirm(id_of("a")), 39)
    assert chain.at(NOW + 2 * DAY).result(release(id_of("a")), BANK) == OK, "it had no end any more"


def permitted_by(chain: TestChain, use: str) -> tuple[Callable[..., bytes], int]:
    """(an operation that carries a permit made as said, the permit's lender)."""
    if use == "place":
        return lambda **said: place(chain, "new", **said), BANK
    assert chain.result(place(chain, "old"), BANK) == OK
    return lambda **said: transfer(id_of("old"), permit(chain, **{"lender": BANK2, **said})), BANK2


USES = pytest.mark.parametrize("use", ["place", "transfer"])


@USES
def test_40_permit_invalid(chain: TestChain, use: str) -> None:
    make, _ = permitted_by(chain, use)
    refused(chain, make(by=signer(ISSUER2)), 40)
    refused(chain, make(by=signer(BANK)), 40)
    refused(chain, make(chain_id=bytes(16)), 40)
    refused(chain, make(issuer=SUSPENDED), 40)
    refused(chain, make(issuer=1), 40)
    refused(chain, make(issuer=999, by=signer(ISSUER)), 40)
    good = make()
    at = good.index(b"\xc4\x40") + 2
    for offset in (0, 31, 63):
        refused(chain, good[: at + offset] + bytes([good[at + offset] ^ 1]) + good[at + offset + 1 :], 40)
    kid = good.index(b"\xc4\x10", good.index(mark_of(2)) + 16) + 2
    refused(chain, good[:kid] + bytes([good[kid] ^ 1]) + good[kid + 1 :], 40)
    version = good.index(key_of(2)) + 37
    refused(chain, good[:version] + b"\x02" + good[version + 1 :], 40)
    assert chain.result(good, BANK) == OK


def test_40_a_permit_ends_with_its_key(chain: TestChain) -> None:
    before = permit(chain)
    new = signer(ISSUER, generation=1)
    rotated = replace(member_of(chain.view, ISSUER), transaction_key=new.public_key)
    chain.results(chain.sign(encode_propose(member_set(rotated, chain.chain_id, [new])), 1))
    proposal = chain.blocks[-1].executed.leaf_hashes[0][:16]
    chain.results(*[chain.sign(encode_approve(proposal), member) for member in (2, 3)])
    nonce = digest("nonce", "a")[:16]
    assert chain.result(payload("pledge.place", before, 10_000, None, nonce), BANK) == OK
    nonce = digest("nonce", "b")[:16]
    refused(chain, payload("pledge.place", before, 10_000, None, nonce), 40)
    chain.signers[ISSUER, "transaction"] = new
    assert chain.result(place(chain, "b", ppm=10_000), BANK) == OK


@USES
def test_41_permit_expired(chain: TestChain, use: str) -> None:
    make, _ = permitted_by(chain, use)
    chain.at(PERMIT_END)
    refused(chain, make(), 41)
    refused(chain, make(end=0), 41)
    assert chain.result(make(end=chain.time_ms + 1_001), BANK) == OK, "one millisecond is left"


def test_42_permit_not_for_signer(chain: TestChain) -> None:
    refused(chain, place(chain, "a"), 42, BANK2)
    refused(chain, place(chain, "a", lender=BANK2), 42, BANK)
    assert chain.result(place(chain, "a", lender=BANK2), BANK2) == OK


def test_43_permit_not_for_pledge(chain: TestChain) -> None:
    assert chain.result(place(chain, "a"), BANK) == OK
    for wrong in (
        permit(chain, 4, lender=BANK2),
        permit(chain, lender=BANK2, tag=2),
        permit(chain, lender=BANK2, version=2),
        permit(chain, lender=BANK2, mark=mark_of(4)),
        permit(chain, lender=BANK2, issuer=ISSUER2),
    ):
        refused(chain, transfer(id_of("a"), wrong), 43)
    assert chain.result(transfer(id_of("a"), permit(chain, lender=BANK2)), BANK) == OK


def test_44_lender_inactive(chain: TestChain) -> None:
    assert chain.result(place(chain, "a"), BANK) == OK
    for lender in (SUSPENDED, 999, BANK):
        refused(chain, transfer(id_of("a"), permit(chain, lender=lender)), 44)
    assert chain.result(transfer(id_of("a"), permit(chain, lender=BANK3)), BANK) == OK


def test_45_ppm_too_small(chain: TestChain) -> None:
    refused(chain, place(chain, "a", ppm=9_999), 45)
    refused(chain, place(chain, "a", ppm=1), 45)
    assert chain.result(place(chain, "a", ppm=10_000), BANK) == OK


def test_46_pledge_term_invalid(chain: TestChain) -> None:
    refused(chain, place(chain, "a", until=0), 46)
    refused(chain, place(chain, "a", until=chain.time_ms + 1_000), 46)
    assert chain.result(place(chain, "a", until=chain.time_ms + 1_001), BANK) == OK


@pytest.mark.parametrize("rid", [PLAIN, 60])
def test_47_record_not_pledgeable(chain: TestChain, rid: int) -> None:
    refused(chain, place(chain, "a", rid), 47)
    refused(chain, place(chain, "a", 2, mark=mark_of(4)), 47)
    assert chain.result(place(chain, "a"), BANK) == OK
    assert chain.result(amended(amend(2, none=True))) == OK
    refused(chain, place(chain, "b", version=2), 47)
    refused(chain, transfer(id_of("a"), permit(chain, lender=BANK2)), 47)


CHANGES: list[Callable[[], bytes]] = [
    lambda: amended(amend(2)),
    lambda: amended(amend(2, status=2)),
    lambda: amended(amend(2, status=3)),
    lambda: amended(amend(2, status=6)),
    lambda: revoked(2),
    lambda: erased(2),
]


@pytest.mark.parametrize("change", CHANGES)
def test_48_record_not_valid(chain: TestChain, change: Callable[[], bytes]) -> None:
    refused(chain, place(chain, "a", version=2), 48)
    assert chain.result(place(chain, "a", ppm=10_000, until=NOW + DAY), BANK) == OK
    assert chain.result(place(chain, "b", ppm=10_000), BANK) == OK
    assert chain.result(change()) == OK
    refused(chain, place(chain, "c", ppm=10_000), 48)
    refused(chain, confirm(id_of("a")), 48)
    refused(chain, transfer(id_of("b"), permit(chain, lender=BANK2)), 48)
    valid = change() == amended(amend(2))
    assert chain.result(place(chain, "c", ppm=10_000, version=2), BANK) == (OK if valid else (48, None))


def test_49_pledge_contested(chain: TestChain) -> None:
    first, pledge = place(chain, "a", ppm=10_000, until=NOW + DAY), id_of("a")
    assert chain.result(first, BANK) == OK
    row = [pledge, BANK, 10_000, NOW + DAY]
    assert entry(chain) == [key_of(2), CLEAR, [row]]
    assert chain.result(place(chain, "b", ppm=10_000, tag=2, lender=BANK2), BANK2) == (49, None)
    assert entry(chain) == [key_of(2), CONTESTED, [row]], "the mark, and nothing is placed"
    assert chain.view.get(b"\x0d" + id_of("b", BANK2)) is None
    refused(chain, place(chain, "b", ppm=10_000, tag=2, lender=BANK2), 49, BANK2)
    assert chain.result(place(chain, "c", ppm=10_000, lender=BANK3), BANK3) == OK, "its own side goes on"
    assert entry(chain)[:2] == [key_of(2), CONTESTED]
    assert chain.result(release(id_of("c", BANK3)), BANK3) == OK
    assert entry(chain) == [key_of(2), CONTESTED, [row]]
    assert chain.result(release(pledge), BANK) == OK
    assert entry(chain) == [key_of(2), CLEAR, []]
    assert chain.result(place(chain, "b", ppm=10_000, tag=2, lender=BANK2), BANK2) == OK
    assert entry(chain) == [key_of(2, tag=2), CLEAR, [[id_of("b", BANK2), BANK2, 10_000, None]]]
    assert chain.result(place(chain, "d"), BANK) == (49, None), "and the other way round"


def test_49_only_what_would_pass_the_rules_before_contests(chain: TestChain) -> None:
    assert chain.result(place(chain, "a"), BANK) == OK
    for wrong, code, member in (
        (place(chain, "b", tag=2, lender=BANK2), 42, BANK),
        (place(chain, "b", tag=2, lender=BANK2, by=signer(BANK2)), 40, BANK2),
        (place(chain, "b", tag=2, lender=BANK2, ppm=9_999), 45, BANK2),
        (place(chain, "b", tag=2, lender=BANK2, until=NOW), 46, BANK2),
        (place(chain, "b", tag=2, lender=BANK2, version=2), 48, BANK2),
    ):
        refused(chain, wrong, code, member)
    assert chain.at(NOW + DAY).result(place(chain, "b", tag=2, lender=BANK2), BANK2) == (49, None)


def test_49_what_ended_by_time_contests_nothing(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", ppm=1_000_000, until=NOW + MINUTE), BANK) == OK
    chain.at(NOW + MINUTE)
    assert chain.result(place(chain, "b", ppm=1_000_000, tag=2, lender=BANK2), BANK2) == OK
    assert entry(chain) == [key_of(2, tag=2), CLEAR, [[id_of("b", BANK2), BANK2, 1_000_000, None]]]


def test_50_pledges_full(chain: TestChain) -> None:
    for n in range(16):
        until = NOW + MINUTE if n == 7 else None
        assert chain.result(place(chain, n, ppm=10_000, until=until), BANK) == OK
    refused(chain, place(chain, 16, ppm=10_000), 50)
    chain.at(NOW + MINUTE)
    assert chain.result(place(chain, 16, ppm=10_000), BANK) == OK, "one has ended by time"
    assert [row[0] for row in entry(chain)[2]] == [id_of(n) for n in (*range(7), *range(8, 17))]
    refused(chain, place(chain, 17, ppm=10_000), 50)
    assert chain.result(release(id_of(0)), BANK) == OK
    assert chain.result(place(chain, 17, ppm=10_000), BANK) == OK


def test_51_pledge_exceeds(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", ppm=600_000), BANK) == OK
    refused(chain, place(chain, "b", ppm=400_001, lender=BANK2), 51, BANK2)
    refused(chain, place(chain, "b", ppm=1_000_000, lender=BANK2), 51, BANK2)
    assert chain.result(place(chain, "b", ppm=400_000, lender=BANK2, until=NOW + MINUTE), BANK2) == OK
    refused(chain, place(chain, "c", ppm=10_000, lender=BANK3), 51, BANK3)
    chain.at(NOW + MINUTE - 1)
    refused(chain, place(chain, "c", ppm=10_000, lender=BANK3), 51, BANK3)
    assert chain.result(place(chain, "c", ppm=400_000, lender=BANK3), BANK3) == OK, "the reservation is over"
    assert [row[:3] for row in entry(chain)[2]] == [
        [id_of("a"), BANK, 600_000],
        [id_of("c", BANK3), BANK3, 400_000],
    ]


def test_eight_at_once_fit_exactly(chain: TestChain) -> None:
    offers = [place(chain, n, 8, ppm=300_000, lender=bank) for n in range(3) for bank in (BANK, BANK2, BANK3)]
    signed = [chain.sign(each, canonical.decode(canonical.decode(each)[2])[5]) for each in offers]
    codes = [code for code, _ in chain.results(*signed)]
    assert codes == [0, 0, 0, *[51] * 6]


def test_the_first_rule_that_fails_gives_the_code(chain: TestChain) -> None:
    refused(chain, place(chain, "a", by=signer(BANK2), end=0), 40, BANK2)
    refused(chain, place(chain, "a", end=0), 41, BANK2)
    refused(chain, place(chain, "a", ppm=1, until=0, version=2), 45)
    refused(chain, place(chain, "a", PLAIN, until=0), 46)
    refused(chain, place(chain, "a", PLAIN, version=2), 47)
    assert chain.result(place(chain, "a", ppm=1_000_000), BANK) == OK
    refused(chain, place(chain, "b", tag=2, version=2, ppm=1_000_000), 48)
    refused(chain, transfer(id_of("a"), permit(chain, by=signer(BANK))), 38, BANK2)


def test_an_inactive_member_can_do_nothing(chain: TestChain) -> None:
    executed = chain.execute(chain.sign(place(chain, "a", lender=SUSPENDED), SUSPENDED))
    assert [reason for _, reason in executed.skipped] == ["member_inactive"]


# --- changes of a record ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_record_impairs_its_pledges(chain: TestChain, change: Callable[[], bytes]) -> None:
    assert chain.result(place(chain, "a", ppm=600_000), BANK) == OK
    assert chain.result(place(chain, "z", 4), BANK) == OK
    assert chain.result(change()) == OK
    row, other = [id_of("a"), BANK, 600_000, None], entry(chain, 4)
    assert entry(chain) == [key_of(2), IMPAIRED, [row]]
    assert other == [key_of(4), CLEAR, [[id_of("z", rid=4), BANK, 500_000, None]]]
    result = decode_result(chain.blocks[-1].executed.results[0])
    assert (result.code, result.impaired) == (0, (0,))
    assert chain.result(place(chain, "b", tag=2, lender=BANK2), BANK2) == (49, None), "it still counts"
    assert entry(chain) == [key_of(2), IMPAIRED | CONTESTED, [row]]
    assert chain.result(release(id_of("a")), BANK) == OK
    assert entry(chain) == [key_of(2), CLEAR, []]


def test_impaired_pledges_count_and_the_mark_goes_with_them(chain: TestChain) -> None:
    assert chain.result(place(chain, "a", ppm=600_000), BANK) == OK
    assert chain.result(amended(amend(2))) == OK
    assert chain.result(place(chain, "b", version=2, ppm=400_001, lender=BANK2), BANK2) == (51, None)
    assert chain.result(place(chain, "b", version=2, ppm=400_000, lender=BANK2), BANK2) == OK
    assert entry(chain)[1] == IMPAIRED, "one of them is"
    assert chain.result(transfer(id_of("b", BANK2), permit(chain, lender=BANK3, version=2)), BANK2) == OK
    assert entry(chain)[1] == IMPAIRED
    assert chain.result(release(id_of("a")), BANK) == OK
    assert entry(chain) == [key_of(2), CLEAR, [[id_of("b", BANK2), BANK3, 400_000, None]]]
    assert chain.result(revoked(2, version=2)) == OK
    assert entry(chain)[1] == IMPAIRED


def test_which_changes_impaired_stands_in_the_result(chain: TestChain) -> None:
    for rid in (4, 8):
        assert chain.result(place(chain, rid, rid, until=NOW + DAY), BANK) == OK
    assert chain.result(amended(*[amend(rid) for rid in (2, 4, 6, 8)])) == OK
    assert decode_result(chain.blocks[-1].executed.results[0]).impaired == (1, 3)
    assert chain.result(amended(amend(8, version=2))) == OK
    assert decode_result(chain.blocks[-1].executed.results[0]).impaired == (0,), "again"
    chain.at(NOW + DAY)
    before = content(chain)
    assert chain.result(amended(amend(4, version=2))) == OK
    assert decode_result(chain.blocks[-1].executed.results[0]).impaired == (), "what ended is not touched"
    assert content(chain) == before


def test_a_change_of_its_twin_impairs_nothing(chain: TestChain) -> None:
    assert chain.result(place(chain, "a"), BANK) == OK
    assert chain.result(revoked(2, tag=2)) == OK
    assert entry(chain)[1] == CLEAR
    assert decode_result(chain.blocks[-1].executed.results[0]).impaired == ()
    assert chain.result(amended(amend(4), amend(4, tag=2))) == OK
    assert chain.result(place(chain, "b", 4, version=2), BANK) == OK
    assert chain.result(amended(amend(4, version=2), amend(4, tag=2, version=2))) == OK
    assert decode_result(chain.blocks[-1].executed.results[0]).impaired == (0,)


def test_an_amendment_that_takes_another_fingerprint_impairs_by_the_old_one(chain: TestChain) -> None:
    assert chain.result(place(chain, "a"), BANK) == OK
    assert chain.result(amended(amend(2, mark=digest("other")[:16]))) == OK
    assert entry(chain)[1] == IMPAIRED
    assert chain.result(amended(amend(2, version=2))) == OK
    assert entry(chain)[1] == IMPAIRED, "its version is another for good"


def test_a_refused_change_impairs_nothing(chain: TestChain) -> None:
    assert chain.result(place(chain, "a"), BANK) == OK
    before = content(chain)
    assert chain.result(amended(amend(2, version=7))) == (10, 0)
    assert chain.result(revoked(2), ISSUER2) == (9, 0)
    assert content(chain) == before


def test_transactions_of_one_block_see_each_other(chain: TestChain) -> None:
    a, b = id_of("a"), id_of("b")
    steps: list[tuple[bytes, int, int]] = [
        (place(chain, "a", ppm=1_000_000), BANK, 0),
        (place(chain, "b"), BANK, 51),
        (release(a), BANK, 0),
        (place(chain, "b", until=NOW + DAY), BANK, 0),
        (place(chain, "c", tag=2), BANK, 49),
        (revoked(2), ISSUER, 0),
        (confirm(b), BANK, 48),
        (release(b), BANK, 0),
        (place(chain, "d", tag=2), BANK, 0),
    ]
    codes = [code for code, _ in chain.results(*[chain.sign(each, member) for each, member, _ in steps])]
    assert codes == [code for _, _, code in steps]
    assert entry(chain) == [key_of(2, tag=2), CLEAR, [[id_of("d"), BANK, 500_000, None]]]
