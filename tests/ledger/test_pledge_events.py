"""Events of pledges come from leaves and results alone: the side that holds a pledge hears of it in any case."""

from __future__ import annotations

from typing import Any

from chainkit import ISSUER
from pledgekit import (
    BANK,
    BANK2,
    DAY,
    NOW,
    amend,
    amended,
    confirm,
    entry_key,
    erased,
    id_of,
    key_of,
    mark_of,
    permit,
    place,
    pledge_chain,
    release,
    revoked,
    transfer,
)

from taxledger.api.events import EVENT_TYPES, events_of_block


def test_every_event_of_a_pledge() -> None:
    chain = pledge_chain()
    first = len(chain.blocks)
    pledge, until = id_of("a"), NOW + DAY
    steps: list[tuple[bytes, int, int]] = [
        (place(chain, "a", until=until), BANK, 0),
        (place(chain, "a", until=until), BANK2, 42),
        (place(chain, "b", lender=BANK2, ppm=500_001), BANK2, 51),
        (place(chain, "b", lender=BANK2, tag=2), BANK2, 49),
        (confirm(pledge), BANK, 0),
        (transfer(pledge, permit(chain, lender=BANK2)), BANK, 0),
        (amended(amend(2), amend(4)), ISSUER, 0),
        (revoked(2, version=2), ISSUER, 0),
        (erased(2, version=2), ISSUER, 0),
        (release(pledge), BANK2, 0),
    ]
    for payload, member, code in steps:
        assert chain.result(payload, member)[0] == code
    found: list[tuple[str, str, int, dict[str, Any]]] = []
    for block in chain.blocks[first:]:
        done = block.executed
        for event in events_of_block(done.header.height, done.header.time_ms, done.leaves, done.results):
            assert event.type in EVENT_TYPES
            name = event.type.removeprefix("taxledger.")
            if name.startswith("pledge."):
                data = dict(event.data)
                assert data.pop("transaction") == done.leaf_hashes[0].hex()
                found.append((name, event.subject, data.pop("member"), data))
    named = {"issuer": ISSUER, "fingerprint": mark_of(2).hex(), "version": 1}
    own, twin = {**named, "record": key_of(2).hex()}, {**named, "record": key_of(2, tag=2).hex()}
    changed = ("pledge.impaired", key_of(2).hex(), ISSUER, {"kind": 5})
    assert found == [
        ("pledge.placed", pledge.hex(), BANK, {**own, "ppm": 500_000, "not_after": until}),
        ("pledge.contested", entry_key(2).hex(), BANK2, twin),
        ("pledge.confirmed", pledge.hex(), BANK, {}),
        ("pledge.transferred", pledge.hex(), BANK, {**own, "lender": BANK2}),
        *[changed] * 3,
        ("pledge.released", pledge.hex(), BANK2, {}),
    ]
