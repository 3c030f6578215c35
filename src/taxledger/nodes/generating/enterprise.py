"""One made-up enterprise of a profile, with every kind of record; and two that file the same sales."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from random import Random

from taxledger.ledger.errors import InputError
from taxledger.ledger.schemas import is_month
from taxledger.nodes.generating.contracts import make_awards, make_contracts, unit_price_award
from taxledger.nodes.generating.operations import make_declarations, make_qualifications, make_usage
from taxledger.nodes.generating.profiles import PROFILES, Profile
from taxledger.nodes.generating.sales import make_invoices
from taxledger.nodes.generating.setting import GeneratedRow, Setting
from taxledger.nodes.generating.taxes import (
    make_arrears,
    make_credit,
    make_filings,
    make_ratings,
    make_registration,
)
from taxledger.nodes.generator import TRADES, credit_code, months_between

__all__ = ["GeneratedEnterprise", "generate_enterprise", "generate_twins"]

_MONTHS_MIN, _MONTHS_MAX = 6, 240
_TWIN = 10**12 + 1_249
"""Added to a seed: the twin's."""
_VALID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedEnterprise:
    """A made-up enterprise.

    Attributes:
        subject: ``uscc:`` and a credit code with right check characters.
        name: what it is called.
        profile: what is wrong with it.
        through: the last day that there are records of; the profile's ``breaks`` are said of it.
        rows: of files, by name of the kind, in order; also what stands twice, or can't be a record.
    """

    subject: str
    name: str
    profile: Profile
    through: str
    rows: Mapping[str, tuple[GeneratedRow, ...]]

    def records(self, kind: str) -> tuple[GeneratedRow, ...]:
        """The rows of a kind that become records, each once."""
        found = {}
        for row in self.rows[kind]:
            if not row.refused:
                found[(row.status, *sorted(row.fields.items()))] = row
        return tuple(found.values())

    @property
    def award(self) -> GeneratedRow | None:
        """The procurement award to offer as security."""
        return next(iter(self.records("procurement_award")), None)

    @property
    def contract(self) -> GeneratedRow | None:
        """The engineering contract to offer as security."""
        return next(iter(self.records("engineering_contract")), None)


def generate_enterprise(
    seed: int,
    profile: str = "good",
    first_month: str = "2023-07",
    last_month: str = "2025-12",
    *,
    traps: bool = False,
) -> GeneratedEnterprise:
    """An enterprise; the same for the same arguments on every machine.

    Of one seed the enterprise is the same whatever the profile, but for what the profile changes.

    Args:
        seed: any integer.
        profile: a name of ``PROFILES``.
        first_month, last_month: ``YYYY-MM``, 6 to 240 months; 30 are enough for every product.
        traps: also rows that can't be records, as real files hold. A file with one is not attested through a day.

    Raises:
        InputError: no such profile, or other months.
    """
    setting = _setting_of(seed, profile, first_month, last_month)
    return _make(setting, make_invoices(setting), traps=traps)


def generate_twins(
    seed: int,
    first_month: str = "2023-07",
    last_month: str = "2025-12",
    *,
    shared: int = 25,
) -> tuple[GeneratedEnterprise, GeneratedEnterprise]:
    """Two good enterprises, the second of which files sales of the first as its own, under another buyer.

    Number, date and amounts are the same: what only a fingerprint without the parties finds. Each one alone is
    consistent, its filings too.

    Args:
        seed: any integer.
        first_month, last_month: as of ``generate_enterprise``.
        shared: how many of the first one's newest sales.

    Raises:
        InputError: other months.
    """
    one = generate_enterprise(seed, "good", first_month, last_month)
    setting = _setting_of(seed + _TWIN, "good", first_month, last_month)
    taken = {each.fields.get("original") for each in one.rows["vat_invoice"]}
    sales = [each for each in one.records("vat_invoice") if _is_lasting_sale(each, taken)]
    buyer = setting.subject.removeprefix("uscc:")[::-1]
    copies = [
        replace(each, subject=setting.subject, fields={**each.fields, "counterparty": buyer}, cells={})
        for each in sorted(sales, key=lambda each: str(each.fields["date"]))[-shared:]
    ]
    return one, _make(setting, [*make_invoices(setting), *copies], traps=False)


