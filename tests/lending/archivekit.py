"""A loan from application to its end on a small world's evidence, and what its archive is made of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from consentkit import SUBJECT_KEY
from disclosurekit import QUERY, build
from world import NAMES, NOW_MS, NOW_S, World

from taxledger.ledger.crypto import Signer
from taxledger.ledger.disclosure import decode_disclosure, encode_disclosure
from taxledger.ledger.hashing import sha256
from taxledger.ledger.policies import decode_policies
from taxledger.ledger.policydate import Verified, with_verified
from taxledger.lending.archive import PaymentDigest
from taxledger.lending.assessing import Case, assess
from taxledger.lending.decision import encode_decision
from taxledger.lending.evidence import EvidenceFile
from taxledger.lending.loans.contract import (
    Offer,
    encode_offer,
    sign_acceptance,
    sign_contract,
)
from taxledger.lending.loans.draworder import sign_draw_order
from taxledger.lending.loans.events import FIRST_PREVIOUS, Event, make_event, reasons_as_list
from taxledger.lending.loans.interest import Balance, InterestTerms
from taxledger.lending.payments.port import Account
from taxledger.lending.products.product import decode_product
from taxledger.lending.watch.alerts import Alert, alert_id, encode_alert

LOAN = "L-2024-1"
LENDER_KEY = Signer(sha256(b"the lender's key for contracts"))
ACCOUNT = Account(name="杭州示范精密机械有限公司", number="6222021202012345678", bank="ICBKCNBJ")
DAY_MS = 86_400_000
PRODUCT = """
id = "small"
version = 3
title = "Small line"
title_zh = "小额循环贷"
source = "made for a test"
currency = "CNY"
attested_within_days = 46

[[rules]]
id = "sales"
feature = "net_sales_12m"
at_least = "1,000.00"
title = "sales of 1,000.00 in 12 months"
title_zh = "近12个月销售不低于1000元"

[limit]
feature = "net_sales_12m"
factor = "50 %"
max = "1,000,000.00"
min = "100.00"
step = "1.00"

