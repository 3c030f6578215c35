"""Facts made by hand for decisions: one enterprise that every product approves, and ways to spoil it."""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.deciding import decide
from taxledger.lending.decision import Decision
from taxledger.lending.evidence import VerifiedEvidence
from taxledger.lending.facts import Coverage, Fact, Facts
from taxledger.lending.products.catalogue import shipped_files
from taxledger.lending.products.product import Product

AS_OF = date(2025, 12, 31)
NOW_MS = 1_767_200_000_000
SUBJECT = "uscc:91110101MA00000005"
RECIPIENT = 2
ISSUER = 1
AGE_MS_MAX = 600_000
FILES = shipped_files()
PRODUCTS: dict[str, Product] = {id: FILES.product(id) for id in FILES.products}


def months(first: str, last: str) -> list[str]:
    """``YYYY-MM`` from first to last."""
    found, year, month = [], int(first[:4]), int(first[5:])
    while (text := f"{year:04}-{month:02}") <= last:
        found.append(text)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return found


def last_day(month: str) -> str:
    return f"{month}-{calendar.monthrange(int(month[:4]), int(month[5:]))[1]}"


def fact(kind: str, *, status: Status = Status.VALID, issuer: int = ISSUER, **values: Any) -> Fact:
    """A record whose key and fingerprint follow from its content."""
    digest = hashlib.sha256(repr((kind, sorted(values.items()))).encode()).digest()
    pledgeable = kind in ("procurement_award", "engineering_contract") or values.get("direction") == "sale"
    return Fact(
        kind=KINDS[kind],
        issuer=issuer,
        key=b"\x01\x00\x01" + bytes([KINDS[kind]]) + digest[:16] + b"\x01" + digest[16:],
        version=1,
        status=status,
        fingerprint=digest[:16] if pledgeable else None,
        schema=1,
        fields=values,
    )


def invoice(day: str, net: int, *, party: str = "B1", direction: str = "sale", **more: Any) -> Fact:
    tax = net * 13 // 100
    fields = {"net": net, "tax": tax, "gross": net + tax, "currency": "CNY", "number": f"{day}-{party}-{net}"}
    return fact(
        "vat_invoice", **{**fields, "direction": direction, "date": day, "counterparty": party, **more}
    )


def good_records() -> dict[str, list[Fact]]:
    """36 months of an enterprise that files, sells, uses electricity, exports and owes nobody anything."""
    span = months("2023-01", "2025-12")
    return {
        "vat_invoice": [
            invoice(f"{month}-{day:02}", 4_000_000 + 1_000 * number, party=f"B{number % 9}")
            for at, month in enumerate(span)
            for number, day in ((3 * at, 4), (3 * at + 1, 13), (3 * at + 2, 25))
        ]
        + [invoice(f"{month}-09", 2_000_000, party="S1", direction="purchase") for month in span],
        "tax_filing": [
            fact(
                "tax_filing", tax="vat", period=month, months=1, number=f"F{month}", filed=last_day(month),
                due=last_day(month), currency="CNY", sales=12_000_000, output_tax=1_560_000, input_tax=260_000,
                payable=1_300_000, paid=1_300_000,
            )
            for month in span
        ],
        "tax_credit_rating": [
            fact("tax_credit_rating", year=year, grade="A", published=f"{year + 1}-04-20")
            for year in (2022, 2023, 2024)
        ],
        "tax_arrears": [],
        "business_registration": [
            fact("business_registration", number="R1", registered="2019-03-01", state="active")
        ],
        "procurement_award": [
            fact(
                "procurement_award", register="demo", number="A1", contract="C1", buyer="B", buyer_public=True,
                awarded="2025-10-10", completes="2026-10-10", state="active", winners=1, currency="CNY",
                amount=100_000_000, paid=20_000_000, account="6222000000000001",
            )
        ],
        "engineering_contract": [
            fact(
                "engineering_contract", number="E1", owner="O", owner_public=True, signed="2025-03-01",
                completes="2026-12-31", state="active", currency="CNY", amount=300_000_000,
                certified=120_000_000, paid=60_000_000, overdue=0, certified_on="2025-12-01", account="62220001",
            )
        ],
        "utility_usage": [
            fact(
                "utility_usage", utility="electricity", meter="M1", month=month, usage_wh=30_000_000,
                currency="CNY", amount=2_500_000, arrears=0,
            )
            for month in span
        ],
        "customs_declaration": [
            fact(
                "customs_declaration", direction="export", number=f"D{month}", declared=f"{month}-08",
                cleared=f"{month}-11", state="cleared", currency="CNY", value=9_000_000, country="DE",
            )
            for month in span
        ],
        "technology_qualification": [
            fact(
                "technology_qualification", category="high_tech", number="H1", issued="2024-11-01",
                valid_from="2024-11-01", valid_until="2027-10-31",
            )
        ],
        "credit_summary": [
            fact(
                "credit_summary", as_of="2025-12-20", lenders=0, loans_open=0, currency="CNY", outstanding=0,
                overdue=0, overdue_days=0,
            )
        ],
    }  # fmt: skip


