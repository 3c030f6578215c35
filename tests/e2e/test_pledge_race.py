"""Banks race for the same invoices while nodes are killed: nothing is pledged twice, and everybody knows what is so."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pledgerace import LOSSES, WHOLE, Outcome, Race, name_of, race

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import RefusedError
from taxledger.ledger.permit import Permit, decode_permit, encode_permit, sign_permit

SEED = int(os.environ.get("TAXLEDGER_RACE_SEED", "20261124"))
REPORT = "TAXLEDGER_RACE_REPORT"
"""A file to leave the figures in, for the acceptance list."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Race]:
    folder = tmp_path_factory.mktemp("race")
    with race(folder, validators=4, observers=1, invoices=12, twins=4, seed=SEED) as stage:
        yield stage


def check(stage: Race, outcome: Outcome) -> None:
    """Every invoice at most once, every loser with its reason, placed = acknowledged."""
    print(f"seed {SEED}: {outcome.figures()}")
    states = outcome.proved.states
    assert all(each.pledged_ppm <= WHOLE for each in states.values())
    assert set(outcome.codes) <= LOSSES, outcome.codes
    assert all((each.pledge is None) != (each.code is None) for each in outcome.told)
    in_state = {
        pledge.id: (pledge.member, pledge.ppm, key, state.record_key)
        for key, state in states.items()
        for pledge in state.pledges
    }
    numbers = {bank: stage.network.homes[bank].config.number for bank in stage.banks}
    acknowledged = {
        pledge: (numbers[each.bank], each.ppm, each.key, each.record)
        for pledge, each in outcome.placed.items()
    }
    assert in_state == acknowledged
    assert len(acknowledged) + sum(outcome.codes.values()) == len(outcome.told)
    check_refusals(outcome)


def check_refusals(outcome: Outcome) -> None:
    """A loser lost to somebody: its share does not fit, or the document is pledged under another record. Nothing was
    released, so what was refused then would be refused now.
    """
    refused = defaultdict(list)
    for each in outcome.told:
        if each.code is not None:
            refused[each.key].append(each)
    for key, losers in refused.items():
        state = outcome.proved.states[key]
        for each in losers:
            if each.code == "pledge_contested":
                assert state.record_key != each.record
            elif each.code == "pledge_exceeds":
                assert each.ppm > state.free_ppm
            else:
                assert len(state.pledges) == 16


def test_a_small_race(small: Race) -> None:
    outcome = small.run([small.validators[1], small.banks[-1]])
    check(small, outcome)
    # The same request again, after it all: the same pledge, from the same node.
    bank = small.banks[0]
    first = next(each for each in outcome.told if each.bank == bank and each.pledge is not None)
    raw = next(each for each in small.permits[bank] if decode_permit(each).record_key == first.record)
    with small.client(bank) as client:
        assert client.place_pledge(raw, first.ppm, request_key=name_of(raw, first.ppm)).pledge == first.pledge


def without_right(stage: Race) -> list[tuple[str, bytes]]:
    """(code of the refusal, bytes) of permits with which the first bank can pledge nothing."""
    mine, theirs = (decode_permit(stage.permits[bank][0]) for bank in stage.banks[:2])
    other = decode_permit(stage.permits[stage.banks[0]][1])
    now_ms = time.time_ns() // 1_000_000

    def signed(by: Signer, permit: Permit, **changes: object) -> bytes:
        fields = {
            name: changes.get(name, getattr(permit, name))
            for name in ("record_key", "version", "fingerprint", "lender", "not_after")
        }
        made = sign_permit(by, stage.network.chain_id, **fields)  # type: ignore[arg-type]
        return encode_permit(replace(made, key=permit.key))

    own = Signer(stage.network.homes[stage.banks[0]].key("transaction"))
    return [
        ("permit_not_for_signer", encode_permit(theirs)),
        ("permit_invalid", encode_permit(replace(theirs, lender=mine.lender))),
        ("permit_invalid", encode_permit(replace(mine, record_key=other.record_key))),
        ("permit_invalid", encode_permit(replace(mine, fingerprint=other.fingerprint))),
        ("permit_invalid", encode_permit(replace(mine, not_after=mine.not_after + 1))),
        ("permit_invalid", encode_permit(replace(mine, version=2))),
        ("permit_invalid", encode_permit(replace(mine, signature=other.signature))),
        ("permit_invalid", signed(own, mine)),
        ("permit_expired", signed(stage.issuer_key, mine, not_after=now_ms - 1)),
        ("record_not_valid", signed(stage.issuer_key, mine, version=2)),
        ("record_not_pledgeable", signed(stage.issuer_key, mine, fingerprint=bytes(16))),
    ]


def test_nothing_is_pledged_without_a_permit(small: Race) -> None:
    keys = [(each.issuer, each.fingerprint) for each in map(decode_permit, small.permits[small.banks[0]])]
    with small.client(small.banks[0]) as client:
        before = client.verified_pledges(keys).states
        for number, (code, permit) in enumerate(without_right(small)):
            with pytest.raises(RefusedError) as caught:
                client.place_pledge(permit, 10_000, request_key=f"none-{number}")
            assert caught.value.code == code, (number, code)
        assert client.verified_pledges(keys).states == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_banks_race_for_two_hundred_invoices(tmp_path: Path) -> None:
    with race(tmp_path, validators=4, observers=4, invoices=200, twins=40, seed=SEED) as stage:
        victims = [
            stage.validators[1], stage.banks[-1], stage.validators[0], stage.validators[3],
            stage.banks[4], stage.validators[0], stage.validators[2],
        ]  # fmt: skip
        outcome = stage.run(victims)
        check(stage, outcome)
        assert outcome.codes["pledge_exceeds"] > 0
        assert outcome.codes["pledge_contested"] > 0
        assert len(outcome.kills) == len(victims)
        if os.environ.get(REPORT):
            Path(os.environ[REPORT]).write_text(json.dumps(outcome.figures()), "utf-8")