[terms]
months_max = 12
rate = "5.2 %"
revolving = true
offer_days = 7
""".encode()


NEWER = ("tax", "bank1", "bank2", "bank4")
"""Validators after bank4 came for bank3."""


@lru_cache
def disclosed(validators: tuple[str, ...] = NAMES) -> tuple[World, bytes, bytes]:
    """(the world, a disclosure in it, the consent that it stands under), certified by these validators."""
    world, data, artefact = build(validators=validators)
    return world, data, artefact.raw


def policy_file(validators: tuple[str, ...] = NAMES, time_s: int = NOW_S, size: int = 7) -> bytes:
    """The dated policy of these validators."""
    return with_verified(disclosed(validators)[0].policy_bytes, Verified(time_s=time_s, size=size))


def _tampered(data: bytes) -> bytes:
    """The disclosure with another salt: not what the use had planned."""
    file = decode_disclosure(data)
    return encode_disclosure(replace(file, salt=bytes(32)))


@dataclass
class Story:
    """A loan's events as they happen, and the arguments of its archive.

    ``change`` may replace the value of an event before it is written, by its kind.
    """

    change: Mapping[str, Callable[[list[Any]], list[Any]]] = field(default_factory=dict)
    files: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    payments: list[PaymentDigest] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    product: bytes = PRODUCT

    def note(self, kind: str, value: list[Any], at_ms: int = NOW_MS) -> None:
        last = self.events[-1] if self.events else None
        self.events.append(
            make_event(
                loan=LOAN,
                sequence=len(self.events) + 1,
                kind=kind,
                key=f"{LOAN}/{kind}/{len(self.events)}",
                at_ms=at_ms,
                value=self.change.get(kind, lambda each: each)(value),
                previous=last.hash if last else FIRST_PREVIOUS,
            )
        )

    def decide(
        self, *, evidence: bool = True, under: tuple[str, ...] = NAMES, tampered: bool = False
    ) -> None:
        """From the application to the decision, by a lender with the policy of these validators."""
        world, _data, artefact = disclosed()
        self.note("applied", [1, QUERY.subject, "small", "direct", "2024-12-31", []])
        self.note("consent_given", [1, sha256(artefact), SUBJECT_KEY.public_key, world.chain_id, 2])
        self.note("consented", [1, []])
        self.files.append(artefact)
        self._decide(NAMES if evidence else None, under, attempt=1, tampered=tampered)

    def decide_again(self, validators: tuple[str, ...]) -> None:
        """After ``incomplete``: on evidence that these validators certified, under their policy."""
        self._decide(validators, validators, attempt=2, tampered=False)

    def _decide(
        self, certified: tuple[str, ...] | None, under: tuple[str, ...], *, attempt: int, tampered: bool
    ) -> None:
        self.note("evidence_asked", [1, attempt, "2024-12-31"])
        files = [] if certified is None else [EvidenceFile(query=QUERY, data=disclosed(certified)[1])]
        if tampered:  # a use that was handed out, with another count of records than planned
            files = [EvidenceFile(query=each.query, data=_tampered(each.data)) for each in files]
        named = [[QUERY.as_list(), each.digest] for each in files]
        self.note("evidence", [1, named, None, []])
        self.decision = assess(
            Case(
                application=LOAN,
                product=decode_product(self.product, {}),
                subject=QUERY.subject,
                as_of=date(2024, 12, 31),
                security=(),
                recipient=2,
                age_ms_max=600_000,
            ),
            files,
            None,
            disclosed(under)[0].policy,
            decided_ms=NOW_MS,
        )
        stored = encode_decision(self.decision)
        self.files += [stored, *(each.data for each in files)]
        reasons = reasons_as_list(self.decision.reasons)
        self.note("decided", [1, sha256(stored), self.decision.outcome, reasons])

    def offer(self, **changes: Any) -> bytes:
        decision = self.decision
        arguments: dict[str, Any] = {
            "chain_id": disclosed()[0].chain_id,
            "loan": LOAN,
            "lender": 2,
            "subject": QUERY.subject,
            "product": decision.product,
            "product_version": decision.product_version,
            "decision": sha256(encode_decision(decision)),
            "currency": decision.currency,
            "limit": decision.limit,
            "interest": InterestTerms(rate_ppm=decision.rate_ppm or 0, day_count=360),
            "term_months_max": decision.term_months,
            "revolving": decision.revolving,
            "account": None,
            "offered_ms": NOW_MS,
            "valid_until_ms": NOW_MS + 7 * DAY_MS,
            **changes,
        }
        return encode_offer(Offer(**arguments))

    def agree(self, amount: int = 500_000, lender_key: Signer = LENDER_KEY, **changes: Any) -> None:
        """Offer, acceptance, contract."""
        offer = self.offer(**changes)
        self.note("offered", [1, offer])
        acceptance = sign_acceptance(
            SUBJECT_KEY, offer, amount=amount, term_months=6, account=ACCOUNT, accepted_ms=NOW_MS
        )
        self.contract = sign_contract(
            lender_key, offer, acceptance, borrower_key=SUBJECT_KEY.public_key, signed_ms=NOW_MS
        )
        self.note("accepted", [1, self.contract.raw, lender_key.public_key])
        self.note("pledged", [1, []])

    def draw(self, number: int, amount: int, day: str, order: bytes = b"") -> None:
        self.note("draw_ordered", [1, number, amount, day, order])
        self.note("paid", [1, f"ref-{number}", day])
        self.payments.append(PaymentDigest(draw=number, digest=sha256(b"message %d" % number)))
        self.balance = getattr(self, "balance", Balance(terms=self.contract.offer.interest)).draw(
            date.fromisoformat(day), amount
        )

    def order(self, number: int, amount: int, **changes: Any) -> bytes:
        arguments = {"number": number, "amount": amount, "valid_until_ms": NOW_MS + DAY_MS, **changes}
        contract = arguments.pop("contract", self.contract.digest)
        return sign_draw_order(arguments.pop("signer", SUBJECT_KEY), contract, **arguments)

    def repay(self, amount: int | None, day: str) -> None:
        on = date.fromisoformat(day)
        amount = self.balance.at(on).payoff if amount is None else amount
        self.balance, split = self.balance.repay(on, amount)
        self.note("repaid", [1, f"in-{day}", amount, day, split.interest, split.principal])

    def arguments(self, **changes: Any) -> dict[str, Any]:
        return {
            "loan": LOAN,
            "policies": decode_policies(policy_file()),
            "sealed_ms": NOW_MS + 200 * DAY_MS,
            "products": [self.product],
            "scorecards": {},
            "files": self.files,
            "events": self.events,
            "payments": self.payments,
            "alerts": self.alerts,
            **changes,
        }


def whole_story(**arguments: Any) -> Story:
    """Drawn twice, repaid in three parts, closed; one alert on the way."""
    story = Story(**arguments)
    story.decide()
    story.agree()
    story.draw(1, 500_000, "2025-06-16")
    story.repay(200_000, "2025-07-16")
    story.draw(2, 300_000, "2025-07-20", story.order(2, 300_000))
    story.repay(100_000, "2025-08-20")
    story.repay(None, "2025-11-03")
    story.note("close_asked", [1])
    story.note("closed", [1, []])
    story.alerts.append(
        encode_alert(
            Alert(
                id=alert_id(LOAN, "120-3", "record_changed"),
                loan=LOAN,
                event="120-3",
                rule="record_changed",
                severity="warning",
                text="records were changed",
                text_zh="企业记录发生变更",
                raised_ms=NOW_MS + DAY_MS,
                data={"reversed": 1},
            )
        )
    )
    return story
