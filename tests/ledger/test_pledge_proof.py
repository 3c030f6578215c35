"""The proof file: it says of every fingerprint what the map says; every lie, changed byte and cut is refused."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest
from chainkit import TestChain
from pledgecheats import (
    FAULTS,
    FREE,
    GOOD,
    HEADER_MS,
    KEYS,
    PLEDGED,
    Fault,
    PledgeWorld,
    check,
    mark,
    record,
    world,
)
from pledgekit import BANK, BANK2, ISSUER2, MINUTE, NOW, OK, id_of, key_of, mark_of, place, pledge_chain
from world import AGE_MS_MAX

from taxledger.ledger import checkpoint, limits, merkle
from taxledger.ledger.errors import FormatError, VerificationError
from taxledger.ledger.pledgeproof import (
    PledgeKey,
    PledgeState,
    decode_pledge_proof,
    encode_pledge_proof,
    pledge_proof_of,
    prove_pledges,
    verify_pledges,
)
from taxledger.ledger.pledgestate import PledgeMarks


@pytest.fixture(autouse=True)
def _remembered_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signature is verified once: a pure function, in which most of the time would go."""
    remembered = lru_cache(maxsize=256)(checkpoint.verify_signature)
    monkeypatch.setattr(checkpoint, "verify_signature", remembered)


def code_of(data: bytes, **changes: object) -> str | None:
    try:
        check(data, **changes)
    except VerificationError as error:
        return error.code
    return None


# --- what is accepted -------------------------------------------------------------------------------


def test_it_says_what_the_map_says() -> None:
    said = check(GOOD)
    assert list(said.states) == list(KEYS)
    assert (said.header.height, said.age_ms, said.checkpoint.checkpoint) == (3, 0, world().checkpoint)

    def shown(name: str, issuer: int = 1) -> tuple[object, ...]:
        state = said.states[issuer, mark(name)]
        marks = int(state.marks)
        return (
            state.record_key,
            marks,
            [each.ppm for each in state.pledges],
            state.pledged_ppm,
            state.free_ppm,
        )

    assert shown("whole") == (record("whole"), 0, [1_000_000], 1_000_000, 0)
    assert shown("part") == (record("part"), 0, [300_000, 200_000], 500_000, 500_000)
    assert shown("both") == (record("both"), 0, [20_000], 20_000, 980_000), "one millisecond is left"
    assert shown("impaired") == (record("impaired"), 1, [600_000], 600_000, 400_000)
    assert shown("contested") == (record("contested"), 3, [600_000], 600_000, 400_000)
    assert shown("full") == (record("full"), 0, [62_500] * 16, 1_000_000, 0)
    assert shown("whole", 2) == (record("whole 2"), 0, [10_000], 10_000, 990_000)
    free = (None, 0, [], 0, 1_000_000)
    for name in ("over", "released", "free"):
        assert shown(name) == free, name
    assert [key for key, state in said.states.items() if state.is_free] == sorted(
        [*FREE, (1, mark("over")), (1, mark("released"))]
    )
    part = said.states[1, mark("part")]
    assert [(each.member, each.not_after) for each in part.pledges] == [
        (2, None),
        (3, HEADER_MS + 86_400_000),
    ]


def test_in_any_order_and_each_once() -> None:
    shuffled = [*KEYS, *KEYS]
    random.Random(5).shuffle(shuffled)
    assert world().proof(shuffled) == GOOD
    assert check(GOOD, shuffled).states.keys() == set(KEYS)
    assert encode_pledge_proof(decode_pledge_proof(GOOD)) == GOOD


@pytest.mark.parametrize("keys", [*[(key,) for key in KEYS], FREE, tuple(PLEDGED)])
def test_of_one_or_of_some(keys: tuple[PledgeKey, ...]) -> None:
    said, all_of_them = (
        check(world().proof(keys), keys),
        check(world().proof([*PLEDGED, *FREE]), [*PLEDGED, *FREE]),
    )
    assert dict(said.states) == {key: all_of_them.states[key] for key in keys}


def test_of_a_map_without_any_pledge() -> None:
    empty = PledgeWorld(pledged={})
    assert all(state.is_free for state in check(empty.proof(), policy=empty.policy).states.values())


