"""A network that is cut in two and healed again, under load: what goes on on which side, and what is left of it."""

from __future__ import annotations

import time

from faultnet import FaultNetwork, report
from ledgers import check_ledgers

from network import Load, until


def waiting(net: FaultNetwork, member: str, *silent: str) -> str:
    """The reason that a member gives for waiting, once it names all whom it does not hear."""

    def explained() -> str | None:
        said = net.status(member)
        reason = said.get("reason") or ""
        return reason if said.get("writes") == "waiting" and all(each in reason for each in silent) else None

    return str(until(explained, f"{member} says that writes wait for {', '.join(silent)}"))


def check_reads(net: FaultNetwork, member: str, transaction_id: bytes) -> None:
    """It proves what was acknowledged, under a checkpoint of a quorum."""
    with net.client(member) as client:
        assert client.transaction(transaction_id) is not None
        assert client.checkpoint().checkpoint.size > 1


def test_two_and_two_then_three_and_one_then_whole(net: FaultNetwork) -> None:
    with Load(net, *net.names, threads=4) as load:
        load.progress(8)
        net.partition(("tax", "bank1"), ("bank2", "bank3"))
        reasons = [waiting(net, "tax", "bank2", "bank3"), waiting(net, "bank3", "tax", "bank1")]
        stopped_at = {name: net.height(name) for name in net.names}
        known = next(iter(load.acknowledged))
        for name in net.names:
            check_reads(net, name, known)
        before = len(load.acknowledged)
        time.sleep(2.0)  # the time in which nothing may happen
        assert len(load.acknowledged) == before
        assert {name: net.height(name) for name in net.names} == stopped_at
        report("2|2", reasons=reasons, acknowledged_meanwhile=0)

        net.heal()
        begin = time.monotonic()
        load.progress(4)
        report("2|2 healed", seconds_until_four_more=round(time.monotonic() - begin, 1))

        net.partition(("tax", "bank1", "bank2"), ("bank3",))
        reason = waiting(net, "bank3", "tax", "bank1", "bank2")
        alone = net.height("bank3")
        begin = time.monotonic()
        load.progress(8)
        check_reads(net, "bank3", known)
        assert net.height("bank3") == alone < net.height("tax")
        report("3|1", reason=reason, seconds_for_eight=round(time.monotonic() - begin, 1))

        net.heal()
        begin = time.monotonic()
        until(lambda: net.height("bank3") > alone, "bank3 follows again")
        until(lambda: net.status("bank3").get("writes") == "ok", "bank3 writes again")
        report("3|1 healed", seconds_until_it_writes=round(time.monotonic() - begin, 1))
        acknowledged = load.finish()
    net.agree()
    net.stop()
    report("ledgers", **check_ledgers(net, acknowledged))