def facts_of(records: Mapping[str, Iterable[Fact]], **coverage: Any) -> Facts:
    """Facts whose evidence covers everything, but for what ``coverage`` says of it."""
    found = {KINDS[kind]: tuple(sorted(each, key=lambda one: one.key)) for kind, each in records.items()}
    whole = {
        "issuer": ISSUER, "from_period": "2000-01", "to_period": "2026-12", "through": "2026-01-10",
        "begun": True, "erased": 0,
    }  # fmt: skip
    marks = {
        (each.issuer, each.fingerprint): 0 for kind in found.values() for each in kind if each.fingerprint
    }
    return Facts(
        subject=SUBJECT,
        records=found,
        coverage={kind: Coverage(**{**whole, **coverage}) for kind in found},
        pledged_ppm=marks,
    )


GOOD = facts_of(good_records())


def security_of(product: Product, facts: Facts) -> tuple[bytes, ...]:
    """The records that an applicant would offer."""
    if product.security is None or not product.security.required:
        return ()
    return tuple(each.key for each in facts.of(product.security.kind))


def decided(product: Product | str, facts: Facts = GOOD, *, as_of: date = AS_OF, **more: Any) -> Decision:
    chosen = PRODUCTS[product] if isinstance(product, str) else product
    arguments: dict[str, Any] = {
        "application": "a1",
        "recipient": RECIPIENT,
        "as_of": as_of,
        "decided_ms": NOW_MS,
        "age_ms_max": AGE_MS_MAX,
        "security": security_of(chosen, facts),
        **more,
    }
    verified = VerifiedEvidence(facts=facts, disclosed=(), digests=(bytes(32),), age_ms=1_000)
    return decide(chosen, verified, **arguments)


def with_kind(facts: Facts, kind: str, records: Iterable[Fact]) -> Facts:
    """The same facts with other records of one kind."""
    changed = tuple(sorted(records, key=lambda each: each.key))
    marks = {(each.issuer, each.fingerprint): 0 for each in changed if each.fingerprint is not None}
    return replace(
        facts,
        records={**facts.records, KINDS[kind]: changed},
        pledged_ppm={**marks, **facts.pledged_ppm},
    )


def edited(facts: Facts, kind: str, where: Any = None, **values: Any) -> Facts:
    """The same facts with fields of some records of a kind changed; a value of None takes the field away."""
    changed = []
    for each in facts.of(KINDS[kind]):
        if where is None or where(each):
            fields = {name: value for name, value in {**each.fields, **values}.items() if value is not None}
            changed.append(replace(each, fields=fields))
        else:
            changed.append(each)
    return with_kind(facts, kind, changed)
