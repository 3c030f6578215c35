"""Papers: the officer's report, and an archive of each loan that anyone verifies with policy file and key alone."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from taxledger.ledger.errors import InputError, VerificationError
from taxledger.nodes.cli.demo import lender
from taxledger.nodes.cli.demo.aftercare import REPAID_DAYS, LaterClock
from taxledger.nodes.cli.demo.stage import Stage
from taxledger.nodes.cli.demo.tale import Tale, tell
from taxledger.nodes.cli.output import money, write_file

if TYPE_CHECKING:
    from taxledger.ledger.policies import Policies
    from taxledger.lending.desk import LendingDesk
    from taxledger.lending.loans.loan import Loan

__all__ = ["papers"]


def papers(stage: Stage, tale: Tale, desk: LendingDesk, loans: list[Loan]) -> None:
    """The officer's report of the invoice loan; an archive of each loan, verified with nothing but policy and key."""
    from taxledger.ledger.policies import decode_policies
    from taxledger.lending.archive import verify_archive

    with tale.step(
        "The officer's report, and archives that anyone verifies offline", "信贷报告与离线档案"
    ) as facts:
        files = _reports(stage, tale, desk, loans[1])
        policies, key = decode_policies(stage.policy.read_bytes()), desk.contract_key.public_key
        checked = {}
        for loan in loans:
            # Sealed by the same calendar as the loan's last event.
            days = REPAID_DAYS[-1] if desk.engine.load(loan.id).state.value == "closed" else 0
            with lender.opened_lender(stage, "bank1", LaterClock(days)) as sealing:
                data = sealing.archive(loan.id)
            path = stage.folder / f"{loan.application.product}.archive"
            write_file(path, data, private=True)
            found = verify_archive(data, policies, key)
            files.append(path)
            checked[loan.id] = found.state
            tell(
                f"{path.name:20}{len(data):>9,} bytes  verified 已验证: {found.state:8}  paid {money(found.paid):>12}  "
                f"interest {money(found.repaid_interest):>9}  {found.events} events, {found.alerts} alerts"
            )
            tale.data.setdefault("verify", []).append(
                f"taxledger lend verify-archive {shlex.quote(stage.shown(path))} --policy "
                f"{shlex.quote(stage.shown(stage.policy))} --lender-key {key.hex()}"
            )
        _tamper(stage, tale, policies, key, files[-1])
        facts |= {"files": [each.name for each in files], "archives": checked, "lender_key": key.hex()}


def _reports(stage: Stage, tale: Tale, desk: LendingDesk, loan: Loan) -> list[Path]:
    files = []
    for name, language, pdf in (("zh.html", "zh", False), ("en.html", "en", False), ("zh.pdf", "zh", True)):
        path = stage.folder / f"{loan.application.product}-{name}"
        data = desk.report(loan.id, language="zh" if language == "zh" else "en", pdf=pdf)
        write_file(path, data, private=True)
        tell(f"{path.name:20}{len(data):>9,} bytes")
        tale.expect(
            f"{path.name} begins as it should", data[:4] == b"%PDF" if pdf else data[:1] == b"<", True
        )
        files.append(path)
    return files


def _tamper(stage: Stage, tale: Tale, policies: Policies, key: bytes, path: Path) -> None:
    """A bit of the archive's middle turned over."""
    from taxledger.lending.archive import verify_archive

    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    write_file(stage.folder / "tampered.archive", bytes(data), private=True)
    said = "verified"
    try:
        verify_archive(bytes(data), policies, key)
    except (VerificationError, InputError) as refusal:
        said = str(refusal)
    tale.expect("a tampered archive is refused", said != "verified", True)
    tell(f"tampered.archive, one bit turned over: refused 拒绝: {said}")