def test_of_very_many() -> None:
    keys = [(1, mark(str(n))) for n in range(1_500)]
    data = world().proof([*keys, *KEYS])
    said = check(data, [*keys, *KEYS])
    assert sum(not state.is_free for state in said.states.values()) == 7
    assert len(data) < 100_000, "absence in one gap costs little"


def test_a_caller_that_asks_for_nothing_or_too_much() -> None:
    many = [(1, n.to_bytes(16, "big")) for n in range(limits.pledge_proof_keys_max + 1)]
    for keys in ([], many, [(0, bytes(16))], [(65_536, bytes(16))], [(1, bytes(15))]):
        with pytest.raises(FormatError):
            check(GOOD, keys)
        with pytest.raises(FormatError):
            world().proof(keys)


def test_a_height_or_an_engine_that_the_caller_asks_for() -> None:
    assert code_of(GOOD, height_min=3) is None
    assert code_of(GOOD, height_min=4) == "checkpoint_stale"
    assert code_of(GOOD, engine="embedded") is None
    assert code_of(GOOD, engine="cometbft") == "policy_mismatch"
    strangers = PledgeWorld(validators=("a", "b", "c", "d"))
    assert code_of(GOOD, policy=strangers.policy) in ("policy_outdated", "policy_mismatch")


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_lie_has_its_code(fault: Fault) -> None:
    with pytest.raises(VerificationError) as caught:
        check(fault.make(), fault.keys, now_ms=fault.now_ms)
    assert caught.value.code == fault.code


def test_every_byte_and_every_cut() -> None:
    keys = (KEYS[0], FREE[0], (1, mark("part")))
    small = world().proof(keys)
    rng = random.Random(7)
    for at, byte in enumerate(small):
        for other in {byte ^ 1, byte ^ 0x80, (byte + rng.randrange(1, 256)) % 256}:
            with pytest.raises(VerificationError):
                check(small[:at] + bytes([other]) + small[at + 1 :], keys)
        with pytest.raises(VerificationError):
            check(small[:at], keys)
    check(small, keys)


# --- of a chain that came to it by transactions ------------------------------------------------------------


def proved(chain: TestChain, *keys: PledgeKey) -> dict[PledgeKey, PledgeState]:
    """What a bank is told by a file of the newest block."""
    executed = chain.blocks[-1].executed
    size = executed.tip.frontier.size
    path = merkle.prove_inclusion(lambda level, at: chain.log_nodes[level, at], size - 1, size)
    note = chain.note(chain.blocks[-1], 3)
    data = encode_pledge_proof(
        prove_pledges(keys, view=chain.view, checkpoint=note, header=executed.header_leaf, inclusion=path)
    )
    asked = [b"\x05" + issuer.to_bytes(2, "big") + fingerprint for issuer, fingerprint in keys]
    answered = chain.view.prove(asked)
    assert data == encode_pledge_proof(
        pledge_proof_of(keys, answered, checkpoint=note, header=executed.header_leaf, inclusion=path)
    )
    said = verify_pledges(data, chain.policy(), keys, now_ms=chain.time_ms + 2_000, age_ms_max=AGE_MS_MAX)
    return dict(said.states)


def test_what_a_bank_is_told_between_its_transactions() -> None:
    chain = pledge_chain()
    key, other = (5, mark_of(2)), (ISSUER2, mark_of(2))
    chain.add()
    before = proved(chain, key, other)
    assert before[key].is_free
    assert before[other].is_free
    assert chain.result(place(chain, "a", ppm=600_000, until=NOW + MINUTE), BANK) == OK
    assert chain.result(place(chain, "b", tag=2, lender=BANK2), BANK2) == (49, None)
    told = proved(chain, key, other)
    assert told[other].is_free
    state = told[key]
    assert (state.record_key, state.marks, state.pledged_ppm) == (key_of(2), PledgeMarks.CONTESTED, 600_000)
    assert [each.id for each in state.pledges] == [id_of("a")]
    chain.at(NOW + MINUTE - 1).add()
    assert not proved(chain, key)[key].is_free
    chain.at(NOW + MINUTE).add()
    assert proved(chain, key)[key].is_free, "nothing was written, but the header's time has come"
