"""A consent that is revoked, a node that is killed; and the auditor who replays it all."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from taxledger.ledger.errors import RefusedError, UnavailableError
from taxledger.nodes.cli import ledger
from taxledger.nodes.cli.demo.aftercare import look
from taxledger.nodes.cli.demo.cast import Cast
from taxledger.nodes.cli.demo.stage import Stage, wait_for
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.output import connect, open_home

if TYPE_CHECKING:
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan

__all__ = ["audit", "kill_and_restart", "revocation"]

_PATIENCE_S = 60.0
_INVARIANTS_MIN = 17


def revocation(stage: Stage, tale: Tale, cast: Cast, desk: LendingDesk, loan: Loan) -> None:
    """The enterprise takes its consent back: the bank can't read any more, and its watch says so."""
    from taxledger.ledger.consent import decode_artefact

    with tale.step(
        "The enterprise revokes, and sees every use of its data", "企业撤回授权并查看使用记录"
    ) as facts:
        wallet = cast.wallets["tax"]
        artefact = decode_artefact(desk.engine.artefact(loan))
        consent = artefact.id(stage.number("tax"))
        with connect(open_home(stage.home("tax"))) as client:
            receipt = client.instruct(wallet.order(consent, "revoke", now_ms=time.time_ns() // 1_000_000).raw)
        wallet.keep_receipt(receipt)
        tell(f"consent {consent.hex()} is {receipt.status}, certified at height {receipt.height}")
        wait_for("bank1's node hears of it", lambda: int(desk.client.status()["height"]) >= receipt.height)
        code = None
        try:
            desk.client.disclosure(desk.engine.evidence(loan).files[0].query, artefact.raw)
        except RefusedError as refusal:
            code = refusal.code
        tale.expect("the bank asks again", code, "consent_revoked")
        tell(f"the bank asks again and is refused 拒绝: {code}")
        rules = [each.rule for each in look(desk) if each.loan == loan.id]
        tale.expect("the watch's alert", "consent_ended" in rules, True)
        tell(f"the watch tells the officer 贷后预警: {', '.join(rules)}")
        facts |= {"consent": consent.hex(), "code": code, "alerts": rules}
        _show_uses(stage, tale, cast, consent)


def _show_uses(stage: Stage, tale: Tale, cast: Cast, consent: bytes) -> None:
    """The enterprise's list through any member's node, proved to be complete."""
    end = time.monotonic() + _PATIENCE_S
    with connect(open_home(stage.home("bank3"))) as client:
        while True:
            found = client.consents(cast.wallets["tax"].subject_secret)
            uses = [use for each in found.consents for use in each.uses.values()]
            ended = all(each.value.status.name == "REVOKED" for each in found.consents)
            if (ended and all(use.closed_height for use in uses)) or time.monotonic() > end:
                break
            time.sleep(0.1)
    for each in found.consents:
        name = found.members[each.recipient].name
        count = f"{each.value.uses} of {each.value.max_uses}"
        tell(f"{each.consent.hex()} to {name}, {each.value.status.name.lower()}, used {count} times")
        for number, use in each.uses.items():
            tell(
                f"  use {number}: {use.state.name.lower()}, {use.count:,} of {use.planned_count:,} records, "
                f"blocks {use.opened_height} to {use.closed_height}"
            )
    tale.expect("the enterprise's consents", [each.consent for each in found.consents], [consent])
    tale.expect("uses that are in the list", bool(uses), True)
    tell(
        f"verified: all {len(found.consents)} consents to all {len(found.looked_at)} members, "
        f"as of height {found.height}"
    )


def kill_and_restart(stage: Stage, tale: Tale) -> None:
    """A bank's node is killed; it comes back to the same roots."""
    with tale.step("A bank's node is killed and comes back", "银行节点被强制终止后恢复") as facts:
        before = stage.facts("bank2")
        if before.pid is None:
            raise UnavailableError("bank2 does not run")
        os.kill(before.pid, signal.SIGKILL)
        tell(f"bank2 (pid {before.pid}) killed with SIGKILL")
        wait_for("the restart of bank2", lambda: stage.facts("bank2").pid not in (None, before.pid))
        leader = stage.facts("tax")

        def caught_up() -> bool:
            now = stage.facts("bank2")
            return (now.height or 0) >= (leader.height or 0) and now.writes == "ok"

        wait_for("the catching up of bank2", caught_up)
        after, leader = stage.facts("bank2"), stage.facts("tax")
        tell(f"the supervisor started it again (pid {after.pid}); height {after.height}")
        tell(f"log root   {after.log_root}")
        tell(f"state root {after.state_root}")
        same = (after.log_root, after.state_root) == (leader.log_root, leader.state_root)
        if after.height == leader.height:
            tale.expect("bank2's roots are those of tax", same, True)
        tell("the same as the tax office's" if same else f"tax is at height {leader.height} by now")
        facts |= {"height": after.height, "log_root": after.log_root, "state_root": after.state_root}


def audit(stage: Stage, tale: Tale) -> None:
    """A stopped bank's folder, replayed from the first leaf."""
    with tale.step("The network is stopped; an auditor replays a bank's folder", "停网审计") as facts:
        report, differences = ledger.audit_path(stage.home("bank3"), stage.policy.read_bytes())
        held = sum(each.status == "ok" for each in report.verdicts)
        tale.expect("the audit of bank3", (report.ok, differences), (True, []))
        tale.expect(f"at least {_INVARIANTS_MIN} invariants hold", held >= _INVARIANTS_MIN, True)
        tell(
            f"bank3's ledger replayed from leaf 0: {held} invariants hold, "
            f"{report.transactions} transactions, {report.signatures:,} signatures"
        )
        facts |= {"invariants": held, "transactions": report.transactions, "signatures": report.signatures}
