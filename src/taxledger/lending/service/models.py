"""The JSON bodies of the service. Money is decimal text, never a float; digests are hex, signed bytes base64."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from taxledger.ledger import limits

__all__ = [
    "AcceptanceRequest",
    "AlertBody",
    "AlertsBody",
    "ApplicationRequest",
    "ConsentRequest",
    "DrawRequest",
    "Health",
    "LoanBody",
    "LoanRow",
    "LoansBody",
    "OfferBody",
    "ProblemBody",
    "ProductBody",
    "ProductRow",
    "ProductsBody",
    "RepaymentRequest",
    "RetryRequest",
]

_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_LOAN = "L3f68e4a1b2c3d4e5f607"


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [values]})


def _base64(bytes_max: int, what: str) -> Any:
    return Field(min_length=4, max_length=4 * -(-bytes_max // 3), description=f"base64 of {what}")


Money = Annotated[
    str, Field(pattern=r"^(0|[1-9][0-9]{0,12})(\.[0-9]{1,4})?$", examples=["50000.00"], max_length=18)
]
"""Decimal text of the loan's currency, without separators."""
Artefact = Annotated[str, _base64(limits.consent_bytes_max, "the signed consent")]


class ApplicationRequest(BaseModel):
    """An application with the consent that the enterprise signed; the enterprise is the one that the consent names."""

    model_config = _example(id="A-2026-00017", product="invoice", consent="lQGnY29uc2VudMUB…", security=[])
    id: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$",
            description="what the sender calls it: the same id is the same application; without it, the "
            "Idempotency-Key stands for it",
        ),
    ] = None
    product: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    consent: Artefact
    security: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]],
        Field(max_length=64, description="numbers of the records offered as security"),
    ] = []
    as_of: Annotated[
        date | None, Field(description="the decision date, for an officer only; null: the day of asking")
    ] = None


class ConsentRequest(BaseModel):
    """Another consent, after evidence was incomplete."""

    model_config = _example(consent="lQGnY29uc2VudMUB…")
    consent: Artefact


class RetryRequest(BaseModel):
    """Which attempt was incomplete: named, so that the same request again makes no second one."""

    model_config = _example(attempt=1)
    attempt: Annotated[int, Field(ge=1, le=limits.integer_max)]


class AcceptanceRequest(BaseModel):
    """What the enterprise signed (docs/lending.md, Contract)."""

    model_config = _example(acceptance="lQGvbG9hbl9hY2NlcHRhbmNl…")
    acceptance: Annotated[str, _base64(limits.loan_contract_bytes_max, "the signed acceptance")]


class DrawRequest(BaseModel):
    """An order to pay out more, signed by the enterprise (docs/lending.md, Contract)."""

    model_config = _example(order="lQGpbG9hbl9kcmF3…")
    order: Annotated[str, _base64(limits.loan_contract_bytes_max, "the signed order")]


class RepaymentRequest(BaseModel):
    """A repayment that the core banking system has received."""

    model_config = _example(reference="CB20260105-77", amount="10000.00", value_date="2026-01-05")
    reference: Annotated[
        str,
        Field(pattern=r"^[!-~]{1,100}$", description="unique among all loans; the same again counts once"),
    ]
    amount: Money
    value_date: date


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReasonBody(_Body):
    code: str
    text: str
    text_zh: str


class AccountBody(_Body):
    name: str
    number: str
    bank: str


class OfferTerms(_Body):
    """What is offered; the digest names it."""

    digest: str
    limit: str
    currency: str
    rate_ppm: Annotated[int, Field(description="per year, parts per million")]
    day_count: int
    rounding: str
    term_months_max: int
    revolving: bool
    account: Annotated[AccountBody | None, Field(description="the only account that may receive it, if any")]
    valid_until_ms: int


class OfferBody(OfferTerms):
    """An offer with its bytes, which the enterprise checks and signs its acceptance of."""

    loan: str
    offer: Annotated[str, Field(description="base64")]


class AcceptedBody(_Body):
    amount: str
    term_months: int
    account: AccountBody
    contract: Annotated[str, Field(description="base64 of the contract, signed by both")]
    contract_digest: Annotated[str, Field(description="what an order to draw names")]


class DrawBody(_Body):
    number: int
    amount: str
    value_date: str
    reference: Annotated[str | None, Field(description="of the payment; null: not paid, or not yet")]
    refused: ReasonBody | None


class RepaymentBody(_Body):
    reference: str
    amount: str
    value_date: str
    interest: str
    principal: str


class LoanBody(_Body):
    """A loan as it stands."""

    loan: str
    state: str
    pending: Annotated[str | None, Field(description="an effect that was begun, its outcome not known yet")]
    working: Annotated[bool, Field(description="the service goes on with it by itself")]
    trouble: Annotated[str | None, Field(description="code of what hindered the last attempt to go on")]
    subject: str
    product: str
    channel: str
    as_of: str | None
    security: list[str]
    attempt: int
    changed_ms: int
    outcome: str | None
    reasons: list[ReasonBody]
    decision: Annotated[str | None, Field(description="SHA-256 of the decision's bytes")]
    offer: OfferTerms | None
    accepted: AcceptedBody | None
    pledges: list[str]
    draws: list[DrawBody]
    repayments: list[RepaymentBody]
    currency: str | None
    line: str | None
    principal: str | None
    owed: Annotated[str | None, Field(description="what would end it today, interest included")]
    room: Annotated[str | None, Field(description="what may still be drawn")]
    matures: str | None
    closing: bool


class LoanRow(_Body):
    """A loan in a list."""

    loan: str
    state: str
    subject: str
    product: str
    opened_ms: int
    changed_ms: int
    currency: str | None
    line: str | None
    principal: str | None


class LoansBody(_Body):
    loans: Annotated[list[LoanRow], Field(description="the newest first")]


class AlertBody(_Body):
    id: str
    loan: str
    event: str
    rule: str
    severity: str
    text: str
    text_zh: str
    raised_ms: int
    data: dict[str, str | int | None]


class AlertsBody(_Body):
    alerts: Annotated[list[AlertBody], Field(description="the newest first")]


class ProductRow(_Body):
    product: str
    version: int
    title: str
    title_zh: str
    currency: str
    limit_max: str
    security: Annotated[str | None, Field(description="kind of record that may be pledged")]
    security_required: bool


class ProductsBody(_Body):
    products: list[ProductRow]


class RuleBody(_Body):
    id: str
    feature: str
    operator: str
    thresholds: Annotated[list[str], Field(description="as people write them: 5,000.00 · 5 % · B · 24")]
    fail: str
    undefined: str
    title: str
    title_zh: str


class ProductBody(ProductRow):
    """A product with its rules, and what it reads."""

    digest: Annotated[str, Field(description="SHA-256 of the product file")]
    source: str
    kinds: Annotated[dict[str, int], Field(description="kind of record: months of it that are read")]
    rules: list[RuleBody]
    term_months_max: int
    revolving: bool


class Health(_Body):
    status: Literal["ok"]


class ProblemBody(BaseModel):
    """An RFC 9457 problem."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/loan_unknown",
                    "title": "There is no such loan",
                    "title_zh": "无此贷款",
                    "status": 404,
                    "detail": f"no loan {_LOAN!r}",
                    "instance": "urn:taxledger:request:3f2a9c1b7d5e4a60",
                    "code": "loan_unknown",
                }
            ]
        },
    )
    type: str
    title: str
    title_zh: str
    status: int
    detail: str
    instance: str
    code: str
