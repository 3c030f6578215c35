"""How long the features of an enterprise with many invoices take, all of them, from facts that no feature has read yet.

In time of the processor.
"""

from __future__ import annotations

import time
from datetime import date, timedelta
from hashlib import sha256
from random import Random

from benchmarks.figures import Figure, median_us
from taxledger.ledger.builtin import newest
from taxledger.ledger.kinds import KINDS
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.lending.features import FEATURES, Basis

__all__ = ["measure_features"]

_KIND = KINDS["vat_invoice"]
_AS_OF = date(2026, 2, 28)
_DAYS = 800


def _invoice(random: Random, number: int) -> Fact:
    net = random.randrange(-2_000, 200_000)
    mark = sha256(number.to_bytes(4, "big")).digest()
    return Fact(
        kind=_KIND,
        issuer=1,
        key=b"\x01\x00\x01" + bytes([_KIND]) + mark + b"\x01",
        version=1,
        status=Status.VALID,
        fingerprint=mark[:16],
        schema=newest(_KIND).number,
        fields={
            "direction": random.choice(("sale", "sale", "purchase")),
            "number": f"{number:020}",
            "date": (_AS_OF - timedelta(days=random.randrange(_DAYS))).isoformat(),
            "counterparty": f"B{random.randrange(300)}",
            "currency": "CNY",
            "net": net,
            "tax": net * 13 // 100,
            "gross": net + net * 13 // 100,
        },
    )


def measure_features(invoices: int = 30_000) -> list[Figure]:
    """Every feature once, over so many invoices of one enterprise: milliseconds, and invoices a second."""
    random = Random(1)
    records = {
        _KIND: tuple(sorted((_invoice(random, n) for n in range(invoices)), key=lambda each: each.key))
    }
    basis = Basis(as_of=_AS_OF)

    def compute() -> None:
        facts = Facts(subject="cumcm:E1", records=records)
        for each in FEATURES.values():
            each.compute(facts, basis)

    taken_us = median_us(compute, calls=1, clock=time.thread_time)
    return [
        Figure(name="lending.features_all", value=taken_us / 1e3, unit="ms", n=invoices),
        Figure(name="lending.features_invoices", value=invoices / taken_us * 1e6, unit="1/s", n=invoices),
    ]
