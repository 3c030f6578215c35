"""The engine of a member that was removed hears nothing more of the others, and writes go on meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from test_identity import Shell

from network import MEMBERS, Load, real_network, until
from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import TaxledgerError
from taxledger.nodes.home import Home
from taxledger.nodes.ordering.cometbft.rpc import EngineRpc
from taxledger.nodes.ordering.cometbft.settings import node_id

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cometbft"), pytest.mark.timeout(400)]


def connected(home: Home) -> set[str]:
    """Ids of the engines that a member's engine is connected with."""

    async def ask() -> set[str]:
        rpc = EngineRpc(home.engine_folder / "rpc.sock")
        try:
            return {each["node_info"]["id"] for each in (await rpc.call("net_info"))["peers"]}
        finally:
            await rpc.close()

    try:
        return asyncio.run(ask())
    except TaxledgerError:
        return set()


def test_it_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(capsys)
    with real_network(tmp_path / "net", members=(*MEMBERS, "bank4")) as net:
        gone = node_id(Signer(net.homes["bank4"].key("engine")).public_key)
        stay = [net.homes[name] for name in MEMBERS]
        until(lambda: all(gone in connected(home) for home in stay), "everybody is connected")
        said = shell("member", "remove", "--home", net.homes["tax"].path, "bank4")
        proposal = said.split("proposal ")[1].split()[0]
        for name in ("bank1", "bank2", "bank3"):
            shell("member", "approve", "--home", net.homes[name].path, proposal)
        with Load(net, "tax", "bank1", first=1_000_000) as load:
            # All four are seen without it, and each has others: they were never all away at once.
            until(
                lambda: all(gone not in (found := connected(home)) and len(found) == 3 for home in stay),
                "nobody is connected with it",
                timeout_s=120,
            )
            load.progress(5)
            load.finish()
        net.agree(*MEMBERS)
