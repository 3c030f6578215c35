"""Loans, offers, products and alerts as the service's JSON (``models.py``)."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import date
from decimal import Decimal

from taxledger.ledger.currencies import MINOR_DIGITS
from taxledger.ledger.errors import FormatError
from taxledger.ledger.kinds import kind_name
from taxledger.lending.decision import Reason
from taxledger.lending.loans.contract import Contract, Offer, offer_digest
from taxledger.lending.loans.loan import Draw, Loan, Repayment
from taxledger.lending.loans.store import LoanSummary
from taxledger.lending.payments.port import Account
from taxledger.lending.products.product import Product
from taxledger.lending.products.quantities import show_quantity
from taxledger.lending.service import models
from taxledger.lending.watch import Alert

__all__ = [
    "alert_body",
    "loan_body",
    "loan_row",
    "money",
    "offer_body",
    "product_body",
    "product_row",
    "read_money",
]


def money(minor: int, currency: str) -> str:
    """Decimal text of minor units: ``50000.00``."""
    digits = MINOR_DIGITS.get(currency, 2)
    return f"{Decimal(minor).scaleb(-digits):.{digits}f}"


def read_money(text: str, currency: str) -> int:
    """Minor units of decimal text. Raises FormatError: more decimal places than the currency has."""
    digits = MINOR_DIGITS.get(currency, 2)
    value = Decimal(text).scaleb(digits)
    if value != value.to_integral_value():
        raise FormatError(f"expected an amount of {currency} with at most {digits} decimal places")
    return int(value)


def _reason(reason: Reason) -> models.ReasonBody:
    return models.ReasonBody(code=reason.code, text=reason.text, text_zh=reason.text_zh)


def _account(account: Account) -> models.AccountBody:
    return models.AccountBody(name=account.name, number=account.number, bank=account.bank)


def _terms(offer: Offer, raw: bytes) -> dict[str, object]:
    return {
        "digest": offer_digest(raw).hex(),
        "limit": money(offer.limit, offer.currency),
        "currency": offer.currency,
        "rate_ppm": offer.interest.rate_ppm,
        "day_count": offer.interest.day_count,
        "rounding": offer.interest.rounding,
        "term_months_max": offer.term_months_max,
        "revolving": offer.revolving,
        "account": None if offer.account is None else _account(offer.account),
        "valid_until_ms": offer.valid_until_ms,
    }


def offer_body(loan: str, offer: Offer, raw: bytes) -> models.OfferBody:
    """An offer with its bytes."""
    return models.OfferBody(loan=loan, offer=base64.b64encode(raw).decode(), **_terms(offer, raw))


def _accepted(contract: Contract) -> models.AcceptedBody:
    chosen = contract.acceptance
    return models.AcceptedBody(
        amount=money(chosen.amount, contract.offer.currency),
        term_months=chosen.term_months,
        account=_account(chosen.account),
        contract=base64.b64encode(contract.raw).decode(),
        contract_digest=contract.digest.hex(),
    )


def _draw(draw: Draw, currency: str) -> models.DrawBody:
    return models.DrawBody(
        number=draw.number,
        amount=money(draw.amount, currency),
        value_date=draw.value_date.isoformat(),
        reference=draw.reference,
        refused=None if draw.refused is None else _reason(draw.refused),
    )


def _repayment(repayment: Repayment, currency: str) -> models.RepaymentBody:
    return models.RepaymentBody(
        reference=repayment.reference,
        amount=money(repayment.amount, currency),
        value_date=repayment.value_date.isoformat(),
        interest=money(repayment.split.interest, currency),
        principal=money(repayment.split.principal, currency),
    )


def _owed(loan: Loan, today: date) -> int | None:
    """What would end it today, minor units."""
    if loan.balance is None or loan.balance.day is None:
        return None
    return loan.balance.at(max(today, loan.balance.day)).payoff


def loan_body(loan: Loan, today: date, *, working: bool, trouble: str | None) -> models.LoanBody:
    """A loan as it stands; what is owed is as of ``today``."""
    currency = None if loan.offer is None else loan.offer.currency
    owed = _owed(loan, today)

    def shown(minor: int | None) -> str | None:
        return None if minor is None or currency is None or loan.contract is None else money(minor, currency)

    return models.LoanBody(
        loan=loan.id,
        state=loan.state.value,
        pending=None if loan.pending is None else loan.pending.value,
        working=working,
        trouble=trouble,
        subject=loan.application.subject,
        product=loan.application.product,
        channel=loan.application.channel,
        as_of=None if loan.as_of is None else loan.as_of.isoformat(),
        security=list(loan.application.security),
        attempt=loan.attempt,
        changed_ms=loan.changed_ms,
        outcome=loan.outcome,
        reasons=[_reason(each) for each in loan.reasons],
        decision=None if loan.decision is None else loan.decision.hex(),
        offer=None if loan.offer is None else models.OfferTerms(**_terms(loan.offer, loan.offer_raw)),
        accepted=None if loan.contract is None else _accepted(loan.contract),
        pledges=[each.hex() for each in loan.pledges],
        draws=[_draw(each, currency or "") for each in loan.draws],
        repayments=[_repayment(each, currency or "") for each in loan.repayments],
        currency=currency,
        line=shown(None if loan.contract is None else loan.contract.line),
        principal=shown(loan.principal),
        owed=shown(owed),
        room=shown(loan.room),
        matures=None if loan.matures is None else loan.matures.isoformat(),
        closing=loan.closing,
    )


def loan_row(row: LoanSummary) -> models.LoanRow:
    """A loan in a list."""
    return models.LoanRow(
        loan=row.id,
        state=row.state,
        subject=row.subject,
        product=row.product,
        opened_ms=row.opened_ms,
        changed_ms=row.changed_ms,
        currency=row.currency,
        line=None if row.currency is None else money(row.line, row.currency),
        principal=None if row.currency is None else money(row.principal, row.currency),
    )


def alert_body(alert: Alert) -> models.AlertBody:
    return models.AlertBody(**asdict(alert))


def _row(product: Product) -> dict[str, object]:
    security = product.security
    return {
        "product": product.id,
        "version": product.version,
        "title": product.title,
        "title_zh": product.title_zh,
        "currency": product.currency,
        "limit_max": money(product.limit.max, product.currency),
        "security": None if security is None else kind_name(security.kind),
        "security_required": security is not None and security.required,
    }


def product_row(product: Product) -> models.ProductRow:
    return models.ProductRow(**_row(product))


def product_body(product: Product) -> models.ProductBody:
    """A product with its rules."""
    return models.ProductBody(
        **_row(product),
        digest=product.digest.hex(),
        source=product.source,
        kinds={kind_name(kind): months for kind, months in product.months.items()},
        rules=[
            models.RuleBody(
                id=each.id,
                feature=each.comparison.feature.id,
                operator=each.comparison.operator,
                thresholds=[
                    show_quantity(one, each.comparison.feature.unit) for one in each.comparison.thresholds
                ],
                fail=each.fail,
                undefined=each.undefined,
                title=each.title,
                title_zh=each.title_zh,
            )
            for each in product.rules
        ],
        term_months_max=product.terms.months_max,
        revolving=product.terms.revolving,
    )
