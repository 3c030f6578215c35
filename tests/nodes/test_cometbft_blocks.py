"""From the engine's blocks to the ledger's, with a perfect engine: four ledgers, every call one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import chainkit
import pytest
from enginekit import ROOM, Ledger, Net

from taxledger.ledger.errors import InputError, InvariantError
from taxledger.ledger.governance import member_set
from taxledger.ledger.operations import encode_approve, encode_propose
from taxledger.nodes.ordering.cometbft.blocks import (
    COSIGNS_MAX,
    decode_time,
    encode_time,
    is_cosign,
    is_time,
)


def run(test: Callable[[Net], None]) -> Callable[[], None]:
    def wrapper() -> None:
        async def body() -> None:
            test(Net())

        asyncio.run(body())

    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


@run
def test_a_network_certifies_its_first_block_and_then_rests(net: Net) -> None:
    first = net.decide()
    assert first[0].executed is not None
    assert all(each.own is None for each in first)
    second = net.decide()
    assert second[0].executed is None
    assert second[0].app_hash == first[0].app_hash
    assert [ledger.chain.certified for ledger in net.ledgers] == [1] * 4
    third = net.decide()  # it brings the co-signatures for whoever replays, and changes nothing
    assert third[0].app_hash == first[0].app_hash
    assert third[0].own is None
    assert [ledger.chain.tip.height for ledger in net.ledgers] == [1] * 4


@run
def test_a_transaction_certifies_in_two_engine_blocks(net: Net) -> None:
    net.decide(), net.decide()
    raw = net.through(1)
    done = net.decide(raw)
    assert done[0].executed is not None
    assert done[0].executed.leaves == [raw]
    assert [ledger.chain.certified for ledger in net.ledgers] == [1] * 4
    net.decide()
    assert [ledger.chain.certified for ledger in net.ledgers] == [2] * 4


@run
def test_no_co_signature_exists_before_the_next_engine_height(net: Net) -> None:
    net.decide(), net.decide(), net.decide(net.through(1), deliver=False)
    for ledger in net.ledgers:
        signed = ledger.chain.signed()
        assert signed is not None
        assert signed[0] < ledger.chain.tip.frontier.size
        assert ledger.chain.own_cosign(2) is None
        ledger.blocks.finalize(net.height + 1, net.engine_ns, [])
        assert ledger.chain.own_cosign(2) is None  # made, and not durable: it may not leave
        own = ledger.blocks.commit().own
        assert own is not None
        assert ledger.chain.own_cosign(2) == own


@run
def test_after_an_idle_hour_a_transaction_of_now_counts(net: Net) -> None:
    net.decide(), net.decide()
    net.now_ms += 3_600_000  # the engine's time stays that of its last votes
    raw = net.through(1)
    proposal = net.propose(raw)
    assert is_time(proposal[0])
    assert proposal[-1] == raw
    done = net.decide(raw)
    assert done[0].executed is not None
    assert done[0].executed.header.time_ms == net.now_ms - 50


@run
def test_who_replays_the_engine_blocks_alone_has_certified_all_but_the_newest(net: Net) -> None:
    blocks = []
    for day in range(12):
        proposal = net.propose(*([net.through(day)] if day else []))
        blocks.append((net.engine_ns, proposal))
        net.decide(*([net.through(day)] if day else []))
    late = Ledger(net, 4)
    for height, (time_ns, proposal) in enumerate(blocks, start=1):
        late.blocks.finalize(height, time_ns, proposal)
        late.blocks.commit()
    assert late.chain.tip.header_hash == net.ledgers[0].chain.tip.header_hash
    assert late.chain.certified >= late.chain.tip.height - 2


@run
def test_other_rounds_and_repeats_leave_nothing_behind(net: Net) -> None:
    net.decide(), net.decide()
    kept = [dict(ledger.store._content) for ledger in net.ledgers]
    one, two, three = net.through(1), net.through(2), net.through(3)
    for candidates in ([one], [two, one], [three]):
        proposal = net.propose(*candidates)
        for ledger in net.ledgers:
            ledger.blocks.finalize(net.height + 1, net.engine_ns, proposal)
            ledger.blocks.finalize(net.height + 1, net.engine_ns, proposal)
    assert [dict(ledger.store._content) for ledger in net.ledgers] == kept
    assert net.decide(two)[0].executed is not None
    assert len({ledger.chain.tip.header_hash for ledger in net.ledgers}) == 1


@run
def test_a_restart_between_any_two_calls_gives_the_same(net: Net) -> None:
    for day in range(8):
        raws = [net.through(day)] if day else []
        proposal = net.propose(*raws)
        crashed = net.ledgers[day % 4]
        if day % 2:
            crashed.blocks.finalize(net.height + 1, net.engine_ns, proposal)
        crashed.start()
        net.decide(*raws)
    assert len({ledger.chain.tip.header_hash for ledger in net.ledgers}) == 1
    assert [ledger.chain.engine_height() for ledger in net.ledgers] == [8] * 4


@run
def test_what_no_honest_proposer_sends_is_refused(net: Net) -> None:
    net.decide(), net.decide()
    raw, blocks = net.through(1), net.ledgers[0].blocks
    chain_id = chainkit.hashing.sha256(net.genesis)[:16]
    ahead = encode_time(chain_id, net.now_ms + 10_001)
    now = encode_time(chain_id, net.now_ms)
    cosign = net.ledgers[0].replica.certification.own()[-1]
    cases = {
        "10 s ahead": [ahead, raw],
        "can't count: already_logged": [now, raw, raw],
        "can't count: malformed": [now, b"junk"],
        "time message of chain": [encode_time(bytes(16), net.now_ms), raw],
        "expected at most 512 co-signatures": [now, *[cosign] * (COSIGNS_MAX + 1)],
        "cut short": [b"\x98junk"],
        "can't count": [raw, now],  # the time stands first or is none
        "transactions in a block": [now, *(bytes([0xD2, index % 251]) * 9 for index in range(600))],
    }
    for expected, proposal in cases.items():
        refusal = blocks.refusal(net.engine_ns, proposal)
        assert refusal is not None
        assert expected in refusal
    assert blocks.refusal((net.now_ms + 10_001) * 1_000_000, []) is not None
    assert blocks.refusal(net.engine_ns, [now, raw]) is None


@run
def test_a_proposer_takes_one_of_each_member_in_turn_and_leaves_out_what_can_not_count(net: Net) -> None:
    net.decide(), net.decide()
    flood = [net.transaction(chainkit.attest(through=f"2026-02-{day:02d}")) for day in range(1, 20)]
    other = net.transaction(chainkit.attest(through="2026-03-01"), member=chainkit.CLIENT)
    proposal = net.ledgers[0].blocks.prepare(net.engine_ns, [*flood, b"junk", other], ROOM)
    batch = [raw for raw in proposal if not is_time(raw) and not is_cosign(raw)]
    assert batch[:2] == [flood[0], other]
    assert set(batch) == {*flood, other}
    small = net.ledgers[0].blocks.prepare(net.engine_ns, flood, 1_000)
    assert sum(len(raw) + 8 for raw in small) <= 1_000


@run
def test_a_change_of_validators_reaches_the_engine_when_it_is_in_force(net: Net) -> None:
    net.decide(), net.decide()
    chain_id = chainkit.hashing.sha256(net.genesis)[:16]
    signers = [chainkit.signer(9, use) for use in ("transaction", "vote", "log", "cosign")]
    change = member_set(chainkit.validator(9), chain_id, signers)
    propose = net.transaction(encode_propose(change), member=1)
    done = net.decide(propose)
    assert done[0].changes == ()
    proposal = chainkit.hashing.log_leaf(propose)[:16]
    net.decide(*(net.transaction(encode_approve(proposal), member=each) for each in (2, 3)))
    seen = []
    while not seen:  # empty blocks are cut until the change is in force
        done = net.decide()
        assert done[0].executed is not None
        seen = list(done[0].changes)
    assert seen == [(chainkit.signer(9, "vote").public_key, True)]
    assert done[0].executed is not None
    assert len(done[0].executed.validators) == 5


@run
def test_past_the_limit_of_uncertified_blocks_nothing_new_is_proposed(net: Net) -> None:
    net.decide(), net.decide()
    day = 1
    while not net.ledgers[0].blocks.is_full:
        net.decide(net.through(day), deliver=False)
        for ledger in net.ledgers:  # what a proposer carries would certify: here it is withheld
            ledger.blocks._carried_from = ledger.chain.tip.height + 1
        day += 1
    tip = net.ledgers[0].chain.tip.height
    assert tip - net.ledgers[0].chain.certified == 16
    assert net.decide(net.through(day), deliver=False)[0].executed is None
    waiting = [raw for ledger in net.ledgers for raw in ledger.replica.certification.own()]
    for ledger in net.ledgers:
        ledger.replica.receive(waiting)
        assert ledger.chain.certified == tip
    assert net.decide(net.through(day))[0].executed is not None


@pytest.mark.parametrize("bad", [b"", b"\x94", b"\x94\x01\xa4time\xc4\x10" + bytes(16) + b"\xff", bytes(80)])
def test_a_time_message_has_one_form(bad: bytes) -> None:
    with pytest.raises(InputError):
        decode_time(bad, bytes(16))
    assert decode_time(encode_time(bytes(16), 7), bytes(16)) == 7


@run
def test_a_log_that_the_engine_was_not_told_of_is_not_opened(net: Net) -> None:
    net.decide(), net.decide(net.through(1)), net.decide()
    ledger = net.ledgers[2]
    size = ledger.chain.tip.frontier.size
    level = next(level for level in range(64) if size >> level & 1)
    node = b"N" + bytes([level]) + ((size >> level) - 1).to_bytes(8, "big")
    was = ledger.store.get(node)
    assert was is not None
    ledger.store.write({node: bytes(32)})
    with pytest.raises(InvariantError, match="not the one that the engine was told of"):
        ledger.start()
    ledger.store.write({node: was})
    ledger.start()


@run
def test_a_larger_set_of_validators_leaves_nothing_to_carry_for_ever(net: Net) -> None:
    def decide(*candidates: bytes, silent: int | None = 4) -> None:
        """Co-signatures come when the next block is proposed already, none of a silent member."""
        proposer = net.ledgers[net.height % 3]
        proposal = proposer.blocks.prepare(net.engine_ns, candidates, ROOM)
        for ledger in net.ledgers:
            ledger.replica.receive(late)
        late.clear()
        net.height += 1
        for ledger in net.ledgers:
            ledger.blocks.finalize(net.height, net.engine_ns, proposal)
            own = ledger.blocks.commit().own
            if own is not None and ledger.number != silent:
                late.append(own)
        net.engine_ns = net.now_ms * 1_000_000
        net.now_ms += 50

    late: list[bytes] = []
    chain_id = chainkit.hashing.sha256(net.genesis)[:16]
    signers = [chainkit.signer(9, use) for use in ("transaction", "vote", "log", "cosign")]
    propose = net.transaction(encode_propose(member_set(chainkit.validator(9), chain_id, signers)), member=1)
    decide(), decide(propose)
    proposal = chainkit.hashing.log_leaf(propose)[:16]
    decide(*(net.transaction(encode_approve(proposal), member=each) for each in (2, 3)))
    first = net.ledgers[0]
    while len(first.replica.application.validators) == 4:
        decide()
    for day in range(1, 13):
        decide(net.through(day), silent=None)
        decide(silent=None)
    assert first.chain.certified >= first.chain.tip.height - 1
    assert first.blocks._carried_from >= first.chain.certified - 1


async def test_who_counted_nothing_of_clocks_that_were_ahead_certifies_by_asking_again() -> None:
    net = Net()
    right, wrong = net.ledgers[0], net.ledgers[1]
    for each in net.ledgers[1::2]:
        each.ahead_ms = 3_600_000
    for day in range(1, 5):
        net.height += 1
        proposal = right.blocks.prepare(net.engine_ns, [net.through(day)], ROOM)
        for each in net.ledgers:
            each.blocks.finalize(net.height, net.engine_ns, proposal)
        own = [done.own for done in (each.blocks.commit() for each in net.ledgers) if done.own is not None]
        for each in net.ledgers:
            each.replica.receive(own)
        net.now_ms += 50
    assert [each.chain.certified for each in net.ledgers] == [0, 3, 0, 3]
    right.start()  # what it kept is forgotten, too
    for each in net.ledgers[1::2]:
        each.ahead_ms = 0
    known = wrong.replica.certification.known(0)
    right.replica.receive(known)
    assert right.chain.certified == 0
    right.replica.receive([wrong.replica.application.renew_cosign()])
    assert right.chain.certified == 3
