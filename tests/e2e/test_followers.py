"""kill -9 of followers while records come in: the others go on, and it returns to the same roots."""

from __future__ import annotations

import io
import shutil

from ledgers import check_ledgers

from network import Load, RealNetwork
from taxledger.ledger.audit import audit_archive
from taxledger.ledger.store import MemoryStore


def test_the_supervisor_brings_back_each_follower(net: RealNetwork) -> None:
    with Load(net, "tax", "bank1") as load:
        for victim in ("bank1", "bank2", "bank3"):
            load.progress(5)
            net.kill(victim)
            load.progress(5)
        acknowledged = load.finish()
    net.agree()
    for name in net.names:
        for transaction_id in list(acknowledged)[::7]:
            assert net.get(name, f"/v1/transactions/{transaction_id.hex()}").status_code == 200
    net.stop()
    print(check_ledgers(net, acknowledged))


def test_without_restart_the_others_go_on(net: RealNetwork) -> None:
    net.stop("bank3")
    net.start("bank3", restart=False)
    with Load(net, "tax", "bank1") as load:
        load.progress(3)
        net.kill("bank3")
        before = net.height("bank2")
        load.progress(20)
        assert "bank3" not in net.pids()
        assert net.height("bank2") > before
        assert net.status("bank2")["writes"] == "ok"
        net.start("bank3")
        acknowledged = load.finish()
    assert net.agree()["height"] > before
    # One whose disk is gone begins again from the genesis and gets everything from the sequencer.
    net.stop("bank2")
    shutil.rmtree(net.homes["bank2"].store_path)
    net.homes["bank2"].store_path.mkdir()
    net.start("bank2")
    said = net.agree()
    report = audit_archive(
        io.BytesIO(net.get("bank2", "/v1/export").content), MemoryStore(), policy=net.policy
    )
    assert report.ok
    assert (report.log_root.hex(), report.state_root.hex()) == (said["log_root"], said["state_root"])
    net.stop()
    print(check_ledgers(net, acknowledged))