def _is_lasting_sale(row: GeneratedRow, reversed_: Container[object]) -> bool:
    net = row.fields["net"]
    assert type(net) is int
    return (
        row.fields["direction"] == "sale"
        and row.status == _VALID
        and net > 0
        and row.fields["number"] not in reversed_
    )


def _setting_of(seed: int, profile: str, first_month: str, last_month: str) -> Setting:
    chosen = PROFILES.get(profile)
    if chosen is None:
        raise InputError(f"expected a profile of {', '.join(PROFILES)}; got {profile!r:.40}")
    if not is_month(first_month) or not is_month(last_month):
        raise InputError(f"expected months as YYYY-MM, got {first_month!r:.20} and {last_month!r:.20}")
    months = months_between(first_month, last_month)
    if not _MONTHS_MIN <= len(months) <= _MONTHS_MAX:
        raise InputError(f"expected {_MONTHS_MIN} to {_MONTHS_MAX} months, got {len(months)}")
    return _setting(seed, chosen, months[-(chosen.history_months or len(months)) :])


def _make(setting: Setting, invoices: list[GeneratedRow], *, traps: bool) -> GeneratedEnterprise:
    return GeneratedEnterprise(
        subject=setting.subject,
        name=setting.name,
        profile=setting.profile,
        through=setting.through,
        rows={name: tuple(rows) for name, rows in _rows(setting, invoices, traps=traps).items()},
    )


def _setting(seed: int, profile: Profile, months: list[str]) -> Setting:
    random = Random(f"{seed}/enterprise")  # noqa: S311 — made-up data has to be repeatable, not secret
    trade = random.choice(TRADES)
    code = credit_code(random)
    return Setting(
        seed=seed,
        subject=f"uscc:{code}",
        name=f"示例{trade.name}{code[-4:]}有限公司",
        trade=trade,
        profile=profile,
        months=tuple(months),
        base_fen=random.randrange(32, 60) * 1_000_000,
    )


def _rows(setting: Setting, invoices: list[GeneratedRow], *, traps: bool) -> dict[str, list[GeneratedRow]]:
    found = {
        "vat_invoice": invoices,
        "tax_filing": make_filings(setting, invoices),
        "tax_credit_rating": make_ratings(setting),
        "tax_arrears": make_arrears(setting),
        "business_registration": make_registration(setting),
        "procurement_award": make_awards(setting),
        "engineering_contract": make_contracts(setting),
        "utility_usage": make_usage(setting),
        "customs_declaration": make_declarations(setting),
        "technology_qualification": make_qualifications(setting),
        "credit_summary": make_credit(setting),
    }
    if traps:
        for kind, row in _refused(setting, found).items():
            found[kind].append(row)
    return found


def _refused(setting: Setting, rows: Mapping[str, list[GeneratedRow]]) -> dict[str, GeneratedRow]:
    """A row by kind that can't be a record."""
    invoice, usage = rows["vat_invoice"][0], rows["utility_usage"][-1]
    found = {
        "vat_invoice": replace(invoice, cells={"date": "2024-02-30"}, refused="date_malformed"),
        "procurement_award": unit_price_award(setting),
        # The same month and meter with another amount: not a second record, and nothing says which one holds.
        "utility_usage": replace(usage, fields={**usage.fields, "amount": 1}, refused="conflict"),
    }
    for declaration in rows["customs_declaration"][:1]:
        found["customs_declaration"] = replace(
            declaration, cells={"value": "12.345"}, refused="money_inexact"
        )
    return found
