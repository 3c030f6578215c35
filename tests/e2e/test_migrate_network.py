"""A real network moves to the real CometBFT: what was acknowledged stays, and writes go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chainkit
import pytest

import network
from network import RealNetwork
from taxledger.ledger.policy import decode_policy
from taxledger.nodes.cli.ledger import audit_path
from taxledger.nodes.handover.migrating import migrate_network
from taxledger.nodes.local import control

pytestmark = pytest.mark.slow


@pytest.fixture
def net(tmp_path: Path, cometbft: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealNetwork]:
    monkeypatch.setattr(network, "ENGINE", "embedded")
    made = RealNetwork(tmp_path / "net", observers=("auditor",))
    yield made
    made.close()


def test_it_goes_on_under_the_real_engine(net: RealNetwork) -> None:
    net.start()
    before = [net.tag_key(), *(net.sign(chainkit.attest(chainkit.group(rid, tag=9))) for rid in (1, 2))]
    receipts = [net.submit(raw, "bank1") for raw in before]
    height = net.get("tax", "/v1/status").json()["height"]
    net.stop()

    assert migrate_network(net.directory, "cometbft").height == height
    net.homes = {home.config.name: home for home in control.find_homes(net.directory)}
    net.policy = decode_policy(net.homes["tax"].policy())
    net.start()
    for raw, receipt in zip(before, receipts, strict=True):
        again = net.submit(
            raw, "bank2"
        )  # the same bytes have the receipt of before, verified under the new origin
        assert (again.height, again.index) == (receipt.height, receipt.index)
    for member, rid in (("bank1", 3), ("tax", 4), ("auditor", 5)):
        assert net.submit(net.sign(chainkit.attest(chainkit.group(rid, tag=9))), member).height > height
    net.kill("tax")  # the former sequencer: nothing depends on it any more
    net.submit(net.sign(chainkit.attest(chainkit.group(6, tag=9))), "bank3")
    net.stop()

    for member in ("bank1", "bank3"):
        report, differences = audit_path(net.directory / member, None)
        assert report.ok, [each for each in report.verdicts if each.failure]
        assert not differences
        assert [(each.engine, each.first) for each in report.engines] == [
            ("embedded", 1),
            ("cometbft", height + 1),
        ]
        assert report.height > height
