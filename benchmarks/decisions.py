"""Decisions from warm evidence: the files are in memory, and everything else is done each time.

Verified, decoded into facts, every feature of the product computed, every rule asked, the decision encoded: what a
bank's process does once a custodian has answered. In time of the processor, on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.figures import Figure, median_us
from benchmarks.loans import AS_OF, Applicant, LoanNetwork
from taxledger.lending.assessing import Case, assess
from taxledger.lending.deciding import decide
from taxledger.lending.decision import encode_decision
from taxledger.lending.desk import LendingDesk, open_desk
from taxledger.lending.evidence import EvidenceFile, VerifiedEvidence, verify_evidence_set
from taxledger.lending.features.feature import Basis, Feature
from taxledger.lending.loans.ports import Application
from taxledger.lending.products.comparison import Comparison
from taxledger.lending.products.product import Product
from taxledger.lending.settings import load_settings
from taxledger.nodes.cli.lend.opening import lending_folder
from taxledger.nodes.cli.output import connect

__all__ = ["SIZES", "measure_decisions"]

SIZES = (100, 1_000, 10_000)
_PRODUCT = "invoice"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Warm:
    """What a decision was made on."""

    case: Case
    files: tuple[EvidenceFile, ...]
    pledges: bytes | None
    decided_ms: int


def measure_decisions(net: LoanNetwork, applicant: Applicant, sizes: Sequence[int] = SIZES) -> list[Figure]:
    """The invoice product for enterprises of so many invoices, the tax product for a generated one."""
    cases = [(f"decision.{size}", net.enter(f"cumcm:E{size}"), _PRODUCT) for size in sizes]
    cases.append(("decision.tax", applicant, "tax"))
    settings = load_settings(lending_folder(net.bank.path))
    with (
        connect(net.bank) as client,
        open_desk(settings, client, policy_file=net.bank.policy(), recipient=net.bank.config.number) as desk,
    ):
        found = []
        for name, each, product in cases:
            found += _measure(name, desk, _collect(net, desk, each, product))
        return found


def _collect(net: LoanNetwork, desk: LendingDesk, applicant: Applicant, product: str) -> _Warm:
    id = f"L{product}-{applicant.subject.replace(':', '-')}"
    application = Application(
        id=id, subject=applicant.subject, product=product, channel="direct", as_of=AS_OF, security=()
    )
    desk.apply(application, net.consent(applicant, product))
    loan = desk.advance(id)
    decision, evidence = desk.engine.decision(loan), desk.engine.evidence(loan)
    if decision.outcome == "incomplete":
        raise SystemExit(f"expected a decision on {applicant.subject}, got {decision.reasons}")
    case = Case(
        application=id,
        product=desk.keeper.product(product),
        subject=applicant.subject,
        as_of=AS_OF,
        security=(),
        recipient=desk.trust.recipient,
        age_ms_max=desk.trust.age_ms_max,
    )
    return _Warm(case=case, files=evidence.files, pledges=evidence.pledges, decided_ms=decision.decided_ms)


def _measure(name: str, desk: LendingDesk, warm: _Warm) -> list[Figure]:
    case, policy = warm.case, desk.trust.policy
    ages = {"now_ms": warm.decided_ms, "age_ms_max": case.age_ms_max}

    def verify() -> VerifiedEvidence:
        return verify_evidence_set(warm.files, policy, recipient=case.recipient, **ages)

    def whole() -> bytes:
        return encode_decision(assess(case, warm.files, warm.pledges, policy, decided_ms=warm.decided_ms))

    verified = verify()
    n = sum(len(each) for each in verified.facts.records.values())
    rounds = {
        "verify": verify,
        "features": lambda: _features(case.product, verified),
        "rules": _rules(case, verified, warm.decided_ms),
        "whole": whole,
    }
    taken_us = {each: _taken_us(call) for each, call in rounds.items()}
    return [
        *(
            Figure(name=f"{name}.{each}", value=value / 1e3, unit="ms", n=n)
            for each, value in taken_us.items()
        ),
        Figure(name=f"{name}.decisions", value=1e6 / taken_us["whole"], unit="1/s", n=n),
    ]


def _taken_us(call: Callable[[], object]) -> float:
    """Long enough that the clock's steps don't count: rounds of at least about 20 ms."""
    begin = time.thread_time()
    call()
    once = max(time.thread_time() - begin, 1e-6)
    return median_us(call, calls=max(1, int(0.02 / once)), rounds=7, clock=time.thread_time)


def _features(product: Product, verified: VerifiedEvidence) -> dict[str, int | None]:
    """Every feature, on facts that none has read yet (a copy has no derived tables)."""
    facts, basis = replace(verified.facts), Basis(as_of=AS_OF, currency=product.currency)
    return {each.id: each.compute(facts, basis) for each in product.features}


def _rules(case: Case, verified: VerifiedEvidence, decided_ms: int) -> Callable[[], object]:
    """``decide`` with features that take no time: coverage, rules, score, terms."""
    product = _with_values(case.product, _features(case.product, verified))
    return lambda: decide(
        product,
        verified,
        application=case.application,
        recipient=case.recipient,
        as_of=case.as_of,
        decided_ms=decided_ms,
        age_ms_max=case.age_ms_max,
    )


def _with_values(product: Product, values: Mapping[str, int | None]) -> Product:
    """The product with features that say what was computed before."""

    def known(feature: Feature) -> Feature:
        return replace(feature, compute=lambda _facts, _basis: values[feature.id])

    def of_rule(comparison: Comparison) -> Comparison:
        return replace(comparison, feature=known(comparison.feature))

    card = product.scorecard
    return replace(
        product,
        rules=tuple(replace(each, comparison=of_rule(each.comparison)) for each in product.rules),
        watch=tuple(replace(each, comparison=of_rule(each.comparison)) for each in product.watch),
        limit=replace(product.limit, feature=known(product.limit.feature)),
        scorecard=None
        if card is None
        else replace(card, bands=tuple(replace(each, feature=known(each.feature)) for each in card.bands)),
    )
