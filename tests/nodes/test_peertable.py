"""Whose ordering engine may connect."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import chainkit

from taxledger.ledger.members import Member, MemberStatus, encode_member
from taxledger.ledger.statekeys import member_key
from taxledger.nodes.home import Home
from taxledger.nodes.identity.pki import Authorities
from taxledger.nodes.identity.tls import TlsFiles
from taxledger.nodes.local.network import create_network
from taxledger.nodes.peering.addresses import Address
from taxledger.nodes.peering.table import PeerTable

ENGINE, OTHER = "ab" * 20, "cd" * 20


class State(dict[bytes, bytes]):
    def scan(self, _prefix: bytes) -> Any:
        return iter(sorted(self.items()))


def state_of(*members: Member) -> State:
    return State({member_key(each.number): encode_member(each) for each in members})


async def test_who_was_removed_takes_nobody_else_away(tmp_path: Path) -> None:
    create_network(
        tmp_path / "net",
        members=["v1", "v2", "v3", "v4"],
        now=datetime.datetime.now(datetime.UTC),
        grant=lambda _path: "key",
    )
    home = Home(tmp_path / "net" / "v1")
    members = [chainkit.validator(number) for number in range(1, 5)]
    state = state_of(*members)
    table = PeerTable(
        home,
        files=TlsFiles(node=home.tls_folder / "node.pem", authorities=home.tls_folder / "peers.pem"),
        authorities=lambda: Authorities(b"", {}),
        state=lambda: state,
    )
    for number in (2, 3):  # the second names the engine of the third as its own
        table.book.learn(
            number, Address(peer_url=f"https://127.0.0.1:{number}", engine=f"{ENGINE}@127.0.0.1:9")
        )
    assert table.admits(ENGINE)
    assert not table.admits(OTHER)
    state.update(state_of(replace(members[1], status=MemberStatus.REMOVED)))
    assert table.admits(ENGINE)
    state.update(state_of(replace(members[2], status=MemberStatus.REMOVED)))
    assert not table.admits(ENGINE)
    await table.close()
