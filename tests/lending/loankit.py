"""Loans for tests: applications, decisions and ports whose effects are files, so that they outlive a killed process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from threading import get_ident
from typing import Any

from consentkit import SUBJECT_KEY, make_artefact

from taxledger.ledger.crypto import Signer
from taxledger.ledger.errors import TaxledgerError, UnavailableError
from taxledger.ledger.hashing import sha256
from taxledger.ledger.query import Query
from taxledger.lending.decision import Decision, Reason
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.loans.contract import sign_acceptance
from taxledger.lending.loans.draworder import sign_draw_order
from taxledger.lending.loans.life import LoanEngine
from taxledger.lending.loans.loan import Loan
from taxledger.lending.loans.ports import (
    Application,
    Evidence,
    EvidenceRequest,
    PledgeOrder,
    Ports,
)
from taxledger.lending.loans.store import LoanStore
from taxledger.lending.payments.outbox import PaymentOutbox
from taxledger.lending.payments.port import Account, Payment, PaymentInstruction, PaymentPort

BANK_KEY = Signer(bytes(range(32)))
LENDER = 2
SUBJECT = "uscc:91110101MA00000005"
START = date(2024, 3, 1)
PAYER = Account(name="测试银行北京分行", number="0200001019200012345", bank="TESTCNBJ")
PAYEE = Account(name="北京小微科技有限公司", number="110060149018010087654", bank="102100099996")
RECORD = bytes([1]) + bytes(36)
REASON = Reason(code="custodian_silent", text="custodian 1 did not answer in time", text_zh="数据机构未答复")


def application(id: str = "L1", **changes: Any) -> Application:
    made = Application(id=id, subject=SUBJECT, product="test", channel="direct")
    return replace(made, **changes)


def decision(id: str = "L1", **changes: Any) -> Decision:
    made = Decision(
        application=id,
        product="test",
        product_version=1,
        product_digest="00" * 32,
        scorecard_digest=None,
        recipient=LENDER,
        subject=SUBJECT,
        as_of="2024-03-01",
        decided_ms=0,
        age_ms_max=600_000,
        outcome="approve",
        reasons=(),
        rules=(),
        features=(),
        score=None,
        grade=None,
        limit=10_000_000,
        currency="CNY",
        rate_ppm=45_000,
        term_months=12,
        day_count=360,
        rounding="half_up",
        revolving=True,
        offer_days=7,
        security=(RECORD.hex(),),
        security_ppm=700_000,
        evidence=(),
    )
    return replace(made, **changes)


class FakeClock:
    """A clock that stands until it is set."""

    def __init__(self, day: date = START) -> None:
        self.day = day

    def now_ms(self) -> int:
        return int(datetime(self.day.year, self.day.month, self.day.day, 4, tzinfo=UTC).timestamp()) * 1_000

    def today(self) -> date:
        return self.day


class FileWorld:
    """Consent, evidence and pledges as files in a folder: one file an effect, named by its key.

    ``calls`` counts the calls of this process. ``fail`` may raise before the effect, ``lose`` after it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.fail: dict[str, TaxledgerError] = {}
        self.lose: dict[str, TaxledgerError] = {}
        self.came = Evidence(
            files=(
                EvidenceFile(
                    query=Query(
                        subject=SUBJECT, issuer=1, kinds=(2,), from_period="2023-03", to_period="2024-02"
                    ),
                    data=b"evidence",
                ),
            ),
            pledges=b"pledge proof",
        )
        for name in ("consents", "evidence", "pledges", "released"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def _effect(self, what: str, folder: str, key: str, value: Any) -> Any:
        self.calls.append(what)
        if what in self.fail:
            raise self.fail.pop(what)
        path = self.folder / folder / key
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}.{get_ident()}")
            part.write_text(json.dumps(value))
            with suppress(FileExistsError):  # another worker was faster: what it wrote counts
                os.link(part, path)
            part.unlink()
        if what in self.lose:
            raise self.lose.pop(what)
        return json.loads(path.read_text())

    def forward(self, artefact: bytes, *, key: str) -> tuple[Reason, ...]:
        self._effect("forward", "consents", key, artefact.hex())
        return ()

    def collect(self, request: EvidenceRequest) -> Evidence:
        self._effect("collect", "evidence", request.key, request.as_of.isoformat())
        return self.came

    def place(self, order: PledgeOrder, *, key: str) -> tuple[bytes, ...]:
        # As on a ledger: an id is new whenever it is placed anew.
        made = [os.urandom(16).hex() for _ in order.security]
        return tuple(bytes.fromhex(each) for each in self._effect("place", "pledges", key, made))

    def check(self, loan: str, pledges: tuple[bytes, ...]) -> None:
        if "check" in self.fail:
            raise self.fail.pop("check")

    def release(self, pledges: tuple[bytes, ...], *, key: str) -> None:
        self._effect("release", "released", key, [each.hex() for each in pledges])


