"""Facts of the enterprises of cumcm2020c, straight from their files: invoices, derived monthly filings, the grade."""

from __future__ import annotations

import csv
import os
from datetime import date, timedelta
from pathlib import Path

import pytest
from facts_maker import fact, facts

from taxledger.ledger.fields import Value
from taxledger.ledger.records import Status
from taxledger.lending.facts import Fact, Facts
from taxledger.nodes.sources.cumcm import CumcmSource
from taxledger.nodes.sources.rows import SourceRow

DATA = Path(os.environ.get("TAXLEDGER_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CUMCM = DATA / "cumcm2020c"
needs_data = pytest.mark.skipif(not CUMCM.is_dir(), reason="TAXLEDGER_DATA has no cumcm2020c")


def enterprises() -> list[str]:
    """E1 … E425, ascending by number."""
    found = {path.name.partition(".")[0] for path in CUMCM.glob("f[12]_output/*.csv.gz")}
    return sorted(found, key=lambda each: int(each[1:]))


def grades() -> dict[str, str]:
    with (CUMCM / "f1_enterprises.csv").open(encoding="utf-8-sig", newline="") as text:
        return {row["企业代号"]: row["信誉评级"] for row in csv.DictReader(text)}


def invoices_of(enterprise: str) -> dict[tuple[Value, ...], Status]:
    """Status of every invoice by its values: an exact duplicate is no second one, a later void holds."""
    source, found = CumcmSource(), {}
    paths = sorted(CUMCM.glob(f"f[12]_*put/{enterprise}.csv.gz"))
    assert paths, f"no files of {enterprise}"
    for path in paths:
        for row in source.rows(path):
            assert isinstance(row, SourceRow), row
            values = tuple(row.values)
            if found.get(values) is not Status.VOIDED:
                found[values] = Status(row.status)
    return found


def facts_of(enterprise: str) -> Facts:
    """Everything about one enterprise."""
    schema = CumcmSource().schema
    records: list[Fact] = []
    months: dict[str, list[int]] = {}
    for number, (values, status) in enumerate(invoices_of(enterprise).items()):
        named = dict(zip((each.name for each in schema.fields), values, strict=True))
        record = fact("vat_invoice", named, number=number, status=status, period=str(named["date"])[:7])
        records.append(record)
        if record.counted:
            month = months.setdefault(record.period, [0, 0, 0])
            at = 0 if named["direction"] == "sale" else 1
            month[at] += int(named["tax"] or 0)
            month[2] += int(named["net"] or 0) if at == 0 else 0
    for number, (month_, (output, input_, sales)) in enumerate(sorted(months.items())):
        last = date(int(month_[:4]), int(month_[5:]), 28) + timedelta(days=18)
        filed = {
            "tax": "vat",
            "period": month_,
            "months": 1,
            "number": f"F{month_}",
            "filed": last.isoformat(),
            "due": last.isoformat(),
            "currency": "CNY",
            "sales": sales,
            "payable": output - input_,
            "paid": max(output - input_, 0),
        }
        records.append(fact("tax_filing", filed, number=number, period=month_))
    grade = grades().get(enterprise)
    if grade is not None:
        rating = {"year": 2019, "grade": grade}
        records.append(fact("tax_credit_rating", rating, number=0, period="2019"))
    return facts(records, asked=("vat_invoice", "tax_filing", "tax_credit_rating"))
