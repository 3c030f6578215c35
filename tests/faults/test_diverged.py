"""A node whose state was changed by hand stops before it signs what follows from it; the others go on."""

from __future__ import annotations

import dataclasses
from base64 import b64encode

import pytest
from faultnet import FaultNetwork, report
from faulty_node import SIGNED_NAME
from ledgers import COSIGN, signed_messages

from network import Load, until
from taxledger.ledger.chain import Chain
from taxledger.ledger.leveldb import LevelStore
from taxledger.ledger.members import encode_member, member_of
from taxledger.ledger.merkle import frontier_at
from taxledger.ledger.statekeys import member_key
from taxledger.nodes.forks.halting import HALTED_EXIT_STATUS, read_halt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OTHERS = ("tax", "bank1", "bank2")


def let_issue_nothing(net: FaultNetwork, member: str) -> None:
    """In this member's store alone, the issuer may not issue any kind."""
    store = LevelStore(net.homes[member].store_path)
    try:
        issuer = member_of(Chain(store, net.homes[member].genesis()).view, 1)
        assert issuer is not None
        assert issuer.kinds
        store.write({b"m" + member_key(1): encode_member(dataclasses.replace(issuer, kinds=()))})
    finally:
        store.close()


def test_a_state_changed_by_hand(net: FaultNetwork) -> None:
    with Load(net, *OTHERS, threads=3) as load:
        load.progress(6)
        net.stop("bank3")
        let_issue_nothing(net, "bank3")
        net.start("bank3", ready=False)
        node = net.processes["bank3"]["node"]
        until(lambda: HALTED_EXIT_STATUS in node.exit_codes, "bank3 stops itself")
        load.progress(12)
        reason = read_halt(net.homes["bank3"].path)
        load.finish()
    assert reason is not None
    net.agree(*OTHERS)
    net.stop()
    store = LevelStore(net.homes["tax"].store_path)
    try:
        chain = Chain(store, net.homes["tax"].genesis())
        signed = 0
        for _, message in signed_messages(net.homes["bank3"].path / SIGNED_NAME):
            if message.startswith(COSIGN):
                size, root = message.removesuffix(b"\n").split(b"\n")[-2:]
                assert root == _root_text(chain, int(size)), f"it signed a tree of {size!r} that is not ours"
                signed += 1
    finally:
        store.close()
    assert signed
    report("state changed by hand", reason=reason, cosignatures_checked=signed)


def _root_text(chain: Chain, size: int) -> bytes:
    return b64encode(frontier_at(chain.node, size).root)