class CountedPayments:
    """A payment port, with what ``FileWorld`` counts and fails."""

    def __init__(self, world: FileWorld, port: PaymentPort) -> None:
        self.world, self.port = world, port

    def pay(self, instruction: PaymentInstruction) -> Payment:
        self.world.calls.append("pay")
        if "pay" in self.world.fail:
            raise self.world.fail.pop("pay")
        payment = self.port.pay(instruction)
        if "pay" in self.world.lose:
            raise self.world.lose.pop("pay")
        return payment


Decide = Callable[[EvidenceRequest, Evidence, int], Decision]


def decide_by(**changes: Any) -> Decide:
    """Decides by the evidence's reasons, else as ``decision(**changes)``."""

    def decide(request: EvidenceRequest, came: Evidence, decided_ms: int) -> Decision:
        made = decision(
            request.application.id,
            as_of=request.as_of.isoformat(),
            decided_ms=decided_ms,
            evidence=tuple(sha256(each.data).hex() for each in came.files),
            **changes,
        )
        if came.reasons:
            return replace(made, outcome="incomplete", reasons=came.reasons, limit=0, rate_ppm=None)
        return made

    return decide


class Bench:
    """An engine with its world, and the enterprise that signs."""

    def __init__(self, store: LoanStore, folder: Path, *, day: date = START, **terms: Any) -> None:
        self.store = store
        self.clock = FakeClock(day)
        self.world = FileWorld(folder)
        self.outbox = folder / "outbox"
        self.one_line = False
        self.ports = Ports(
            consents=self.world,
            evidence=self.world,
            decide=decide_by(**terms),
            pledges=self.world,
            payments=CountedPayments(self.world, PaymentOutbox(self.outbox, PAYER)),
            clock=self.clock,
        )
        self.engine = LoanEngine(
            store,
            self.ports,
            lender=LENDER,
            contract_key=BANK_KEY,
            one_line=lambda loan: self.one_line,
        )

    def offered(self, id: str = "L1", **changes: Any) -> Loan:
        """A loan that waits for the enterprise's acceptance, or has ended before."""
        self.engine.apply(application(id, **changes))
        self.engine.consent(id, artefact())
        return self.engine.advance(id)

    def acceptance(self, loan: Loan, amount: int = 6_000_000, months: int = 6, **changes: Any) -> bytes:
        return sign_acceptance(
            changes.pop("signer", SUBJECT_KEY),
            changes.pop("offer", loan.offer_raw),
            amount=amount,
            term_months=months,
            account=changes.pop("account", PAYEE),
            accepted_ms=self.clock.now_ms(),
        )

    def paid_out(self, id: str = "L1", amount: int = 6_000_000) -> Loan:
        """A loan that was paid out."""
        loan = self.offered(id)
        self.engine.accept(id, self.acceptance(loan, amount))
        return self.engine.advance(id)

    def order(self, loan: Loan, amount: int, number: int | None = None, **changes: Any) -> bytes:
        assert loan.contract is not None
        return sign_draw_order(
            changes.pop("signer", SUBJECT_KEY),
            changes.pop("contract", loan.contract.digest),
            number=len(loan.draws) + 1 if number is None else number,
            amount=amount,
            valid_until_ms=self.clock.now_ms() + changes.pop("lives_ms", 3_600_000),
        )

    def payments(self) -> list[Path]:
        return sorted(self.outbox.glob("*.xml")) + sorted((self.outbox / "taken").glob("*.xml"))

    def effects(self, folder: str) -> list[Path]:
        return sorted((self.world.folder / folder).iterdir())


def artefact(**changes: Any) -> bytes:
    """The enterprise's consent, which allows pledges."""
    return make_artefact(**{"recipient": LENDER, "may_pledge": True, **changes}).raw


BUSY = UnavailableError("the line is down")
